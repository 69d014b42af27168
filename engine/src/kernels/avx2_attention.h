// Attention to int8 keys and values with AVX2, a part of avx2.cpp; whole_attention.h explains what is computed.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "whole_attention.h"

namespace onebit {
namespace {

// Bytes 0 and 2 of each four, and bytes 1 and 3, as numbers of 16 bits.
[[gnu::always_inline]] inline void widen(const __m256i& bytes, __m256i& even, __m256i& odd) {
    even = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8);
    odd = _mm256_srai_epi16(bytes, 8);
}

// As integers, magnitudes are in the order of numbers, and NaN is the largest. `whole`: a multiple of 8.
inline float largest_magnitude(const float* x, std::int64_t whole) {
    __m256i most = _mm256_setzero_si256();
    for (std::int64_t i = 0; i < whole; i += 8) {
        const __m256i number = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
        most = _mm256_max_epu32(most, _mm256_and_si256(number, _mm256_set1_epi32(0x7FFFFFFF)));
    }
    __m128i half = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xB1));
    return std::bit_cast<float>(_mm_cvtsi128_si32(half));
}

// A query rounded to 16 bits of its largest: of each four features the first and the third in 32 bits, then the second and the fourth.
struct WholeQuery {
    std::int32_t pairs[2][most_whole_features / 4];
    float scale;

    void take(const float* q, std::int64_t features) {
        const std::int64_t whole = (features + 7) / 8 * 8;
        alignas(32) float x[most_whole_features];
        std::memcpy(x, q, static_cast<std::size_t>(features) * sizeof(float));
        for (std::int64_t i = features; i < whole; ++i) x[i] = 0;
        const float largest = largest_magnitude(x, whole);
        scale = largest / query_levels;
        const __m256 inverse = _mm256_set1_ps(inverse_of(scale));
        // Eight numbers of 32 bits to two groups of four of 16, whose second and third change places.
        const __m256i order = _mm256_set_epi64x(-1, 0x0D0C050409080100, -1, 0x0D0C050409080100);
        for (std::int64_t i = 0; i < whole; i += 8) {
            const __m256i numbers = _mm256_shuffle_epi8(_mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(x + i), inverse)), order);
            alignas(32) std::int32_t four[8];
            _mm256_store_si256(reinterpret_cast<__m256i*>(four), numbers);
            pairs[0][i / 4] = four[0], pairs[1][i / 4] = four[1];
            pairs[0][i / 4 + 1] = four[4], pairs[1][i / 4 + 1] = four[5];
        }
        if (!(largest < INFINITY)) scale = NAN;
    }
};

// As score_tile in attention.h, times the scales of the tokens.
template <int rows, int parts>
void score_whole(const WholeQuery* q, const std::int8_t* keys, const float* scales, const Attended& a, float* scores) {
    __m256i sums[rows][parts];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
        for (int p = 0; p < parts; ++p) sums[r][p] = _mm256_setzero_si256();
    }
    const std::int64_t groups = (a.features + 3) / 4;
    for (std::int64_t g = 0; g < groups; ++g, keys += 4 * token_block) {
#pragma GCC unroll 8
        for (int p = 0; p < parts; ++p) {
            __m256i even, odd;
            if (begins_line(p)) fetch_next(keys + p * 32, a);
            widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + p * 32)), even, odd);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                const __m256i first = _mm256_madd_epi16(even, _mm256_set1_epi32(q[r].pairs[0][g]));
                const __m256i second = _mm256_madd_epi16(odd, _mm256_set1_epi32(q[r].pairs[1][g]));
                sums[r][p] = _mm256_add_epi32(sums[r][p], _mm256_add_epi32(first, second));
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
        for (int p = 0; p < parts; ++p) {
            const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][p]), _mm256_set1_ps(q[r].scale));
            _mm256_storeu_ps(scores + r * a.score_stride + p * 8, _mm256_mul_ps(product, _mm256_loadu_ps(scales + p * 8)));
        }
    }
}

// The weights of n tokens, of which other rows see `seen`, times the scales of their values, in place of themselves: for each four tokens 16 bytes,
// the upper digits of the first and the third as numbers of 16 bits, 0 to 255, those of the second and the fourth, and the same of the lower digits.
// Returns the scale of the lower one.
float weight_pairs(float* x, const std::int8_t* values, const Attended& a, std::int64_t n, std::int64_t seen) {
    apply_scales(x, values, a, n);
    const std::int64_t whole = (n + 7) / 8 * 8;
    for (std::int64_t t = n; t < whole; ++t) x[t] = 0;
    const float largest = largest_magnitude(x, whole);
    const float scale = largest / weight_levels;
    const __m256 inverse = _mm256_set1_ps(inverse_of(scale));
    // Bytes 1 and 0 of four numbers of 32 bits.
    constexpr long long upper = static_cast<long long>(0x800D800580098001u), lower = static_cast<long long>(0x800C800480088000u);
    const __m256i digits = _mm256_set_epi64x(lower, upper, lower, upper);
    for (std::int64_t t = 0; t < whole; t += 8) {
        const __m256i number = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + t), inverse));
        // Of a number beyond the largest level, as rounding may make one, the level.
        const __m256i level = _mm256_min_epu32(number, _mm256_set1_epi32(65535));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(x + t), _mm256_shuffle_epi8(level, digits));
    }
    // A row that sees fewer tokens than the one beside it has weights of 0 for the others.
    for (std::int64_t t = whole; t < (seen + 3) / 4 * 4; ++t) x[t] = 0;
    return largest < INFINITY ? scale : NAN;
}

