// The products of attention to int8 keys and values by dot products of bytes, a part of neon_dotprod.cpp; neon_attention.h has the rest.
#pragma once

#include <arm_neon.h>

#include "neon_attention.h"

namespace onebit {
namespace {

struct DotProducts {
    // Tokens and features whose sums stay in registers: parts of four, two sums each for each row.
    template <int rows>
    static constexpr int tokens_at_once = rows == 1   ? 32
                                          : rows == 2 ? 16
                                                      : 8;
    // As values lie in blocks of 16 features, powers of two.
    template <int rows>
    static constexpr int features_at_once = rows == 1   ? 16
                                            : rows == 2 ? 16
                                                        : 8;

    template <int lane, int rows, int parts>
    [[gnu::always_inline]] static void add_scores(int32x4_t (&sums)[rows][parts][2], const int8x16_t (&digits)[rows][2], const std::int8_t* keys) {
#pragma GCC unroll 8
        for (int p = 0; p < parts; ++p) {
            const int8x16_t key = vld1q_s8(keys + p * 16);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                sums[r][p][0] = vdotq_laneq_s32(sums[r][p][0], key, digits[r][0], lane);
                sums[r][p][1] = vdotq_laneq_s32(sums[r][p][1], key, digits[r][1], lane);
            }
        }
    }

    template <int rows>
    static void score(const QueryDigits* q, const std::int8_t* keys, const float* scales, const Attended& a, float* scores) {
        constexpr int parts = tokens_at_once<rows> / 4;
        int32x4_t sums[rows][parts][2];
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
            for (int p = 0; p < parts; ++p) sums[r][p][0] = sums[r][p][1] = vdupq_n_s32(0);
        }
        // Digits beyond the last feature are 0, whatever stands in the keys' memory there.
        for (std::int64_t i = 0; i < a.features; i += 16, keys += 16 * token_block) {
            int8x16_t digits[rows][2];
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) digits[r][0] = vld1q_s8(q[r].digits[0] + i), digits[r][1] = vld1q_s8(q[r].digits[1] + i);
            add_scores<0>(sums, digits, keys);
            add_scores<1>(sums, digits, keys + 4 * token_block);
            add_scores<2>(sums, digits, keys + 8 * token_block);
            add_scores<3>(sums, digits, keys + 12 * token_block);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
            for (int p = 0; p < parts; ++p) {
                put_scores(sums[r][p][0], sums[r][p][1], q[r].scale, scales + p * 4, scores + r * a.score_stride + p * 4);
            }
        }
    }

    template <int rows, int parts>
    struct Sums {
        int32x4_t digits[rows][parts][2], values[parts];
    };

    template <int lane, int rows, int parts>
    [[gnu::always_inline]] static void add_values(Sums<rows, parts>& sums, const int8x16_t (&digits)[rows][2], const std::int8_t* values) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            const int8x16_t value = vld1q_s8(values + p * 16);
            sums.values[p] = vdotq_s32(sums.values[p], value, vdupq_n_s8(1));
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                sums.digits[r][p][0] = vdotq_laneq_s32(sums.digits[r][p][0], value, digits[r][0], lane);
                sums.digits[r][p][1] = vdotq_laneq_s32(sums.digits[r][p][1], value, digits[r][1], lane);
            }
        }
    }

    template <int rows>
    static void weigh(const std::int8_t* values, const Attended& a, const std::uint8_t* weights, const float* shares, std::int64_t left, float* y) {
        constexpr int parts = features_at_once<rows> / 4;
        const std::int64_t group = 4 * stored_features(a.features), seen = seen_by(a, rows - 1);
        Sums<rows, parts> sums;
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            sums.values[p] = vdupq_n_s32(0);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) sums.digits[r][p][0] = sums.digits[r][p][1] = vdupq_n_s32(0);
        }
        for (std::int64_t t = 0; t < seen; t += 16, weights += 32) {
            const std::int8_t* from = values + t / token_block * a.block_stride + t % token_block / 4 * group;
            int8x16_t digits[rows][2];
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
                const auto* row = reinterpret_cast<const std::int8_t*>(weights + r * a.score_stride * 4);
                digits[r][0] = vld1q_s8(row), digits[r][1] = vld1q_s8(row + 16);
            }
            add_values<0>(sums, digits, from);
            add_values<1>(sums, digits, from + group);
            add_values<2>(sums, digits, from + 2 * group);
            add_values<3>(sums, digits, from + 3 * group);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
            for (int p = 0; p < parts; ++p) {
                put_results(sums.digits[r][p][0], sums.digits[r][p][1], sums.values[p], shares[r], left - p * 4, y + r * a.row_stride + p * 4);
            }
        }
    }
};

}  // namespace
}  // namespace onebit
