#include "dense_layer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace onebit {
namespace {

// Up to so many rows the bits are read again for each; beyond, expanding them costs less.
constexpr std::int64_t few_rows = 4;
// Products with bits keep 2^7 times a sum in 32 bits: of more inputs they are not exact.
constexpr std::int64_t most_inputs_of_bits = 65536;
constexpr int panel_blocks = max_blocks;
constexpr int panel_outputs = panel_blocks * block_outputs;
// Rows that the fastest tile takes: threads divide the rows at multiples of it.
constexpr std::int64_t tile_rows = 6;
// With fewer rows than this for each, threads divide the outputs instead, and each weight is expanded once.
constexpr std::int64_t least_rows_of_a_thread = 32;

// Eight bytes as a matrix of bits, transposed: bit b of byte i becomes bit i of byte b (Warren, Hacker's Delight, 7-3).
std::uint64_t transpose_bits(std::uint64_t x) {
    std::uint64_t t = (x ^ x >> 7) & 0x00AA00AA00AA00AAu;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000CCCC0000CCCCu;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000F0F0F0F0u;
    return x ^ t ^ t << 28;
}

}  // namespace

std::size_t DenseScratch::bytes() const {
    std::size_t sum = levels.bytes() + sums8.bytes() + sums.bytes() + rows.size() * sizeof(Row);
    for (const Thread& thread : threads) sum += thread.panel8.bytes() + thread.panel.bytes();
    return sum;
}

DenseLayer::DenseLayer(const Step& step, std::int64_t inputs, std::int64_t outputs, bool quantize, const Kernels& kernels)
    : kernels_(kernels),
      quantize_(quantize),
      plus_minus_(step.plus_minus),
      inputs_(inputs),
      outputs_(outputs),
      groups_((inputs + int8_group - 1) / int8_group),
      tile_count_((outputs + tile_outputs - 1) / tile_outputs) {
    bias_.assign(static_cast<std::size_t>(outputs), 0.0f);
    if (step.bits == nullptr) {
        if (step.bias != nullptr) bias_.assign(step.bias, step.bias + outputs);
        const std::int64_t panels = (outputs + panel_outputs - 1) / panel_outputs;
        weights_.assign(static_cast<std::size_t>(panels * panel_outputs * inputs), 0.0f);
        for (std::int64_t o = 0; o < outputs; ++o) {
            float* panel = weights_.data() + o / panel_outputs * panel_outputs * inputs + o % panel_outputs;
            for (std::int64_t k = 0; k < inputs; ++k) panel[k * panel_outputs] = step.weight[o * inputs + k];
        }
        return;
    }
    tiles_.assign(static_cast<std::size_t>(tile_count_ * groups_ * tile_group_bytes), 0);
    const std::int64_t stored = row_bytes(inputs);
    for (std::int64_t o = 0; o < outputs; ++o) {
        std::int32_t ones = 0;
        for (std::int64_t i = 0; i < (inputs + 7) / 8; ++i) ones += std::popcount(step.bits[o * stored + i]);
        offset_sums_.push_back(signed_shift * ones);
        if (step.bias_bits != nullptr) {
            const bool set = step.bias_bits[o / 8] >> (o % 8) & 1;
            bias_[static_cast<std::size_t>(o)] = set ? 1.0f : (plus_minus_ ? -1.0f : 0.0f);
        }
    }
    // A lane's eight outputs have a row of bits each; eight inputs of them are eight bytes here, transposed.
    for (std::int64_t lane = 0; lane < tile_count_ * block_outputs; ++lane) {
        const std::int64_t first = lane / block_outputs * tile_outputs + lane % block_outputs;
        std::uint8_t* to = tiles_.data() + lane / block_outputs * groups_ * tile_group_bytes + lane % block_outputs * int8_group;
        for (std::int64_t i = 0; i < (inputs + 7) / 8; ++i) {
            std::uint64_t bits = 0;
            for (int b = 0; b < tile_blocks; ++b) {
                const std::int64_t o = first + b * block_outputs;
                if (o < outputs) bits |= static_cast<std::uint64_t>(step.bits[o * stored + i]) << (8 * b);
            }
            bits = transpose_bits(bits);
            for (std::int64_t k = 8 * i; k < std::min(8 * i + 8, groups_ * int8_group); ++k, bits >>= 8) {
                to[k / int8_group * tile_group_bytes + k % int8_group] = static_cast<std::uint8_t>(bits);
            }
        }
    }
}

bool DenseLayer::fuse(const Step& next) {
    if (norm_ != Epilogue::Norm::none) return false;
    if (next.op == Op::normalize) {
        norm_ = Epilogue::Norm::channel;
        eps_ = next.eps;
        return true;
    }
    if (next.op == Op::scale_shift) {
        norm_ = Epilogue::Norm::affine;
        scale_.assign(next.weight, next.weight + outputs_);
        shift_.assign(next.bias, next.bias + outputs_);
        return true;
    }
    return false;
}

