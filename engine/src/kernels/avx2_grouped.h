// Products of bytes with scales for groups of inputs, a part of avx2.cpp; grouped.h has the plain loops.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "grouped.h"

namespace onebit {
namespace {

// Weights and inputs are widened to 16 bits, because vpmaddubsw would clip sums of two products. A register has two sums of four outputs each.
void multiply_bytes(const ByteProduct& product) {
    constexpr int at_once = 32, registers = at_once / 4;
    for (int first = 0; first < byte_panel_outputs; first += at_once) {
        __m256 sums[at_once / 8];
        for (__m256& sum : sums) sum = _mm256_setzero_ps();
        const std::uint8_t* w = product.weights + 4 * first;
        const std::int8_t* x = product.x;
        for (std::int64_t g = 0; g < product.groups; ++g) {
            __m256i of_group[registers];
            for (__m256i& sum : of_group) sum = _mm256_setzero_si256();
            for (std::int64_t i = 0; i < product.group; i += 4, x += 4, w += 4 * byte_panel_outputs) {
                std::int32_t four;
                std::memcpy(&four, x, 4);
                const __m256i inputs = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
#pragma GCC unroll 8
                for (int r = 0; r < registers; ++r) {
                    const __m256i weights = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 16 * r)));
                    of_group[r] = _mm256_add_epi32(of_group[r], _mm256_madd_epi16(weights, inputs));
                }
            }
            const __m256i taken_off = _mm256_set1_epi32(128 * product.x_totals[g]);
            const __m256 scale = _mm256_set1_ps(product.x_scales[g]);
            const std::uint16_t* scales = product.scales + g * byte_panel_outputs + first;
#pragma GCC unroll 4
            for (int r = 0; r < registers; r += 2) {
                // Of both registers the lower outputs come first, then the upper ones.
                const __m256i eight = _mm256_permute4x64_epi64(_mm256_hadd_epi32(of_group[r], of_group[r + 1]), 0xD8);
                const __m256 number = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(eight, taken_off)), scale);
                sums[r / 2] = _mm256_fmadd_ps(load_halves(scales + 4 * r), number, sums[r / 2]);
            }
        }
        for (int r = 0; r < at_once / 8; ++r) _mm256_storeu_ps(product.out + first + 8 * r, sums[r]);
    }
}

}  // namespace
}  // namespace onebit
