// The 8-bit product with many rows on AMX's tile registers; scalar.cpp has the definition. The few instructions come from a template
// argument: the CPU's own in amx.cpp, and an emulation in the tests, because most machines lack AMX.
#pragma once

#include <cstring>
#include <utility>

#include "kernels.h"

namespace onebit {

// The configuration with each tile's shape, which the processor loads. An unused tile has neither rows nor bytes.
struct TileConfig {
    std::uint8_t palette;
    std::uint8_t start_row;
    std::uint8_t reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

// Everything else has internal linkage, as in rows.h.
namespace {

constexpr int tile_rows = 16;
constexpr int tile_row_bytes = 64;
constexpr int tile_row_groups = tile_row_bytes / int8_group;

// The configuration that a thread has loaded: loading it again would cost as much as some products. Palette 0 means none.
template <class Tiles>
thread_local TileConfig configured = {};

template <class Tiles>
void configure_tiles(const TileConfig& config) {
    if (std::memcmp(&configured<Tiles>, &config, sizeof config) == 0) return;
    Tiles::configure(config);
    configured<Tiles> = config;
}

template <class Tiles>
void release_tiles() {
    Tiles::release();
    configured<Tiles> = {};
}

// f<0>(), f<1>(), ...: instructions need constants for their tiles.
template <int n, class Function>
void for_each(const Function& f) {
    [&]<int... i>(std::integer_sequence<int, i...>) { (f.template operator()<i>(), ...); }(std::make_integer_sequence<int, n>());
}

// Up to 16 rows, and their distance if it is constant: a tile is loaded with one stride.
struct TileOfRows {
    const std::uint8_t* const* rows;
    int count;
    bool even;
    std::ptrdiff_t stride;

    TileOfRows(const std::uint8_t* const* first, int n) : rows(first), count(n), even(true), stride(n > 1 ? first[1] - first[0] : 0) {
        for (int r = 2; r < n; ++r) even = even && first[r] - first[r - 1] == stride;
    }
};

// The division of a segment's groups of inputs among tiles: evenly if that leaves no rest, because nothing is then padded.
struct Steps {
    int of_segment;
    int groups;  // of a full step
    int last;    // groups of a segment's last step

