// Products of bits with scales for groups of inputs by look-ups in registers of 16 bytes. look_ups_16.h explains the look-ups and the sets, grouped.h
// the scales. `Sums` also has
//   add_plane      what is there counts twice if `doubled`, and the bias of the tables of the plane that is added next is taken off
//   numbers        the sums of 16 outputs, twice if `doubled`, less what is taken off, as floats
#pragma once

#include "grouped.h"
#include "look_ups_16.h"

namespace onebit {
namespace {

static_assert(register_lanes == 4);

// Adds a group's sums of 16 outputs, times both scales, to `out`. Words of 16 bits wrap around while planes are added, which does no harm: what is
// left at the end fits in them.
template <class Sums>
[[gnu::always_inline]] inline void finish_group(const GroupedBits& bits, const Sums& sums, std::ptrdiff_t of_input, const std::uint16_t* scales,
                                                bool first, float* out) {
    Lanes numbers[4];
    sums.numbers(bits.plus_minus, bits.x_totals[of_input] * bits.taken_off, numbers);
    const Lanes scale = broadcast(bits.x_scales[of_input]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        store_lanes(fused(load_halves(scales + 4 * i), numbers[i] * scale, first ? Lanes{} : load_lanes(out + 4 * i)), out + 4 * i);
    }
}

// One row times `units` of 32 outputs, from the first of them on.
template <class Set, int units>
void look_up_group_row(const GroupedBits& bits, std::int64_t g) {
    constexpr int registers = units * unit_registers;
    constexpr std::int32_t offsets[] = {0, tables_of_step};
    typename Set::Sums sums[1][registers];
#pragma GCC unroll 4
    for (int r = 0; r < registers; ++r) sums[0][r].begin();
    for (int p = bits.plane_count - 1; p >= 0; --p) {
#pragma GCC unroll 4
        for (int r = 0; r < registers; ++r) sums[0][r].add_plane(bits.doubled, bits.group_steps * step_groups * bias);
        const std::uint8_t* w = bits.planes[p] + g * bits.group_steps * bits.step_stride;
        const std::uint8_t* tables = bits.prepared + g * bits.group_steps * tables_of_step;
        for (int s = 0; s < bits.group_steps; s += some_steps, w += some_steps * bits.step_stride, tables += some_steps * tables_of_step) {
            Set::template steps<1, registers, some_steps>(PackedBits<Set>{w, bits.step_stride}, tables, 0, offsets, sums);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < registers; ++r) {
        const std::uint16_t* scales = bits.scales + r / unit_registers * bits.scale_stride + g * Layout::unit_outputs + r % unit_registers * 16;
        finish_group(bits, sums[0][r], g, scales, bits.first && g == 0, bits.out + r * 16);
    }
}

// A group of some rows times a unit, whose bits are indices: [plane][step][group][32 outputs].
template <class Set, int rows>
void look_up_group(const GroupedBits& bits, const std::uint8_t* indices, std::int64_t g, int first_row, int unit) {
    constexpr std::int32_t offsets[] = {0, tables_of_step};
    const std::uint8_t* row = bits.prepared + first_row * bits.prepared_stride + g * bits.group_steps * tables_of_step;
    typename Set::Sums sums[rows][unit_registers];
#pragma GCC unroll 4
    for (int i = 0; i < rows * unit_registers; ++i) sums[i / unit_registers][i % unit_registers].begin();
    constexpr int indices_of_steps = some_steps * step_groups * Layout::unit_outputs;
    for (int p = bits.plane_count - 1; p >= 0; --p) {
#pragma GCC unroll 4
        for (int i = 0; i < rows * unit_registers; ++i) {
            sums[i / unit_registers][i % unit_registers].add_plane(bits.doubled, bits.group_steps * step_groups * bias);
        }
        const std::uint8_t *at = indices + p * bits.group_steps / some_steps * indices_of_steps, *tables = row;
        for (int s = 0; s < bits.group_steps; s += some_steps, at += indices_of_steps, tables += some_steps * tables_of_step) {
            Set::template steps<rows, unit_registers, some_steps>(Indices<Set>{at}, tables, bits.prepared_stride, offsets, sums);
        }
    }
    const std::uint16_t* scales = bits.scales + unit * bits.scale_stride + g * Layout::unit_outputs;
#pragma GCC unroll 2
    for (int i = 0; i < rows; ++i) {
        float* out = bits.out + (first_row + i) * bits.out_stride + unit * Layout::unit_outputs;
#pragma GCC unroll 2
        for (int r = 0; r < unit_registers; ++r) {
            finish_group(bits, sums[i][r], (first_row + i) * bits.x_stride + g, scales + r * 16, bits.first && g == 0, out + r * 16);
        }
    }
}

template <class Set>
void look_up_groups(const GroupedBits& bits) {
    alignas(16) std::uint8_t indices[most_group_planes * most_group_steps * step_groups * Layout::unit_outputs];
    for (std::int64_t g = 0; g < bits.groups; ++g) {
        if (bits.rows == 1) {
            bits.units == 1 ? look_up_group_row<Set, 1>(bits, g) : look_up_group_row<Set, look_up_units>(bits, g);
            continue;
        }
        for (int u = 0; u < bits.units; ++u) {
            for (int p = 0; p < bits.plane_count; ++p) {
                expand_indices<Set>(bits.planes[p] + g * bits.group_steps * bits.step_stride + u * unit_step_bytes, bits.step_stride,
                                    bits.group_steps, indices + p * bits.group_steps * step_groups * Layout::unit_outputs);
            }
            int r = 0;
            for (; r + 2 <= bits.rows; r += 2) look_up_group<Set, 2>(bits, indices, g, r, u);
            if (r < bits.rows) look_up_group<Set, 1>(bits, indices, g, r, u);
        }
    }
}

}  // namespace
}  // namespace onebit
