// Products of bits with scales for groups of inputs by look-ups, a part of avx2.cpp. avx2_look_ups.h explains the look-ups, grouped.h the scales.
#pragma once

#include "avx2_grouped.h"
#include "avx2_look_ups.h"

namespace onebit {
namespace {

// The scales of weights of a unit as floats, in the order in which the sums come.
struct UnitScales {
    __m256 eight[4];

    [[gnu::always_inline]] void load(const std::uint16_t* from) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) eight[i] = load_halves(from + 8 * i);
    }
};

// Adds a group's sums of 32 outputs, times both scales, to `out`. Words of 16 bits wrap around while planes are added, which does no harm: what is
// left at the end fits in them.
[[gnu::always_inline]] inline void finish_unit(const GroupedBits& bits, const WordSums& sums, std::ptrdiff_t of_input, const UnitScales& scales,
                                               bool first, float* out) {
    const __m128i doubled = _mm_cvtsi32_si128(bits.plus_minus ? 1 : 0);
    const __m256i taken_off = _mm256_set1_epi16(static_cast<short>(bits.x_totals[of_input] * bits.taken_off));
    const __m256i even = _mm256_sub_epi16(_mm256_sll_epi16(sums.even(), doubled), taken_off);
    const __m256i odd = _mm256_sub_epi16(_mm256_sll_epi16(sums.odd, doubled), taken_off);
    const __m256 scale = _mm256_set1_ps(bits.x_scales[of_input]);
    const auto eight = [&](int i, const __m256i& words) __attribute__((always_inline)) {
        const __m256 number = _mm256_mul_ps(_mm256_cvtepi32_ps(words), scale);
        const __m256 before = first ? _mm256_setzero_ps() : _mm256_loadu_ps(out + 8 * i);
        _mm256_storeu_ps(out + 8 * i, _mm256_fmadd_ps(scales.eight[i], number, before));
    };
    const __m256i lower = _mm256_set1_epi32(1), upper = _mm256_set1_epi32(1 << 16);
    eight(0, _mm256_madd_epi16(even, lower));
    eight(1, _mm256_madd_epi16(odd, lower));
    eight(2, _mm256_madd_epi16(even, upper));
    eight(3, _mm256_madd_epi16(odd, upper));
}

// One row times `units` of 32 outputs.
template <int units>
void look_up_group_row(const GroupedBits& bits) {
    constexpr std::int32_t offsets[] = {0, tables_of_step};
    for (std::int64_t g = 0; g < bits.groups; ++g) {
        WordSums sums[1][units] = {};
        for (int p = bits.plane_count - 1; p >= 0; --p) {
            for (auto& unit : sums[0]) unit.add_plane(bits.doubled, bits.group_steps);
            const std::uint8_t* w = bits.planes[p] + g * bits.group_steps * bits.step_stride;
            const std::uint8_t* tables = bits.prepared + g * bits.group_steps * tables_of_step;
            asm volatile("" : : "r"(sums) : "memory");  // these stay in memory: the registers are for bytes
            for (int s = 0; s < bits.group_steps; s += some_steps, w += some_steps * bits.step_stride, tables += some_steps * tables_of_step) {
                look_up_steps<1, units, some_steps>(PackedBits{w, bits.step_stride}, tables, 0, offsets, sums);
                asm volatile("" : : "r"(sums) : "memory");
            }
        }
        for (int u = 0; u < units; ++u) {
            UnitScales scales;
            scales.load(bits.scales + u * bits.scale_stride + g * Layout::unit_outputs);
            finish_unit(bits, sums[0][u], g, scales, bits.first && g == 0, bits.out + u * 32);
        }
    }
}

// A group of some rows times some units, whose bits are indices: [plane][step][group][unit][32 outputs].
template <int rows, int units>
[[gnu::noinline]] void look_up_group(const GroupedBits& bits, const std::uint8_t* indices, std::int64_t g, int first_row, int first_unit,
                                     const UnitScales* scales) {
    constexpr std::int32_t offsets[] = {0, tables_of_step};
    const std::uint8_t* row = bits.prepared + first_row * bits.prepared_stride + g * bits.group_steps * tables_of_step;
    WordSums sums[rows][units] = {};
    for (int p = bits.plane_count - 1; p >= 0; --p) {
        for (auto& of_row : sums) {
            for (auto& unit : of_row) unit.add_plane(bits.doubled, bits.group_steps);
        }
        const std::uint8_t *at = indices + p * bits.group_steps * step_groups * units * 32, *tables = row;
        asm volatile("" : : "r"(sums) : "memory");  // as above
        for (int s = 0; s < bits.group_steps; s += some_steps, at += some_steps * step_groups * units * 32, tables += some_steps * tables_of_step) {
            look_up_steps<rows, units, some_steps>(Indices{at}, tables, bits.prepared_stride, offsets, sums);
            asm volatile("" : : "r"(sums) : "memory");
        }
    }
    for (int r = 0; r < rows; ++r) {
        for (int u = 0; u < units; ++u) {
            float* out = bits.out + (first_row + r) * bits.out_stride + (first_unit + u) * 32;
            finish_unit(bits, sums[r][u], (first_row + r) * bits.x_stride + g, scales[u], bits.first && g == 0, out);
        }
    }
}

// As many rows at once as the registers allow; look_up_positions explains the rest.
template <int units>
void look_up_group_rows(const GroupedBits& bits, std::int64_t g, int first_unit) {
    alignas(32) std::uint8_t indices[most_group_planes * most_group_steps * step_groups * units * 32];
    for (int p = 0; p < bits.plane_count; ++p) {
        const std::uint8_t* w = bits.planes[p] + g * bits.group_steps * bits.step_stride + first_unit * unit_step_bytes;
        expand_indices<units>(w, bits.step_stride, bits.group_steps, indices + p * bits.group_steps * step_groups * units * 32);
    }
    UnitScales scales[units];
    for (int u = 0; u < units; ++u) scales[u].load(bits.scales + (first_unit + u) * bits.scale_stride + g * Layout::unit_outputs);
    in_parts<units>(
        bits.rows, [&](auto count, int first_row) { look_up_group<decltype(count)::value, units>(bits, indices, g, first_row, first_unit, scales); });
}

void look_up_groups(const GroupedBits& bits) {
    if (bits.rows == 1) {
        switch (bits.units) {
            case 1: return look_up_group_row<1>(bits);
            case 2: return look_up_group_row<2>(bits);
            case 3: return look_up_group_row<3>(bits);
            default: return look_up_group_row<4>(bits);
        }
    }
    for (std::int64_t g = 0; g < bits.groups; ++g) {
        int u = 0;
        for (; u + 2 <= bits.units; u += 2) look_up_group_rows<2>(bits, g, u);
        if (u < bits.units) look_up_group_rows<1>(bits, g, u);
    }
}

}  // namespace
}  // namespace onebit
