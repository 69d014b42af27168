// Products of levels with expanded bits on AMX's tile registers (tiles.h has the definition). The instructions come from template arguments: the
// CPU's own in amx.cpp, and plain C++ in the tests, because most machines lack AMX.
#pragma once

#include "amx_product.h"
#include "tiles.h"

namespace onebit {
namespace {

// All tiles are whole: missing rows and inputs are zeros, which costs less than another configuration.
template <class Tiles>
void begin_tiles() {
    TileConfig config = {};
    config.palette = 1;
    for (int tile = 0; tile < 8; ++tile) {
        config.rows[tile] = tile_step_rows;
        config.row_bytes[tile] = tile_row_bytes;
    }
    configure_tiles<Tiles>(config);
}

// Four tiles of sums (0 to 3: two of outputs for each of rows), two of levels (4, 5) and two of weights (6, 7). This needs one load per product, the
// fewest with eight registers. A step takes the multiplier 64 cycles, and its loads take 32 from the first-level cache.
template <class Tiles, class Bits, int row_tiles, bool stream>
void multiply_rows(const TileTask& t) {
    constexpr std::ptrdiff_t group_bytes = 2 * tile_row_bytes, size = sizeof(std::int32_t);
    for_each<row_tiles>([&]<int r>() {
        for_each<2>([&]<int b>() {
            if (t.from == nullptr) {
                Tiles::template zero<2 * r + b>();
            } else {
                Tiles::template load<2 * r + b>(t.from + r * tile_step_rows * t.from_stride + b * block_outputs, t.from_stride * size);
            }
        });
    });
    Bits bits(t.next);
    const int bits_of_step = (t.next.steps + t.steps - 1) / t.steps;
    for (int step = 0; step < t.steps; ++step) {
        const std::int8_t* levels = t.levels + step * tile_bytes;
        const std::int8_t* panel = t.panel + step * tile_panel_bytes;
        Tiles::template load<6>(panel, group_bytes);
        for_each<row_tiles>([&]<int r>() {
            Tiles::template load_levels<4 + r, stream>(levels + r * t.next_rows, tile_row_bytes);
            Tiles::template multiply_signed<2 * r, 4 + r, 6>();
        });
        Tiles::template load<7>(panel + tile_row_bytes, group_bytes);
        for_each<row_tiles>([&]<int r>() { Tiles::template multiply_signed<2 * r + 1, 4 + r, 7>(); });
        for (int i = 0; i < bits_of_step && bits.left(); ++i) bits.expand();
    }
    for_each<row_tiles>([&]<int r>() {
        for_each<2>(
            [&]<int b>() { Tiles::template store<2 * r + b>(t.to + r * tile_step_rows * t.to_stride + b * block_outputs, t.to_stride * size); });
    });
}

// Bits: made from a TileExpansion. expand() takes one step of bits while some are left().
template <class Tiles, class Bits>
void multiply_by_tiles(const TileTask& t) {
    if (t.stream_levels) return t.row_tiles == 1 ? multiply_rows<Tiles, Bits, 1, true>(t) : multiply_rows<Tiles, Bits, 2, true>(t);
    t.row_tiles == 1 ? multiply_rows<Tiles, Bits, 1, false>(t) : multiply_rows<Tiles, Bits, 2, false>(t);
}

template <class Bits>
void expand_for_tiles(const TileExpansion& expansion) {
    for (Bits bits(expansion); bits.left();) bits.expand();
}

}  // namespace
}  // namespace onebit
