// LSTM and GRU over the rows of a sequence, float or binary: the gates of the inputs are made by the steps before, all rows at once; here the state's
// product with the recurrent weights, a time step after the other, and what the gates do. docs/program.md has the formulas.
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
    // Time steps of one sequence, one after the other. A stride is in numbers, from a step to the next: of states 0 where only the last is wanted, of
    // the others below 0 where time runs backwards.
    struct Part {
        std::int64_t steps;
        const float* gates;  // of the inputs: (steps, gates * hidden)
        std::ptrdiff_t gates_stride;
        const float* before;  // the state before the first step; may be where the states go
        float* states;
        std::ptrdiff_t states_stride;
        float* y;  // (steps, hidden)
        std::ptrdiff_t y_stride;
    };

    // Copies the step's tensors, a binary recurrence's weights to `bits`, where the caller has made room for `bits_bytes`. `quantize`: the hidden
    // state becomes whole numbers before the product (binary ones only).
    RecurrentLayer(const ops::Recurrence& recurrence, bool quantize, const Kernels& kernels, std::uint8_t* bits);
    static std::uint64_t bits_bytes(const ops::Recurrence& recurrence, const Kernels& kernels);
    // Bytes of its copy of the step's tensors, `bits` included.
    static std::uint64_t weight_bytes(const ops::Recurrence& recurrence, const Kernels& kernels);

    // Numbers of a state: the hidden ones, and an LSTM's cells behind them.
    std::int64_t state_size() const { return cells_ ? 2 * hidden_ : hidden_; }
    // Says what runs of so many sequences, or of one whole one, will take of the scratch memory.
    void expect(std::int64_t sequences, DenseScratch& dense, RecurrentScratch& scratch) const;
    // Several sequences share each pass through the weights.
    void run(const std::vector<Part>& parts, ThreadPool& pool, DenseScratch& dense, RecurrentScratch& scratch) const;
    // One sequence from its beginning, or from its end if the step says so: gates (time, gates * hidden) to y (time, hidden).
    void run_whole(const float* gates, std::int64_t time, float* y, ThreadPool& pool, DenseScratch& dense, RecurrentScratch& scratch) const;
    // The kernel and the layout of its weights, for people.
    std::string kernel() const { return product_.kernel(); }
    std::size_t bytes() const { return product_.bytes() + sizeof(float) * (scale_.size() + shift_.size()); }

  private:
    // From the sums of the state and the gates of the input to the next state, which may stand where the one before does. Overwrites the sums.
    void lstm(const float* gates, const float* before, float* sums, float* after) const;
    void gru(const float* gates, const float* before, float* sums, float* after) const;

    template <class Function>
    void each_buffer(std::int64_t sequences, RecurrentScratch& scratch, const Function& f) const;

    const Kernels& kernels_;
    bool cells_;  // an LSTM, else a GRU
    bool reverse_;
    std::int64_t hidden_, outputs_;  // outputs of the product: all gates
    DenseLayer product_;
    float eps_;                         // 0: sums are not normalised
    std::vector<float> scale_, shift_;  // of binary ones, behind the normalisation
};

}  // namespace onebit
