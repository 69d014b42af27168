// Float and binary LSTM and GRU over the rows of a sequence. The steps before compute the gates of the inputs for all rows at once. This layer
// computes the product of the state with the recurrent weights, and the cell, step by step. docs/program.md has the formulas.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dense_layer.h"
#include "kernels/kernels.h"
#include "program.h"
#include "thread_pool.h"

namespace onebit {

// Working memory that all recurrences of a program share.
struct RecurrentScratch {
    Buffer<float> hidden, sums, state;

    WorkingBytes working_bytes() const;
};

class RecurrentLayer {
  public:
    // The time steps of one sequence. A stride is the distance from a step to the next, in numbers. It is 0 for states if only the last is needed,
    // and negative for the others if time runs backwards.
    struct Part {
        std::int64_t steps;
        const float* gates;  // of the inputs: (steps, gates * hidden)
        std::int64_t gates_stride;
        const float* before;  // the state before the first step; may be the place of the states
        float* states;
        std::int64_t states_stride;
        float* y;  // (steps, hidden)
        std::int64_t y_stride;
    };

    // Copies the step's tensors. A binary recurrence's weights go to `bits`, which the caller has allocated with `bits_bytes`. `quantize`: the hidden
    // state becomes integers before the product (binary ones only).
    RecurrentLayer(const ops::Recurrence& recurrence, bool quantize, const Kernels& kernels, std::uint8_t* bits);
    static std::uint64_t bits_bytes(const ops::Recurrence& recurrence, const Kernels& kernels);
    // Bytes of its copy of the step's tensors, including `bits`.
    static std::uint64_t weight_bytes(const ops::Recurrence& recurrence, const Kernels& kernels);

    // The numbers of a state: the hidden ones, followed by an LSTM's cells.
    std::int64_t state_size() const { return cells_ ? 2 * hidden_ : hidden_; }
    // Announces the scratch memory for runs of this many sequences, or of one whole sequence.
    void expect(std::int64_t sequences, DenseScratch& dense, RecurrentScratch& scratch) const;
    // Several sequences share each pass through the weights.
    void run(const std::vector<Part>& parts, ThreadPool& pool, DenseScratch& dense, RecurrentScratch& scratch) const;
    // One sequence from its beginning, or from its end for a reversed step: gates (time, gates * hidden) to y (time, hidden).
    void run_whole(const float* gates, std::int64_t time, float* y, ThreadPool& pool, DenseScratch& dense, RecurrentScratch& scratch) const;
    // A description of the kernel and of the layout of its weights.
    std::string kernel() const { return product_.kernel(); }
    std::size_t bytes() const { return product_.bytes() + sizeof(float) * (scale_.size() + shift_.size()); }

  private:
    // Computes the next state from the sums of the state and the gates of the input. It may replace the state before. Overwrites the sums.
    void lstm(const float* gates, const float* before, float* sums, float* after) const;
    void gru(const float* gates, const float* before, float* sums, float* after) const;

    template <class Function>
    void each_buffer(std::int64_t sequences, RecurrentScratch& scratch, const Function& f) const;

    const Kernels& kernels_;
    bool cells_;  // an LSTM, otherwise a GRU
    bool reverse_;
    std::int64_t hidden_, outputs_;  // outputs of the product: all gates
    DenseLayer product_;
    float eps_;                         // 0 if sums are not normalised
    std::vector<float> scale_, shift_;  // of binary ones, after the normalisation
};

}  // namespace onebit
