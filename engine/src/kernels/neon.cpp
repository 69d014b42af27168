// Advanced SIMD as every 64-bit Arm CPU has it; scalar.cpp explains what is computed, neon.h what is shared.
#include "neon.h"

namespace onebit {
namespace {

// Each product is at most 128, as weights are -1, 0 or 1: so many fit 16 bits.
constexpr int most_added = 255;

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

// Inputs where the bit is set, added in pairs to 16 bits: at most 2 * 128 for each group.
void product_bits(const std::uint8_t* tile, std::ptrdiff_t, int, const std::uint8_t* x, std::int64_t groups, bool add, std::int32_t* out) {
    static_assert(groups_at_once * 2 * 128 <= 32767);
    bits_by_halves(tile, x, groups, add, out, [](const std::uint8_t* part, const std::int8_t* row, std::int64_t n, std::int32_t* y) {
        int16x8_t sums[tile_blocks][2];
        for (int b = 0; b < tile_blocks; ++b) sums[b][0] = sums[b][1] = vdupq_n_s16(0);
        for (std::int64_t g = 0; g < n; ++g, part += tile_group_bytes) {
            std::uint32_t four;
            std::memcpy(&four, row + g * int8_group, 4);
            const uint8x16_t inputs = vreinterpretq_u8_u32(vdupq_n_u32(four));
            const uint8x16_t low = vld1q_u8(part), high = vld1q_u8(part + 16);
#pragma GCC unroll 8
            for (int b = 0; b < tile_blocks; ++b) {
                const uint8x16_t bit = vdupq_n_u8(static_cast<std::uint8_t>(1 << b));
                sums[b][0] = vpadalq_s8(sums[b][0], vreinterpretq_s8_u8(vandq_u8(vtstq_u8(low, bit), inputs)));
                sums[b][1] = vpadalq_s8(sums[b][1], vreinterpretq_s8_u8(vandq_u8(vtstq_u8(high, bit), inputs)));
            }
        }
#pragma GCC unroll 8
        for (int b = 0; b < tile_blocks; ++b, y += block_outputs) {
            vst1q_s32(y, vpadalq_s16(vld1q_s32(y), sums[b][0]));
            vst1q_s32(y + 4, vpadalq_s16(vld1q_s32(y + 4), sums[b][1]));
        }
    });
}

constexpr Kernels table() {
    Kernels k = neon_table();
    k.gemm.product_int8 = product_int8;
    k.gemv.product = product_bits;
    return k;
}

}  // namespace

constinit const Kernels neon_kernels = named_neon(table());

}  // namespace onebit
