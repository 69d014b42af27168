// Rows of floats, and of sums that become floats, with Advanced SIMD: their range, and scaling, bias, normalisation and ReLU of many rows. A part of
// neon.h; rows.h has the plain loops, which give the same bits.
#pragma once

#include <arm_neon.h>

#include <cmath>
#include <limits>

#include "rows.h"

namespace onebit {
namespace {

// NaN is the largest magnitude, and the smaller of it and a number is the number.
void range(const float* x, std::ptrdiff_t n, std::uint32_t* largest_bits, bool* negative) {
    constexpr int chains = 4;
    uint32x4_t largest[chains];
    float32x4_t smallest[chains];
    for (int c = 0; c < chains; ++c) largest[c] = vdupq_n_u32(0), smallest[c] = vdupq_n_f32(0);
    std::ptrdiff_t i = 0;
    for (; i + 4 * chains <= n; i += 4 * chains) {
#pragma GCC unroll 4
        for (int c = 0; c < chains; ++c) {
            const float32x4_t v = vld1q_f32(x + i + 4 * c);
            largest[c] = vmaxq_u32(largest[c], vreinterpretq_u32_f32(vabsq_f32(v)));
            smallest[c] = vminnmq_f32(smallest[c], v);
        }
    }
    for (int c = 1; c < chains; ++c) largest[0] = vmaxq_u32(largest[0], largest[c]), smallest[0] = vminnmq_f32(smallest[0], smallest[c]);
    bool below = false;
    row_range(x + i, n - i, largest_bits, &below);
    const std::uint32_t most = vmaxvq_u32(largest[0]);
    *largest_bits = *largest_bits > most ? *largest_bits : most;
    *negative = below || vminnmvq_f32(smallest[0]) < 0;
}

// Clipping to whole numbers and rounding may change places; the larger of NaN and a number is the number.
void quantize(const float* x, std::ptrdiff_t n, float inverse, float low, float high, int shift, std::uint8_t* q) {
    const float32x4_t least = vdupq_n_f32(low), most = vdupq_n_f32(high);
    const uint8x16_t up = vdupq_n_u8(static_cast<std::uint8_t>(shift));
    std::ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) {
        int32x4_t level[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
            level[k] = vcvtnq_s32_f32(vminnmq_f32(vmaxnmq_f32(vmulq_n_f32(vld1q_f32(x + i + 4 * k), inverse), least), most));
        }
        const auto lower = [](const int32x4_t& a, const int32x4_t& b) { return vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)); };
        const int16x8_t first = lower(level[0], level[1]), last = lower(level[2], level[3]);
        vst1q_u8(q + i, vaddq_u8(vuzp1q_u8(vreinterpretq_u8_s16(first), vreinterpretq_u8_s16(last)), up));
    }
    row_quantize(x + i, n - i, inverse, low, high, shift, q + i);
}

// The sum over a row of f(first of four numbers), in the order of rows.h: lanes of sixteen numbers in four registers, four sums of them at a time,
// and what is left to the first. The registers' upper half is added to the lower one.
template <class Function>
[[gnu::always_inline]] inline float32x4_t add_blocks(int blocks, const Function& f) {
    constexpr int chains = 4;
    float32x4_t part[chains][4];
#pragma GCC unroll 4
    for (int c = 0; c < chains; ++c) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) part[c][q] = vdupq_n_f32(0);
    }
    int b = 0;
    for (; b + chains <= blocks; b += chains) {
#pragma GCC unroll 4
        for (int c = 0; c < chains; ++c) {
#pragma GCC unroll 4
            for (int q = 0; q < 4; ++q) part[c][q] = vaddq_f32(part[c][q], f((b + c) * 16 + q * 4));
        }
    }
    for (; b < blocks; ++b) {
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) part[0][q] = vaddq_f32(part[0][q], f(b * 16 + q * 4));
    }
    float32x4_t sums[4];
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
        // Where nothing came to the others they are 0, and the first, which began with 0, is not -0: adding them would not change it.
        sums[q] = blocks < chains ? part[0][q] : vaddq_f32(vaddq_f32(part[0][q], part[1][q]), vaddq_f32(part[2][q], part[3][q]));
    }
    return vaddq_f32(vaddq_f32(sums[0], sums[2]), vaddq_f32(sums[1], sums[3]));
}

