// Products of bytes with scales for groups of inputs, a part of avx2.cpp; grouped.h has the plain loops.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "grouped.h"

namespace onebit {
namespace {

// Weights and inputs are widened to 16 bits, because vpmaddubsw would clip sums of two products. A register has two sums of four outputs each.
template <int rows>
void multiply_bytes_of(const ByteProduct& product) {
    constexpr int at_once = 32 / rows, registers = at_once / 4;
    const std::int64_t row_inputs = product.groups * product.group;
    for (int first = 0; first < byte_panel_outputs; first += at_once) {
        __m256 sums[rows][at_once / 8];
        for (auto& of_row : sums) {
            for (__m256& sum : of_row) sum = _mm256_setzero_ps();
        }
        const std::uint8_t* w = product.weights + 4 * first;
        const std::int8_t* x = product.x;
        for (std::int64_t g = 0; g < product.groups; ++g) {
            __m256i of_group[rows][registers];
            for (auto& of_row : of_group) {
                for (__m256i& sum : of_row) sum = _mm256_setzero_si256();
            }
            for (std::int64_t i = 0; i < product.group; i += 4, x += 4, w += 4 * byte_panel_outputs) {
                __m256i inputs[rows];
#pragma GCC unroll 4
                for (int r = 0; r < rows; ++r) {
                    std::int32_t four;
                    std::memcpy(&four, x + r * row_inputs, 4);
                    inputs[r] = _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_cvtsi32_si128(four)));
                }
#pragma GCC unroll 8
                for (int k = 0; k < registers; ++k) {
                    const __m256i weights = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 16 * k)));
#pragma GCC unroll 4
                    for (int r = 0; r < rows; ++r) of_group[r][k] = _mm256_add_epi32(of_group[r][k], _mm256_madd_epi16(weights, inputs[r]));
                }
            }
            const std::uint16_t* scales = product.scales + g * byte_panel_outputs + first;
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                const __m256i taken_off = _mm256_set1_epi32(128 * product.x_totals[r * product.groups + g]);
                const __m256 scale = _mm256_set1_ps(product.x_scales[r * product.groups + g]);
#pragma GCC unroll 4
                for (int k = 0; k < registers; k += 2) {
                    // Of both registers the lower outputs come first, then the upper ones.
                    const __m256i eight = _mm256_permute4x64_epi64(_mm256_hadd_epi32(of_group[r][k], of_group[r][k + 1]), 0xD8);
                    const __m256 number = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(eight, taken_off)), scale);
                    sums[r][k / 2] = _mm256_fmadd_ps(load_halves(scales + 4 * k), number, sums[r][k / 2]);
                }
            }
        }
        for (int r = 0; r < rows; ++r) {
            for (int k = 0; k < at_once / 8; ++k) _mm256_storeu_ps(product.out + r * product.out_stride + first + 8 * k, sums[r][k]);
        }
    }
}

// As many sums stay in registers with four rows as with one.
void multiply_bytes(const ByteProduct& product) {
    std::int64_t r = 0;
    for (; r + 4 <= product.rows; r += 4) multiply_bytes_of<4>(one_row(product, r));
    for (; r < product.rows; ++r) multiply_bytes_of<1>(one_row(product, r));
}

}  // namespace
}  // namespace onebit