void DenseLayer::run(const float* x, std::int64_t rows, float* y, ThreadPool& pool, DenseScratch& scratch) const {
    const std::int64_t stride = tile_count_ * tile_outputs;
    Epilogue e;
    e.norm = norm_;
    e.eps = eps_;
    e.bias = bias_.data();
    e.scale = scale_.data();
    e.shift = shift_.data();
    const auto sums_size = static_cast<std::size_t>(rows * stride);
    if (!quantize_) {
        scratch.sums.reserve(sums_size);
        multiply_floats(x, rows, pool, scratch);
        parallel(pool, rows * outputs_ * 8, rows, [&](std::int64_t r, int) {
            kernels_.finish_float(scratch.sums.data() + r * stride, static_cast<int>(outputs_), e, y + r * outputs_);
        });
        return;
    }
    scratch.sums8.reserve(sums_size);
    scratch.levels.reserve(static_cast<std::size_t>(rows * groups_ * int8_group + slack_bytes));
    scratch.rows.resize(std::max(scratch.rows.size(), static_cast<std::size_t>(rows)));
    const bool few = rows <= few_rows && inputs_ <= most_inputs_of_bits;
    // Memory is taken here, where running out of it is an error; in a worker it would end the process.
    if (!few) {
        for (auto& thread : scratch.threads) thread.panel8.reserve(static_cast<std::size_t>(groups_ * int8_group * panel_outputs));
    }
    const std::int64_t panels = (outputs_ + panel_outputs - 1) / panel_outputs;
    if (!few && rows >= least_rows_of_a_thread * pool.threads()) {
        // Each thread takes rows of its own from their floats to their floats: what it makes stays in its cache.
        const std::int64_t pieces = pool.threads();
        const auto bound = [&](std::int64_t piece) { return piece == pieces ? rows : rows * piece / pieces / tile_rows * tile_rows; };
        parallel(pool, rows * outputs_ * inputs_, pieces, [&](std::int64_t piece, int thread) {
            const std::int64_t first = bound(piece), end = bound(piece + 1);
            for (std::int64_t r = first; r < end; ++r) quantize_row(x, r, few, scratch);
            for (std::int64_t p = 0; p < panels; ++p) multiply_panel(p, first, end, thread, scratch);
            for (std::int64_t r = first; r < end; ++r) finish_row(r, few, e, y, scratch);
        });
        return;
    }
    parallel(pool, rows * inputs_ * 8, rows, [&](std::int64_t r, int) { quantize_row(x, r, few, scratch); });
    if (few) {
        multiply_few(rows, pool, scratch);
    } else {
        parallel(pool, rows * outputs_ * inputs_, panels, [&](std::int64_t p, int thread) { multiply_panel(p, 0, rows, thread, scratch); });
    }
    parallel(pool, rows * outputs_ * 8, rows, [&](std::int64_t r, int) { finish_row(r, few, e, y, scratch); });
}

void DenseLayer::quantize_row(const float* x, std::int64_t r, bool few, DenseScratch& scratch) const {
    const std::int64_t stride = groups_ * int8_group;
    Range range;
    kernels_.range(x + r * inputs_, inputs_, &range.largest_bits, &range.negative);
    const Quantizer q(range);
    DenseScratch::Row& row = scratch.rows[static_cast<std::size_t>(r)];
    std::uint8_t* to = scratch.levels.data() + r * stride;
    row.scale = q.scale;
    row.finite = q.finite;
    row.is_signed = range.negative;
    row.total = 0;
    const int shift = few ? (range.negative ? 0 : -signed_shift) : (range.negative ? signed_shift : 0);
    std::fill(to + inputs_, to + stride, std::uint8_t{0});
    if (!q.finite) {
        std::fill(to, to + inputs_, std::uint8_t{0});
        return;
    }
    kernels_.quantize(x + r * inputs_, inputs_, q.inverse, q.low, q.high, shift, to);
    if (!plus_minus_) return;
    for (std::int64_t k = 0; k < inputs_; ++k) row.total += (few ? static_cast<std::int8_t>(to[k]) : to[k]) - shift;
}

