#include "tile_layer.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "parallel.h"

namespace onebit {
namespace {

// With fewer rows than this per thread, threads divide the outputs instead, and each weight is expanded once. A pair of tiles has this many.
constexpr std::int64_t pair_rows = 2 * tile_step_rows;

constexpr std::int64_t divide_up(std::int64_t n, std::int64_t by) {
    return (n + by - 1) / by;
}

// Expands the weights of one unit and chunk to bytes, some steps of bits at a time.
class Expanding {
  public:
    Expanding(const BitMatrix& bits, bool plus_minus) : bits_(bits), plus_minus_(plus_minus) {}

    void look_at(std::int64_t unit, std::int64_t first_step, std::int64_t steps) {
        unit_ = unit;
        step_ = first_step * tile_bit_steps;
        end_ = std::min(bits_.steps(), step_ + steps * tile_bit_steps);
    }
    // Missing steps of bits are zeros.
    void begin(std::int64_t unit, std::int64_t first_step, std::int64_t steps, std::int8_t* panel) {
        look_at(unit, first_step, steps);
        panel_ = panel;
        const std::int64_t missing = steps * tile_bit_steps - (end_ - step_);
        std::memset(panel + (end_ - step_) * tile_bit_panel_bytes, 0, static_cast<std::size_t>(missing * tile_bit_panel_bytes));
    }
    std::int64_t left() const { return end_ - step_; }
    // The processor does not predict the addresses of a unit's bits.
    void prefetch(std::int64_t most) {
        const TileExpansion part = take(most);
        for (int s = 0; s < part.steps; ++s) __builtin_prefetch(part.bits + s * part.step_stride, 0, 2);
    }
    // At most this many steps of bits, and fewer at the end of a chunk of their layout.
    TileExpansion take(std::int64_t most) {
        TileExpansion e;
        if (most <= 0 || left() == 0) return e;
        const BitMatrix::Stream stream = bits_.stream(unit_, step_);
        const std::int64_t steps = std::min({most, left(), stream.steps});
        e = {stream.bits, stream.step_stride, static_cast<int>(steps), plus_minus_, panel_};
        step_ += steps;
        panel_ += steps * tile_bit_panel_bytes;
        return e;
    }

