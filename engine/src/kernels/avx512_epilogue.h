// The operations on sums before they are stored, with AVX-512: scaling, bias, normalisation, ReLU. A part of avx512.cpp. The plain loops in rows.h
// give the same bits.
#pragma once

#include <immintrin.h>

#include <cmath>

#include "rows.h"

namespace onebit {
namespace {

// f(0) + f(1) + ... in the order of rows.h: four sums at a time, the rest to the first.
template <class Function>
[[gnu::always_inline]] inline __m512 add_blocks(int blocks, const Function& f) {
    constexpr int chains = 4;
    __m512 part[chains];
#pragma GCC unroll 4
    for (int c = 0; c < chains; ++c) part[c] = _mm512_setzero_ps();
    int b = 0;
#pragma GCC unroll 4
    for (; b + chains <= blocks; b += chains) {
#pragma GCC unroll 4
        for (int c = 0; c < chains; ++c) part[c] = _mm512_add_ps(part[c], f(b + c));
    }
#pragma GCC unroll 4
    for (; b < blocks; ++b) part[0] = _mm512_add_ps(part[0], f(b));
    return _mm512_add_ps(_mm512_add_ps(part[0], part[1]), _mm512_add_ps(part[2], part[3]));
}

inline float add_lanes(const __m512& x) {
    Lanes all[] = {x};
    return fold_lanes(all, [](const Lanes& a, const Lanes& b) { return a + b; });
}

// Sixteen scaled sums with their bias.
[[gnu::always_inline]] inline __m512 scaled(const std::int32_t* sums, const __m512& scale, const EpilogueArgs& e, int first) {
    __m512i sum = _mm512_loadu_si512(sums + first);
    if (e.offset != nullptr) sum = _mm512_sub_epi32(sum, _mm512_loadu_si512(e.offset + first));
    return _mm512_add_ps(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(sum)), _mm512_loadu_ps(e.bias + first));
}

[[gnu::always_inline]] inline __m512 scaled_and_shifted(const __m512& v, const EpilogueArgs& e, int first) {
    return _mm512_add_ps(_mm512_mul_ps(v, _mm512_loadu_ps(e.scale + first)), _mm512_loadu_ps(e.shift + first));
}

// A row of 16 * blocks outputs from sums to results in registers. For the many positions of a large image with few channels this costs as much as
// the products.
template <int blocks>
void finish_registers(const std::int32_t* sums, float scale, const EpilogueArgs& e, float* y) {
    constexpr float count = 16 * blocks;
    const __m512 factor = _mm512_set1_ps(scale);
    __m512 v[blocks];
#pragma GCC unroll 16
    for (int b = 0; b < blocks; ++b) v[b] = scaled(sums, factor, e, b * 16);
    if (e.norm == EpilogueArgs::Norm::channel) {
        const __m512 mean = _mm512_set1_ps(add_lanes(add_blocks(blocks, [&](int b) { return v[b]; })) / count);
#pragma GCC unroll 16
        for (int b = 0; b < blocks; ++b) v[b] = _mm512_sub_ps(v[b], mean);
        const float variance = add_lanes(add_blocks(blocks, [&](int b) { return _mm512_mul_ps(v[b], v[b]); })) / count + e.eps;
        if (!ordinary(variance)) return row_finish_int8(sums, scale, 16 * blocks, e, y);
        const __m512 inverse = _mm512_set1_ps(1.0f / std::sqrt(variance));
#pragma GCC unroll 16
        for (int b = 0; b < blocks; ++b) v[b] = _mm512_mul_ps(v[b], inverse);
    } else if (e.norm == EpilogueArgs::Norm::affine) {
#pragma GCC unroll 16
        for (int b = 0; b < blocks; ++b) v[b] = scaled_and_shifted(v[b], e, b * 16);
    }
#pragma GCC unroll 16
    for (int b = 0; b < blocks; ++b) {
        // The second operand is what the instruction returns for NaN.
        if (e.relu) v[b] = _mm512_max_ps(_mm512_setzero_ps(), v[b]);
        _mm512_storeu_ps(y + b * 16, v[b]);
    }
}

// The same for longer rows, in three passes over y.
void finish_passes(const std::int32_t* sums, float scale, int outputs, const EpilogueArgs& e, float* y) {
    const __m512 factor = _mm512_set1_ps(scale), zero = _mm512_setzero_ps();
    const int blocks = outputs / 16;
    const auto count = static_cast<float>(outputs);
    const __m512 sum = add_blocks(blocks, [&](int b) {
        const __m512 v = scaled(sums, factor, e, b * 16);
        _mm512_storeu_ps(y + b * 16, v);
        return v;
    });
    if (e.norm == EpilogueArgs::Norm::none && !e.relu) return;
    __m512 mean = zero, inverse = _mm512_set1_ps(1);
    if (e.norm == EpilogueArgs::Norm::channel) {
        mean = _mm512_set1_ps(add_lanes(sum) / count);
        const __m512 squares = add_blocks(blocks, [&](int b) {
            const __m512 v = _mm512_sub_ps(_mm512_loadu_ps(y + b * 16), mean);
            return _mm512_mul_ps(v, v);
        });
        const float variance = add_lanes(squares) / count + e.eps;
        if (!ordinary(variance)) return row_finish_int8(sums, scale, outputs, e, y);
        inverse = _mm512_set1_ps(1.0f / std::sqrt(variance));
    }
    for (int i = 0; i < outputs; i += 16) {
        __m512 v = _mm512_loadu_ps(y + i);
        if (e.norm == EpilogueArgs::Norm::affine) {
            v = scaled_and_shifted(v, e, i);
        } else if (e.norm == EpilogueArgs::Norm::channel) {
            v = _mm512_mul_ps(_mm512_sub_ps(v, mean), inverse);
        }
        if (e.relu) v = _mm512_max_ps(zero, v);
        _mm512_storeu_ps(y + i, v);
    }
}

// A row of any number of outputs, each for itself, in one pass.
void finish_each(const std::int32_t* sums, float scale, int outputs, const EpilogueArgs& e, float* y) {
    const __m512 factor = _mm512_set1_ps(scale), zero = _mm512_setzero_ps();
    for (int i = 0; i < outputs; i += 16) {
        const auto here = static_cast<__mmask16>(outputs - i < 16 ? (1u << (outputs - i)) - 1u : 0xFFFFu);
        __m512i sum = _mm512_maskz_loadu_epi32(here, sums + i);
        if (e.offset != nullptr) sum = _mm512_sub_epi32(sum, _mm512_maskz_loadu_epi32(here, e.offset + i));
        __m512 v = _mm512_add_ps(_mm512_mul_ps(factor, _mm512_cvtepi32_ps(sum)), _mm512_maskz_loadu_ps(here, e.bias + i));
        if (e.norm == EpilogueArgs::Norm::affine) {
            v = _mm512_add_ps(_mm512_mul_ps(v, _mm512_maskz_loadu_ps(here, e.scale + i)), _mm512_maskz_loadu_ps(here, e.shift + i));
        }
        // The second operand is what the instruction returns for NaN.
        if (e.relu) v = _mm512_max_ps(zero, v);
        _mm512_mask_storeu_ps(y + i, here, v);
    }
}

void finish_int8(const std::int32_t* sums, float scale, int outputs, const EpilogueArgs& e, float* y) {
    switch (outputs) {
        case 16: return finish_registers<1>(sums, scale, e, y);
        case 32: return finish_registers<2>(sums, scale, e, y);
        case 48: return finish_registers<3>(sums, scale, e, y);
        case 64: return finish_registers<4>(sums, scale, e, y);
        case 96: return finish_registers<6>(sums, scale, e, y);
        case 128: return finish_registers<8>(sums, scale, e, y);
        case 192: return finish_registers<12>(sums, scale, e, y);
        case 256: return finish_registers<16>(sums, scale, e, y);
        default: break;
    }
    if (e.norm != EpilogueArgs::Norm::channel) return finish_each(sums, scale, outputs, e, y);
    if (outputs % 16 == 0 && outputs <= piece) return finish_passes(sums, scale, outputs, e, y);
    row_finish_int8(sums, scale, outputs, e, y);
}

// Lane i has the sum of the lanes of v[i], added as fold_lanes adds them.
[[gnu::always_inline]] inline __m512 lane_sums(const __m512* v) {
    __m512 t[8], u[4];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) t[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i + 8], 0x44), _mm512_shuffle_f32x4(v[i], v[i + 8], 0xEE));
    // In quarters: those of rows i and of i + 8, then of i, i + 8, i + 4 and i + 12.
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) u[i] = _mm512_add_ps(_mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), _mm512_shuffle_f32x4(t[i], t[i + 4], 0xDD));
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(u[0], u[1]), _mm512_unpackhi_ps(u[0], u[1]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(u[2], u[3]), _mm512_unpackhi_ps(u[2], u[3]));
    const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
    return _mm512_shuffle_f32x4(sums, sums, 0xD8);
}