void DenseLayer::finish_row(std::int64_t r, bool few, const Epilogue& e, float* y, DenseScratch& scratch) const {
    const DenseScratch::Row& row = scratch.rows[static_cast<std::size_t>(r)];
    std::int32_t* sums = scratch.sums8.data() + r * tile_count_ * tile_outputs;
    float* to = y + r * outputs_;
    if (!row.finite) {
        std::fill(to, to + outputs_, std::numeric_limits<float>::quiet_NaN());
        return;
    }
    // The levels were shifted to the type that the product takes: few rows are signed bytes, many are unsigned ones.
    Epilogue own = e;
    if (few && !row.is_signed) {
        for (std::int64_t o = 0; o < outputs_; ++o) sums[o] += offset_sums_[static_cast<std::size_t>(o)];
    } else if (!few && row.is_signed) {
        own.offset = offset_sums_.data();
    }
    if (plus_minus_) {
        // sum (2b - 1) q
        for (std::int64_t o = 0; o < outputs_; ++o) sums[o] = 2 * (sums[o] - (own.offset != nullptr ? own.offset[o] : 0)) - row.total;
        own.offset = nullptr;
    }
    kernels_.finish_int8(sums, row.scale, static_cast<int>(outputs_), own, to);
}

void DenseLayer::multiply_few(std::int64_t rows, ThreadPool& pool, DenseScratch& scratch) const {
    const std::int64_t pieces = std::min<std::int64_t>(tile_count_, 4 * pool.threads());
    const auto* levels = reinterpret_cast<const std::int8_t*>(scratch.levels.data());
    std::int32_t* sums = scratch.sums8.data();
    // Reading bits is so fast that waking a thread pays later than elsewhere.
    parallel(pool, rows * outputs_ * inputs_ / 8, pieces, [&](std::int64_t piece, int) {
        for (std::int64_t t = tile_count_ * piece / pieces; t < tile_count_ * (piece + 1) / pieces; ++t) {
            for (std::int64_t r = 0; r < rows; ++r) {
                kernels_.product_bits(tile(t), levels + r * groups_ * int8_group, groups_, sums + (r * tile_count_ + t) * tile_outputs);
            }
        }
    });
}

void DenseLayer::multiply_panel(std::int64_t p, std::int64_t row, std::int64_t end, int thread, DenseScratch& scratch) const {
    const std::int64_t length = groups_ * int8_group, stride = tile_count_ * tile_outputs, first = p * panel_outputs;
    const std::ptrdiff_t no_offset = 0;
    const Segments segments{&no_offset, 1, static_cast<int>(length)};
    std::int8_t* panel = scratch.threads[static_cast<std::size_t>(thread)].panel8.data();
    kernels_.expand_tile_int8(tile(first / tile_outputs), groups_, static_cast<int>(first % tile_outputs / block_outputs), panel_blocks, panel);
    for (; row < end; row += kernels_.rows_at_once) {
        const std::uint8_t* from[max_rows];
        const auto count = static_cast<int>(std::min<std::int64_t>(kernels_.rows_at_once, end - row));
        for (int i = 0; i < count; ++i) from[i] = scratch.levels.data() + (row + i) * length;
        kernels_.product_int8(from, count, segments, panel, panel_blocks, scratch.sums8.data() + row * stride + first, stride);
    }
}

void DenseLayer::multiply_floats(const float* x, std::int64_t rows, ThreadPool& pool, DenseScratch& scratch) const {
    const std::int64_t stride = tile_count_ * tile_outputs;
    const std::ptrdiff_t no_offset = 0;
    const Segments segments{&no_offset, 1, static_cast<int>(inputs_)};
    if (!tiles_.empty()) {
        for (auto& thread : scratch.threads) thread.panel.reserve(static_cast<std::size_t>(groups_ * int8_group * panel_outputs));
    }
    const std::int64_t panels = (outputs_ + panel_outputs - 1) / panel_outputs;
    parallel(pool, rows * outputs_ * inputs_, panels, [&](std::int64_t p, int thread) {
        const std::int64_t first = p * panel_outputs;
        const float* panel = weights_.data() + first * inputs_;
        if (!tiles_.empty()) {
            float* expanded = scratch.threads[static_cast<std::size_t>(thread)].panel.data();
            kernels_.expand_tile_float(tile(first / tile_outputs), groups_, static_cast<int>(first % tile_outputs / block_outputs), panel_blocks,
                                       plus_minus_, expanded);
            panel = expanded;
        }
        for (std::int64_t r = 0; r < rows; r += kernels_.rows_at_once) {
            const float* from[max_rows];
            const auto count = static_cast<int>(std::min<std::int64_t>(kernels_.rows_at_once, rows - r));
            for (int i = 0; i < count; ++i) from[i] = x + (r + i) * inputs_;
            kernels_.product_float(from, count, segments, panel, panel_blocks, scratch.sums.data() + r * stride + first, stride);
        }
    });
}

std::size_t DenseLayer::bytes() const {
    return tiles_.size() + sizeof(float) * (weights_.size() + bias_.size() + scale_.size() + shift_.size()) +
           sizeof(std::int32_t) * offset_sums_.size();
}

}  // namespace onebit
