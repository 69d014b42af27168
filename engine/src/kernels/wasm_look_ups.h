// Products of bits by look-ups in WebAssembly, a part of wasm.cpp: look_ups_16.h by swizzle.
#pragma once

#include <wasm_simd128.h>

#include "look_ups_16.h"

namespace onebit {
namespace {

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

struct Wasm {
    using Bytes = v128_t;
    using Sums = WordSums;

    static Bytes load(const std::uint8_t* from) { return wasm_v128_load(from); }
    static void store(std::uint8_t* to, Bytes bytes) { wasm_v128_store(to, bytes); }
    static Bytes low_half(Bytes bytes) { return wasm_v128_and(bytes, wasm_i8x16_const_splat(15)); }
    static Bytes high_half(Bytes bytes) { return wasm_u8x16_shr(bytes, 4); }

    // Some steps, at most as many as fit in bytes. An index is loaded once for all positions, a table once for all registers of outputs.
    template <int positions, int registers, int count, class Bits>
    [[gnu::always_inline]] static void steps(const Bits& bits, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                                             const std::int32_t* offsets, Sums (&sums)[positions][registers]) {
        static_assert(count * step_groups <= groups_of_bytes);
        v128_t low[positions][registers], high[positions][registers];
#pragma GCC unroll 8
        for (int group = 0; group < count * step_groups; ++group) {
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
};

}  // namespace
}  // namespace onebit
