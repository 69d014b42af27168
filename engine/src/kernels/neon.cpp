// Advanced SIMD as every 64-bit Arm CPU has it; scalar.cpp explains what is computed, neon.h what is shared.
#include "neon.h"

#include "neon_byte_attention.h"

namespace onebit {
namespace {

// Each product is at most 128, as weights are -1, 0 or 1: so many fit 16 bits.
constexpr int most_added = 255;

// 128 times the sum of the weights of each output of a block.
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

// Sums of 16 bits, one for each input of a group: a register holds two outputs'.
template <int count>
void tile_int8(const std::uint8_t* const* rows, const Segments& s, const std::int8_t* panel, int width, const std::int32_t* start, std::int32_t* out,
               std::ptrdiff_t out_stride) {
    int16x8_t sums[count][2 * quarters];
    for (int r = 0; r < count; ++r) {
        for (int q = 0; q < quarters; ++q) {
            sums[r][2 * q] = sums[r][2 * q + 1] = vdupq_n_s16(0);
            vst1q_s32(out + r * out_stride + 4 * q, vld1q_s32(start + 4 * q));
        }
    }
    const auto flush = [&] {
        for (int r = 0; r < count; ++r) {
#pragma GCC unroll 4
            for (int q = 0; q < quarters; ++q) {
                std::int32_t* y = out + r * out_stride + 4 * q;
                vst1q_s32(y, vaddq_s32(vld1q_s32(y), vpaddq_s32(vpaddlq_s16(sums[r][2 * q]), vpaddlq_s16(sums[r][2 * q + 1]))));
                sums[r][2 * q] = sums[r][2 * q + 1] = vdupq_n_s16(0);
            }
        }
    };
    int room = most_added;
    const std::int8_t* w = panel;
    for (int segment = 0; segment < s.segments; ++segment) {
        const std::uint8_t* x[count];
        for (int r = 0; r < count; ++r) x[r] = rows[r] + s.offsets[segment];
        for (int k = 0; k < s.length;) {
            if (room == 0) {
                flush();
                room = most_added;
            }
            const int here = std::min(room, (s.length - k) / int8_group), end = k + here * int8_group;
            room -= here;
            for (; k < end; k += int8_group, w += std::ptrdiff_t{int8_group} * width) {
                int8x16_t inputs[count];
#pragma GCC unroll 3
                for (int r = 0; r < count; ++r) inputs[r] = broadcast_inputs(x[r] + k);
#pragma GCC unroll 4
                for (int q = 0; q < quarters; ++q) {
                    const int8x16_t weights = vld1q_s8(w + 16 * q);
#pragma GCC unroll 3
                    for (int r = 0; r < count; ++r) {
                        sums[r][2 * q] = vmlal_s8(sums[r][2 * q], vget_low_s8(weights), vget_low_s8(inputs[r]));
                        sums[r][2 * q + 1] = vmlal_high_s8(sums[r][2 * q + 1], weights, inputs[r]);
                    }
                }
            }
        }
    }
    flush();
}

// 3 rows: 24 sums, 3 inputs and the weights in turn.
void product_int8(const std::uint8_t* const* rows, int count, const Segments& s, const std::int8_t* panel, int blocks, std::int32_t* out,
                  std::ptrdiff_t out_stride) {
    const int width = blocks * block_outputs;
    for (int b = 0; b < blocks; ++b, panel += block_outputs * int8_group, out += block_outputs) {
        std::int32_t start[block_outputs];
        taken_away(s, panel, width, start);
        int r = 0;
        for (; r + 3 <= count; r += 3) tile_int8<3>(rows + r, s, panel, width, start, out + r * out_stride, out_stride);
        for (; r < count; ++r) tile_int8<1>(rows + r, s, panel, width, start, out + r * out_stride, out_stride);
    }
}

constexpr Kernels table() {
    Kernels k = neon_table();
    k.gemm.product_int8 = product_int8;
    k.attention.int8 = attend_int8<ByteProducts>;
    k.conv.least_gain = 2;
    k.conv.least_run_gain = 1;
    return k;
}

}  // namespace

constinit const Kernels neon_kernels = named_neon(table());

}  // namespace onebit
