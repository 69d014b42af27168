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
void multiply_bytes(const ByteProduct& product) {
    constexpr int blocks = byte_panel_outputs / 16;
    // As far ahead as look-ups of bits prefetch.
    constexpr std::ptrdiff_t ahead = 12288;
    __m512 sums[blocks];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    const std::uint8_t* w = product.weights;
    const std::int8_t* x = product.x;
    for (std::int64_t g = 0; g < product.groups; ++g) {
        __m512i of_group[blocks];
        for (__m512i& sum : of_group) sum = _mm512_setzero_si512();
        for (std::int64_t i = 0; i < product.group; i += 4, x += 4, w += 4 * byte_panel_outputs) {
            std::int32_t four;
            std::memcpy(&four, x, 4);
            const __m512i inputs = _mm512_set1_epi32(four);
#pragma GCC unroll 4
            for (int b = 0; b < blocks; ++b) {
                _mm_prefetch(reinterpret_cast<const char*>(w + b * 64 + ahead), _MM_HINT_T1);
                of_group[b] = _mm512_dpbusd_epi32(of_group[b], _mm512_loadu_si512(w + b * 64), inputs);
            }
        }
        const __m512i taken_off = _mm512_set1_epi32(128 * product.x_totals[g]);
        const __m512 scale = _mm512_set1_ps(product.x_scales[g]);
        const std::uint16_t* scales = product.scales + g * byte_panel_outputs;
#pragma GCC unroll 4
        for (int b = 0; b < blocks; ++b) {
            const __m512 number = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(of_group[b], taken_off)), scale);
            sums[b] = _mm512_fmadd_ps(sixteen_halves(scales + 16 * b), number, sums[b]);
        }
    }
#pragma GCC unroll 4
    for (int b = 0; b < blocks; ++b) _mm512_storeu_ps(product.out + 16 * b, sums[b]);
}

}  // namespace
}  // namespace onebit
