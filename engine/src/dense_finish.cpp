// Finishes a dense layer's sums: subtracts shifts, adds up planes and digits, applies the epilogue.
#include <algorithm>
#include <limits>

#include "dense_layer.h"
#include "trace.h"

namespace onebit {
namespace {

// For a longer row one thread takes the sums.
constexpr std::int64_t most_pieces = 64;

// The number of threads for a row of n outputs: more would cost more than they gain.
std::int64_t shares_of(std::int64_t n, const EpilogueArgs& e, int threads) {
    return std::clamp<std::int64_t>(n / (e.activation != nullptr ? least_numbers_of_a_thread : sums_piece), 1, threads);
}

// The index of an output's constants in the epilogue.
EpilogueArgs args_from(EpilogueArgs e, std::int64_t first) {
    e.bias += first;
    if (e.norm == EpilogueArgs::Norm::affine) e.scale += first, e.shift += first;
    return e;
}

}  // namespace

void DenseLayer::settle(bool few, const DenseScratch::Row& row, std::int64_t first, std::int64_t count, std::int32_t* sums) const {
    // The levels were shifted to the type of the product: signed bytes for few rows, unsigned bytes for many.
    if (few != row.is_signed) {
        const std::int32_t sign = few ? 1 : -1, *offsets = offset_sums_.data() + first;
        for (std::int64_t o = 0; o < count; ++o) sums[o] += sign * offsets[o];
    }
    if (!plus_minus_) return;
    // sum (2b - 1) q
    for (std::int64_t o = 0; o < count; ++o) sums[o] = 2 * sums[o] - row.total;
}

void DenseLayer::finish_part(std::int64_t r, bool, std::int64_t first, std::int64_t count, EpilogueArgs e, float* sums, const DenseScratch&,
                             float* y) const {
    sums += r * sums_stride() + first;
    combine_planes(planes_, outputs_, count, sums);
    float* to = y + r * outputs_ + first;
    kernels_.rows.epilogue_float(sums, static_cast<int>(count), args_from(e, first), to);
    activate(e, count, to);
}

void DenseLayer::finish_part(std::int64_t r, bool few, std::int64_t first, std::int64_t count, EpilogueArgs e, std::int32_t* sums,
                             const DenseScratch& scratch, float* y) const {
    const DenseScratch::Row* line = scratch.rows.data() + r * digits_;
    const std::int64_t stride = sums_stride();
    sums += r * digits_ * stride + first;
    float* to = y + r * outputs_ + first;
    if (!line->finite) {
        std::fill(to, to + count, std::numeric_limits<float>::quiet_NaN());
        return;
    }
    for (std::int64_t plane = 0; plane < plane_outputs_; plane += outputs_) {
        std::int32_t* own = sums + plane;
        for (std::int64_t d = 0; d < digits_; ++d) settle(few, line[d], plane + first, count, own + d * stride);
        for (std::int64_t o = 0; o < count && digits_ == 2; ++o) {
            // Only the final sum is certain to fit in 32 bits, so intermediate sums are unsigned.
            const auto upper = static_cast<std::uint32_t>(own[stride + o]) * 256u;
            own[o] = static_cast<std::int32_t>(static_cast<std::uint32_t>(own[o]) + upper);
        }
    }
    combine_planes(planes_, outputs_, count, sums);
    kernels_.rows.epilogue_int8(sums, line->scale, static_cast<int>(count), args_from(e, first), to);
    activate(e, count, to);
}

template <class Sum>
void DenseLayer::finish_row(std::int64_t r, bool few, const EpilogueArgs& e, Sum* sums, const DenseScratch& scratch, float* y) const {
    const trace::Span span("finish");
    finish_part(r, few, 0, outputs_, e, sums, scratch, y);
}

template void DenseLayer::finish_row(std::int64_t, bool, const EpilogueArgs&, std::int32_t*, const DenseScratch&, float*) const;

void DenseLayer::finish(std::int64_t rows, bool few, const EpilogueArgs& e, float* y, ThreadPool& pool, DenseScratch& scratch) const {
    if (quantize_) return finish_rows(rows, few, e, scratch.sums8.data(), y, pool, scratch);
    finish_rows(rows, few, e, scratch.sums.data(), y, pool, scratch);
}

template <class Sum>
void DenseLayer::finish_rows(std::int64_t rows, bool few, const EpilogueArgs& e, Sum* sums, float* y, ThreadPool& pool,
                             const DenseScratch& scratch) const {
    const bool normalizes = e.norm == EpilogueArgs::Norm::channel;
    // An activation of one number takes as long as eight additions.
    const std::int64_t work = rows * digits_ * plane_outputs_ * (e.activation != nullptr ? 64 : 8);
    const std::int64_t shares = rows >= pool.threads() ? 1 : shares_of(outputs_, e, pool.threads());
    if (shares == 1) return parallel(pool, work, rows, [&](std::int64_t r, int) { finish_row(r, few, e, sums, scratch, y); });
    for (std::int64_t r = 0; r < rows && normalizes; ++r) finish_long_row(r, few, e, sums, y, pool, scratch);
    if (normalizes) return;
    const auto part = [&](std::int64_t i, int thread) {
        const trace::Span span("finish");
        pool.check(thread);
        const std::int64_t share = i % shares, first = outputs_ * share / shares;
        finish_part(i / shares, few, first, outputs_ * (share + 1) / shares - first, e, sums, scratch, y);
    };
    pool.parallel_for(rows * shares, part);
}

template <class Sum>
void DenseLayer::finish_long_row(std::int64_t r, bool few, const EpilogueArgs& e, Sum* sums, float* y, ThreadPool& pool,
                                 const DenseScratch& scratch) const {
    const std::int64_t pieces = (outputs_ + sums_piece - 1) / sums_piece, shares = std::min<std::int64_t>(pieces, pool.threads());
    EpilogueArgs plain = e;
    plain.activation = nullptr;
    float* to = y + r * outputs_;
    if (shares == 1 || pieces > most_pieces) {
        finish_row(r, few, plain, sums, scratch, y);
        if (e.activation != nullptr) parallel_numbers(pool, outputs_, [&](std::int64_t first, std::int64_t n) { activate(e, n, to + first); });
        return;
    }
    // A thread's share is the same part of the row in each round, so that it stays in its core's cache.
    const auto each_piece = [&](const auto& f) {
        pool.parallel_for(shares, [&](std::int64_t share, int thread) {
            const trace::Span span("finish");
            pool.check(thread);
            for (std::int64_t p = pieces * share / shares; p < pieces * (share + 1) / shares; ++p) {
                f(p, p * sums_piece, std::min(sums_piece, outputs_ - p * sums_piece));
            }
        });
    };
    plain.norm = EpilogueArgs::Norm::none;
    plain.relu = false;
    float of_piece[most_pieces];
    // In the order of rows.normalize.
    const auto total = [&] {
        double sum = 0;
        for (std::int64_t p = 0; p < pieces; ++p) sum += of_piece[p];
        return sum;
    };
    each_piece([&](std::int64_t p, std::int64_t first, std::int64_t n) {
        finish_part(r, few, first, n, plain, sums, scratch, y);
        of_piece[p] = kernels_.rows.sum(to + first, n);
    });
    const auto mean = static_cast<float>(total() / static_cast<double>(outputs_));
    each_piece([&](std::int64_t p, std::int64_t first, std::int64_t n) { of_piece[p] = kernels_.rows.squares(to + first, n, mean); });
    const float factor = kernels_.rows.inverse_deviation(total(), outputs_, e.eps);
    if (factor == 0.0f) kernels_.rows.normalize(to, outputs_, e.eps, to);
    each_piece([&](std::int64_t, std::int64_t first, std::int64_t n) {
        if (factor != 0.0f) kernels_.rows.center(to + first, n, mean, factor, to + first);
        if (e.relu) kernels_.rows.relu(to + first, n, to + first);
        activate(e, n, to + first);
    });
}

}  // namespace onebit
