// Attention to int8 keys and values with Advanced SIMD; whole_attention.h explains what is computed. What the two sets for Arm share: `Products` are
// those of one of them, by dot products of bytes or by their products. Internal linkage, as in rows.h.
#pragma once

#include <arm_neon.h>

#include <cmath>
#include <cstring>

#include "whole_attention.h"

namespace onebit {
namespace {

// `whole`: a multiple of 4.
inline float largest_magnitude(const float* x, std::int64_t whole) {
    uint32x4_t most = vdupq_n_u32(0);
    for (std::int64_t i = 0; i < whole; i += 4) most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + i))));
    return std::bit_cast<float>(vmaxvq_u32(most));
}

// A query's digits to the base 256, -128 to 127 both, a byte for each feature, with zeros up to a multiple of 16 features.
struct QueryDigits {
    alignas(16) std::int8_t digits[2][most_whole_features];
    float scale;

    void take(const float* q, std::int64_t features) {
        const std::int64_t whole = stored_features(features);
        alignas(16) float x[most_whole_features];
        std::memcpy(x, q, static_cast<std::size_t>(features) * sizeof(float));
        for (std::int64_t i = features; i < whole; ++i) x[i] = 0;
        const float largest = largest_magnitude(x, whole);
        scale = largest / query_levels;
        const float inverse = inverse_of(scale);
        for (std::int64_t i = 0; i < whole; i += 16) {
            int16x8_t level[4];
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) level[k] = vreinterpretq_s16_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4 * k), inverse)));
            const int16x8_t first = vuzp1q_s16(level[0], level[1]), last = vuzp1q_s16(level[2], level[3]);
            const auto lower = [](const int16x8_t& a, const int16x8_t& b) { return vuzp1q_s8(vreinterpretq_s8_s16(a), vreinterpretq_s8_s16(b)); };
            // The lower byte, as a signed one, is what the rounded upper one leaves.
            vst1q_s8(digits[0] + i, lower(vrshrq_n_s16(first, 8), vrshrq_n_s16(last, 8)));
            vst1q_s8(digits[1] + i, lower(first, last));
        }
        if (!(largest < INFINITY)) scale = NAN;
    }
};

// Four scores from the sums of both digits, times the scales of the query and of the tokens.
inline void put_scores(const int32x4_t& upper, const int32x4_t& lower, float scale, const float* scales, float* scores) {
    const int32x4_t sums = vaddq_s32(vshlq_n_s32(upper, 8), lower);
    vst1q_f32(scores, vmulq_f32(vmulq_n_f32(vcvtq_f32_s32(sums), scale), vld1q_f32(scales)));
}

// The weights of n tokens times the scales of their values, in place of themselves: for each 16 tokens 16 bytes of the upper digit, less 128, and 16
// of the lower one. Returns the scale of the lower digit.
inline float weight_digits(float* x, const std::int8_t* values, const Attended& a, std::int64_t n) {
    apply_scales(x, values, a, n);
    const std::int64_t whole = (n + 15) / 16 * 16;
    for (std::int64_t t = n; t < whole; ++t) x[t] = 0;
    const float largest = largest_magnitude(x, whole), scale = largest / weight_levels, inverse = inverse_of(scale);
    const uint32x4_t most = vdupq_n_u32(static_cast<std::uint32_t>(weight_levels));
    const uint8x16_t sign = vdupq_n_u8(0x80);
    auto* to = reinterpret_cast<std::uint8_t*>(x);
    for (std::int64_t t = 0; t < whole; t += 16, to += 32) {
        uint8x16_t level[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
            // Of a number beyond the largest level, as rounding may make one, the level.
            level[k] = vreinterpretq_u8_u32(vminq_u32(vcvtnq_u32_f32(vmulq_n_f32(vld1q_f32(x + t + 4 * k), inverse)), most));
        }
        const auto halves = [](const uint8x16_t& p, const uint8x16_t& q) {
            return vreinterpretq_u8_u16(vuzp1q_u16(vreinterpretq_u16_u8(p), vreinterpretq_u16_u8(q)));
        };
        const uint8x16_t first = halves(level[0], level[1]), last = halves(level[2], level[3]);
        vst1q_u8(to, veorq_u8(vuzp2q_u8(first, last), sign));
        vst1q_u8(to + 16, veorq_u8(vuzp1q_u8(first, last), sign));
    }
    // A row that sees fewer tokens than the one beside it has weights of 0 for the others.
    vst1q_u8(to, sign);
    vst1q_u8(to + 16, sign);
    return largest < INFINITY ? scale : NAN;
}

// Results of four features from the sums of both digits and of the values: digits were less 128.
inline void put_results(const int32x4_t& upper_less, const int32x4_t& lower_less, const int32x4_t& values, float share, std::int64_t left, float* y) {
    const int32x4_t taken_off = vshlq_n_s32(values, 7), upper = vaddq_s32(upper_less, taken_off), lower = vaddq_s32(lower_less, taken_off);
    const float32x4_t result = vmulq_n_f32(vfmaq_n_f32(vcvtq_f32_s32(lower), vcvtq_f32_s32(upper), 256.0f), share);
    if (left >= 4) {
        vst1q_f32(y, result);
    } else if (left > 0) {
        float some[4];
        vst1q_f32(some, result);
        std::memcpy(y, some, static_cast<std::size_t>(left) * sizeof(float));
    }
}

template <class Products, int rows>
void attend_whole(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    QueryDigits queries[rows];
    for (int r = 0; r < rows; ++r) queries[r].take(q + r * a.row_stride, a.features);
    const std::int64_t seen = seen_by(a, rows - 1);
    constexpr int tokens = Products::template tokens_at_once<rows>;
    for (std::int64_t first = 0; first < seen; first += token_block) {
        const std::int8_t* block = keys + first / token_block * a.block_stride;
        const float* scales = block_scales(block, a);
        for (std::int64_t t = 0; t < token_block && first + t < seen; t += tokens) {
            Products::template score<rows>(queries, block + t * 4, scales + t, a, scores + first + t);
        }
    }
    float shares[rows];
    soft_weights<rows>(scores, a, shares);
    for (int r = 0; r < rows; ++r) shares[r] *= weight_digits(scores + r * a.score_stride, values, a, seen_by(a, r));
    constexpr int features = Products::template features_at_once<rows>;
    for (std::int64_t i = 0; i < a.features; i += features) {
        Products::template weigh<rows>(values + i * 4, a, reinterpret_cast<const std::uint8_t*>(scores), shares, a.features - i, y + i);
    }
}

template <class Products>
void attend_int8(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    if (a.features > most_whole_features) return attend_head(q, keys, values, a, scores, y);
    by_rows(a.rows, [&]<int rows>() { attend_whole<Products, rows>(q, keys, values, a, scores, y); });
}

}  // namespace
}  // namespace onebit
