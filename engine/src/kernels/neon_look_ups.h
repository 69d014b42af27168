// Products of bits by look-ups with Advanced SIMD, a part of neon.h: look_ups_16.h by tbl.
#pragma once

#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "grouped_look_ups_16.h"

namespace onebit {
namespace {

// Entry i contains the inputs whose bit is set in i: the first eight entries, then those with the fourth input.
inline void four_sums(const int16x4_t& x, std::uint8_t* tables) {
    constexpr std::int16_t masks[3][8] = {{0, 1, 0, 1, 0, 1, 0, 1}, {0, 0, 1, 1, 0, 0, 1, 1}, {0, 0, 0, 0, 1, 1, 1, 1}};
    int16x8_t sums = vmlaq_lane_s16(vdupq_n_s16(bias), vld1q_s16(masks[0]), x, 0);
    sums = vmlaq_lane_s16(vmlaq_lane_s16(sums, vld1q_s16(masks[1]), x, 1), vld1q_s16(masks[2]), x, 2);
    const uint16x8_t without = vreinterpretq_u16_s16(sums), with = vreinterpretq_u16_s16(vaddq_s16(sums, vdupq_lane_s16(x, 3)));
    const uint8x16_t lows = vuzp1q_u8(vreinterpretq_u8_u16(without), vreinterpretq_u8_u16(with));
    vst1q_u8(tables, vandq_u8(lows, vdupq_n_u8((1 << low_bits) - 1)));
    vst1q_u8(tables + 16, vshrn_high_n_u16(vshrn_n_u16(without, low_bits), with, low_bits));
}

void prepare_pixels(const std::int8_t* x, std::ptrdiff_t stride, std::int64_t pixels, std::uint8_t* prepared) {
    for (std::int64_t i = 0; i < pixels; ++i, x += stride, prepared += tables_of_step) {
        const int8x16_t inputs = vld1q_s8(x);
        const int16x8_t first = vmovl_s8(vget_low_s8(inputs)), last = vmovl_high_s8(inputs);
        four_sums(vget_low_s16(first), prepared);
        four_sums(vget_high_s16(first), prepared + tables_of_group);
        four_sums(vget_low_s16(last), prepared + 2 * tables_of_group);
        four_sums(vget_high_s16(last), prepared + 3 * tables_of_group);
    }
}

void prepare_bits(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared) {
    prepare_pixels(x, Layout::step_inputs, steps, prepared);
}

// Sums of 16 outputs in 16 bits.
struct WordSums {
    uint16x8_t words[2];

    [[gnu::always_inline]] void begin() { words[0] = words[1] = vdupq_n_u16(0); }

    [[gnu::always_inline]] void add(const uint8x16_t& lows, const uint8x16_t& highs) {
        const uint8x16_t factor = vdupq_n_u8(1 << low_bits);
        words[0] = vmlal_u8(vaddw_u8(words[0], vget_low_u8(lows)), vget_low_u8(highs), vget_low_u8(factor));
        words[1] = vmlal_high_u8(vaddw_high_u8(words[1], lows), highs, factor);
    }

    [[gnu::always_inline]] void add_plane(bool doubled, int taken_off) {
        const int16x8_t by = vdupq_n_s16(doubled ? 1 : 0);
        const uint16x8_t off = vdupq_n_u16(static_cast<std::uint16_t>(taken_off));
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) words[h] = vsubq_u16(vshlq_u16(words[h], by), off);
    }

    [[gnu::always_inline]] void numbers(bool doubled, std::int32_t taken_off, Lanes (&to)[4]) const {
        WordSums sums = *this;
        sums.add_plane(doubled, taken_off);
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
            const int16x8_t whole = vreinterpretq_s16_u16(sums.words[h]);
            to[2 * h] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(whole)));
            to[2 * h + 1] = vcvtq_f32_s32(vmovl_high_s16(whole));
        }
    }

    // Added to what stands there, or first; `taken_off`: the bias of all tables.
    [[gnu::always_inline]] void put(std::int32_t taken_off, bool first, std::int32_t* out) const {
        const int32x4_t start = vdupq_n_s32(-taken_off);
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h, out += 8) {
            const int32x4_t low = first ? start : vaddq_s32(vld1q_s32(out), start), high = first ? start : vaddq_s32(vld1q_s32(out + 4), start);
            vst1q_s32(out, vreinterpretq_s32_u32(vaddw_u16(vreinterpretq_u32_s32(low), vget_low_u16(words[h]))));
            vst1q_s32(out + 4, vreinterpretq_s32_u32(vaddw_high_u16(vreinterpretq_u32_s32(high), words[h])));
        }
    }
};

