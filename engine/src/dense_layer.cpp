#include "dense_layer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <string>

#include "trace.h"

namespace onebit {
namespace {

// Up to this many rows of floats, using the bits directly costs less than expanding them.
constexpr std::int64_t few_float_rows = 4;
constexpr int panel_blocks = max_blocks;
constexpr int panel_outputs = panel_blocks * block_outputs;
// The bytes of prepared inputs at a time if many rows use the bits directly: they stay in the second-level cache.
constexpr std::int64_t prepared_at_once = std::int64_t{400} << 10;
// With fewer rows than this per thread, threads divide the outputs instead, and each weight is expanded once.
constexpr std::int64_t least_rows_of_a_thread = 32;
// Up to this many rows each thread prepares all rows for itself: making a row's tables is as fast as fetching them from the cache of another
// core.
constexpr std::int64_t most_rows_alone = 4;

}  // namespace

WorkingBytes DenseScratch::working_bytes() const {
    WorkingBytes sum = levels.working_bytes();
    sum += prepared.working_bytes();
    sum += sums8.working_bytes();
    sum += sums.working_bytes();
    sum += rows.working_bytes();
    sum += tiles.working_bytes();
    for (const Thread& thread : threads) {
        sum += thread.prepared.working_bytes();
        sum += thread.panel8.working_bytes();
        sum += thread.panel.working_bytes();
    }
    return sum;
}

std::uint64_t DenseLayer::weight_bytes(const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs, const Kernels& kernels) {
    const std::int64_t plane_outputs = layer.bits.plane_count() * outputs;
    if (!layer.binary()) {
        const std::int64_t padded = (outputs + panel_outputs - 1) / panel_outputs * panel_outputs;
        return static_cast<std::uint64_t>(padded * inputs + outputs) * sizeof(float);
    }
    // Offsets of sums, twice where there are tiles, and a bias.
    const auto numbers =
        static_cast<std::uint64_t>(plane_outputs + kernels.gemv.layout.unit_outputs + outputs + (kernels.tiles != nullptr ? outputs : 0));
    return BitMatrix::bytes(inputs, plane_outputs, kernels) + numbers * sizeof(float);
}

DenseLayer::DenseLayer(const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs, bool quantize, const Kernels& kernels, std::uint8_t* bits,
                       int threads, ThreadPool* pool)
    : kernels_(kernels),
      quantize_(quantize),
      plus_minus_(layer.bits.plus_minus),
      planes_(layer.bits.planes),
      levels_(layer.bits.input),
      digits_(digits_of(layer.bits.input)),
      inputs_(inputs),
      outputs_(outputs),
      plane_outputs_(layer.bits.plane_count() * outputs),
      bits_(!layer.binary() ? BitMatrix()
                            : BitMatrix(kernels, layer.bits.rows, inputs, plane_outputs_, bits, worth_dividing(digits_) ? threads : 1, pool)),
      epilogue_(layer, outputs, kernels) {
    if (!layer.binary()) {
        const std::int64_t panels = (outputs + panel_outputs - 1) / panel_outputs;
        weights_.assign(static_cast<std::size_t>(panels * panel_outputs * inputs), 0.0f);
        for (std::int64_t o = 0; o < outputs; ++o) {
            float* panel = weights_.data() + o / panel_outputs * panel_outputs * inputs + o % panel_outputs;
            for (std::int64_t k = 0; k < inputs; ++k) panel[k * panel_outputs] = layer.weight[o * inputs + k];
        }
        return;
    }
    if (!quantize_) return;
    // The number of set bits per output: the product itself counts them fastest.
    std::vector<std::int8_t> ones(static_cast<std::size_t>(bits_.padded_inputs()), 1);
    std::vector<std::uint8_t> prepared(static_cast<std::size_t>(bits_.prepared_bytes()));
    kernels_.gemv.prepare(ones.data(), bits_.steps(), prepared.data());
    offset_sums_.resize(static_cast<std::size_t>(bits_.padded_outputs()));
    bits_.multiply(0, bits_.units(), prepared.data(), 1, offset_sums_.data(), bits_.padded_outputs());
    for (std::int32_t& sum : offset_sums_) sum *= signed_shift;
    if (kernels_.tiles != nullptr) tiles_.emplace(kernels_, bits_, layer, inputs_, outputs_, offset_sums_.data());
}

std::string DenseLayer::kernel() const {
    if (bits_.empty()) return "float weights";
    if (!quantize_)
        return kernels_.gemv.product_float == nullptr ? "bits expanded to floats" : "masked additions of floats; panels of floats for many rows";
    const BitLayout& layout = kernels_.gemv.layout;
    if (layout.most_rows == any_rows) return layout.name;
    return layout.name + (tiles_ ? std::string("; tiles") : std::string("; panels")) + " of bytes beyond " + std::to_string(layout.most_rows) +
           " rows";
}

DenseLayer::Way DenseLayer::way_of(std::int64_t rows, std::size_t threads) const {
    const BitLayout& layout = kernels_.gemv.layout;
    const auto count = static_cast<std::int64_t>(threads);
    Way way{rows * digits_ <= layout.most_rows && inputs_ <= layout.most_inputs, 0, false};
    if (rows < least_rows_of_a_thread * count) {
        way.alone = way.few && rows <= most_rows_alone;
        return way;
    }
    way.at_once = way.few ? std::clamp<std::int64_t>(prepared_at_once / bits_.prepared_bytes() / image_positions, 1, 10) * image_positions
                          : (rows + count - 1) / count;
    return way;
}

template <class Function>
void DenseLayer::each_buffer(std::int64_t rows, bool again, DenseScratch& scratch, const Function& f) const {
    const std::int64_t lines = rows * digits_, length = bits_.empty() ? inputs_ : bits_.padded_inputs();
    if (!quantize_) {
        f(scratch.sums, lines * sums_stride());
        for (DenseScratch::Thread& thread : scratch.threads) {
            if (!bits_.empty() && !adds_floats(rows)) f(thread.panel, length * panel_outputs);
        }
        return;
    }
    const Way way = way_of(rows, scratch.threads.size());
    if (tiles_ && !way.few) return tiles_->each_buffer(rows, again, static_cast<std::int64_t>(scratch.threads.size()), scratch.tiles, f);
    f(scratch.sums8, lines * sums_stride());
    // The prepared input of a layer with the same input stays.
    if (!again) {
        f(scratch.rows, lines);
        f(scratch.levels, lines * length + slack_bytes);
        if (way.few && way.at_once == 0 && !way.alone) f(scratch.prepared, lines * bits_.prepared_bytes());
    }
    for (DenseScratch::Thread& thread : scratch.threads) {
        if (!again && way.alone) f(thread.prepared, lines * bits_.prepared_bytes());
        if (!way.few) f(thread.panel8, length * panel_outputs);
        if (way.few && way.at_once > 0) f(thread.prepared, way.at_once * digits_ * bits_.prepared_bytes());
    }
}

void DenseLayer::expect(std::int64_t rows, DenseScratch& scratch) const {
    each_buffer(rows, false, scratch, expect_buffer);
}

void DenseLayer::reserve(std::int64_t rows, bool again, DenseScratch& scratch) const {
    each_buffer(rows, again, scratch, reserve_buffer);
}

void DenseLayer::run(const float* x, std::int64_t rows, bool again, float* y, ThreadPool& pool, DenseScratch& scratch) const {
    const EpilogueArgs e = epilogue_.args();
    // Allocate memory here, before threads begin.
    reserve(rows, again, scratch);
    if (!quantize_) {
        multiply_floats(x, rows, pool, scratch);
        return finish(rows, true, e, y, pool, scratch);
    }
    const Way way = way_of(rows, scratch.threads.size());
    if (tiles_ && !way.few) return tiles_->run(x, rows, again, e, y, pool, scratch.tiles);
    if (way.at_once > 0) return run_rows(x, rows, again, way, e, y, pool, scratch);
    run_outputs(x, rows, again, way, e, y, pool, scratch);
}

void DenseLayer::run_rows(const float* x, std::int64_t rows, bool again, const Way& way, const EpilogueArgs& e, float* y, ThreadPool& pool,
                          DenseScratch& scratch) const {
    const std::int64_t stride = sums_stride(), prepared_bytes = bits_.prepared_bytes();
    const std::int64_t panels = (plane_outputs_ + panel_outputs - 1) / panel_outputs;
    // Equally many pieces of equal size for each thread, so that all end together.
    const auto threads = static_cast<std::int64_t>(scratch.threads.size());
    const std::int64_t group = way.few ? image_positions : kernels_.gemm.rows_at_once, groups = (rows + group - 1) / group;
    const std::int64_t most = way.few ? way.at_once / group : groups, least_pieces = (groups + most - 1) / most;
    const std::int64_t pieces = (least_pieces + threads - 1) / threads * threads;
    parallel(pool, rows * digits_ * plane_outputs_ * inputs_, pieces, [&](std::int64_t piece, int thread) {
        const std::int64_t first = std::min(rows, groups * piece / pieces * group);
        const std::int64_t end = std::min(rows, groups * (piece + 1) / pieces * group);
        const std::int64_t first_line = first * digits_, end_line = end * digits_;
        for (std::int64_t r = first; r < end && !again; ++r) quantize_row(x, r, way.few, scratch);
        if (way.few) {
            std::uint8_t* prepared = scratch.threads[static_cast<std::size_t>(thread)].prepared.data();
            for (std::int64_t i = first_line; i < end_line; ++i) prepare_line(i, prepared + (i - first_line) * prepared_bytes, scratch);
            const trace::Span span("product");
            bits_.multiply(0, bits_.units(), prepared, end_line - first_line, scratch.sums8.data() + first_line * stride, stride);
        }
        for (std::int64_t p = 0; p < panels && !way.few; ++p) multiply_panel(p, first_line, end_line, thread, pool, scratch);
        for (std::int64_t r = first; r < end; ++r) finish_row(r, way.few, e, scratch.sums8.data(), scratch, y);
    });
}

void DenseLayer::run_outputs(const float* x, std::int64_t rows, bool again, const Way& way, const EpilogueArgs& e, float* y, ThreadPool& pool,
                             DenseScratch& scratch) const {
    const std::int64_t all_lines = rows * digits_;
    if (!again) ++scratch.input;
    // A row's levels take a quarter of its floats' bytes. The calling thread makes them, so that fewer bytes pass between cores.
    for (std::int64_t r = 0; r < rows && !again && way.alone; ++r) quantize_row(x, r, true, scratch);
    if (!again && !way.alone) {
        parallel(pool, all_lines * inputs_ * 8, rows, [&](std::int64_t r, int) {
            quantize_row(x, r, way.few, scratch);
            for (std::int64_t i = r * digits_; i < (r + 1) * digits_ && way.few; ++i) {
                prepare_line(i, scratch.prepared.data() + i * bits_.prepared_bytes(), scratch);
            }
        });
    }
    if (way.few) {
        multiply_few(rows, way.alone ? nullptr : scratch.prepared.data(), pool, scratch);
    } else {
        parallel(pool, all_lines * plane_outputs_ * inputs_, (plane_outputs_ + panel_outputs - 1) / panel_outputs,
                 [&](std::int64_t p, int thread) { multiply_panel(p, 0, all_lines, thread, pool, scratch); });
    }
    finish(rows, way.few, e, y, pool, scratch);
}

void DenseLayer::multiply_few(std::int64_t rows, const std::uint8_t* prepared, ThreadPool& pool, DenseScratch& scratch) const {
    const std::int64_t lines = rows * digits_;
    const auto multiply = [&](std::int64_t first, std::int64_t end, int thread) {
        const std::uint8_t* tables = prepared != nullptr ? prepared : own_tables(rows, thread, scratch);
        const trace::Span span("product");
        bits_.multiply(first, end, tables, lines, scratch.sums8.data(), sums_stride());
    };
    if (!worth_dividing(lines)) return multiply(0, bits_.units(), 0);
    if (bits_.parts() > 1) {
        return pool.parallel_for(bits_.parts(), [&](std::int64_t part, int thread) {
            // Prefetch the first bits while the row is prepared.
            bits_.fetch(part);
            multiply(bits_.first_unit(part), bits_.first_unit(part + 1), thread);
        });
    }
    const std::int64_t pieces = std::min<std::int64_t>(bits_.units(), pool.threads());
    pool.parallel_for(
        pieces, [&](std::int64_t piece, int thread) { multiply(bits_.units() * piece / pieces, bits_.units() * (piece + 1) / pieces, thread); });
}

const std::uint8_t* DenseLayer::own_tables(std::int64_t rows, int thread, DenseScratch& scratch) const {
    DenseScratch::Thread& own = scratch.threads[static_cast<std::size_t>(thread)];
    std::uint8_t* tables = own.prepared.data();
    if (own.input == scratch.input) return tables;
    for (std::int64_t i = 0; i < rows * digits_; ++i) prepare_line(i, tables + i * bits_.prepared_bytes(), scratch);
    own.input = scratch.input;
    return tables;
}

bool DenseLayer::worth_dividing(std::int64_t lines) const {
    return lines * plane_outputs_ * inputs_ >= kernels_.gemv.least_divided;
}

void DenseLayer::quantize_row(const float* x, std::int64_t r, bool few, DenseScratch& scratch) const {
    const trace::Span span("quantise");
    const std::int64_t stride = bits_.padded_inputs();
    const float* from = x + r * inputs_;
    Range range;
    if (needs_range(levels_)) kernels_.rows.range(from, inputs_, &range.largest_bits, &range.negative);
    const Quantizer q(levels_, range);
    std::uint8_t* first = scratch.levels.data() + r * digits_ * stride;
    for (std::int64_t d = 0; d < digits_; ++d) {
        DenseScratch::Row& row = scratch.rows.data()[r * digits_ + d];
        std::uint8_t* to = first + d * stride;
        row.scale = q.scale;
        row.finite = q.finite;
        row.is_signed = q.is_signed && d + 1 == digits_;
        row.total = 0;
        std::fill(q.finite ? to + inputs_ : to, to + stride, std::uint8_t{0});
    }
    if (!q.finite) return;
    // Signed bytes for few rows, which use the product with bits; otherwise unsigned bytes.
    const auto shift_of = [few](bool is_signed) { return few ? (is_signed ? 0 : -signed_shift) : (is_signed ? signed_shift : 0); };
    if (digits_ == 2) {
        q.digits(from, inputs_, shift_of(true), first, first + stride);
        for (std::int64_t k = 0; k < inputs_; ++k) first[k] = static_cast<std::uint8_t>(first[k] + shift_of(false));
    } else {
        q.bytes(kernels_, from, inputs_, shift_of(q.is_signed), first);
    }
    if (!plus_minus_) return;
    for (std::int64_t d = 0; d < digits_; ++d) {
        DenseScratch::Row& row = scratch.rows.data()[r * digits_ + d];
        const std::uint8_t* to = first + d * stride;
        const int shift = shift_of(row.is_signed);
        for (std::int64_t k = 0; k < inputs_; ++k) row.total += (few ? static_cast<std::int8_t>(to[k]) : to[k]) - shift;
    }
}

void DenseLayer::prepare_line(std::int64_t line, std::uint8_t* prepared, const DenseScratch& scratch) const {
    const trace::Span span("tables");
    const std::uint8_t* levels = scratch.levels.data() + line * bits_.padded_inputs();
    kernels_.gemv.prepare(reinterpret_cast<const std::int8_t*>(levels), bits_.steps(), prepared);
}

int DenseLayer::blocks_of(std::int64_t p) const {
    return static_cast<int>(std::min<std::int64_t>(panel_outputs, bits_.padded_outputs() - p * panel_outputs) / block_outputs);
}

void DenseLayer::multiply_panel(std::int64_t p, std::int64_t line, std::int64_t end, int thread, ThreadPool& pool, DenseScratch& scratch) const {
    const std::int64_t length = bits_.padded_inputs(), stride = sums_stride(), first = p * panel_outputs;
    const std::ptrdiff_t no_offset = 0;
    const Segments segments{&no_offset, 1, static_cast<int>(length)};
    std::int8_t* panel = scratch.threads[static_cast<std::size_t>(thread)].panel8.data();
    const int blocks = blocks_of(p);
    bits_.expand(p * panel_blocks, blocks, panel);
    std::int64_t calls = 0;
    for (; line < end; line += kernels_.gemm.rows_at_once) {
        if (calls++ % calls_of_check == 0) pool.check(thread);
        const std::uint8_t* from[max_rows];
        const auto count = static_cast<int>(std::min<std::int64_t>(kernels_.gemm.rows_at_once, end - line));
        for (int i = 0; i < count; ++i) from[i] = scratch.levels.data() + (line + i) * length;
        kernels_.gemm.product_int8(from, count, segments, panel, blocks, scratch.sums8.data() + line * stride + first, stride);
    }
}

void DenseLayer::multiply_floats(const float* x, std::int64_t rows, ThreadPool& pool, DenseScratch& scratch) const {
    const std::int64_t stride = sums_stride();
    const std::ptrdiff_t no_offset = 0;
    const Segments segments{&no_offset, 1, static_cast<int>(inputs_)};
    if (adds_floats(rows)) {
        const std::int64_t pieces = std::min<std::int64_t>(bits_.units(), pool.threads());
        parallel(pool, rows * plane_outputs_ * inputs_, pieces, [&](std::int64_t piece, int) {
            const std::int64_t unit = bits_.units() * piece / pieces, end = bits_.units() * (piece + 1) / pieces;
            for (std::int64_t r = 0; r < rows; ++r) bits_.multiply(unit, end, x + r * inputs_, plus_minus_, scratch.sums.data() + r * stride);
        });
        return;
    }
    const std::int64_t panels = (plane_outputs_ + panel_outputs - 1) / panel_outputs;
    parallel(pool, rows * plane_outputs_ * inputs_, panels, [&](std::int64_t p, int thread) {
        const std::int64_t first = p * panel_outputs;
        const float* panel = bits_.empty() ? weights_.data() + first * inputs_ : nullptr;
        int blocks = panel_blocks;
        if (!bits_.empty()) {
            float* expanded = scratch.threads[static_cast<std::size_t>(thread)].panel.data();
            blocks = blocks_of(p);
            bits_.expand(p * panel_blocks, blocks, plus_minus_, expanded);
            panel = expanded;
        }
        std::int64_t calls = 0;
        for (std::int64_t r = 0; r < rows; r += kernels_.gemm.rows_at_once) {
            if (calls++ % calls_of_check == 0) pool.check(thread);
            const float* from[max_rows];
            const auto count = static_cast<int>(std::min<std::int64_t>(kernels_.gemm.rows_at_once, rows - r));
            for (int i = 0; i < count; ++i) from[i] = x + (r + i) * inputs_;
            kernels_.gemm.product_float(from, count, segments, panel, blocks, scratch.sums.data() + r * stride + first, stride);
        }
    });
}

bool DenseLayer::adds_floats(std::int64_t rows) const {
    return !bits_.empty() && rows <= few_float_rows && kernels_.gemv.product_float != nullptr;
}

std::int64_t DenseLayer::sums_stride() const {
    // Bits are in whole units, floats in whole panels.
    return bits_.empty() ? (plane_outputs_ + panel_outputs - 1) / panel_outputs * panel_outputs : bits_.padded_outputs();
}

std::size_t DenseLayer::bytes() const {
    return bits_.bytes() + (tiles_ ? tiles_->bytes() : 0) + sizeof(float) * weights_.size() + epilogue_.bytes() +
           sizeof(std::int32_t) * offset_sums_.size();
}

}  // namespace onebit
