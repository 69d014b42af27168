// Products of bits by look-ups with Advanced SIMD, a part of neon.h: four bits of each of 16 outputs pick, by tbl, one of the 16 sums of four inputs.
// A sum takes two look-ups, for tbl gives bytes: a low one of 5 bits and a high one.
#pragma once

#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "bits.h"
#include "kernels.h"

namespace onebit {
namespace {

// 32 bytes hold 8 inputs of 32 outputs, and a step two of these.
using Layout = Columns<8, 32>;
constexpr int step_groups = Layout::step_inputs / 4;
constexpr int unit_registers = 2;  // of 16 outputs

// Sums of all subsets of 4 inputs lie between -512 and 508: as 32 * high + low - 512, two tables of 16 bytes, side by side.
constexpr int tables_of_group = 32, tables_of_step = step_groups * tables_of_group;
constexpr int low_bits = 5, bias = 512;
// Look-ups whose low bytes, and whose high ones, can be added in bytes (8 * 31), and steps whose sums fit in 16 bits once both are joined.
constexpr int groups_of_bytes = 8, some_steps = groups_of_bytes / step_groups, steps_of_words = 16;
static_assert(steps_of_words * step_groups * ((1 << 2 * low_bits) - 1) <= 65535 && groups_of_bytes % step_groups == 0);

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

// Bits as they lie in a tile, and the indices that a group of four makes of them.
struct PackedBits {
    const std::uint8_t* at;
    std::ptrdiff_t step_stride;

    template <int registers>
    [[gnu::always_inline]] uint8x16_t index(int group, int r) const {
        const std::uint8_t* step = at + group / step_groups * step_stride + r / unit_registers * unit_step_bytes;
        const uint8x16_t bits = vld1q_u8(step + group % step_groups / 2 * 32 + r % unit_registers * 16);
        return group % 2 == 1 ? vshrq_n_u8(bits, 4) : vandq_u8(bits, vdupq_n_u8(15));
    }
};

// Indices of their own, a byte for each four bits: [step][group][32 outputs].
struct Indices {
    const std::uint8_t* at;

    template <int registers>
    [[gnu::always_inline]] uint8x16_t index(int group, int r) const {
        return vld1q_u8(at + (group * registers + r) * 16);
    }
};

// Adds bytes at once, as in avx2_look_ups.h.
[[gnu::always_inline]] inline void add_here(uint8x16_t& sum, const uint8x16_t& bytes) {
    sum = vaddq_u8(sum, bytes);
    asm("" : "+w"(sum));
}

// Some steps, not more than fit in bytes: an index is loaded once for the positions, a table once for the registers of outputs.
template <int positions, int registers, int steps, class Bits>
[[gnu::always_inline]] inline void look_up_steps(const Bits& bits, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                                                 const std::int32_t* offsets, WordSums (&sums)[positions][registers]) {
    static_assert(steps * step_groups <= groups_of_bytes);
    uint8x16_t low[positions][registers], high[positions][registers];
    const std::uint8_t* tables[positions];
#pragma GCC unroll 8
    for (int group = 0; group < steps * step_groups; ++group) {
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

// One row of inputs times `units` of 32 outputs.
template <int units>
void look_up(const std::uint8_t* w, std::ptrdiff_t step_stride, const std::uint8_t* tables, std::int64_t steps, bool add, std::int32_t* out) {
    constexpr int registers = units * unit_registers;
    constexpr std::int32_t offsets[] = {0, tables_of_step};
    for (std::int64_t first = 0; first < steps; first += steps_of_words) {
        auto here = static_cast<int>(steps - first < steps_of_words ? steps - first : steps_of_words);
        const std::int32_t taken_off = here * step_groups * bias;
        WordSums sums[1][registers];
#pragma GCC unroll 4
        for (int r = 0; r < registers; ++r) sums[0][r].begin();
        for (; here >= some_steps; here -= some_steps, w += some_steps * step_stride, tables += some_steps * tables_of_step) {
            look_up_steps<1, registers, some_steps>(PackedBits{w, step_stride}, tables, 0, offsets, sums);
        }
        if (here > 0) look_up_steps<1, registers, 1>(PackedBits{w, step_stride}, tables, 0, offsets, sums);
#pragma GCC unroll 4
        for (int r = 0; r < registers; ++r) sums[0][r].put(taken_off, first == 0 && !add, out + r * 16);
    }
}

// Two units' sums stay in registers.
constexpr int look_up_units = 2;

void product_bits(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps, bool add,
                  std::int32_t* out) {
    if (count == 1) return look_up<1>(units, step_stride, prepared, steps, add, out);
    look_up<look_up_units>(units, step_stride, prepared, steps, add, out);
}

// The bits of a unit as indices.
void expand_indices(const std::uint8_t* tile, std::ptrdiff_t step_stride, int steps, std::uint8_t* indices) {
    for (int s = 0; s < steps; ++s, tile += step_stride) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half, indices += 64) {
#pragma GCC unroll 2
            for (int r = 0; r < unit_registers; ++r) {
                const uint8x16_t bits = vld1q_u8(tile + half * 32 + r * 16);
                vst1q_u8(indices + r * 16, vandq_u8(bits, vdupq_n_u8(15)));
                vst1q_u8(indices + 32 + r * 16, vshrq_n_u8(bits, 4));
            }
        }
    }
}

template <int positions>
void look_up_image(const std::uint8_t* indices, const std::uint8_t* prepared, std::ptrdiff_t position_stride, const std::int32_t* offsets, int steps,
                   bool first, std::int32_t* out, std::ptrdiff_t out_stride) {
    WordSums sums[positions][unit_registers];
    const std::int32_t taken_off = steps * step_groups * bias;
#pragma GCC unroll 2
    for (int p = 0; p < positions; ++p) {
#pragma GCC unroll 2
        for (int r = 0; r < unit_registers; ++r) sums[p][r].begin();
    }
    for (; steps >= some_steps; steps -= some_steps, offsets += some_steps, indices += some_steps * step_groups * Layout::unit_outputs) {
        look_up_steps<positions, unit_registers, some_steps>(Indices{indices}, prepared, position_stride, offsets, sums);
    }
    if (steps > 0) look_up_steps<positions, unit_registers, 1>(Indices{indices}, prepared, position_stride, offsets, sums);
#pragma GCC unroll 2
    for (int p = 0; p < positions; ++p) {
#pragma GCC unroll 2
        for (int r = 0; r < unit_registers; ++r) sums[p][r].put(taken_off, first, out + p * out_stride + r * 16);
    }
}

// Two positions' sums of a unit stay in registers.
void product_image(const ConvArgs& args) {
    static_assert(image_steps <= steps_of_words);
    alignas(16) std::uint8_t indices[image_steps * step_groups * Layout::unit_outputs];
    for (int u = 0; u < args.units; ++u) {
        expand_indices(args.tile + u * unit_step_bytes, args.step_stride, args.steps, indices);
        const std::uint8_t* prepared = args.prepared;
        std::int32_t* out = args.out + u * Layout::unit_outputs;
        int left = args.positions;
        for (; left >= 2; left -= 2, prepared += 2 * args.position_stride, out += 2 * args.out_stride) {
            look_up_image<2>(indices, prepared, args.position_stride, args.offsets, args.steps, args.first, out, args.out_stride);
        }
        if (left > 0) look_up_image<1>(indices, prepared, args.position_stride, args.offsets, args.steps, args.first, out, args.out_stride);
    }
}

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
