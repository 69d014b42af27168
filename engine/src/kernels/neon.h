// What the two NEON sets share, compiled once for each with its flags; scalar.cpp explains what is computed. Everything has internal linkage, as
// in rows.h. A register holds 4 sums, so a block of 16 outputs takes four; a lane of another register is an operand of a multiply-add at no cost,
// which saves broadcasting inputs. Numbers of lanes are template arguments, for they are part of the instruction.
#pragma once

#include <arm_neon.h>

#include <algorithm>

#include "neon_look_ups.h"
#include "neon_rows.h"
#include "table.h"

namespace onebit {
namespace {

constexpr int quarters = block_outputs / 4;

template <int lane, int count>
[[gnu::always_inline]] inline void add_floats(float32x4_t (&sums)[count][quarters], const float32x4_t (&inputs)[count], const float* w) {
#pragma GCC unroll 4
    for (int q = 0; q < quarters; ++q) {
        const float32x4_t weights = vld1q_f32(w + 4 * q);
#pragma GCC unroll 4
        for (int r = 0; r < count; ++r) sums[r][q] = vfmaq_laneq_f32(sums[r][q], weights, inputs[r], lane);
    }
}

// One block of outputs for `count` rows. Each sum adds its inputs in their order, so that a row's result does not depend on the rows beside it.
template <int count>
void tile_float(const float* const* rows, const Segments& s, const float* panel, int width, float* out, std::ptrdiff_t out_stride) {
    float32x4_t sums[count][quarters];
    for (int r = 0; r < count; ++r) {
        for (int q = 0; q < quarters; ++q) sums[r][q] = vdupq_n_f32(0);
    }
    const float* w = panel;
    for (int segment = 0; segment < s.segments; ++segment) {
        const float* x[count];
        for (int r = 0; r < count; ++r) x[r] = rows[r] + s.offsets[segment];
        float32x4_t inputs[count];
        int k = 0;
        for (; k + 4 <= s.length; k += 4, w += std::ptrdiff_t{4} * width) {
#pragma GCC unroll 4
            for (int r = 0; r < count; ++r) inputs[r] = vld1q_f32(x[r] + k);
            add_floats<0>(sums, inputs, w);
            add_floats<1>(sums, inputs, w + width);
            add_floats<2>(sums, inputs, w + 2 * width);
            add_floats<3>(sums, inputs, w + 3 * width);
        }
        for (; k < s.length; ++k, w += width) {
#pragma GCC unroll 4
            for (int r = 0; r < count; ++r) inputs[r] = vdupq_n_f32(x[r][k]);
            add_floats<0>(sums, inputs, w);
        }
    }
    for (int r = 0; r < count; ++r) {
        for (int q = 0; q < quarters; ++q) vst1q_f32(out + r * out_stride + 4 * q, sums[r][q]);
    }
}

void product_float(const float* const* rows, int count, const Segments& s, const float* panel, int blocks, float* out, std::ptrdiff_t out_stride) {
    const int width = blocks * block_outputs;
    for (int b = 0; b < blocks; ++b, panel += block_outputs, out += block_outputs) {
        int r = 0;
        for (; r + 4 <= count; r += 4) tile_float<4>(rows + r, s, panel, width, out + r * out_stride, out_stride);
        for (; r < count; ++r) tile_float<1>(rows + r, s, panel, width, out + r * out_stride, out_stride);
    }
}

// There is no product of unsigned with signed bytes, so inputs are taken less 128 as signed ones, and 128 times the sum of the weights is added.
// Here are four bytes of inputs, less 128, in each lane.
inline int8x16_t broadcast_inputs(const std::uint8_t* x) {
    std::uint32_t four;
    std::memcpy(&four, x, 4);
    return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
}

// Four rows at once: 32 bits of each in a register's lanes, of which each byte in turn is spread over its lane and tested bit by bit.
void expand_int8(const ExpandArgs& args, std::int8_t* panel) {
    const auto& [first_row, row_bytes, rows, blocks, segments, raw_length, length, plus_minus] = args;
    if (raw_length != length) return expand_rows(args, panel);
    const std::uint8_t* bits = first_row;
    const uint8x16_t first_bits = vreinterpretq_u8_u32(vdupq_n_u32(0x08040201u)), last_bits = vreinterpretq_u8_u32(vdupq_n_u32(0x80402010u));
    const uint8x16_t lane_starts = vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(0x0404040400000000u), vcreate_u64(0x0C0C0C0C08080808u)));
    const int groups = segments * (length / int8_group);
    const std::ptrdiff_t step = std::ptrdiff_t{block_outputs} * int8_group * blocks;
    for (int o = 0; o < block_outputs * blocks; o += 4, bits += 4 * row_bytes) {
        const int valid = std::clamp(rows - o, 0, 4);
        std::uint32_t used[4] = {};
        for (int r = 0; r < valid; ++r) used[r] = 0xFFFFFFFFu;
        const uint8x16_t mask = vreinterpretq_u8_u32(vld1q_u32(used));
        const uint8x16_t set = vandq_u8(mask, vdupq_n_u8(1)), clear = vandq_u8(mask, vdupq_n_u8(plus_minus ? 0xFF : 0));
        auto* out = reinterpret_cast<std::uint8_t*>(panel) + o * int8_group;
        for (int g = 0; g < groups; g += 8) {
            std::uint32_t words[4] = {};
            for (int r = 0; r < valid; ++r) std::memcpy(words + r, bits + r * row_bytes + g / 2, 4);
            const uint8x16_t word = vreinterpretq_u8_u32(vld1q_u32(words));
            const int here = std::min(groups - g, 8);
            for (int j = 0; j < here; ++j) {
                const uint8x16_t bytes = vqtbl1q_u8(word, vaddq_u8(lane_starts, vdupq_n_u8(static_cast<std::uint8_t>(j / 2))));
                vst1q_u8(out + (g + j) * step, vbslq_u8(vtstq_u8(bytes, j % 2 == 0 ? first_bits : last_bits), set, clear));
            }
        }
    }
}

// Without name, text, needs and the 8-bit products, which are each set's own.
constexpr Kernels neon_table() {
    Kernels k = shared_kernels<Layout>();
    k.gemv.layout = look_ups_layout<Layout>(look_up_units, tables_of_step);
    k.gemm.expand_int8 = expand_int8;
    k.gemm.expand_bits_int8 = expand_bits_panel;
    k.gemm.product_float = product_float;
    k.gemv.prepare = prepare_bits;
    k.gemv.product = product_bits<Neon>;
    k.conv.most_positions = 4 * image_positions;
    k.conv.prepare = prepare_pixels;
    k.conv.product = product_image<Neon>;
    k.grouped.product_bits = look_up_groups<Neon>;
    k.rows.epilogue_rows_int8 = finish_rows_int8;
    k.rows.range = range;
    k.rows.quantize = quantize;
    return k;
}

}  // namespace
}  // namespace onebit
