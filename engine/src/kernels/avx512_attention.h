// Attention to int8 keys and values with AVX-512, a part of avx512.cpp; whole_attention.h explains what is computed.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "whole_attention.h"

namespace onebit {
namespace {

// By products of bytes: queries too are taken apart into two digits to the base 256, so that two sums of products, both exact as floats too, hold
// what one of 16 bits would. Here are a query's digits, -128 to 127 both, four features' in 32 bits.
struct QueryDigits {
    std::uint32_t digits[2][most_whole_features / 4];
    float scale;         // of the lower digit
    float taken_off[2];  // what making keys unsigned adds to a sum, in each digit

    void take(const float* q, std::int64_t features) {
        const std::int64_t whole = (features + 15) / 16 * 16;
        const auto load = [&](std::int64_t i) {
            const std::int64_t left = features - i;
            return _mm512_maskz_loadu_ps(static_cast<__mmask16>(left >= 16 ? 0xFFFFu : (1u << left) - 1u), q + i);
        };
        // As integers, magnitudes are in the order of numbers, and NaN is the largest.
        __m512i most = _mm512_setzero_si512();
        for (std::int64_t i = 0; i < whole; i += 16) {
            most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(load(i)), _mm512_set1_epi32(0x7FFFFFFF)));
        }
        const auto largest = std::bit_cast<float>(_mm512_reduce_max_epu32(most));
        scale = largest / query_levels;
        const __m512 inverse = _mm512_set1_ps(inverse_of(scale));
        __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        for (std::int64_t i = 0; i < whole; i += 16) {
            const __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(load(i), inverse));
            const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(number, _mm512_set1_epi32(128)), 8);
            const __m512i lower = _mm512_sub_epi32(number, _mm512_slli_epi32(upper, 8));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(digits[0] + i / 4), _mm512_cvtepi32_epi8(upper));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(digits[1] + i / 4), _mm512_cvtepi32_epi8(lower));
            sums[0] = _mm512_add_epi32(sums[0], upper);
            sums[1] = _mm512_add_epi32(sums[1], lower);
        }
        for (int d = 0; d < 2; ++d) taken_off[d] = 128.0f * static_cast<float>(_mm512_reduce_add_epi32(sums[d]));
        if (!(largest < INFINITY)) scale = NAN;
    }
};

// As score_tile in attention.h, times the scales of the tokens.
template <int rows, int parts>
void score_digits(const QueryDigits* q, const std::int8_t* keys, const float* scales, const Attended& a, float* scores) {
    const __m512i sign = _mm512_set1_epi8(-128);
    __m512i sums[rows][parts][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) sums[r][p][0] = sums[r][p][1] = _mm512_setzero_si512();
    }
    const std::int64_t groups = (a.features + 3) / 4;
    for (std::int64_t g = 0; g < groups; ++g, keys += 4 * token_block) {
        __m512i key[parts];
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            fetch_next(keys + p * 64, a);
            key[p] = _mm512_xor_si512(_mm512_loadu_si512(keys + p * 64), sign);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
            for (int d = 0; d < 2; ++d) {
                const __m512i digits = _mm512_set1_epi32(static_cast<int>(q[r].digits[d][g]));
#pragma GCC unroll 4
                for (int p = 0; p < parts; ++p) sums[r][p][d] = _mm512_dpbusd_epi32(sums[r][p][d], key[p], digits);
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            const __m512 upper = _mm512_sub_ps(_mm512_cvtepi32_ps(sums[r][p][0]), _mm512_set1_ps(q[r].taken_off[0]));
            const __m512 lower = _mm512_sub_ps(_mm512_cvtepi32_ps(sums[r][p][1]), _mm512_set1_ps(q[r].taken_off[1]));
            const __m512 both = _mm512_mul_ps(_mm512_fmadd_ps(upper, _mm512_set1_ps(256), lower), _mm512_set1_ps(q[r].scale));
            _mm512_storeu_ps(scores + r * a.score_stride + p * 16, _mm512_mul_ps(both, _mm512_loadu_ps(scales + p * 16)));
        }
    }
}

// The weights of n tokens times the scales of their values, in place of themselves: for each 16 tokens 16 bytes of the upper digit, 0 to 255 both,
// and 16 of the lower. Returns the scale of the lower digit.
float weight_digits(float* x, const std::int8_t* values, const Attended& a, std::int64_t n) {
    apply_scales(x, values, a, n);
    const std::int64_t whole = (n + 15) / 16 * 16;
    for (std::int64_t t = n; t < whole; ++t) x[t] = 0;
    __m512i most = _mm512_setzero_si512();
    for (std::int64_t t = 0; t < whole; t += 16) {
        most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_loadu_si512(x + t), _mm512_set1_epi32(0x7FFFFFFF)));
    }
    const auto largest = std::bit_cast<float>(_mm512_reduce_max_epu32(most));
    const float scale = largest / weight_levels;
    const __m512 inverse = _mm512_set1_ps(inverse_of(scale));
    auto* to = reinterpret_cast<std::uint8_t*>(x);
    for (std::int64_t t = 0; t < whole; t += 16, to += 32) {
        const __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + t), inverse));
        // Of a number beyond the largest level, as rounding may make one, the level.
        const __m512i level = _mm512_min_epu32(number, _mm512_set1_epi32(65535));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(_mm512_srli_epi32(level, 8)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16), _mm512_cvtepi32_epi8(level));
    }
    // A row that sees fewer tokens than the one beside it has weights of 0 for the others.
    std::memset(to, 0, 32);
    return largest < INFINITY ? scale : NAN;
}

