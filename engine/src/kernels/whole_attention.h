// Attention to int8 keys and values in whole numbers, as plain loops: the specification of what the instruction sets compute by products of bytes.
// Queries are rounded to 16 bits of their largest number. The softmax's weights, times their values' scales, are rounded to 16 bits too, and taken
// apart into two digits to the base 256, of which each has a sum of its own. All sums of products are exact, in whatever order they are added.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>

#include "attention.h"
#include "kernels.h"

namespace onebit {
namespace {

// Up to which a sum of products with a query of 16 bits fits in 32: 512 * 127 * (127 * 256 + 127) < 2^31. Wider heads are computed in floats.
constexpr std::int64_t most_whole_features = 512;
// The largest levels of a query, whose digits are signed bytes, and of a weight.
constexpr float query_levels = 127 * 256 + 127, weight_levels = 65535;

// What numbers are multiplied with so that the largest becomes the highest level; 0 where that is no number.
inline float inverse_of(float scale) {
    return scale > 0 && 1.0f / scale < INFINITY ? 1.0f / scale : 0.0f;
}

// As integers, magnitudes are in the order of numbers, and NaN is the largest.
inline float largest_of(const float* x, std::int64_t n) {
    std::uint32_t most = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFu;
        most = magnitude > most ? magnitude : most;
    }
    return std::bit_cast<float>(most);
}

// Levels of a query; returns the scale of one, NaN where there is no largest number.
inline float query_levels_of(const float* q, std::int64_t n, std::int32_t* levels) {
    const float largest = largest_of(q, n), scale = largest / query_levels, inverse = inverse_of(scale);
    if (!(largest < INFINITY)) return NAN;
    for (std::int64_t i = 0; i < n; ++i) levels[i] = static_cast<std::int32_t>(__builtin_rintf(q[i] * inverse));
    return scale;
}

// The scores of a block's first n tokens.
inline void score_whole_block(const std::int32_t* query, float scale, const std::int8_t* keys, const Attended& a, std::int64_t n, float* scores) {
    std::int32_t sums[token_block] = {};
    const float* scales = block_scales(keys, a);
    for (std::int64_t i = 0; i < a.features; i += 4, keys += 4 * token_block) {
        for (std::int64_t t = 0; t < token_block; ++t) {
            for (std::int64_t j = 0; j < 4; ++j) sums[t] += query[i + j] * keys[4 * t + j];
        }
    }
    for (std::int64_t t = 0; t < n; ++t) scores[t] = static_cast<float>(sums[t]) * scale * scales[t];
}

// Of one query.
inline void attend_whole_row(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    const std::int64_t tokens = a.tokens;
    std::int32_t query[most_whole_features + 3] = {};
    const float query_scale = query_levels_of(q, a.features, query);
    for (std::int64_t first = 0; first < tokens; first += token_block) {
        const std::int64_t here = tokens - first < token_block ? tokens - first : token_block;
        score_whole_block(query, query_scale, keys + first / token_block * a.block_stride, a, here, scores + first);
    }
    float share = 0;
    soft_weights<1>(scores, a, &share);
    apply_scales(scores, values, a, tokens);
    std::int32_t digits[2][most_whole_features] = {};
    // Unsigned, because sums over very many tokens may pass 32 bits, and wrap in all sets alike.
    const auto add = [](std::int32_t& sum, std::int32_t product) {
        sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) + static_cast<std::uint32_t>(product));
    };
    const float largest = largest_of(scores, tokens), scale = largest / weight_levels, inverse = inverse_of(scale);
    const std::int64_t width = stored_features(a.features);
    for (std::int64_t t = 0; t < tokens && largest < INFINITY; ++t) {
        const float rounded = __builtin_rintf(scores[t] * inverse);
        const auto level = static_cast<std::int32_t>(rounded > weight_levels ? weight_levels : rounded);
        const std::int8_t* from = values + t / token_block * a.block_stride + t % token_block / 4 * 4 * width + t % 4;
        for (std::int64_t i = 0; i < a.features; ++i) {
            add(digits[0][i], (level >> 8) * from[4 * i]);
            add(digits[1][i], (level & 255) * from[4 * i]);
        }
    }
    share *= largest < INFINITY ? scale : NAN;
    for (std::int64_t i = 0; i < a.features; i += register_lanes) {
        Lanes upper{}, lower{};
        for (int l = 0; l < register_lanes; ++l) upper[l] = static_cast<float>(digits[0][i + l]), lower[l] = static_cast<float>(digits[1][i + l]);
        const Lanes both = fused(upper, 256.0f, lower) * share;
        const std::int64_t left = a.features - i < register_lanes ? a.features - i : register_lanes;
        std::memcpy(y + i, &both, static_cast<std::size_t>(left) * sizeof(float));
    }
}

inline void attend_whole_plain(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    if (a.features > most_whole_features) return attend_one_by_one(q, keys, values, a, scores, y);
    for (int r = 0; r < a.rows; ++r) {
        attend_whole_row(q + r * a.row_stride, keys, values, one_query(a, r), scores + r * a.score_stride, y + r * a.row_stride);
    }
}

}  // namespace
}  // namespace onebit
