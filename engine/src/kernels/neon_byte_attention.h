// The products of attention to int8 keys and values by products of bytes, a part of neon.cpp; neon_attention.h has the rest.
#pragma once

#include <arm_neon.h>

#include "neon_attention.h"

namespace onebit {
namespace {

// Keys and values are at least -127 and digits at least -128, so that two products fit in 16 bits.
struct ByteProducts {
    // Tokens and features whose sums stay in registers: parts of four, of one row.
    static constexpr int parts = 4;
    template <int rows>
    static constexpr int tokens_at_once = 4 * parts;
    template <int rows>
    static constexpr int features_at_once = 4 * parts;

    // Sums of four places, two lanes each.
    struct Sums {
        int32x4_t first[parts], last[parts];

        [[gnu::always_inline]] void begin() {
#pragma GCC unroll 4
            for (int p = 0; p < parts; ++p) first[p] = last[p] = vdupq_n_s32(0);
        }
        // Two groups of four numbers of each place, times as many digits.
        [[gnu::always_inline]] void add(int p, const int8x16_t (&numbers)[2], const int8x16_t (&digits)[2]) {
            int16x8_t low = vmull_s8(vget_low_s8(numbers[0]), vget_low_s8(digits[0])), high = vmull_high_s8(numbers[0], digits[0]);
            low = vmlal_s8(low, vget_low_s8(numbers[1]), vget_low_s8(digits[1]));
            high = vmlal_high_s8(high, numbers[1], digits[1]);
            first[p] = vpadalq_s16(first[p], low);
            last[p] = vpadalq_s16(last[p], high);
        }
        [[gnu::always_inline]] int32x4_t of_part(int p) const { return vpaddq_s32(first[p], last[p]); }
    };

    // Four digits in each lane.
    [[gnu::always_inline]] static int8x16_t four_digits(const void* digits) {
        std::uint32_t four;
        std::memcpy(&four, digits, 4);
        return vreinterpretq_s8_u32(vdupq_n_u32(four));
    }

    template <int rows>
    static void score(const QueryDigits* q, const std::int8_t* keys, const float* scales, const Attended& a, float* scores) {
        for (int r = 0; r < rows; ++r) {
            Sums upper, lower;
            upper.begin();
            lower.begin();
            const std::int8_t* from = keys;
            for (std::int64_t i = 0; i < a.features; i += 8, from += 8 * token_block) {
                const int8x16_t uppers[2] = {four_digits(q[r].digits[0] + i), four_digits(q[r].digits[0] + i + 4)};
                const int8x16_t lowers[2] = {four_digits(q[r].digits[1] + i), four_digits(q[r].digits[1] + i + 4)};
#pragma GCC unroll 4
                for (int p = 0; p < parts; ++p) {
                    const int8x16_t key[2] = {vld1q_s8(from + p * 16), vld1q_s8(from + p * 16 + 4 * token_block)};
                    upper.add(p, key, uppers);
                    lower.add(p, key, lowers);
                }
            }
#pragma GCC unroll 4
            for (int p = 0; p < parts; ++p) {
                put_scores(upper.of_part(p), lower.of_part(p), q[r].scale, scales + p * 4, scores + r * a.score_stride + p * 4);
            }
        }
    }

    template <int rows>
    static void weigh(const std::int8_t* values, const Attended& a, const std::uint8_t* weights, const float* shares, std::int64_t left, float* y) {
        const std::int64_t group = 4 * stored_features(a.features), seen = seen_by(a, rows - 1);
        for (int r = 0; r < rows; ++r) {
            Sums upper, lower;
            upper.begin();
            lower.begin();
            int32x4_t totals[parts];
#pragma GCC unroll 4
            for (int p = 0; p < parts; ++p) totals[p] = vdupq_n_s32(0);
            for (std::int64_t t = 0; t < seen; t += 8) {
                const std::int8_t* from = values + t / token_block * a.block_stride + t % token_block / 4 * group;
                const std::uint8_t* row = weights + r * a.score_stride * 4 + t / 16 * 32 + t % 16;
                const int8x16_t uppers[2] = {four_digits(row), four_digits(row + 4)};
                const int8x16_t lowers[2] = {four_digits(row + 16), four_digits(row + 20)};
#pragma GCC unroll 4
                for (int p = 0; p < parts; ++p) {
                    const int8x16_t value[2] = {vld1q_s8(from + p * 16), vld1q_s8(from + p * 16 + group)};
                    upper.add(p, value, uppers);
                    lower.add(p, value, lowers);
                    totals[p] = vpadalq_s16(totals[p], vpadalq_s8(vpaddlq_s8(value[0]), value[1]));
                }
            }
#pragma GCC unroll 4
            for (int p = 0; p < parts; ++p) {
                put_results(upper.of_part(p), lower.of_part(p), totals[p], shares[r], left - p * 4, y + r * a.row_stride + p * 4);
            }
        }
    }
};

}  // namespace
}  // namespace onebit
