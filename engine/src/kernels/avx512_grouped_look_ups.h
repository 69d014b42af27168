// Products of bits with scales for groups of inputs by look-ups, a part of avx512.cpp. avx512_look_ups.h explains the look-ups, grouped.h the scales.
#pragma once

#include "avx512_grouped.h"
#include "avx512_look_ups.h"

namespace onebit {
namespace {

// A group's sums become floats times the input's scale, and are added to `out` times the weights' scales. Words of 16 bits wrap around while planes
// are added, which does no harm: what is left at the end fits in them.
[[gnu::always_inline]] inline __m512i finished_words(const GroupedBits& bits, const __m512i& sums, std::int32_t total) {
    const __m512i counted = _mm512_sll_epi16(sums, _mm_cvtsi32_si128(bits.plus_minus ? 1 : 0));
    return _mm512_sub_epi16(counted, _mm512_set1_epi16(static_cast<short>(total * bits.taken_off)));
}

[[gnu::always_inline]] inline __m512 half_of_words(const __m512i& words, int half) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(half == 0 ? _mm512_castsi512_si256(words) : _mm512_extracti64x4_epi64(words, 1)));
}

// Adds the products of a group's steps to the sums of one row.
template <int units>
[[gnu::always_inline]] inline void add_steps(const std::uint8_t*& w, std::ptrdiff_t step_stride, const std::uint8_t*& tables, int steps,
                                             __m512i (&sums)[units]) {
    for (int s = 0; s < steps; ++s, w += step_stride, tables += tables_of_step * 2) look_up_step<units>(w, tables, sums);
}

// One row. The outputs stay in registers.
template <int units, bool one_plane>
void look_up_group_row(const GroupedBits& bits) {
    __m512 totals[units][2];
    for (int u = 0; u < units; ++u) {
        for (int h = 0; h < 2; ++h) totals[u][h] = bits.first ? _mm512_setzero_ps() : _mm512_loadu_ps(bits.out + u * 32 + h * 16);
    }
    const std::uint8_t *w = bits.planes[0], *tables = bits.prepared;
    for (std::int64_t g = 0; g < bits.groups; ++g) {
        __m512i sums[units];
#pragma GCC unroll 8
        for (int u = 0; u < units; ++u) sums[u] = _mm512_setzero_si512();
        if constexpr (one_plane) {
            add_steps<units>(w, bits.step_stride, tables, bits.group_steps, sums);
        } else {
            for (int p = bits.plane_count - 1; p >= 0; --p) {
                if (bits.doubled) {
#pragma GCC unroll 8
                    for (int u = 0; u < units; ++u) sums[u] = _mm512_add_epi16(sums[u], sums[u]);
                }
                w = bits.planes[p] + g * bits.group_steps * bits.step_stride;
                tables = bits.prepared + g * bits.group_steps * tables_of_step * 2;
                add_steps<units>(w, bits.step_stride, tables, bits.group_steps, sums);
            }
        }
        const __m512 scale = _mm512_set1_ps(bits.x_scales[g]);
        const std::uint16_t* scales = bits.scales + g * Layout::unit_outputs;
#pragma GCC unroll 8
        for (int u = 0; u < units; ++u, scales += bits.scale_stride) {
            const __m512i words = finished_words(bits, sums[u], bits.x_totals[g]);
#pragma GCC unroll 2
            for (int h = 0; h < 2; ++h) {
                totals[u][h] = _mm512_fmadd_ps(sixteen_halves(scales + h * 16), _mm512_mul_ps(half_of_words(words, h), scale), totals[u][h]);
            }
        }
    }
#pragma GCC unroll 8
    for (int u = 0; u < units; ++u) {
        for (int h = 0; h < 2; ++h) _mm512_storeu_ps(bits.out + u * 32 + h * 16, totals[u][h]);
    }
}

