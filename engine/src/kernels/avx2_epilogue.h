// The operations on sums of many rows before they are stored, with AVX2: scaling, bias, normalisation, ReLU. A part of avx2.cpp. The plain loops in
// rows.h give the same bits.
#pragma once

#include <immintrin.h>

#include <cmath>

#include "rows.h"

namespace onebit {
namespace {

// The sum over a row of f(first of eight numbers), in the order of rows.h: lanes of sixteen numbers, four sums at a time, the rest to the first. The
// upper eight lanes are added to the lower ones.
template <class Function>
[[gnu::always_inline]] inline __m256 add_blocks(int blocks, const Function& f) {
    constexpr int chains = 4;
    __m256 part[chains][2];
#pragma GCC unroll 4
    for (int c = 0; c < chains; ++c) part[c][0] = part[c][1] = _mm256_setzero_ps();
    int b = 0;
    for (; b + chains <= blocks; b += chains) {
#pragma GCC unroll 4
        for (int c = 0; c < chains; ++c) {
            part[c][0] = _mm256_add_ps(part[c][0], f((b + c) * 16));
            part[c][1] = _mm256_add_ps(part[c][1], f((b + c) * 16 + 8));
        }
    }
    for (; b < blocks; ++b) {
        part[0][0] = _mm256_add_ps(part[0][0], f(b * 16));
        part[0][1] = _mm256_add_ps(part[0][1], f(b * 16 + 8));
    }
    // Unused sums are 0, and the first sum, which began with 0, is not -0. Adding them does not change it.
    if (blocks < chains) return _mm256_add_ps(part[0][0], part[0][1]);
    __m256 half[2];
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) half[h] = _mm256_add_ps(_mm256_add_ps(part[0][h], part[1][h]), _mm256_add_ps(part[2][h], part[3][h]));
    return _mm256_add_ps(half[0], half[1]);
}

// Lane i has the sum of the lanes of v[i], added as fold_lanes adds them.
[[gnu::always_inline]] inline __m256 lane_sums(const __m256* v) {
    __m256 t[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) t[i] = _mm256_add_ps(_mm256_permute2f128_ps(v[i], v[i + 4], 0x20), _mm256_permute2f128_ps(v[i], v[i + 4], 0x31));
    const __m256 a = _mm256_add_ps(_mm256_shuffle_ps(t[0], t[1], 0x44), _mm256_shuffle_ps(t[0], t[1], 0xEE));
    const __m256 b = _mm256_add_ps(_mm256_shuffle_ps(t[2], t[3], 0x44), _mm256_shuffle_ps(t[2], t[3], 0xEE));
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xDD));
}

// Eight rows at once: adding up lanes, roots and divisions costs as much for eight rows as for one. `fixed_blocks`: blocks of 16 outputs, or 0 for
// any number.
template <int fixed_blocks>
void finish_eight(const std::int32_t* sums, std::ptrdiff_t sum_stride, int rows, float scale, int outputs, const EpilogueArgs& e, float* y) {
    const int blocks = fixed_blocks != 0 ? fixed_blocks : outputs / 16;
    const __m256 count = _mm256_set1_ps(static_cast<float>(outputs)), factor = _mm256_set1_ps(scale);
    __m256 totals[8];
    for (auto& total : totals) total = _mm256_setzero_ps();
    const bool shifted = e.offset != nullptr;
    for (int r = 0; r < rows; ++r) {
        totals[r] = add_blocks(blocks, [&](int i) {
            __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + r * sum_stride + i));
            if (shifted) sum = _mm256_sub_epi32(sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(e.offset + i)));
            const __m256 v = _mm256_add_ps(_mm256_mul_ps(factor, _mm256_cvtepi32_ps(sum)), _mm256_loadu_ps(e.bias + i));
            _mm256_storeu_ps(y + r * outputs + i, v);
            return v;
        });
    }
    alignas(32) float mean[8], inverse[8];
    _mm256_store_ps(mean, _mm256_div_ps(lane_sums(totals), count));
    for (int r = 0; r < rows; ++r) {
        const __m256 middle = _mm256_set1_ps(mean[r]);
        totals[r] = add_blocks(blocks, [&](int i) {
            const __m256 v = _mm256_sub_ps(_mm256_loadu_ps(y + r * outputs + i), middle);
            return _mm256_mul_ps(v, v);
        });
    }
    const __m256 variance = _mm256_add_ps(_mm256_div_ps(lane_sums(totals), count), _mm256_set1_ps(e.eps));
    _mm256_store_ps(inverse, _mm256_div_ps(_mm256_set1_ps(1.0f), _mm256_sqrt_ps(variance)));
    // The second operand is what the instruction returns for NaN.
    const __m256 least = e.relu ? _mm256_setzero_ps() : _mm256_set1_ps(-INFINITY);
    for (int r = 0; r < rows; ++r) {
        const __m256 middle = _mm256_set1_ps(mean[r]), share = _mm256_set1_ps(inverse[r]);
        for (int i = 0; i < blocks * 16; i += 8) {
            float* to = y + r * outputs + i;
            _mm256_storeu_ps(to, _mm256_max_ps(least, _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(to), middle), share)));
        }
    }
    const __m256 usual = _mm256_and_ps(_mm256_cmp_ps(variance, _mm256_set1_ps(std::numeric_limits<float>::max()), _CMP_LE_OQ),
                                       _mm256_cmp_ps(variance, _mm256_set1_ps(least_variance), _CMP_GE_OQ));
    const int ordinary_rows = _mm256_movemask_ps(usual);
    for (int r = 0; r < rows && ordinary_rows != 0xFF; ++r) {
        if ((ordinary_rows >> r & 1) == 0) row_finish_int8(sums + r * sum_stride, scale, outputs, e, y + r * outputs);
    }
}

void finish_rows_int8(const std::int32_t* sums, std::ptrdiff_t sum_stride, std::int64_t rows, float scale, int outputs, const EpilogueArgs& e,
                      float* y) {
    const bool eight = e.norm == EpilogueArgs::Norm::channel && outputs % 16 == 0 && outputs <= piece;
    if (!eight) return rows_finish_int8(sums, sum_stride, rows, scale, outputs, e, y);
    for (std::int64_t r = 0; r < rows; r += 8) {
        const auto here = static_cast<int>(rows - r < 8 ? rows - r : 8);
        const std::int32_t* from = sums + r * sum_stride;
        float* to = y + r * outputs;
        switch (outputs) {
            case 32: finish_eight<2>(from, sum_stride, here, scale, outputs, e, to); break;
            case 64: finish_eight<4>(from, sum_stride, here, scale, outputs, e, to); break;
            default: finish_eight<0>(from, sum_stride, here, scale, outputs, e, to);
        }
    }
}

}  // namespace
}  // namespace onebit
