#include "bit_matrix.h"

#include <algorithm>

#include "parallel.h"
#include "program.h"

namespace onebit {
namespace {

// As far ahead as products prefetch bits themselves.
constexpr std::ptrdiff_t fetched_bytes = 12288;

std::int64_t divide_up(std::int64_t n, std::int64_t by) {
    return (n + by - 1) / by;
}

}  // namespace

std::uint64_t BitMatrix::bytes(std::int64_t inputs, std::int64_t outputs, const Kernels& kernels) {
    return static_cast<std::uint64_t>(divide_up(inputs, kernels.gemv.layout.step_inputs) * divide_up(outputs, kernels.gemv.layout.unit_outputs) *
                                      unit_step_bytes);
}

BitMatrix::BitMatrix(const Kernels& kernels, const std::uint8_t* rows, std::int64_t inputs, std::int64_t outputs, std::uint8_t* memory, int parts,
                     ThreadPool* pool)
    : kernels_(&kernels),
      inputs_(inputs),
      steps_(divide_up(inputs, kernels.gemv.layout.step_inputs)),
      units_(divide_up(outputs, kernels.gemv.layout.unit_outputs)),
      chunks_(divide_up(steps_, kernels.gemv.layout.chunk_steps)),
      memory_(memory) {
    const BitLayout& layout = kernels.gemv.layout;
    // All outputs of a panel are in one part.
    const std::int64_t panel = std::max(1, max_blocks * block_outputs / layout.unit_outputs), panels = divide_up(units_, panel);
    const std::int64_t shares = std::clamp<std::int64_t>(parts, 1, panels);
    for (std::int64_t part = 1; part <= shares; ++part) parts_.push_back(std::min(units_, panels * part / shares * panel));
    if (rows == nullptr) return;
    if (pool != nullptr) {
        parallel(*pool, outputs * inputs, units_, [&](std::int64_t unit, int) { lay_out(rows, outputs, unit); });
    } else {
        for (std::int64_t unit = 0; unit < units_; ++unit) lay_out(rows, outputs, unit);
    }
}

void BitMatrix::lay_out(const std::uint8_t* rows, std::int64_t outputs, std::int64_t unit) {
    const BitLayout& layout = kernels_->gemv.layout;
    const std::int64_t stored = row_bytes(inputs_), chunk_inputs = layout.chunk_steps * layout.step_inputs, first = unit * layout.unit_outputs;
    const auto count = static_cast<int>(std::min<std::int64_t>(layout.unit_outputs, outputs - first));
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const std::int64_t here = std::min(chunk_inputs, inputs_ - chunk * chunk_inputs);
        const Place to = place(chunk, unit);
        if (count < layout.unit_outputs) {
            for (std::int64_t s = 0; s < to.steps; ++s) std::fill_n(to.bits + s * to.step_stride, unit_step_bytes, std::uint8_t{0});
        }
        kernels_->gemv.lay_out(rows + first * stored + chunk * chunk_inputs / 8, stored, count, here, to.bits, to.step_stride);
    }
}

void BitMatrix::read_row(std::int64_t output, std::uint8_t* bits) const {
    const BitLayout& layout = kernels_->gemv.layout;
    const std::int64_t unit = output / layout.unit_outputs;
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const Place from = place(chunk, unit);
        kernels_->gemv.read_row(from.bits, from.step_stride, from.steps, static_cast<int>(output % layout.unit_outputs), bits);
        bits += from.steps * layout.step_inputs / 8;
    }
}

BitMatrix::Place BitMatrix::place(std::int64_t chunk, std::int64_t unit) const {
    const BitLayout& layout = kernels_->gemv.layout;
    const auto part = std::upper_bound(parts_.begin(), parts_.end(), unit) - 1;
    const std::int64_t first = part[0], units = part[1] - first;
    const std::int64_t done = chunk * layout.chunk_steps, steps = std::min(layout.chunk_steps, steps_ - done);
    const std::int64_t tile = (unit - first) / layout.tile_units * layout.tile_units, width = std::min<std::int64_t>(layout.tile_units, units - tile);
    const auto step_stride = static_cast<std::ptrdiff_t>(width * unit_step_bytes);
    return {memory_ + (first * steps_ + done * units + steps * tile + (unit - first - tile)) * unit_step_bytes, step_stride, first + tile + width,
            steps};
}

void BitMatrix::fetch(std::int64_t part) const {
    const std::int64_t first = first_unit(part), end = first_unit(part + 1);
    const std::uint8_t* bits = memory_ + first * steps_ * unit_step_bytes;
    const std::ptrdiff_t size = std::min(fetched_bytes, static_cast<std::ptrdiff_t>((end - first) * steps_ * unit_step_bytes));
    for (std::ptrdiff_t i = 0; i < size; i += unit_step_bytes) __builtin_prefetch(bits + i, 0, 2);
}

BitMatrix::Stream BitMatrix::stream(std::int64_t unit, std::int64_t step) const {
    const std::int64_t chunk_steps = kernels_->gemv.layout.chunk_steps, passed = step % chunk_steps;
    const Place at = place(step / chunk_steps, unit);
    return {at.bits + passed * at.step_stride, at.step_stride, at.steps - passed};
}