// Lane i has the sum of the lanes of v[i], added as fold_lanes adds them.
inline float32x4_t lane_sums(const float32x4_t* v) {
    float32x4_t halves[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
        const float64x2_t a = vreinterpretq_f64_f32(v[2 * i]), b = vreinterpretq_f64_f32(v[2 * i + 1]);
        halves[i] = vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(a, b)), vreinterpretq_f32_f64(vzip2q_f64(a, b)));
    }
    return vpaddq_f32(halves[0], halves[1]);
}

// Four rows at once: adding up lanes, roots and divisions cost as much for four rows as for one. `fixed_blocks`: of 16 outputs, or 0 for any number.
template <int fixed_blocks>
void finish_four(const std::int32_t* sums, std::ptrdiff_t sum_stride, int rows, float scale, int outputs, const EpilogueArgs& e, float* y) {
    const int blocks = fixed_blocks != 0 ? fixed_blocks : outputs / 16;
    const float32x4_t count = vdupq_n_f32(static_cast<float>(outputs));
    float32x4_t totals[4];
    for (auto& total : totals) total = vdupq_n_f32(0);
    const bool shifted = e.offset != nullptr;
    for (int r = 0; r < rows; ++r) {
        totals[r] = add_blocks(blocks, [&](int i) __attribute__((always_inline)) {
            int32x4_t sum = vld1q_s32(sums + r * sum_stride + i);
            if (shifted) sum = vsubq_s32(sum, vld1q_s32(e.offset + i));
            const float32x4_t v = vaddq_f32(vmulq_n_f32(vcvtq_f32_s32(sum), scale), vld1q_f32(e.bias + i));
            vst1q_f32(y + r * outputs + i, v);
            return v;
        });
    }
    float mean[4], inverse[4];
    vst1q_f32(mean, vdivq_f32(lane_sums(totals), count));
    for (int r = 0; r < rows; ++r) {
        const float32x4_t middle = vdupq_n_f32(mean[r]);
        totals[r] = add_blocks(blocks, [&](int i) __attribute__((always_inline)) {
            const float32x4_t v = vsubq_f32(vld1q_f32(y + r * outputs + i), middle);
            return vmulq_f32(v, v);
        });
    }
    const float32x4_t variance = vaddq_f32(vdivq_f32(lane_sums(totals), count), vdupq_n_f32(e.eps));
    vst1q_f32(inverse, vdivq_f32(vdupq_n_f32(1), vsqrtq_f32(variance)));
    // Numbers below 0 become 0: neither NaN nor -0 is below it.
    const uint32x4_t relu = vdupq_n_u32(e.relu ? 0xFFFFFFFFu : 0);
    for (int r = 0; r < rows; ++r) {
        const float32x4_t middle = vdupq_n_f32(mean[r]), share = vdupq_n_f32(inverse[r]);
        float* to = y + r * outputs;
#pragma GCC unroll 4
        for (int i = 0; i < blocks * 16; i += 4) {
            const float32x4_t v = vmulq_f32(vsubq_f32(vld1q_f32(to + i), middle), share);
            const uint32x4_t below = vandq_u32(vcltzq_f32(v), relu);
            vst1q_f32(to + i, vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), below)));
        }
    }
    const uint32x4_t usual =
        vandq_u32(vcleq_f32(variance, vdupq_n_f32(std::numeric_limits<float>::max())), vcgeq_f32(variance, vdupq_n_f32(least_variance)));
    if (vminvq_u32(usual) != 0) return;
    float variances[4];
    vst1q_f32(variances, variance);
    for (int r = 0; r < rows; ++r) {
        if (!ordinary(variances[r])) row_finish_int8(sums + r * sum_stride, scale, outputs, e, y + r * outputs);
    }
}

void finish_rows_int8(const std::int32_t* sums, std::ptrdiff_t sum_stride, std::int64_t rows, float scale, int outputs, const EpilogueArgs& e,
                      float* y) {
    const bool four = e.norm == EpilogueArgs::Norm::channel && outputs % 16 == 0 && outputs <= piece;
    if (!four) return rows_finish_int8(sums, sum_stride, rows, scale, outputs, e, y);
    for (std::int64_t r = 0; r < rows; r += 4) {
        const auto here = static_cast<int>(rows - r < 4 ? rows - r : 4);
        const std::int32_t* from = sums + r * sum_stride;
        float* to = y + r * outputs;
        switch (outputs) {
            case 32: finish_four<2>(from, sum_stride, here, scale, outputs, e, to); break;
            case 64: finish_four<4>(from, sum_stride, here, scale, outputs, e, to); break;
            default: finish_four<0>(from, sum_stride, here, scale, outputs, e, to);
        }
    }
}

}  // namespace
}  // namespace onebit