  private:
    const BitMatrix& bits_;
    bool plus_minus_;
    std::int64_t unit_ = 0, step_ = 0, end_ = 0;
    std::int8_t* panel_ = nullptr;
};

}  // namespace

WorkingBytes TileScratch::working_bytes() const {
    WorkingBytes sum = rows.working_bytes();
    for (const Buffer<std::int8_t>* buffer : {&levels, &panels}) sum += buffer->working_bytes();
    for (const Buffer<std::int32_t>* buffer : {&sums, &partial, &row}) sum += buffer->working_bytes();
    sum += line.working_bytes();
    return sum;
}

TileLayer::TileLayer(const Kernels& kernels, const BitMatrix& bits, const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs,
                     const std::int32_t* offset_sums, const TilePlan& plan)
    : kernels_(kernels),
      bits_(bits),
      planes_(layer.bits.planes),
      plus_minus_(layer.bits.plus_minus),
      levels_(layer.bits.input),
      digits_(digits_of(layer.bits.input)),
      inputs_(inputs),
      outputs_(outputs),
      in_place_(digits_ == 1 && one_plane(planes_)),
      plan_(plan),
      steps_(divide_up(inputs, tile_step_inputs)),
      // Chunks of equal length.
      chunk_steps_(divide_up(steps_, divide_up(steps_, plan.chunk_steps))) {
    const auto planes = static_cast<std::int64_t>(planes_.size());
    offsets_.assign(offset_sums, offset_sums + planes * outputs);
    // Levels are stored less 128, so the sums need this offset, which the epilogue subtracts.
    for (std::int32_t& offset : offsets_) offset = plus_minus_ ? static_cast<std::int32_t>(signed_shift * inputs - 2 * offset) : -offset;
    combine_planes(planes_, outputs, offsets_.data());
    offsets_.resize(static_cast<std::size_t>(outputs));
    offsets_.shrink_to_fit();
}

std::int64_t TileLayer::block_lines() const {
    const std::int64_t rows = plan_.level_bytes / (padded_inputs() * digits_) / pair_rows * pair_rows;
    return std::clamp(rows, pair_rows, plan_.most_rows) * digits_;
}

std::int8_t* TileLayer::place(std::int64_t line, TileScratch& scratch) const {
    return scratch.levels.data() + line / tile_step_rows * steps_ * tile_bytes + line % tile_step_rows * tile_step_inputs;
}

void TileLayer::run(const float* x, std::int64_t rows, bool again, const EpilogueArgs& e, float* y, ThreadPool& pool, TileScratch& scratch) const {
    const std::int64_t threads = pool.threads(), units = bits_.units(), lines = rows * digits_;
    const std::int64_t plane_outputs = static_cast<std::int64_t>(planes_.size()) * outputs_, work = lines * plane_outputs * inputs_;
    // Tiles and memcpy write sums into y and read them from there, so strict aliasing is not violated.
    const std::int64_t width = in_place_ ? outputs_ : bits_.padded_outputs();
    const Sums sums{in_place_ ? reinterpret_cast<std::int32_t*>(y) : scratch.sums.data(), static_cast<std::ptrdiff_t>(width), width};
    if (rows >= pair_rows * threads) {
        const std::int64_t shares = threads * divide_up(rows, threads * (block_lines() / digits_));
        const std::int64_t at_once = divide_up(divide_up(rows, shares), pair_rows) * pair_rows;
        parallel(pool, work, divide_up(rows, at_once), [&](std::int64_t piece, int thread) {
            const std::int64_t first = piece * at_once, end = std::min(rows, first + at_once);
            if (!again) quantize_rows(x, first, end, rows, thread, scratch);
            multiply({first * digits_, end * digits_, 0, units, thread}, sums, pool, scratch);
            for (std::int64_t r = first; r < end; ++r) finish_row(r, e, y, thread, scratch);
        });
        return;
    }
    if (!again) parallel(pool, lines * inputs_ * 8, rows, [&](std::int64_t r, int thread) { quantize_rows(x, r, r + 1, rows, thread, scratch); });
    const std::int64_t pieces = std::min(units, threads);
    parallel(pool, work, pieces, [&](std::int64_t piece, int thread) {
        multiply({0, lines, units * piece / pieces, units * (piece + 1) / pieces, thread}, sums, pool, scratch);
    });
    parallel(pool, lines * plane_outputs * 8, rows, [&](std::int64_t r, int thread) { finish_row(r, e, y, thread, scratch); });
}

void TileLayer::quantize_rows(const float* x, std::int64_t first, std::int64_t end, std::int64_t rows, int thread, TileScratch& scratch) const {
    std::uint8_t* line = scratch.line.data() + thread * digits_ * padded_inputs();
    for (std::int64_t r = first; r < end; ++r) quantize_row(x, r, line, scratch);
    if (end < rows) return;
    // The padding of the last tile.
    for (std::int64_t i = rows * digits_; i % tile_step_rows != 0; ++i) {
        for (std::int64_t s = 0; s < steps_; ++s) std::memset(place(i, scratch) + s * tile_bytes, 0, tile_step_inputs);
    }
}

void TileLayer::quantize_row(const float* x, std::int64_t r, std::uint8_t* line, TileScratch& scratch) const {
    const float* from = x + r * inputs_;
    const std::int64_t length = padded_inputs();
    Range range;
    if (needs_range(levels_)) kernels_.rows.range(from, inputs_, &range.largest_bits, &range.negative);
    const Quantizer q(levels_, range);
    const bool shifted = digits_ == 2 || !q.is_signed;
    scratch.rows.data()[r] = {q.scale, shifted, q.finite};
    if (!q.finite) {
        std::memset(line, 0, static_cast<std::size_t>(digits_ * length));
    } else if (digits_ == 2) {
        q.digits(from, inputs_, 0, line, line + length);
        for (std::int64_t k = 0; k < inputs_; ++k) line[k] = static_cast<std::uint8_t>(line[k] - signed_shift);
    } else {
        q.bytes(kernels_, from, inputs_, shifted ? -signed_shift : 0, line);
    }
    for (std::int64_t d = 0; d < digits_; ++d) {
        std::uint8_t* levels = line + d * length;
        std::memset(levels + inputs_, 0, static_cast<std::size_t>(length - inputs_));
        std::int8_t* to = place(r * digits_ + d, scratch);
        for (std::int64_t s = 0; s < steps_; ++s) std::memcpy(to + s * tile_bytes, levels + s * tile_step_inputs, tile_step_inputs);
    }
}

void TileLayer::multiply(const Share& share, const Sums& sums, ThreadPool& pool, TileScratch& scratch) const {
    if (share.first_unit == share.end_unit) return;
    const TilesInUse in_use(kernels_.tiles);
    kernels_.tiles->begin();
    Share block = share;
    for (; block.first_line < share.end_line; block.first_line = block.end_line) {
        block.end_line = std::min(share.end_line, block.first_line + block_lines());
        multiply_block(block, sums, pool, scratch);
    }
}

void TileLayer::multiply_block(const Share& block, const Sums& sums, ThreadPool& pool, TileScratch& scratch) const {
    const std::int64_t lines = block.end_line - block.first_line, tiles = divide_up(lines, tile_step_rows), pairs = divide_up(tiles, 2);
    const std::int64_t chunks = divide_up(steps_, chunk_steps_), all = (block.end_unit - block.first_unit) * chunks;
    std::int8_t* panels = scratch.panels.data() + block.thread * 2 * panel_bytes();
    std::int32_t* partial = scratch.partial.data() + block.thread * partial_sums();
    const auto steps_of = [&](std::int64_t chunk) { return std::min(chunk_steps_, steps_ - chunk * chunk_steps_); };
    Expanding next(bits_, plus_minus_), later(bits_, plus_minus_);
    const auto begin = [&](std::int64_t i, Expanding& expanding) {
        expanding.begin(block.first_unit + i / chunks, i % chunks * chunk_steps_, steps_of(i % chunks), panels + i % 2 * panel_bytes());
    };
    const auto expand = [&](std::int64_t steps) {
        while (steps > 0 && next.left() > 0) {
            const TileExpansion part = next.take(steps);
            kernels_.tiles->expand(part);
            steps -= part.steps;
        }
    };
    begin(0, next);
    expand(next.left());
    for (std::int64_t i = 0; i < all; ++i) {
        const std::int64_t chunk = i % chunks, output = (block.first_unit + i / chunks) * tile_step_outputs;
        const bool last = chunk + 1 == chunks;
        if (chunk == 0) pool.check(block.thread);
        if (i + 1 < all) begin(i + 1, next);
        if (i + 2 < all) later.look_at(block.first_unit + (i + 2) / chunks, (i + 2) % chunks * chunk_steps_, steps_of((i + 2) % chunks));
        for (std::int64_t p = 0; p < pairs; ++p) {
            const std::int64_t line = block.first_line + p * pair_rows, share = divide_up(next.left(), pairs - p);
            later.prefetch(divide_up(later.left(), pairs - p));
            const auto valid = std::min(pair_rows, block.end_line - line), outputs = std::min<std::int64_t>(tile_step_outputs, sums.outputs - output);
            TileTask t;
            t.levels = place(line, scratch) + chunk * chunk_steps_ * tile_bytes;
            t.next_rows = steps_ * tile_bytes;
            t.row_tiles = static_cast<int>(std::min<std::int64_t>(2, tiles - 2 * p));
            t.steps = static_cast<int>(steps_of(chunk));
            t.panel = panels + i % 2 * panel_bytes();
            t.stream_levels = plan_.stream_levels;
            std::int32_t* own = partial + p * pair_rows * tile_step_outputs;
            std::int32_t* to = sums.to + line * sums.stride + output;
            t.from = chunk == 0 ? nullptr : own;
            const bool whole = valid % tile_step_rows == 0 && outputs == tile_step_outputs;
            t.to = last && whole ? to : own;
            t.from_stride = tile_step_outputs;
            t.to_stride = last && whole ? sums.stride : tile_step_outputs;
            t.next = next.take(share);
            kernels_.tiles->multiply(t);
            expand(share - t.next.steps);
            for (std::int64_t r = 0; r < valid && last && !whole; ++r) {
                std::memcpy(to + r * sums.stride, own + r * tile_step_outputs, static_cast<std::size_t>(outputs) * sizeof *to);
            }
        }
    }
}

void TileLayer::finish_row(std::int64_t r, const EpilogueArgs& epilogue, float* y, int thread, TileScratch& scratch) const {
    const TileScratch::Row& row = scratch.rows.data()[r];
    float* to = y + r * outputs_;
    if (!row.finite) {
        std::fill(to, to + outputs_, std::numeric_limits<float>::quiet_NaN());
        return;
    }
    std::int32_t* sums = scratch.row.data() + thread * row_sums();
    if (in_place_) {
        std::memcpy(sums, to, static_cast<std::size_t>(outputs_) * sizeof *sums);
    } else {
        const std::int64_t stride = bits_.padded_outputs(), plane_outputs = static_cast<std::int64_t>(planes_.size()) * outputs_;
        sums = scratch.sums.data() + r * digits_ * stride;
        for (std::int64_t o = 0; o < plane_outputs && digits_ == 2; ++o) {
            // Only the final sum is certain to fit in 32 bits, so intermediate sums are unsigned.
            const auto upper = static_cast<std::uint32_t>(sums[stride + o]) * 256u;
            sums[o] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[o]) + upper);
        }
        combine_planes(planes_, outputs_, sums);
        for (std::int64_t o = 0; o < outputs_ && row.shifted; ++o) {
            sums[o] =
                static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[o]) - static_cast<std::uint32_t>(offsets_[static_cast<std::size_t>(o)]));
        }
    }
    EpilogueArgs e = epilogue;
    if (in_place_ && row.shifted) e.offset = offsets_.data();
    kernels_.rows.epilogue_int8(sums, row.scale, static_cast<int>(outputs_), e, to);
    activate(e, outputs_, to);
}

}  // namespace onebit