    explicit Steps(int segment_groups) : of_segment((segment_groups + tile_row_groups - 1) / tile_row_groups) {
        groups = segment_groups % of_segment == 0 ? segment_groups / of_segment : tile_row_groups;
        last = segment_groups - groups * (of_segment - 1);
    }
};

// One tile of rows times up to four blocks of outputs, or two times up to two: eight tile registers hold four tiles of sums and the operands.
template <class Tiles, int row_tiles, int block_tiles>
void multiply_tiles(const TileOfRows* tiles, const Segments& s, const Steps& steps, const std::int8_t* panel, int blocks, std::int32_t* out,
                    std::ptrdiff_t out_stride) {
    static_assert(row_tiles * block_tiles <= 4);
    constexpr int inputs = 4, weights = inputs + row_tiles, weight_tiles = 8 - weights;
    const std::ptrdiff_t group_bytes = std::ptrdiff_t{tile_row_bytes} * blocks;
    // Data that cannot be loaded in place are copied one step ahead, into the half that the current step does not read: a tile loaded right
    // after the stores to its memory would wait for them.
    alignas(64) std::uint8_t copied[2][row_tiles][tile_rows][tile_row_bytes];
    alignas(64) std::int8_t padded[2][tile_row_groups][block_tiles * tile_row_bytes];
    // A segment's last step has the same groups in all segments. The rest stays zero, so the inputs that meet it do not count.
    if (steps.last != steps.groups) std::memset(padded, 0, sizeof padded);

    struct Step {
        const std::uint8_t* inputs[row_tiles];
        std::ptrdiff_t input_stride[row_tiles];
        const std::int8_t* weights;
        std::ptrdiff_t weight_stride;
    };
    int segment = 0, in_segment = 0, half = 0;
    const auto prepare = [&] {
        Step step;
        const std::ptrdiff_t from = s.offsets[segment] + std::ptrdiff_t{in_segment} * steps.groups * int8_group;
        for (int t = 0; t < row_tiles; ++t) {
            if (tiles[t].even) {
                step.inputs[t] = tiles[t].rows[0] + from;
                step.input_stride[t] = tiles[t].stride;
            } else {
                // Always whole tile rows, which take one register each; the slack allows it.
                for (int r = 0; r < tiles[t].count; ++r) std::memcpy(copied[half][t][r], tiles[t].rows[r] + from, tile_row_bytes);
                step.inputs[t] = copied[half][t][0];
                step.input_stride[t] = tile_row_bytes;
            }
        }
        const bool last = in_segment + 1 == steps.of_segment;
        if (last && steps.last != steps.groups) {
            for (int g = 0; g < steps.last; ++g) std::memcpy(padded[half][g], panel + g * group_bytes, sizeof padded[half][g]);
            step.weights = padded[half][0];
            step.weight_stride = sizeof padded[half][0];
        } else {
            step.weights = panel;
            step.weight_stride = group_bytes;
        }
        panel += (last ? steps.last : steps.groups) * group_bytes;
        in_segment = last ? 0 : in_segment + 1;
        segment += last ? 1 : 0;
        half ^= 1;
        return step;
    };

    // Sums of the second tile of rows are in tiles 2 and 3, also if a single block leaves 1 and 3 unused.
    for_each<row_tiles>([]<int t>() { for_each<block_tiles>([]<int b>() { Tiles::template zero<2 * t + b>(); }); });
    for (Step next = prepare();;) {
        const Step step = next;
        const bool more = segment < s.segments;
        if (more) next = prepare();
        for_each<block_tiles>([&]<int b>() {
            Tiles::template load<weights + b % weight_tiles>(step.weights + b * tile_row_bytes, step.weight_stride);
            for_each<row_tiles>([&]<int t>() {
                if constexpr (b == 0) Tiles::template load<inputs + t>(step.inputs[t], step.input_stride[t]);
                Tiles::template multiply<2 * t + b, inputs + t, weights + b % weight_tiles>();
            });
        });
        if (!more) break;
    }
    for_each<row_tiles>([&]<int t>() {
        for_each<block_tiles>([&]<int b>() {
            Tiles::template store<2 * t + b>(out + t * tile_rows * out_stride + b * block_outputs,
                                             out_stride * static_cast<std::ptrdiff_t>(sizeof *out));
        });
    });
}

template <class Tiles, int row_tiles>
void configure(const TileOfRows* tiles, const Steps& steps) {
    constexpr int inputs = 4, weights = inputs + row_tiles;
    TileConfig config = {};
    config.palette = 1;
    const auto shape = [&config](int tile, int rows, int row_bytes) {
        config.rows[tile] = static_cast<std::uint8_t>(rows);
        config.row_bytes[tile] = static_cast<std::uint16_t>(row_bytes);
    };
    for (int t = 0; t < row_tiles; ++t) {
        for (int b = 0; b < 4 / row_tiles; ++b) shape(2 * t + b, tiles[t].count, tile_row_bytes);
        shape(inputs + t, tiles[t].count, steps.groups * int8_group);
    }
    for (int tile = weights; tile < 8; ++tile) shape(tile, steps.groups, tile_row_bytes);
    configure_tiles<Tiles>(config);
}

// The tiles stay in use; see TileKernels for their release.
template <class Tiles>
void product_tiles(const std::uint8_t* const* rows, int count, const Segments& s, const std::int8_t* panel, int blocks, std::int32_t* out,
                   std::ptrdiff_t out_stride) {
    static_assert(max_rows == 2 * tile_rows && max_blocks == 4);
    const Steps steps(s.length / int8_group);
    if (count > tile_rows) {
        const TileOfRows tiles[] = {{rows, tile_rows}, {rows + tile_rows, count - tile_rows}};
        configure<Tiles, 2>(tiles, steps);
        int b = 0;
        for (; b + 2 <= blocks; b += 2) {
            multiply_tiles<Tiles, 2, 2>(tiles, s, steps, panel + b * tile_row_bytes, blocks, out + b * block_outputs, out_stride);
        }
        // The last single block uses half of the tiles as they are: loading another configuration would cost more.
        if (b < blocks) multiply_tiles<Tiles, 2, 1>(tiles, s, steps, panel + b * tile_row_bytes, blocks, out + b * block_outputs, out_stride);
    } else {
        const TileOfRows tiles(rows, count);
        configure<Tiles, 1>(&tiles, steps);
        switch (blocks) {
            case 1: multiply_tiles<Tiles, 1, 1>(&tiles, s, steps, panel, blocks, out, out_stride); break;
            case 2: multiply_tiles<Tiles, 1, 2>(&tiles, s, steps, panel, blocks, out, out_stride); break;
            case 3: multiply_tiles<Tiles, 1, 3>(&tiles, s, steps, panel, blocks, out, out_stride); break;
            default: multiply_tiles<Tiles, 1, 4>(&tiles, s, steps, panel, blocks, out, out_stride); break;
        }
    }
}

}  // namespace
}  // namespace onebit
