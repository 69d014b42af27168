// Advanced SIMD with dot products of bytes; scalar.cpp explains what is computed, neon.h what is shared.
#include "neon.h"
#include "neon_dot_attention.h"

namespace onebit {
namespace {

template <int lane, int count>
[[gnu::always_inline]] inline void add_dots(int32x4_t (&sums)[count][quarters], const int8x16_t (&inputs)[count], const std::int8_t* w) {
#pragma GCC unroll 4
    for (int q = 0; q < quarters; ++q) {
        const int8x16_t weights = vld1q_s8(w + 16 * q);
#pragma GCC unroll 6
        for (int r = 0; r < count; ++r) sums[r][q] = vdotq_laneq_s32(sums[r][q], weights, inputs[r], lane);
    }
}

// 128 times the sum of the weights of each output of a block.
void taken_away(const Segments& s, const std::int8_t* panel, int width, std::int32_t* out) {
    const int8x16_t ones = vdupq_n_s8(1);
    const std::ptrdiff_t step = std::ptrdiff_t{int8_group} * width, groups = std::ptrdiff_t{s.segments} * (s.length / int8_group);
    int32x4_t sums[quarters];
#pragma GCC unroll 4
    for (int q = 0; q < quarters; ++q) sums[q] = vdupq_n_s32(0);
#pragma GCC unroll 4
    for (std::ptrdiff_t g = 0; g < groups; ++g, panel += step) {
#pragma GCC unroll 4
        for (int q = 0; q < quarters; ++q) sums[q] = vdotq_s32(sums[q], vld1q_s8(panel + 16 * q), ones);
    }
#pragma GCC unroll 4
    for (int q = 0; q < quarters; ++q) vst1q_s32(out + 4 * q, vshlq_n_s32(sums[q], 7));
}

template <int count>
void tile_int8(const std::uint8_t* const* rows, const Segments& s, const std::int8_t* panel, int width, const std::int32_t* start, std::int32_t* out,
               std::ptrdiff_t out_stride) {
    int32x4_t sums[count][quarters];
    for (int r = 0; r < count; ++r) {
        for (int q = 0; q < quarters; ++q) sums[r][q] = vld1q_s32(start + 4 * q);
    }
    const std::ptrdiff_t step = std::ptrdiff_t{int8_group} * width;
    const std::int8_t* w = panel;
    for (int segment = 0; segment < s.segments; ++segment) {
        const std::uint8_t* x[count];
        for (int r = 0; r < count; ++r) x[r] = rows[r] + s.offsets[segment];
        int8x16_t inputs[count];
        int k = 0;
        for (; k + 16 <= s.length; k += 16, w += 4 * step) {
#pragma GCC unroll 6
            for (int r = 0; r < count; ++r) inputs[r] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x[r] + k), vdupq_n_u8(0x80)));
            add_dots<0>(sums, inputs, w);
            add_dots<1>(sums, inputs, w + step);
            add_dots<2>(sums, inputs, w + 2 * step);
            add_dots<3>(sums, inputs, w + 3 * step);
        }
        for (; k < s.length; k += int8_group, w += step) {
#pragma GCC unroll 6
            for (int r = 0; r < count; ++r) inputs[r] = broadcast_inputs(x[r] + k);
            add_dots<0>(sums, inputs, w);
        }
    }
    for (int r = 0; r < count; ++r) {
        for (int q = 0; q < quarters; ++q) vst1q_s32(out + r * out_stride + 4 * q, sums[r][q]);
    }
}

// 6 rows: 24 sums, 6 inputs and the weights in turn take all 32 registers.
void product_int8(const std::uint8_t* const* rows, int count, const Segments& s, const std::int8_t* panel, int blocks, std::int32_t* out,
                  std::ptrdiff_t out_stride) {
    const int width = blocks * block_outputs;
    for (int b = 0; b < blocks; ++b, panel += block_outputs * int8_group, out += block_outputs) {
        std::int32_t start[block_outputs];
        taken_away(s, panel, width, start);
        int r = 0;
        for (; r + 6 <= count; r += 6) tile_int8<6>(rows + r, s, panel, width, start, out + r * out_stride, out_stride);
        for (; r + 3 <= count; r += 3) tile_int8<3>(rows + r, s, panel, width, start, out + r * out_stride, out_stride);
        for (; r < count; ++r) tile_int8<1>(rows + r, s, panel, width, start, out + r * out_stride, out_stride);
    }
}

constexpr Kernels table() {
    Kernels k = neon_table();
    k.gemm.product_int8 = product_int8;
    k.attention.int8 = attend_int8<DotProducts>;
    // A dot product of bytes is one instruction for 16 products, where look-ups take four for 64 and widen what they add.
    k.gemv.layout.most_rows = 4;
    return k;
}

}  // namespace

constinit const Kernels neon_dotprod_kernels = named_neon_dotprod(table());

}  // namespace onebit