// Adds bytes at once, as in avx2_look_ups.h.
[[gnu::always_inline]] inline void add_here(uint8x16_t& sum, const uint8x16_t& bytes) {
    sum = vaddq_u8(sum, bytes);
    asm("" : "+w"(sum));
}

struct Neon {
    using Bytes = uint8x16_t;
    using Sums = WordSums;

    static Bytes load(const std::uint8_t* from) { return vld1q_u8(from); }
    static void store(std::uint8_t* to, const Bytes& bytes) { vst1q_u8(to, bytes); }
    static Bytes low_half(const Bytes& bytes) { return vandq_u8(bytes, vdupq_n_u8(15)); }
    static Bytes high_half(const Bytes& bytes) { return vshrq_n_u8(bytes, 4); }

    // Some steps, not more than fit in bytes: an index is loaded once for the positions, a table once for the registers of outputs.
    template <int positions, int registers, int count, class Bits>
    [[gnu::always_inline]] static void steps(const Bits& bits, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                                             const std::int32_t* offsets, Sums (&sums)[positions][registers]) {
        static_assert(count * step_groups <= groups_of_bytes);
        uint8x16_t low[positions][registers], high[positions][registers];
        const std::uint8_t* tables[positions];
#pragma GCC unroll 8
        for (int group = 0; group < count * step_groups; ++group) {
            uint8x16_t index[registers];
#pragma GCC unroll 4
            for (int r = 0; r < registers; ++r) index[r] = bits.template index<registers>(group, r);
            if (group % step_groups == 0) {
#pragma GCC unroll 2
                for (int p = 0; p < positions; ++p) {
                    tables[p] = prepared + offsets[group / step_groups] + p * position_stride;
                    asm("" : "+r"(tables[p]));  // else compilers compute an address for each group
                }
            }
#pragma GCC unroll 2
            for (int p = 0; p < positions; ++p) {
                const std::uint8_t* from = tables[p] + group % step_groups * tables_of_group;
                const uint8x16_t low_table = vld1q_u8(from), high_table = vld1q_u8(from + 16);
#pragma GCC unroll 4
                for (int r = 0; r < registers; ++r) {
                    if (group == 0) {
                        low[p][r] = vqtbl1q_u8(low_table, index[r]);
                        high[p][r] = vqtbl1q_u8(high_table, index[r]);
                    } else {
                        add_here(low[p][r], vqtbl1q_u8(low_table, index[r]));
                        add_here(high[p][r], vqtbl1q_u8(high_table, index[r]));
                    }
                }
            }
        }
#pragma GCC unroll 2
        for (int p = 0; p < positions; ++p) {
#pragma GCC unroll 4
            for (int r = 0; r < registers; ++r) sums[p][r].add(low[p][r], high[p][r]);
        }
    }
};

// As the template in bits.h does it, four outputs at once: each one's byte, four times, is tested bit by bit.
void expand_bits_panel(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks, std::int8_t* panel) {
    const uint8x16_t tested[2] = {vreinterpretq_u8_u32(vdupq_n_u32(0x08040201u)), vreinterpretq_u8_u32(vdupq_n_u32(0x80402010u))};
    const uint8x16_t one = vdupq_n_u8(1),
                     four_times = vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(0x0101010100000000u), vcreate_u64(0x0303030302020202u)));
    const std::ptrdiff_t group_bytes = std::ptrdiff_t{block_outputs} * blocks * int8_group;
    auto* out = reinterpret_cast<std::uint8_t*>(panel);
    for (std::int64_t s = 0; s < steps; ++s, tile += step_stride, out += step_groups * group_bytes) {
        for (int b = 0; b < blocks; ++b) {
            const int block = first_block + b;
            const std::uint8_t* from = tile + block / unit_registers * unit_step_bytes + block % unit_registers * 16;
            std::uint8_t* to = out + b * block_outputs * int8_group;
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half, to += 2 * group_bytes) {
                const uint8x16_t bits = vld1q_u8(from + half * 32);
#pragma GCC unroll 4
                for (int q = 0; q < 4; ++q) {
                    const uint8x16_t bytes = vqtbl1q_u8(bits, vaddq_u8(four_times, vdupq_n_u8(static_cast<std::uint8_t>(4 * q))));
                    vst1q_u8(to + q * 16, vandq_u8(vtstq_u8(bytes, tested[0]), one));
                    vst1q_u8(to + group_bytes + q * 16, vandq_u8(vtstq_u8(bytes, tested[1]), one));
                }
            }
        }
    }
}

}  // namespace
}  // namespace onebit
