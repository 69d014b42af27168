// WebAssembly's vectors of 128 bits; scalar.cpp explains what is computed.
#include <wasm_simd128.h>

#include "table.h"
#include "wasm_floats.h"
#include "wasm_look_ups.h"
#include "whole_attention.h"

namespace onebit {
namespace {

// Half a block of outputs for `count` rows. A dot product adds neighbouring products, so that two lanes hold an output.
template <int count>
void tile_int8(const std::uint8_t* const* rows, const Segments& s, const std::int8_t* panel, int width, std::int32_t* out,
               std::ptrdiff_t out_stride) {
    v128_t sums[count][4];
    for (int r = 0; r < count; ++r) {
        for (int q = 0; q < 4; ++q) sums[r][q] = wasm_i32x4_const_splat(0);
    }
    const std::int8_t* w = panel;
    for (int segment = 0; segment < s.segments; ++segment) {
        const std::uint8_t* x[count];
        for (int r = 0; r < count; ++r) x[r] = rows[r] + s.offsets[segment];
        for (int k = 0; k < s.length; k += int8_group, w += std::ptrdiff_t{int8_group} * width) {
            const v128_t first = wasm_v128_load(w), last = wasm_v128_load(w + 16);
            const v128_t weights[4] = {wasm_i16x8_extend_low_i8x16(first), wasm_i16x8_extend_high_i8x16(first), wasm_i16x8_extend_low_i8x16(last),
                                       wasm_i16x8_extend_high_i8x16(last)};
#pragma GCC unroll 2
            for (int r = 0; r < count; ++r) {
                const v128_t inputs = wasm_u16x8_extend_low_u8x16(wasm_v128_load32_splat(x[r] + k));
#pragma GCC unroll 4
                for (int q = 0; q < 4; ++q) sums[r][q] = wasm_i32x4_add(sums[r][q], wasm_i32x4_dot_i16x8(weights[q], inputs));
            }
        }
    }
    for (int r = 0; r < count; ++r) {
        for (int q = 0; q < 4; q += 2) {
            const v128_t even = wasm_i32x4_shuffle(sums[r][q], sums[r][q + 1], 0, 2, 4, 6);
            const v128_t odd = wasm_i32x4_shuffle(sums[r][q], sums[r][q + 1], 1, 3, 5, 7);
            wasm_v128_store(out + r * out_stride + 2 * q, wasm_i32x4_add(even, odd));
        }
    }
}

void product_int8(const std::uint8_t* const* rows, int count, const Segments& s, const std::int8_t* panel, int blocks, std::int32_t* out,
                  std::ptrdiff_t out_stride) {
    constexpr int outputs = block_outputs / 2;
    const int width = blocks * block_outputs;
    for (int o = 0; o < width; o += outputs, panel += outputs * int8_group, out += outputs) {
        int r = 0;
        for (; r + 2 <= count; r += 2) tile_int8<2>(rows + r, s, panel, width, out + r * out_stride, out_stride);
        if (r < count) tile_int8<1>(rows + r, s, panel, width, out + r * out_stride, out_stride);
    }
}

constexpr Kernels table() {
    Kernels k = shared_kernels<Layout>();
    k.gemv.layout = look_ups_layout<Layout>(look_up_units, tables_of_step);
    k.gemm.product_int8 = product_int8;
    k.gemm.product_float = product_float;
    k.gemv.prepare = prepare_bits;
    k.gemv.product = product_bits<Wasm>;
    k.conv.least_gain = k.conv.least_run_gain = 2;
    k.conv.most_positions = 4 * image_positions;
    k.conv.prepare = prepare_pixels;
    k.conv.product = product_image<Wasm>;
    k.rows.range = range;
    k.rows.quantize = quantize;
    k.attention.float32 = attend_floats<float>;
    k.attention.bf16 = attend_floats<std::uint16_t>;
    k.attention.int8 = attend_whole_plain;
    return k;
}

}  // namespace

constinit const Kernels wasm_kernels = named_wasm(table());

}  // namespace onebit
