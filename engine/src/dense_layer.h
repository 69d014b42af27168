// A dense layer over the rows of a sequence, binary or float, with a fused normalisation. Few rows (token by token) read the weights as bits. Many
// rows (a prompt) share weights that are expanded to panels in the cache.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bit_matrix.h"
#include "buffer.h"
#include "epilogue.h"
#include "kernels/kernels.h"
#include "parallel.h"
#include "program.h"
#include "quantizer.h"
#include "tile_layer.h"

namespace onebit {

// Working memory that all layers of a program share.
struct DenseScratch {
    Buffer<std::uint8_t> levels;    // quantised rows
    Buffer<std::uint8_t> prepared;  // the same for products with bits
    Buffer<std::int32_t> sums8;
    Buffer<float> sums;
    // A row of two-digit levels takes two of these, one for the lower digits and one for the upper digits.
    struct Row {
        float scale = 1.0f;
        bool is_signed = false;
        bool finite = true;
        std::int32_t total = 0;  // of the levels
    };
    Buffer<Row> rows;
    std::uint64_t input = 0;  // counts the layer inputs that each thread prepares for itself
    struct Thread {
        Buffer<std::uint8_t> prepared;
        std::uint64_t input = 0;  // the contents
        Buffer<std::int8_t> panel8;
        Buffer<float> panel;
    };
    std::vector<Thread> threads;
    TileScratch tiles;

    WorkingBytes working_bytes() const;
};

class DenseLayer {
  public:
    // Copies the tensors of the step and of the fused steps. A binary layer's bits go to `bits`, which the caller has made large enough for all
    // planes. `quantize`: inputs become integers (binary layers only). `threads`: the number that will run it, for which its bits are laid out,
    // by the threads of `pool` if there is one.
    DenseLayer(const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs, bool quantize, const Kernels& kernels, std::uint8_t* bits,
               int threads = 1, ThreadPool* pool = nullptr);

    // Bytes of its copy of the step's tensors, including `bits`.
    static std::uint64_t weight_bytes(const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs, const Kernels& kernels);

    // Announces the scratch memory for runs of this many rows.
    void expect(std::int64_t rows, DenseScratch& scratch) const;
    // x (rows, inputs) to y (rows, outputs). `again`: the layer that ran before had the same x, and its prepared input can be used.
    void run(const float* x, std::int64_t rows, bool again, float* y, ThreadPool& pool, DenseScratch& scratch) const;
    bool quantizes() const { return quantize_; }
    // Whether another layer of the same input can use the input that this layer prepares.
    bool prepares_for(const DenseLayer& other) const {
        return quantize_ && other.quantize_ && plus_minus_ == other.plus_minus_ && levels_ == other.levels_;
    }
    // A description of the kernel and of the layout of its weights.
    std::string kernel() const;
    std::size_t bytes() const;

  private:
    friend class DenseGroup;
    // How to compute rows.
    struct Way {
        bool few;              // by look-ups of bits, otherwise by multiply_panel
        std::int64_t at_once;  // the most rows that a thread takes from input floats to output floats; 0: threads divide the outputs instead
        bool alone;            // each thread prepares the quantised rows for itself
    };
    Way way_of(std::int64_t rows, std::size_t threads) const;
    // Calls f(buffer, size) for each buffer that a run takes.
    template <class Function>
    void each_buffer(std::int64_t rows, bool again, DenseScratch& scratch, const Function& f) const;
    void reserve(std::int64_t rows, bool again, DenseScratch& scratch) const;
    void run_rows(const float* x, std::int64_t rows, bool again, const Way& way, const EpilogueArgs& e, float* y, ThreadPool& pool,
                  DenseScratch& scratch) const;
    void run_outputs(const float* x, std::int64_t rows, bool again, const Way& way, const EpilogueArgs& e, float* y, ThreadPool& pool,
                     DenseScratch& scratch) const;
    // `few`: the row goes to look-ups, otherwise to multiply_panel.
    void quantize_row(const float* x, std::int64_t row, bool few, DenseScratch& scratch) const;
    // dense_finish.cpp: from sums to outputs, for all rows. Threads share the rows or, if they are few, their outputs:
    void finish(std::int64_t rows, bool few, const EpilogueArgs& e, float* y, ThreadPool& pool, DenseScratch& scratch) const;
    // `sums`: of all rows.
    template <class Sum>
    void finish_rows(std::int64_t rows, bool few, const EpilogueArgs& e, Sum* sums, float* y, ThreadPool& pool, const DenseScratch& scratch) const;
    template <class Sum>
    void finish_row(std::int64_t row, bool few, const EpilogueArgs& e, Sum* sums, const DenseScratch& scratch, float* y) const;
    // A row with so many outputs to normalise that threads share it.
    template <class Sum>
    void finish_long_row(std::int64_t row, bool few, const EpilogueArgs& e, Sum* sums, float* y, ThreadPool& pool, const DenseScratch& scratch) const;
    // Outputs from `first` on, if they are independent of each other. `y`: of all rows.
    void finish_part(std::int64_t row, bool few, std::int64_t first, std::int64_t count, EpilogueArgs e, float* sums, const DenseScratch& scratch,
                     float* y) const;
    void finish_part(std::int64_t row, bool few, std::int64_t first, std::int64_t count, EpilogueArgs e, std::int32_t* sums,
                     const DenseScratch& scratch, float* y) const;
    // Each thread's part of the outputs. The threads' prepared input is `prepared`; if it is null, each thread prepares everything for itself.
    void multiply_few(std::int64_t rows, const std::uint8_t* prepared, ThreadPool& pool, DenseScratch& scratch) const;
    // The quantised rows that the thread prepares for itself, once.
    const std::uint8_t* own_tables(std::int64_t rows, int thread, DenseScratch& scratch) const;
    // The sums of a row of digits, without the shifts: of `count` outputs of a plane from the output `first` on.
    void settle(bool few, const DenseScratch::Row& row, std::int64_t first, std::int64_t count, std::int32_t* sums) const;
    // A line is a row of digits: rows, or twice as many.
    void prepare_line(std::int64_t line, std::uint8_t* prepared, const DenseScratch& scratch) const;
    // Lines from `line` to `end` with a panel of outputs.
    void multiply_panel(std::int64_t panel, std::int64_t line, std::int64_t end, int thread, ThreadPool& pool, DenseScratch& scratch) const;
    void multiply_floats(const float* x, std::int64_t rows, ThreadPool& pool, DenseScratch& scratch) const;
    // Whether this many rows of floats use the bits directly.
    bool adds_floats(std::int64_t rows) const;
    // Whether threads divide the outputs of this many rows.
    bool worth_dividing(std::int64_t lines) const;
    int blocks_of(std::int64_t panel) const;
    std::int64_t sums_stride() const;  // from a row's sums to the next's

    const Kernels& kernels_;
    bool quantize_;
    bool plus_minus_;
    std::vector<int> planes_;
    InputLevels levels_;
    std::int64_t digits_;  // bytes of a level
    std::int64_t inputs_, outputs_;
    std::int64_t plane_outputs_;             // outputs of all planes: rows of weights
    BitMatrix bits_;                         // of binary layers
    std::optional<TileLayer> tiles_;         // for many rows, if the set has tiles
    std::vector<float> weights_;             // of float layers: panels of 64 outputs
    std::vector<std::int32_t> offset_sums_;  // 128 * ones of each row of weights
    Epilogue epilogue_;
};

}  // namespace onebit
