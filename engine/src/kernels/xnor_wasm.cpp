// WebAssembly's vectors, which count the bits of each byte; xnor_scalar.cpp explains what is computed.
#include <wasm_simd128.h>

#include "xnor_plain.h"

namespace onebit {
namespace {

// Sixteen comparisons to sixteen bits.
std::uint64_t signs_of_sixteen(const float* x, const float* least, const std::uint32_t* flips) {
    v128_t found[4];
    for (int q = 0; q < 4; ++q) {
        v128_t v = wasm_v128_load(x + 4 * q), from = wasm_f32x4_const_splat(0);
        if (least != nullptr) {
            v = wasm_v128_xor(v, wasm_v128_load(flips + 4 * q));
            from = wasm_v128_load(least + 4 * q);
        }
        found[q] = wasm_f32x4_ge(v, from);
    }
    const v128_t low = wasm_i16x8_narrow_i32x4(found[0], found[1]), high = wasm_i16x8_narrow_i32x4(found[2], found[3]);
    return wasm_i8x16_bitmask(wasm_i8x16_narrow_i16x8(low, high));
}

void pack_signs(const float* x, std::int64_t n, const float* least, const std::uint32_t* flips, std::uint64_t* words) {
    const bool own = least != nullptr;
    for (std::int64_t i = 0; i < n; i += xnor_inputs) {
        if (n - i < xnor_inputs) {
            *words = signs_of(x + i, n - i, own ? least + i : nullptr, own ? flips + i : nullptr);
            return;
        }
        std::uint64_t word = 0;
        for (std::int64_t k = 0; k < xnor_inputs; k += 16) {
            word |= signs_of_sixteen(x + i + k, own ? least + i + k : nullptr, own ? flips + i + k : nullptr) << k;
        }
        *words++ = word;
    }
}

// Of a unit's 8 outputs a register holds two. A step adds at most 8 to each sum of bytes.
constexpr int quarters = 4, most_added = 31;

template <bool both>
void count_unit(const std::uint64_t* unit, std::ptrdiff_t step_stride, const std::uint64_t* x, const std::int32_t* offsets, int steps,
                const std::int32_t* base, std::int32_t factor, std::int32_t* out) {
    v128_t counts[quarters];
    for (v128_t& count : counts) count = wasm_i32x4_const_splat(0);
    for (int first = 0; first < steps; first += most_added) {
        const int end = first + most_added < steps ? first + most_added : steps;
        v128_t bytes[quarters];
        for (v128_t& sum : bytes) sum = wasm_i32x4_const_splat(0);
        for (int s = first; s < end; ++s) {
            const v128_t inputs = wasm_v128_load64_splat(x + offsets[s]);
#pragma GCC unroll 4
            for (int q = 0; q < quarters; ++q) {
                const v128_t weights = wasm_v128_load(unit + s * step_stride + 2 * q);
                bytes[q] = wasm_i8x16_add(bytes[q], wasm_i8x16_popcnt(both ? wasm_v128_and(inputs, weights) : wasm_v128_xor(inputs, weights)));
            }
        }
#pragma GCC unroll 4
        for (int q = 0; q < quarters; ++q) {
            counts[q] = wasm_i32x4_add(counts[q], wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(bytes[q])));
        }
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
        const v128_t even = wasm_i32x4_shuffle(counts[2 * h], counts[2 * h + 1], 0, 2, 4, 6);
        const v128_t odd = wasm_i32x4_shuffle(counts[2 * h], counts[2 * h + 1], 1, 3, 5, 7);
        const v128_t scaled = wasm_i32x4_mul(wasm_i32x4_add(even, odd), wasm_i32x4_splat(factor));
        wasm_v128_store(out + 4 * h, wasm_i32x4_add(wasm_v128_load(base + 4 * h), scaled));
    }
}

template <bool both>
void count_tile(const std::uint64_t* tile, std::ptrdiff_t step_stride, int units, const std::uint64_t* x, std::ptrdiff_t position_stride,
                int positions, const std::int32_t* offsets, int steps, const XnorSums& sums) {
    for (int u = 0; u < units; ++u) {
        for (int p = 0; p < positions; ++p) {
            count_unit<both>(tile + u * xnor_outputs, step_stride, x + p * position_stride, offsets, steps,
                             sums.base + p * sums.base_stride + u * xnor_outputs, sums.factor, sums.out + p * sums.out_stride + u * xnor_outputs);
        }
    }
}

}  // namespace

constinit const XnorKernels wasm_xnor = {"bits of bytes counted", pack_signs, pack_levels_plain, count_tile<false>, count_tile<true>};

}  // namespace onebit
