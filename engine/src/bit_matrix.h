// The bits of a dense layer in the order in which an instruction set's product reads them, as one stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "thread_pool.h"

namespace onebit {

// Memory is [part][chunk of steps][tile of units][step of the chunk][unit of the tile][64 bytes]; BitLayout has the sizes of the inner ones. There
// are as many parts as threads that share a row's outputs, so that each thread also reads one stream.
class BitMatrix {
  public:
    static std::uint64_t bytes(std::int64_t inputs, std::int64_t outputs, const Kernels& kernels);

    BitMatrix() = default;
    // Lays out rows of bits (outputs, row_bytes(inputs)) in `memory`, which the caller keeps, in at most `parts` parts, with the
    // threads of a pool if there is one. With null rows the memory stays as it is, for measurements.
    BitMatrix(const Kernels& kernels, const std::uint8_t* rows, std::int64_t inputs, std::int64_t outputs, std::uint8_t* memory, int parts = 1,
              ThreadPool* pool = nullptr);

    bool empty() const { return memory_ == nullptr; }
    std::int64_t steps() const { return steps_; }
    std::int64_t units() const { return units_; }
    std::int64_t parts() const { return static_cast<std::int64_t>(parts_.size()) - 1; }
    // The first unit of a part. For the number of parts it is the number of units.
    std::int64_t first_unit(std::int64_t part) const { return parts_[static_cast<std::size_t>(part)]; }
    // Prefetches the first bits of a part, which the processor cannot predict.
    void fetch(std::int64_t part) const;
    // Inputs padded to whole steps, and outputs padded to whole units.
    std::int64_t padded_inputs() const { return steps_ * kernels_->gemv.layout.step_inputs; }
    std::int64_t padded_outputs() const { return units_ * kernels_->gemv.layout.unit_outputs; }
    std::int64_t prepared_bytes() const { return steps_ * kernels_->gemv.layout.prepared_bytes; }
    std::size_t bytes() const { return static_cast<std::size_t>(steps_ * units_ * unit_step_bytes); }

    // The bits of one output again: bytes of whole steps.
    void read_row(std::int64_t output, std::uint8_t* bits) const;
    // Some units of outputs times some rows of prepared inputs: sums[r * sums_stride + o] for each output o of the units.
    void multiply(std::int64_t first_unit, std::int64_t end_unit, const std::uint8_t* prepared, std::int64_t rows, std::int32_t* sums,
                  std::int64_t sums_stride) const;
    // One row of float inputs. Only for sets with such a product.
    void multiply(std::int64_t first_unit, std::int64_t end_unit, const float* x, bool plus_minus, float* sums) const;
    // Expands some blocks of 16 outputs to a panel for products with many rows.
    void expand(std::int64_t first_block, int blocks, std::int8_t* panel) const;
    void expand(std::int64_t first_block, int blocks, bool plus_minus, float* panel) const;

    // A unit's steps from `step` on to the end of their chunk, at a constant distance.
    struct Stream {
        const std::uint8_t* bits;
        std::ptrdiff_t step_stride;
        std::int64_t steps;
    };
    Stream stream(std::int64_t unit, std::int64_t step) const;
    // The first unit after the tile of a unit.
    std::int64_t tile_end(std::int64_t unit) const { return place(0, unit).tile_end; }

  private:
    // The place of a unit's first step of a chunk, and the distance to its next step.
    struct Place {
        std::uint8_t* bits;
        std::ptrdiff_t step_stride;
        std::int64_t tile_end;  // the first unit after the tile
        std::int64_t steps;     // of the chunk
    };
    Place place(std::int64_t chunk, std::int64_t unit) const;
    void lay_out(const std::uint8_t* rows, std::int64_t outputs, std::int64_t unit);
    // Several rows share the loaded bits.
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
