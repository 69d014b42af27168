// What the two NEON sets share, compiled once for each with its flags; scalar.cpp explains what is computed. Everything has internal linkage, as
// in rows.h. A register holds 4 sums, so a block of 16 outputs takes four; a lane of another register is an operand of a multiply-add at no cost,
// which saves broadcasting inputs. Numbers of lanes are template arguments, for they are part of the instruction.
#pragma once

#include <arm_neon.h>

#include <algorithm>

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

// There is no product of unsigned with signed bytes, so inputs are taken less 128 as signed ones. This is what that takes away from each sum of a
// block: 128 times the sum of its weights.
void taken_away(const Segments& s, const std::int8_t* panel, int width, std::int32_t* out) {
    int32x4_t sums[quarters];
    for (int q = 0; q < quarters; ++q) sums[q] = vdupq_n_s32(0);
    const std::ptrdiff_t groups = std::ptrdiff_t{s.segments} * (s.length / int8_group);
    for (std::ptrdiff_t g = 0; g < groups; ++g, panel += std::ptrdiff_t{int8_group} * width) {
#pragma GCC unroll 4
        for (int q = 0; q < quarters; ++q) sums[q] = vpadalq_s16(sums[q], vpaddlq_s8(vld1q_s8(panel + 16 * q)));
    }
    for (int q = 0; q < quarters; ++q) vst1q_s32(out + 4 * q, vshlq_n_s32(sums[q], 7));
}

// Four bytes of inputs, less 128, in each lane.
inline int8x16_t broadcast_inputs(const std::uint8_t* x) {
    std::uint32_t four;
    std::memcpy(&four, x, 4);
    return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
}

// The sums of 128 outputs for half a tile's lanes take 16 registers, so each half is a pass of its own: over so few groups at once that they are
// still in the first-level cache for the second, and that their sums fit 16 bits.
constexpr std::int64_t groups_at_once = 120;

using Layout = Planes;
constexpr int tile_blocks = 8;
constexpr int tile_outputs = Layout::unit_outputs, tile_group_bytes = unit_step_bytes;
// A unit is a tile of its own.
constexpr BitLayout bit_layout = {
    "8 outputs of each input in a byte", Layout::unit_outputs, Layout::step_inputs, 1, all_steps, Layout::step_inputs, std::int64_t{1} << 24, 4};

void prepare_bits(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared) {
    std::memcpy(prepared, x, static_cast<std::size_t>(steps) * Layout::step_inputs);
}

// add(tile, x, groups, out) adds to the sums of 8 lanes.
template <class Add>
void bits_by_halves(const std::uint8_t* tile, const std::uint8_t* prepared, std::int64_t groups, bool keep, std::int32_t* out, const Add& add) {
    const auto* x = reinterpret_cast<const std::int8_t*>(prepared);
    if (!keep) std::memset(out, 0, sizeof *out * tile_outputs);
    for (std::int64_t first = 0; first < groups; first += groups_at_once) {
        const std::int64_t here = std::min(groups_at_once, groups - first);
        for (int half = 0; half < 2; ++half) add(tile + first * tile_group_bytes + 32 * half, x + first * int8_group, here, out + 8 * half);
    }
}

// Four rows at once: 32 bits of each in a register's lanes, of which each byte in turn is spread over its lane and tested bit by bit.
void expand_int8(const ExpandArgs& args, std::int8_t* panel) {
    const auto& [first_row, row_bytes, rows, blocks, segments, raw_length, length, plus_minus] = args;
    if (raw_length != length) return expand_rows(args, panel);
    const std::uint8_t* bits = first_row;
    const uint8x16_t low_bits = vreinterpretq_u8_u32(vdupq_n_u32(0x08040201u)), high_bits = vreinterpretq_u8_u32(vdupq_n_u32(0x80402010u));
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
                vst1q_u8(out + (g + j) * step, vbslq_u8(vtstq_u8(bytes, j % 2 == 0 ? low_bits : high_bits), set, clear));
            }
        }
    }
}

// Without name, text, needs and the 8-bit products, which are each set's own.
constexpr Kernels neon_table() {
    Kernels k = shared_kernels<Layout>();
    k.gemv.layout = bit_layout;
    k.gemm.expand_int8 = expand_int8;
    k.gemm.product_float = product_float;
    k.gemv.prepare = prepare_bits;
    return k;
}

}  // namespace
}  // namespace onebit
