// Advanced SIMD, which counts the bits of each byte; xnor_scalar.cpp explains what is computed.
#include <arm_neon.h>

#include "kernels.h"
#include "xnor_plain.h"
#include "xnor_tiles.h"

namespace onebit {
namespace {

// Sixteen comparisons to sixteen bits.
inline std::uint64_t signs_of_sixteen(const float* x, const float* least, const std::uint32_t* flips) {
    uint16x8_t half[2];
    for (int h = 0; h < 2; ++h) {
        uint32x4_t found[2];
        for (int q = 0; q < 2; ++q) {
            const int i = 8 * h + 4 * q;
            float32x4_t v = vld1q_f32(x + i), from = vdupq_n_f32(0);
            if (least != nullptr) {
                v = vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), vld1q_u32(flips + i)));
                from = vld1q_f32(least + i);
            }
            found[q] = vcgeq_f32(v, from);
        }
        half[h] = vcombine_u16(vmovn_u32(found[0]), vmovn_u32(found[1]));
    }
    const uint8x16_t place = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    const uint8x16_t bits = vandq_u8(vcombine_u8(vmovn_u16(half[0]), vmovn_u16(half[1])), place);
    return static_cast<std::uint64_t>(vaddv_u8(vget_low_u8(bits))) | static_cast<std::uint64_t>(vaddv_u8(vget_high_u8(bits))) << 8;
}

void pack_signs(const float* x, std::int64_t n, const float* least, const std::uint32_t* flips, std::uint64_t* words) {
    for (std::int64_t i = 0; i < n; i += xnor_inputs) {
        const bool own = least != nullptr;
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

struct Tile {
    // Sums of bytes: a step adds at most 8 to each.
    static constexpr int most_added = 31;
    static constexpr int quarters = 4;  // of a unit: registers of two outputs

    template <int positions, int units, bool both>
    static void run(const std::uint64_t* tile, std::ptrdiff_t step_stride, const std::uint64_t* x, std::ptrdiff_t position_stride,
                    const std::int32_t* offsets, int steps, const XnorSums& sums) {
        int p = 0;
        for (; p + 3 <= positions; p += 3) run_some<3, both>(tile, step_stride, units, x, position_stride, offsets, steps, sums, p);
        for (; p < positions; ++p) run_some<1, both>(tile, step_stride, units, x, position_stride, offsets, steps, sums, p);
    }

    template <int positions, bool both>
    static void run_some(const std::uint64_t* tile, std::ptrdiff_t step_stride, int units, const std::uint64_t* x, std::ptrdiff_t position_stride,
                         const std::int32_t* offsets, int steps, const XnorSums& sums, int first_position) {
        x += first_position * position_stride;
        for (int u = 0; u < units; ++u, tile += xnor_outputs) {
            uint32x4_t counts[positions][2];
            for (int p = 0; p < positions; ++p) counts[p][0] = counts[p][1] = vdupq_n_u32(0);
            for (int first = 0; first < steps; first += most_added) {
                const int end = first + most_added < steps ? first + most_added : steps;
                uint8x16_t bytes[positions][quarters];
                for (int p = 0; p < positions; ++p) {
                    for (int q = 0; q < quarters; ++q) bytes[p][q] = vdupq_n_u8(0);
                }
                for (int s = first; s < end; ++s) {
                    const std::uint64_t* from = x + offsets[s];
                    uint8x16_t inputs[positions];
#pragma GCC unroll 3
                    for (int p = 0; p < positions; ++p) inputs[p] = vreinterpretq_u8_u64(vdupq_n_u64(from[p * position_stride]));
#pragma GCC unroll 4
                    for (int q = 0; q < quarters; ++q) {
                        const uint8x16_t weights = vreinterpretq_u8_u64(vld1q_u64(tile + s * step_stride + 2 * q));
#pragma GCC unroll 3
                        for (int p = 0; p < positions; ++p) {
                            const uint8x16_t matches = both ? vandq_u8(inputs[p], weights) : veorq_u8(inputs[p], weights);
                            bytes[p][q] = vaddq_u8(bytes[p][q], vcntq_u8(matches));
                        }
                    }
                }
                for (int p = 0; p < positions; ++p) {
                    for (int h = 0; h < 2; ++h) {
                        const uint32x4_t low = vpaddlq_u16(vpaddlq_u8(bytes[p][2 * h])), high = vpaddlq_u16(vpaddlq_u8(bytes[p][2 * h + 1]));
                        counts[p][h] = vaddq_u32(counts[p][h], vpaddq_u32(low, high));
                    }
                }
            }
            for (int p = 0; p < positions; ++p) {
                for (int h = 0; h < 2; ++h) {
                    const std::int32_t* base = sums.base + (first_position + p) * sums.base_stride + u * xnor_outputs + 4 * h;
                    std::int32_t* out = sums.out + (first_position + p) * sums.out_stride + u * xnor_outputs + 4 * h;
                    vst1q_s32(out, vmlaq_n_s32(vld1q_s32(base), vreinterpretq_s32_u32(counts[p][h]), sums.factor));
                }
            }
        }
    }
};

}  // namespace

constinit const XnorKernels neon_xnor = {"bits of bytes counted", pack_signs, pack_levels_plain, count_tile<Tile, false>, count_tile<Tile, true>};

}  // namespace onebit
