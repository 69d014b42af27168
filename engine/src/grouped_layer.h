// A dense layer whose weights have a scale for each group of inputs: bits, in one or several planes, or signed bytes. Integer sums of a group are
// exact; each is added to the output by one fused multiply-add, in the order of the groups.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bit_matrix.h"
#include "buffer.h"
#include "epilogue.h"
#include "kernels/kernels.h"
#include "parallel.h"
#include "program.h"

namespace onebit {

// Working memory that all such layers of a program share.
struct GroupedScratch {
    // Some rows of inputs, quantised.
    struct Input {
        Buffer<std::uint8_t> levels, prepared;
        Buffer<float> scales;         // of each group
        Buffer<std::int32_t> totals;  // of each group's levels
    };
    struct Thread {
        Input input;
        Buffer<std::int32_t> sums;            // of a group, where they do not fit in 16 bits
        Buffer<float> panel, plane, outputs;  // of weights as floats
    };
    Input input;         // of few rows, for all threads
    Buffer<float> sums;  // of all rows
    std::vector<Thread> threads;

    WorkingBytes working_bytes() const;
};

// grouped_layout.cpp has the way of the weights into memory and out of it, grouped_layer.cpp the products.
class GroupedLayer {
  public:
    // Copies the step's tensors to `memory`, which the caller has made large enough (`weight_bytes`) and keeps, by the threads of `pool`.
    // `threads`: the number that will run it. `quantize`: inputs become integers.
    GroupedLayer(const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs, bool quantize, const Kernels& kernels, std::uint8_t* memory,
                 int threads, ThreadPool& pool);
    static std::uint64_t weight_bytes(const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs, const Kernels& kernels);

    void expect(std::int64_t rows, GroupedScratch& scratch) const;
    // x (rows, inputs) to y (rows, outputs).
    void run(const float* x, std::int64_t rows, float* y, ThreadPool& pool, GroupedScratch& scratch) const;
    // The weights of one output as numbers, exact. `bits`: working memory of `row_bits_bytes`.
    void write_row(std::int64_t output, std::uint8_t* bits, float* y) const;
    std::int64_t row_bits_bytes() const { return of_bytes() ? 0 : planes_[0].padded_inputs() / 8; }
    std::string kernel() const;
    std::uint64_t bytes() const { return bytes_ + epilogue_.bytes(); }

  private:
    bool of_bytes() const { return planes_.empty(); }
    // Units are those of the bits, or panels of bytes.
    std::int64_t unit_outputs() const;
    std::int64_t units() const { return padded_outputs_ / unit_outputs(); }
    std::int64_t padded_inputs() const { return groups_ * padded_group_; }
    std::int64_t prepared_bytes() const { return of_bytes() ? padded_inputs() : planes_[0].prepared_bytes(); }
    std::int64_t chunk_groups() const;
    std::size_t scale_at(std::int64_t output, std::int64_t group) const;
    // Rows that a thread takes from floats to sums at a time; 0: threads divide the outputs instead.
    std::int64_t rows_at_once(std::int64_t rows, std::size_t threads) const;

    // Of one unit of outputs.
    void lay_out_bytes(const std::int8_t* weight, std::int64_t panel);
    void lay_out_scales(const std::uint16_t* scales, std::int64_t unit);
    template <class Function>
    void each_buffer(std::int64_t rows, GroupedScratch& scratch, const Function& f) const;
    template <class Function>
    void each_input_buffer(std::int64_t rows, GroupedScratch::Input& input, const Function& f) const;
    // Row `r` of x becomes row `to` of the input.
    void quantize(const float* x, std::int64_t r, std::int64_t to, GroupedScratch::Input& input) const;
    void run_rows(const float* x, std::int64_t rows, std::int64_t at_once, float* y, ThreadPool& pool, GroupedScratch& scratch) const;
    void run_outputs(const float* x, std::int64_t rows, ThreadPool& pool, GroupedScratch& scratch) const;
    void multiply(const GroupedScratch::Input& input, std::int64_t rows, std::int64_t first_unit, std::int64_t end_unit, GroupedScratch::Thread& own,
                  float* sums) const;
    // The groups of a chunk of steps, of the units of a tile.
    void multiply_tile(const GroupedScratch::Input& input, std::int64_t rows, std::int64_t unit, std::int64_t end, std::int64_t step,
                       GroupedScratch::Thread& own, float* sums) const;
    void multiply_group(const BitMatrix::Stream& bits, int units, const std::uint8_t* prepared, int rows, std::int32_t* sums) const;
    void multiply_bytes(const GroupedScratch::Input& input, std::int64_t rows, std::int64_t first_unit, std::int64_t end_unit, float* sums) const;
    void multiply_floats(const float* x, std::int64_t rows, std::int64_t panel, int thread, ThreadPool& pool, GroupedScratch& scratch) const;
    // The weights of some outputs as floats, without their scales: input after input.
    void fill_panel(std::int64_t first_output, int blocks, GroupedScratch::Thread& own) const;
    void finish(std::int64_t row, const float* sums, float* y) const;

    const Kernels& kernels_;
    bool quantize_;
    bool plus_minus_;
    std::vector<int> counts_;  // the weights of the planes
    int zero_;
    std::int32_t taken_off_ = 0;  // times the total of a group's levels, from the sum of their products with bits
    bool in_words_ = false;       // the sums of groups fit in 16 bits, and the set has a product for them
    std::int64_t inputs_, outputs_, padded_outputs_;
    std::int64_t group_, padded_group_, groups_;
    std::vector<BitMatrix> planes_;
    std::uint8_t* weights_ = nullptr;  // of bytes: [panel][group][input / 4][output][4]
    std::uint16_t* scales_ = nullptr;  // [chunk of groups][unit][group][output]
    std::uint64_t bytes_;
    Epilogue epilogue_;
};

}  // namespace onebit
