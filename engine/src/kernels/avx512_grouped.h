// Products of weights with scales for groups of inputs, a part of avx512.cpp; grouped.h has the plain loops.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "grouped.h"

namespace onebit {
namespace {

[[gnu::always_inline]] inline __m512 sixteen_halves(const std::uint16_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

// Weights are unsigned bytes, as vpdpbusd wants its first factor; what 128 too much adds to each is taken off the sum.
template <int rows>
void multiply_bytes_of(const ByteProduct& product) {
    constexpr int blocks = byte_panel_outputs / 16;
    // As far ahead as look-ups of bits prefetch.
    constexpr std::ptrdiff_t ahead = 12288;
    const std::int64_t row_inputs = product.groups * product.group;
    __m512 sums[rows][blocks];
    for (auto& of_row : sums) {
        for (__m512& sum : of_row) sum = _mm512_setzero_ps();
    }
    const std::uint8_t* w = product.weights;
    const std::int8_t* x = product.x;
    for (std::int64_t g = 0; g < product.groups; ++g) {
        __m512i of_group[rows][blocks];
        for (auto& of_row : of_group) {
            for (__m512i& sum : of_row) sum = _mm512_setzero_si512();
        }
        for (std::int64_t i = 0; i < product.group; i += 4, x += 4, w += 4 * byte_panel_outputs) {
            __m512i weights[blocks];
#pragma GCC unroll 4
            for (int b = 0; b < blocks; ++b) {
                _mm_prefetch(reinterpret_cast<const char*>(w + b * 64 + ahead), _MM_HINT_T1);
                weights[b] = _mm512_loadu_si512(w + b * 64);
            }
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                std::int32_t four;
                std::memcpy(&four, x + r * row_inputs, 4);
                const __m512i inputs = _mm512_set1_epi32(four);
#pragma GCC unroll 4
                for (int b = 0; b < blocks; ++b) of_group[r][b] = _mm512_dpbusd_epi32(of_group[r][b], weights[b], inputs);
            }
        }
        const std::uint16_t* scales = product.scales + g * byte_panel_outputs;
#pragma GCC unroll 4
        for (int b = 0; b < blocks; ++b) {
            const __m512 of_weights = sixteen_halves(scales + 16 * b);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                const __m512i taken_off = _mm512_set1_epi32(128 * product.x_totals[r * product.groups + g]);
                const __m512 scale = _mm512_set1_ps(product.x_scales[r * product.groups + g]);
                const __m512 number = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(of_group[r][b], taken_off)), scale);
                sums[r][b] = _mm512_fmadd_ps(of_weights, number, sums[r][b]);
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int b = 0; b < blocks; ++b) _mm512_storeu_ps(product.out + r * product.out_stride + 16 * b, sums[r][b]);
    }
}

// Three rows' sums of a group and of all groups stay in registers.
void multiply_bytes(const ByteProduct& product) {
    std::int64_t r = 0;
    for (; r + 3 <= product.rows; r += 3) multiply_bytes_of<3>(one_row(product, r));
    for (; r < product.rows; ++r) multiply_bytes_of<1>(one_row(product, r));
}

}  // namespace
}  // namespace onebit