// As weigh_tile in attention.h.
template <int rows, int parts>
void weigh_pairs(const std::int8_t* values, const Attended& a, const float* weights, const float* shares, std::int64_t features, float* y) {
    const std::int64_t width = stored_features(a.features), seen = seen_by(a, rows - 1);
    __m256i sums[rows][parts][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) sums[r][p][0] = sums[r][p][1] = _mm256_setzero_si256();
    }
    for (std::int64_t first = 0; first < seen; first += token_block, values += a.block_stride) {
        const std::int64_t end = first + token_block < seen ? first + token_block : seen;
        const std::int8_t* from = values;
        for (std::int64_t t = first; t < end; t += 4, from += 4 * width) {
#pragma GCC unroll 4
            for (int p = 0; p < parts; ++p) {
                __m256i even, odd;
                if (begins_line(p)) fetch_next(from + p * 32, a);
                widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + p * 32)), even, odd);
#pragma GCC unroll 4
                for (int r = 0; r < rows; ++r) {
                    std::int32_t pairs[4];
                    std::memcpy(pairs, weights + r * a.score_stride + t, sizeof pairs);
#pragma GCC unroll 2
                    for (int d = 0; d < 2; ++d) {
                        const __m256i products = _mm256_add_epi32(_mm256_madd_epi16(even, _mm256_set1_epi32(pairs[2 * d])),
                                                                  _mm256_madd_epi16(odd, _mm256_set1_epi32(pairs[2 * d + 1])));
                        sums[r][p][d] = _mm256_add_epi32(sums[r][p][d], products);
                    }
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            const __m256 both = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[r][p][0]), _mm256_set1_ps(256), _mm256_cvtepi32_ps(sums[r][p][1]));
            const __m256 result = _mm256_mul_ps(both, _mm256_set1_ps(shares[r]));
            float* to = y + r * a.row_stride + p * 8;
            const std::int64_t left = features - p * 8;
            if (left >= 8) {
                _mm256_storeu_ps(to, result);
            } else if (left > 0) {
                alignas(32) float some[8];
                _mm256_store_ps(some, result);
                std::memcpy(to, some, static_cast<std::size_t>(left) * sizeof(float));
            }
        }
    }
}

template <int rows>
void attend_whole(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    // Sums stay in registers beside what is widened.
    constexpr int score_parts = rows == 1 ? 8 : rows == 2 ? 4 : 2, weigh_parts = rows == 1 ? 4 : rows == 2 ? 2 : 1;
    WholeQuery whole[rows];
    for (int r = 0; r < rows; ++r) whole[r].take(q + r * a.row_stride, a.features);
    const std::int64_t seen = seen_by(a, rows - 1);
    for (std::int64_t first = 0; first < seen; first += token_block) {
        const std::int8_t* block = keys + first / token_block * a.block_stride;
        const float* scales = block_scales(block, a);
        for (std::int64_t t = 0; t < token_block && first + t < seen; t += 8 * score_parts) {
            score_whole<rows, score_parts>(whole, block + t * 4, scales + t, a, scores + first + t);
        }
    }
    float shares[rows];
    soft_weights<rows>(scores, a, shares);
    for (int r = 0; r < rows; ++r) shares[r] *= weight_pairs(scores + r * a.score_stride, values, a, seen_by(a, r), seen);
    std::int64_t i = 0;
    for (; i + 8 * weigh_parts <= stored_features(a.features); i += 8 * weigh_parts) {
        weigh_pairs<rows, weigh_parts>(values + i * 4, a, scores, shares, a.features - i, y + i);
    }
    for (; i < a.features; i += 8) weigh_pairs<rows, 1>(values + i * 4, a, scores, shares, a.features - i, y + i);
}

void attend_int8(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    if (a.features > most_whole_features) return attend_head(q, keys, values, a, scores, y);
    by_rows(a.rows, [&]<int rows>() { attend_whole<rows>(q, keys, values, a, scores, y); });
}

}  // namespace
}  // namespace onebit