// The sums of both digits of some rows, for each feature.
struct WeighedDigits {
    std::int32_t of[most_queries][2][most_whole_features];
};

// Adds the weighed values of a block's tokens, of some features from `i` on, in the order of attention.h's weigh_tile.
template <int rows, int parts>
void weigh_digits(const std::int8_t* block, const Attended& a, std::int64_t first, std::int64_t end, const float* weights, std::int64_t i,
                  WeighedDigits& digits) {
    const std::int64_t width = stored_features(a.features);
    __m512i sums[rows][parts][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            for (int d = 0; d < 2; ++d) sums[r][p][d] = first == 0 ? _mm512_setzero_si512() : _mm512_loadu_si512(digits.of[r][d] + i + p * 16);
        }
    }
    const std::int8_t* from = block + 4 * i;
    for (std::int64_t t = first; t < end; t += 4, from += 4 * width) {
        const auto* row = reinterpret_cast<const std::uint8_t*>(weights) + t / 16 * 32 + t % 16;
        __m512i value[parts];
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            fetch_next(from + p * 64, a);
            value[p] = _mm512_loadu_si512(from + p * 64);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
            for (int d = 0; d < 2; ++d) {
                std::int32_t four;
                std::memcpy(&four, row + r * a.score_stride * 4 + d * 16, 4);
                const __m512i both = _mm512_set1_epi32(four);
#pragma GCC unroll 4
                for (int p = 0; p < parts; ++p) sums[r][p][d] = _mm512_dpbusd_epi32(sums[r][p][d], both, value[p]);
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            for (int d = 0; d < 2; ++d) _mm512_storeu_si512(digits.of[r][d] + i + p * 16, sums[r][p][d]);
        }
    }
}

// The values of all tokens, block after block, so that each is one stream.
template <int rows, int parts>
void weigh_blocks(const std::int8_t* values, const Attended& a, const float* weights, const float* shares, float* y) {
    const std::int64_t seen = seen_by(a, rows - 1), width = stored_features(a.features);
    WeighedDigits digits;
    for (std::int64_t first = 0; first < seen; first += token_block, values += a.block_stride) {
        const std::int64_t end = first + token_block < seen ? first + token_block : seen;
        std::int64_t i = 0;
        for (; i + 16 * parts <= width; i += 16 * parts) weigh_digits<rows, parts>(values, a, first, end, weights, i, digits);
        for (; i < a.features; i += 16) weigh_digits<rows, 1>(values, a, first, end, weights, i, digits);
    }
    for (int r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < a.features; i += 16) {
            const __m512 upper = _mm512_cvtepi32_ps(_mm512_loadu_si512(digits.of[r][0] + i));
            const __m512 lower = _mm512_cvtepi32_ps(_mm512_loadu_si512(digits.of[r][1] + i));
            const std::int64_t left = a.features - i;
            const auto used = static_cast<__mmask16>(left >= 16 ? 0xFFFFu : (1u << left) - 1u);
            const __m512 both = _mm512_mul_ps(_mm512_fmadd_ps(upper, _mm512_set1_ps(256), lower), _mm512_set1_ps(shares[r]));
            _mm512_mask_storeu_ps(y + r * a.row_stride + i, used, both);
        }
    }
}

// Four sums of digits for each row stay in registers twice; one row takes all of a block.
template <int rows>
void attend_digits(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    constexpr int parts = rows <= 2 ? 4 : 2;
    QueryDigits digits[rows];
    for (int r = 0; r < rows; ++r) digits[r].take(q + r * a.row_stride, a.features);
    const std::int64_t seen = seen_by(a, rows - 1);
    for (std::int64_t first = 0; first < seen; first += token_block) {
        const std::int8_t* block = keys + first / token_block * a.block_stride;
        const float* scales = block_scales(block, a);
        for (std::int64_t t = 0; t < token_block; t += 16) fetch_next(block + token_block * stored_features(a.features) + 4 * t, a);
        for (std::int64_t t = 0; t < token_block && first + t < seen; t += 16 * parts) {
            score_digits<rows, parts>(digits, block + t * 4, scales + t, a, scores + first + t);
        }
    }
    float shares[rows];
    soft_weights<rows>(scores, a, shares);
    for (int r = 0; r < rows; ++r) shares[r] *= weight_digits(scores + r * a.score_stride, values, a, seen_by(a, r));
    weigh_blocks<rows, parts>(values, a, scores, shares, y);
}

void attend_int8(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    if (a.features > most_whole_features) return attend_head(q, keys, values, a, scores, y);
    by_rows(a.rows, [&]<int rows>() { attend_digits<rows>(q, keys, values, a, scores, y); });
}

}  // namespace
}  // namespace onebit