// Sixteen rows at once: adding up lanes, roots and divisions costs as much as for one row. `blocks`: blocks of 16 outputs, or 0 for any number.
template <int fixed_blocks>
void finish_sixteen(const std::int32_t* sums, std::ptrdiff_t sum_stride, int rows, float scale, int outputs, const EpilogueArgs& e, float* y) {
    const int blocks = fixed_blocks != 0 ? fixed_blocks : outputs / 16;
    const __m512 count = _mm512_set1_ps(static_cast<float>(outputs)), factor = _mm512_set1_ps(scale);
    __m512 totals[16];
    for (int r = 0; r < 16; ++r) totals[r] = _mm512_setzero_ps();
    for (int r = 0; r < rows; ++r) {
        totals[r] = add_blocks(blocks, [&](int b) {
            const __m512 v = scaled(sums + r * sum_stride, factor, e, b * 16);
            _mm512_storeu_ps(y + r * outputs + b * 16, v);
            return v;
        });
    }
    alignas(64) float mean[16], inverse[16];
    _mm512_store_ps(mean, _mm512_div_ps(lane_sums(totals), count));
    for (int r = 0; r < rows; ++r) {
        totals[r] = add_blocks(blocks, [&](int b) {
            const __m512 v = _mm512_sub_ps(_mm512_loadu_ps(y + r * outputs + b * 16), _mm512_set1_ps(mean[r]));
            return _mm512_mul_ps(v, v);
        });
    }
    const __m512 variance = _mm512_add_ps(_mm512_div_ps(lane_sums(totals), count), _mm512_set1_ps(e.eps));
    _mm512_store_ps(inverse, _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(variance)));
    // The second operand is what the instruction returns for NaN.
    const __m512 least = e.relu ? _mm512_setzero_ps() : _mm512_set1_ps(-INFINITY);
    for (int r = 0; r < rows; ++r) {
        for (int b = 0; b < blocks; ++b) {
            float* to = y + r * outputs + b * 16;
            const __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(to), _mm512_set1_ps(mean[r])), _mm512_set1_ps(inverse[r]));
            _mm512_storeu_ps(to, _mm512_max_ps(least, v));
        }
    }
    const __mmask16 small = _mm512_cmp_ps_mask(variance, _mm512_set1_ps(std::numeric_limits<float>::max()), _CMP_LE_OQ);
    const __mmask16 usual = _mm512_mask_cmp_ps_mask(small, variance, _mm512_set1_ps(least_variance), _CMP_GE_OQ);
    for (int r = 0; r < rows && usual != 0xFFFF; ++r) {
        if ((usual >> r & 1) == 0) row_finish_int8(sums + r * sum_stride, scale, outputs, e, y + r * outputs);
    }
}

void finish_rows_int8(const std::int32_t* sums, std::ptrdiff_t sum_stride, std::int64_t rows, float scale, int outputs, const EpilogueArgs& e,
                      float* y) {
    const bool sixteen = e.norm == EpilogueArgs::Norm::channel && outputs % 16 == 0 && outputs <= piece;
    for (std::int64_t r = 0; r < rows && !sixteen; ++r) finish_int8(sums + r * sum_stride, scale, outputs, e, y + r * outputs);
    for (std::int64_t r = 0; r < rows && sixteen; r += 16) {
        const auto here = static_cast<int>(rows - r < 16 ? rows - r : 16);
        const std::int32_t* from = sums + r * sum_stride;
        float* to = y + r * outputs;
        switch (outputs) {
            case 32: finish_sixteen<2>(from, sum_stride, here, scale, outputs, e, to); break;
            case 64: finish_sixteen<4>(from, sum_stride, here, scale, outputs, e, to); break;
            default: finish_sixteen<0>(from, sum_stride, here, scale, outputs, e, to);
        }
    }
}

}  // namespace
}  // namespace onebit
