// The bits of a dense layer as an instruction set's product reads them: one stream, in the order in which it passes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace onebit {

// Memory is [part][chunk of steps][tile of units][step of the chunk][unit of the tile][64 bytes]; BitLayout says how large the inner ones are. There
// are as many parts as threads that share a row's outputs, so that what each of them reads is one stream, too.
class BitMatrix {
  public:
    static std::uint64_t bytes(std::int64_t inputs, std::int64_t outputs, const Kernels& kernels);

    BitMatrix() = default;
    // Lays rows of bits (outputs, row_bytes(inputs)) out in `memory`, which the caller keeps, in `parts` parts or fewer. Null rows: the memory is as
    // it is, to measure with.
    BitMatrix(const Kernels& kernels, const std::uint8_t* rows, std::int64_t inputs, std::int64_t outputs, std::uint8_t* memory, int parts = 1);

    bool empty() const { return memory_ == nullptr; }
    std::int64_t steps() const { return steps_; }
    std::int64_t units() const { return units_; }
    std::int64_t parts() const { return static_cast<std::int64_t>(parts_.size()) - 1; }
    // The part's first unit; of the number of parts, the number of units.
    std::int64_t first_unit(std::int64_t part) const { return parts_[static_cast<std::size_t>(part)]; }
    // Asks for the first bits of a part, which nothing has announced to the processor.
    void fetch(std::int64_t part) const;
    // Inputs with those that fill the last step, and outputs with those that fill the last unit.
    std::int64_t padded_inputs() const { return steps_ * kernels_->gemv.layout.step_inputs; }
    std::int64_t padded_outputs() const { return units_ * kernels_->gemv.layout.unit_outputs; }
    std::int64_t prepared_bytes() const { return steps_ * kernels_->gemv.layout.prepared_bytes; }
    std::size_t bytes() const { return static_cast<std::size_t>(steps_ * units_ * unit_step_bytes); }

    // Some units of outputs times some rows of prepared inputs: sums[r * sums_stride + o] for each output o of the units.
    void multiply(std::int64_t first_unit, std::int64_t end_unit, const std::uint8_t* prepared, std::int64_t rows, std::int32_t* sums,
                  std::int64_t sums_stride) const;
    // One row of float inputs; only where the set has such a product.
    void multiply(std::int64_t first_unit, std::int64_t end_unit, const float* x, bool plus_minus, float* sums) const;
    // Some blocks of 16 outputs to a panel, as products with many rows take it.
    void expand(std::int64_t first_block, int blocks, std::int8_t* panel) const;
    void expand(std::int64_t first_block, int blocks, bool plus_minus, float* panel) const;

    // A unit's steps from `step` on to the end of their chunk, at one distance from each other.
    struct Stream {
        const std::uint8_t* bits;
        std::ptrdiff_t step_stride;
        std::int64_t steps;
    };
    Stream stream(std::int64_t unit, std::int64_t step) const;

  private:
    // Where a unit's first step of a chunk lies, and the distance from there to its next.
    struct Place {
        std::uint8_t* bits;
        std::ptrdiff_t step_stride;
        std::int64_t tile_end;  // the first unit after the tile
        std::int64_t steps;     // of the chunk
    };
    Place place(std::int64_t chunk, std::int64_t unit) const;
    // Several rows share what is loaded.
    void multiply_together(std::int64_t first_unit, std::int64_t end_unit, const std::uint8_t* prepared, std::int64_t rows, std::int32_t* sums,
                           std::int64_t sums_stride) const;
    template <class Expand>
    void expand_chunks(std::int64_t first_block, const Expand& expand) const;

    const Kernels* kernels_ = nullptr;
    std::int64_t inputs_ = 0, steps_ = 0, units_ = 0, chunks_ = 0;
    std::vector<std::int64_t> parts_{0};
    std::uint8_t* memory_ = nullptr;
};

}  // namespace onebit
