// Maps tiles of any size to the loops that an instruction set compiles for some sizes: whole tiles, single units, and each number of positions.
#pragma once

#include <utility>

#include "xnor.h"

namespace onebit {
namespace {

// Tile has `run<positions, units, both>`. `both` counts bits that are set in weights and inputs; otherwise bits that differ are counted.
template <class Tile, bool both, int units, int... fewer>
inline void count_positions_of(int positions, std::integer_sequence<int, fewer...>, const std::uint64_t* tile, std::ptrdiff_t step_stride,
                               const std::uint64_t* x, std::ptrdiff_t position_stride, const std::int32_t* offsets, int steps, const XnorSums& sums) {
    // One of these matches the number.
    (void)((positions == fewer + 1 &&
            (Tile::template run<fewer + 1, units, both>(tile, step_stride, x, position_stride, offsets, steps, sums), true)) ||
           ...);
}

template <class Tile, bool both>
void count_tile(const std::uint64_t* tile, std::ptrdiff_t step_stride, int units, const std::uint64_t* x, std::ptrdiff_t position_stride,
                int positions, const std::int32_t* offsets, int steps, const XnorSums& sums) {
    constexpr std::make_integer_sequence<int, xnor_positions> numbers;
    if (units == xnor_units) {
        return count_positions_of<Tile, both, xnor_units>(positions, numbers, tile, step_stride, x, position_stride, offsets, steps, sums);
    }
    XnorSums own = sums;
    for (int u = 0; u < units; ++u, tile += xnor_outputs, own.base += xnor_outputs, own.out += xnor_outputs) {
        count_positions_of<Tile, both, 1>(positions, numbers, tile, step_stride, x, position_stride, offsets, steps, own);
    }
}

}  // namespace
}  // namespace onebit