void BitMatrix::multiply(std::int64_t first_unit, std::int64_t end_unit, const std::uint8_t* prepared, std::int64_t rows, std::int32_t* sums,
                         std::int64_t sums_stride) const {
    const BitLayout& layout = kernels_->gemv.layout;
    if (rows >= image_positions && kernels_->conv.product != nullptr)
        return multiply_together(first_unit, end_unit, prepared, rows, sums, sums_stride);
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const std::uint8_t* of_chunk = prepared + chunk * layout.chunk_steps * layout.prepared_bytes;
        for (std::int64_t unit = first_unit; unit < end_unit;) {
            const Place at = place(chunk, unit);
            const std::int64_t next = std::min(at.tile_end, end_unit);
            for (std::int64_t r = 0; r < rows; ++r) {
                kernels_->gemv.product(at.bits, at.step_stride, static_cast<int>(next - unit), of_chunk + r * prepared_bytes(), at.steps, chunk > 0,
                                       sums + r * sums_stride + unit * layout.unit_outputs);
            }
            unit = next;
        }
    }
}

void BitMatrix::multiply(std::int64_t first_unit, std::int64_t end_unit, const float* x, bool plus_minus, float* sums) const {
    const BitLayout& layout = kernels_->gemv.layout;
    const std::int64_t chunk_inputs = layout.chunk_steps * layout.step_inputs;
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
        for (std::int64_t unit = first_unit; unit < end_unit;) {
            const Place at = place(chunk, unit);
            const std::int64_t next = std::min(at.tile_end, end_unit), first = chunk * chunk_inputs;
            kernels_->gemv.product_float(at.bits, at.step_stride, static_cast<int>(next - unit), x + first, std::min(chunk_inputs, inputs_ - first),
                                         plus_minus, chunk > 0, sums + unit * layout.unit_outputs);
            unit = next;
        }
    }
}

void BitMatrix::multiply_together(std::int64_t first_unit, std::int64_t end_unit, const std::uint8_t* prepared, std::int64_t rows, std::int32_t* sums,
                                  std::int64_t sums_stride) const {
    const BitLayout& layout = kernels_->gemv.layout;
    // The prepared data of this many rows and steps leave space in a first-level cache for bits and sums.
    constexpr std::int64_t prepared_at_once = 24 << 10;
    const std::int64_t fit = prepared_at_once / (image_steps * layout.prepared_bytes) / image_positions * image_positions;
    const std::int64_t at_once = std::clamp<std::int64_t>(fit, image_positions, kernels_->conv.most_positions);
    std::int32_t offsets[image_steps];
    for (int s = 0; s < image_steps; ++s) offsets[s] = s * layout.prepared_bytes;
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const std::int64_t steps = place(chunk, 0).steps;
        for (std::int64_t step = 0; step < steps; step += image_steps) {
            const auto here = static_cast<int>(std::min<std::int64_t>(image_steps, steps - step));
            const std::uint8_t* of_steps = prepared + (chunk * layout.chunk_steps + step) * layout.prepared_bytes;
            // The prepared data of some rows stay in the first-level cache while the bits of all units pass.
            for (std::int64_t r = 0; r < rows; r += at_once) {
                const auto count = static_cast<int>(std::min(at_once, rows - r));
                for (std::int64_t unit = first_unit; unit < end_unit;) {
                    const Place at = place(chunk, unit);
                    const auto units = static_cast<int>(std::min<std::int64_t>({image_units, at.tile_end - unit, end_unit - unit}));
                    if (r == 0 && at.tile_end < end_unit) {
                        // Prefetch the bits of the next tile's outputs, a part in each call: the processor does not predict their addresses.
                        const Place next = place(chunk, at.tile_end);
                        const std::int64_t bytes = here * next.step_stride,
                                           part = bytes * units / std::max<std::int64_t>(1, at.step_stride / unit_step_bytes);
                        const std::uint8_t* from =
                            next.bits + step * next.step_stride + part * ((unit - at.tile_end + at.step_stride / unit_step_bytes) / image_units);
                        for (std::int64_t i = 0; i < part; i += 64) __builtin_prefetch(from + i, 0, 2);
                    }
                    kernels_->conv.product({.tile = at.bits + step * at.step_stride,
                                            .step_stride = at.step_stride,
                                            .units = units,
                                            .prepared = of_steps + r * prepared_bytes(),
                                            .position_stride = static_cast<std::ptrdiff_t>(prepared_bytes()),
                                            .positions = count,
                                            .offsets = offsets,
                                            .steps = here,
                                            .first = chunk + step == 0,
                                            .out = sums + r * sums_stride + unit * layout.unit_outputs,
                                            .out_stride = static_cast<std::ptrdiff_t>(sums_stride)});
                    unit += units;
                }
            }
        }
    }
}

template <class Expand>
void BitMatrix::expand_chunks(std::int64_t first_block, const Expand& expand) const {
    const BitLayout& layout = kernels_->gemv.layout;
    const std::int64_t unit = first_block * block_outputs / layout.unit_outputs, part = *(std::upper_bound(parts_.begin(), parts_.end(), unit) - 1);
    const std::int64_t tile_unit = part + (unit - part) / layout.tile_units * layout.tile_units;
    for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const Place at = place(chunk, tile_unit);
        expand(at, static_cast<int>(first_block - tile_unit * layout.unit_outputs / block_outputs), chunk * layout.chunk_steps * layout.step_inputs);
    }
}

void BitMatrix::expand(std::int64_t first_block, int blocks, std::int8_t* panel) const {
    expand_chunks(first_block, [&](const Place& at, int block, std::int64_t input) {
        kernels_->gemm.expand_bits_int8(at.bits, at.step_stride, at.steps, block, blocks, panel + input * blocks * block_outputs);
    });
}

void BitMatrix::expand(std::int64_t first_block, int blocks, bool plus_minus, float* panel) const {
    expand_chunks(first_block, [&](const Place& at, int block, std::int64_t input) {
        kernels_->gemm.expand_bits_float(at.bits, at.step_stride, at.steps, block, blocks, plus_minus, panel + input * blocks * block_outputs);
    });
}

}  // namespace onebit