// A group of some rows times some units: rows share the shifted bits, units the loaded tables, as positions and units of an image do.
template <int rows, int units>
void look_up_group(const GroupedBits& bits, std::int64_t g, int first_row, int first_unit) {
    __m512i sums[rows][units];
    for (int r = 0; r < rows; ++r) {
        for (int u = 0; u < units; ++u) sums[r][u] = _mm512_setzero_si512();
    }
    const std::uint8_t* row = bits.prepared + first_row * bits.prepared_stride + g * bits.group_steps * tables_of_step * 2;
    for (int p = bits.plane_count - 1; p >= 0; --p) {
        if (bits.doubled) {
            for (int r = 0; r < rows; ++r) {
                for (int u = 0; u < units; ++u) sums[r][u] = _mm512_add_epi16(sums[r][u], sums[r][u]);
            }
        }
        const std::uint8_t* w = bits.planes[p] + g * bits.group_steps * bits.step_stride + first_unit * unit_step_bytes;
        for (int s = 0; s < bits.group_steps; ++s, w += bits.step_stride) {
            look_up_shared_step<rows, units>(w, row + s * tables_of_step * 2, bits.prepared_stride, sums);
        }
    }
    const auto older = static_cast<__mmask16>(bits.first && g == 0 ? 0 : 0xFFFF);
#pragma GCC unroll 2
    for (int u = 0; u < units; ++u) {
        const std::uint16_t* scales = bits.scales + (first_unit + u) * bits.scale_stride + g * Layout::unit_outputs;
        const __m512 factors[] = {sixteen_halves(scales), sixteen_halves(scales + 16)};
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            const std::ptrdiff_t of_input = (first_row + r) * bits.x_stride + g;
            const __m512i words = finished_words(bits, sums[r][u], bits.x_totals[of_input]);
            const __m512 scale = _mm512_set1_ps(bits.x_scales[of_input]);
            float* out = bits.out + (first_row + r) * bits.out_stride + (first_unit + u) * 32;
#pragma GCC unroll 2
            for (int h = 0; h < 2; ++h) {
                const __m512 total = _mm512_maskz_loadu_ps(older, out + h * 16), number = _mm512_mul_ps(half_of_words(words, h), scale);
                _mm512_storeu_ps(out + h * 16, _mm512_fmadd_ps(factors[h], number, total));
            }
        }
    }
}

template <int units>
void look_up_group_rows(const GroupedBits& bits, std::int64_t g, int first_row, int rows, int first_unit) {
    switch (rows) {
        case 1: return look_up_group<1, units>(bits, g, first_row, first_unit);
        case 2: return look_up_group<2, units>(bits, g, first_row, first_unit);
        case 3: return look_up_group<3, units>(bits, g, first_row, first_unit);
        case 4: return look_up_group<4, units>(bits, g, first_row, first_unit);
        case 5: return look_up_group<5, units>(bits, g, first_row, first_unit);
        default: return look_up_group<6, units>(bits, g, first_row, first_unit);
    }
}

template <bool one_plane>
void look_up_group_row(const GroupedBits& bits) {
    switch (bits.units) {
        case 1: return look_up_group_row<1, one_plane>(bits);
        case 2: return look_up_group_row<2, one_plane>(bits);
        case 3: return look_up_group_row<3, one_plane>(bits);
        case 4: return look_up_group_row<4, one_plane>(bits);
        case 5: return look_up_group_row<5, one_plane>(bits);
        case 6: return look_up_group_row<6, one_plane>(bits);
        case 7: return look_up_group_row<7, one_plane>(bits);
        default: return look_up_group_row<8, one_plane>(bits);
    }
}

void look_up_groups(const GroupedBits& bits) {
    if (bits.rows == 1) return bits.plane_count == 1 ? look_up_group_row<true>(bits) : look_up_group_row<false>(bits);
    // The tables of six rows of a group stay in the first-level cache while the units pass.
    for (std::int64_t g = 0; g < bits.groups; ++g) {
        for (int r = 0; r < bits.rows; r += image_positions) {
            const int rows = bits.rows - r < image_positions ? bits.rows - r : image_positions;
            int u = 0;
            for (; u + 2 <= bits.units; u += 2) look_up_group_rows<2>(bits, g, r, rows, u);
            if (u < bits.units) look_up_group_rows<1>(bits, g, r, rows, u);
        }
    }
}

}  // namespace
}  // namespace onebit
