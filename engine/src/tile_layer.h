// The product of a dense layer's bits with many rows, for sets with tile registers (kernels/tiles.h). Rows become levels in tiles. Bits become bytes
// one chunk of inputs ahead of the products. Sums are finished row by row.
#pragma once

#include <cstdint>
#include <vector>

#include "bit_matrix.h"
#include "buffer.h"
#include "epilogue.h"
#include "kernels/kernels.h"
#include "program.h"
#include "quantizer.h"
#include "thread_pool.h"

namespace onebit {

// The blocking of a product, so that its operands stay in caches: a processor with tiles has a first-level cache of 48 KiB and a second of 2 MiB.
struct TilePlan {
    // The steps of 64 inputs with weights that stay in the first-level cache while rows pass: 2 KiB each for 32 outputs. With fewer steps, sums are
    // loaded and stored more often.
    int chunk_steps = 16;
    // Whether rows bypass the first-level cache. With this many steps they would evict the weights.
    bool stream_levels = true;
    // The levels that stay in the second-level cache while all weights pass. Each block of rows expands the bits again.
    std::int64_t level_bytes = std::int64_t{1280} << 10;
    std::int64_t most_rows = 512;
};

// Working memory that all layers of a program share.
struct TileScratch {
    // A row of two-digit levels takes two lines, one for the lower digits and one for the upper digits.
    struct Row {
        float scale = 1.0f;
        bool shifted = false;  // levels, or lower digits, are stored less 128
        bool finite = true;
    };
    Buffer<Row> rows;
    Buffer<std::int8_t> levels;  // [16 lines][step][line][64 inputs]
    Buffer<std::int32_t> sums;   // if they do not fit in the place of the results
    // Each thread has a part: weights of two chunks, sums of some lines and 32 outputs, a line of levels, a row of sums.
    Buffer<std::int8_t> panels;
    Buffer<std::int32_t> partial;
    Buffer<std::uint8_t> line;
    Buffer<std::int32_t> row;

    WorkingBytes working_bytes() const;
};

class TileLayer {
  public:
    // `bits`: the bits of the step's weights, which the caller keeps. `offset_sums`: 128 times the number of set bits in each row of weights.
    TileLayer(const Kernels& kernels, const BitMatrix& bits, const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs,
              const std::int32_t* offset_sums, const TilePlan& plan = TilePlan());

    // Calls f(buffer, size) for each buffer that a run takes.
    template <class Function>
    void each_buffer(std::int64_t rows, bool again, std::int64_t threads, TileScratch& scratch, const Function& f) const {
        const std::int64_t lines = (rows * digits_ + tile_step_rows - 1) / tile_step_rows * tile_step_rows;
        if (!again) {
            f(scratch.rows, rows);
            f(scratch.levels, lines * padded_inputs());
        }
        if (!in_place_) f(scratch.sums, lines * bits_.padded_outputs());
        f(scratch.panels, threads * 2 * panel_bytes());
        f(scratch.partial, threads * partial_sums());
        f(scratch.line, threads * digits_ * padded_inputs());
        f(scratch.row, threads * row_sums());
    }

    // x (rows, inputs) to y (rows, outputs), with reserved buffers. For `again` see DenseLayer::run.
    void run(const float* x, std::int64_t rows, bool again, const EpilogueArgs& epilogue, float* y, ThreadPool& pool, TileScratch& scratch) const;
    std::size_t bytes() const { return offsets_.size() * sizeof(std::int32_t); }

  private:
    // The place of sums: y itself, or separate memory.
    struct Sums {
        std::int32_t* to;
        std::ptrdiff_t stride;
        std::int64_t outputs;  // of a row, without space after them
    };
    // The work of one thread: some lines, beginning with a whole tile, times some units of outputs.
    struct Share {
        std::int64_t first_line, end_line, first_unit, end_unit;
        int thread;
    };

    std::int64_t padded_inputs() const { return steps_ * tile_step_inputs; }
    std::int64_t panel_bytes() const { return chunk_steps_ * tile_panel_bytes; }
    std::int64_t block_lines() const;
    std::int64_t partial_sums() const { return block_lines() * tile_step_outputs; }
    std::int64_t row_sums() const { return (outputs_ + 15) / 16 * 16; }
    void quantize_rows(const float* x, std::int64_t first, std::int64_t end, std::int64_t rows, int thread, TileScratch& scratch) const;
    void quantize_row(const float* x, std::int64_t row, std::uint8_t* line, TileScratch& scratch) const;
    std::int8_t* place(std::int64_t line, TileScratch& scratch) const;
    void multiply(const Share& share, const Sums& sums, ThreadPool& pool, TileScratch& scratch) const;
    void multiply_block(const Share& block, const Sums& sums, ThreadPool& pool, TileScratch& scratch) const;
    void finish_row(std::int64_t row, const EpilogueArgs& epilogue, float* y, int thread, TileScratch& scratch) const;

    const Kernels& kernels_;
    BitMatrix bits_;
    std::vector<int> planes_;
    bool plus_minus_;
    InputLevels levels_;
    std::int64_t digits_;
    std::int64_t inputs_, outputs_;
    bool in_place_;  // a row's sums fit in the place of its results
    TilePlan plan_;
    std::int64_t steps_;                 // of 64 inputs
    std::int64_t chunk_steps_;           // of all chunks but the last
    std::vector<std::int32_t> offsets_;  // the offset of each output's sum from shifted levels
};

}  // namespace onebit
