// Products of bits by look-ups in WebAssembly, a part of wasm.cpp: four bits of each of 16 outputs pick, by swizzle, one of the 16 sums of four
// inputs. A sum takes two look-ups, because swizzle gives bytes: a low one of 5 bits and a high one.
#pragma once

#include <wasm_simd128.h>

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

// Entry i contains the inputs whose bit is set in i: the first eight entries, then those with the fourth input. `at` is the first one's lane.
template <int at>
[[gnu::always_inline]] inline void four_sums(v128_t x, std::uint8_t* tables) {
    const auto spread = [&](auto lane) __attribute__((always_inline)) {
        constexpr int i = at + decltype(lane)::value;
        return wasm_i16x8_shuffle(x, x, i, i, i, i, i, i, i, i);
    };
    const v128_t first = wasm_v128_and(spread(std::integral_constant<int, 0>{}), wasm_i16x8_const(0, -1, 0, -1, 0, -1, 0, -1));
    const v128_t second = wasm_v128_and(spread(std::integral_constant<int, 1>{}), wasm_i16x8_const(0, 0, -1, -1, 0, 0, -1, -1));
    const v128_t third = wasm_v128_and(spread(std::integral_constant<int, 2>{}), wasm_i16x8_const(0, 0, 0, 0, -1, -1, -1, -1));
    const v128_t without = wasm_i16x8_add(wasm_i16x8_add(first, second), wasm_i16x8_add(third, wasm_i16x8_const_splat(bias)));
    const v128_t with = wasm_i16x8_add(without, spread(std::integral_constant<int, 3>{})), low = wasm_i16x8_const_splat((1 << low_bits) - 1);
    wasm_v128_store(tables, wasm_u8x16_narrow_i16x8(wasm_v128_and(without, low), wasm_v128_and(with, low)));
    wasm_v128_store(tables + 16, wasm_u8x16_narrow_i16x8(wasm_u16x8_shr(without, low_bits), wasm_u16x8_shr(with, low_bits)));
}

void prepare_pixels(const std::int8_t* x, std::ptrdiff_t stride, std::int64_t pixels, std::uint8_t* prepared) {
    for (std::int64_t i = 0; i < pixels; ++i, x += stride, prepared += tables_of_step) {
        const v128_t inputs = wasm_v128_load(x), first = wasm_i16x8_extend_low_i8x16(inputs), last = wasm_i16x8_extend_high_i8x16(inputs);
        four_sums<0>(first, prepared);
        four_sums<4>(first, prepared + tables_of_group);
        four_sums<0>(last, prepared + 2 * tables_of_group);
        four_sums<4>(last, prepared + 3 * tables_of_group);
    }
}

void prepare_bits(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared) {
    prepare_pixels(x, Layout::step_inputs, steps, prepared);
}

// Sums of 16 outputs in 16 bits.
struct WordSums {
    v128_t words[2];

    [[gnu::always_inline]] void begin() { words[0] = words[1] = wasm_i16x8_const_splat(0); }

    [[gnu::always_inline]] void add(v128_t lows, v128_t highs) {
        words[0] = wasm_i16x8_add(words[0], wasm_u16x8_extend_low_u8x16(lows));
        words[1] = wasm_i16x8_add(words[1], wasm_u16x8_extend_high_u8x16(lows));
        words[0] = wasm_i16x8_add(words[0], wasm_i16x8_shl(wasm_u16x8_extend_low_u8x16(highs), low_bits));
        words[1] = wasm_i16x8_add(words[1], wasm_i16x8_shl(wasm_u16x8_extend_high_u8x16(highs), low_bits));
    }

    // Added to the old values, or first; `taken_off`: the bias of all tables.
    [[gnu::always_inline]] void put(std::int32_t taken_off, bool first, std::int32_t* out) const {
        const v128_t start = wasm_i32x4_splat(-taken_off);
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h, out += 8) {
            v128_t low = wasm_i32x4_add(start, wasm_u32x4_extend_low_u16x8(words[h]));
            v128_t high = wasm_i32x4_add(start, wasm_u32x4_extend_high_u16x8(words[h]));
            if (!first) low = wasm_i32x4_add(low, wasm_v128_load(out)), high = wasm_i32x4_add(high, wasm_v128_load(out + 4));
            wasm_v128_store(out, low);
            wasm_v128_store(out + 4, high);
        }
    }
};

// Bits as they lie in a tile, and the indices that a group of four makes of them.
struct PackedBits {
    const std::uint8_t* at;
    std::ptrdiff_t step_stride;

    template <int registers>
    [[gnu::always_inline]] v128_t index(int group, int r) const {
        const std::uint8_t* step = at + group / step_groups * step_stride + r / unit_registers * unit_step_bytes;
        const v128_t bits = wasm_v128_load(step + group % step_groups / 2 * 32 + r % unit_registers * 16);
        return group % 2 == 1 ? wasm_u8x16_shr(bits, 4) : wasm_v128_and(bits, wasm_i8x16_const_splat(15));
    }
};

// Indices of their own, a byte for each four bits: [step][group][32 outputs].
struct Indices {
    const std::uint8_t* at;

    template <int registers>
    [[gnu::always_inline]] v128_t index(int group, int r) const {
        return wasm_v128_load(at + (group * registers + r) * 16);
    }
};

// Some steps, at most as many as fit in bytes. An index is loaded once for all positions, a table once for all registers of outputs.
template <int positions, int registers, int steps, class Bits>
[[gnu::always_inline]] inline void look_up_steps(const Bits& bits, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                                                 const std::int32_t* offsets, WordSums (&sums)[positions][registers]) {
    static_assert(steps * step_groups <= groups_of_bytes);
    v128_t low[positions][registers], high[positions][registers];
#pragma GCC unroll 8
    for (int group = 0; group < steps * step_groups; ++group) {
        const std::uint8_t* tables = prepared + offsets[group / step_groups] + group % step_groups * tables_of_group;
        v128_t index[registers];
#pragma GCC unroll 4
        for (int r = 0; r < registers; ++r) index[r] = bits.template index<registers>(group, r);
#pragma GCC unroll 4
        for (int p = 0; p < positions; ++p, tables += position_stride) {
            const v128_t low_table = wasm_v128_load(tables), high_table = wasm_v128_load(tables + 16);
#pragma GCC unroll 4
            for (int r = 0; r < registers; ++r) {
                const v128_t lows = wasm_i8x16_swizzle(low_table, index[r]), highs = wasm_i8x16_swizzle(high_table, index[r]);
                low[p][r] = group == 0 ? lows : wasm_i8x16_add(low[p][r], lows);
                high[p][r] = group == 0 ? highs : wasm_i8x16_add(high[p][r], highs);
            }
        }
    }
#pragma GCC unroll 4
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

// Two units' sums stay in the registers of most processors.
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
                const v128_t bits = wasm_v128_load(tile + half * 32 + r * 16);
                wasm_v128_store(indices + r * 16, wasm_v128_and(bits, wasm_i8x16_const_splat(15)));
                wasm_v128_store(indices + 32 + r * 16, wasm_u8x16_shr(bits, 4));
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

}  // namespace
}  // namespace onebit
