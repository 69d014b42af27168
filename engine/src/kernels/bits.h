// Layouts of the bits of dense layers. An instruction set takes the layout that its product reads fastest. Functions here write and read it.
// Internal linkage, as in rows.h.
#pragma once

#include <cstring>

#include "kernels.h"
#include "rows.h"

namespace onebit {
namespace {

// A layout for look-ups: each output has `width` adjacent bits of its inputs. A step holds the first `width` inputs of all outputs of the unit,
// then the next ones if there is space. With `parts` above 1 the outputs are divided into parts. Outputs at the same place of each part are then
// adjacent.
template <int width, int outputs = 512 / width, int parts = 1>
struct Columns {
    static constexpr int step_inputs = 512 / outputs, unit_outputs = outputs;

    static constexpr int column_of(int output) { return output % (outputs / parts) * parts + output / (outputs / parts); }

    static void lay_out(const std::uint8_t* bits, std::ptrdiff_t row_bytes, int rows, std::int64_t inputs, std::uint8_t* unit,
                        std::ptrdiff_t step_stride) {
        constexpr int bytes = width / 8, rounds = step_inputs / width;
        const std::int64_t columns = (inputs + step_inputs - 1) / step_inputs * rounds;
        // Some columns of all outputs at a time, so that the written lines stay in the cache until they are complete.
        constexpr std::int64_t some = 64;
        for (std::int64_t first = 0; first < columns; first += some) {
            const std::int64_t end = first + some < columns ? first + some : columns;
            for (int o = 0; o < rows; ++o) {
                const std::uint8_t* row = bits + o * row_bytes;
                const auto place = [&](std::int64_t c) { return unit + c / rounds * step_stride + (c % rounds * outputs + column_of(o)) * bytes; };
                std::int64_t c = first;
                // Rows are padded to whole words of 64 bits.
                for (; c + 8 / bytes <= end; c += 8 / bytes) {
                    std::uint64_t word;
                    std::memcpy(&word, row + c * bytes, 8);
                    for (int i = 0; i < 8 / bytes; ++i, word >>= width) std::memcpy(place(c + i), &word, bytes);
                }
                for (; c < end; ++c) std::memcpy(place(c), row + c * bytes, bytes);
            }
        }
    }

    static unsigned four_inputs(const std::uint8_t* step, int output, int group) {
        constexpr int groups = width / 4;
        return step[(group / groups * outputs + column_of(output)) * (width / 8) + group % groups / 2] >> (group % 2 * 4) & 15u;
    }
};

// Expands some blocks of 16 outputs of a tile to a panel for 8-bit products, of 0 and 1.
template <class Layout>
void expand_bits_int8(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks, std::int8_t* panel) {
    std::uint32_t table[16];
    for (unsigned i = 0; i < 16; ++i) table[i] = four_weights(i, false);
    for (std::int64_t s = 0; s < steps; ++s, tile += step_stride) {
        for (int group = 0; group < Layout::step_inputs / 4; ++group) {
            for (int o = first_block * block_outputs; o < (first_block + blocks) * block_outputs; ++o, panel += 4) {
                const std::uint8_t* step = tile + o / Layout::unit_outputs * unit_step_bytes;
                std::memcpy(panel, &table[Layout::four_inputs(step, o % Layout::unit_outputs, group)], 4);
            }
        }
    }
}

// The same for float products, of 0 and 1 or of -1 and 1.
template <class Layout>
void expand_bits_float(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks, bool plus_minus,
                       float* panel) {
    const float set = 1.0f, clear = plus_minus ? -1.0f : 0.0f;
    const int width = blocks * block_outputs;
    for (std::int64_t s = 0; s < steps; ++s, tile += step_stride) {
        for (int group = 0; group < Layout::step_inputs / 4; ++group, panel += 4 * width) {
            for (int o = 0; o < width; ++o) {
                const int output = first_block * block_outputs + o;
                const std::uint8_t* step = tile + output / Layout::unit_outputs * unit_step_bytes;
                const unsigned four = Layout::four_inputs(step, output % Layout::unit_outputs, group);
                for (int i = 0; i < 4; ++i) panel[i * width + o] = (four >> i & 1u) != 0 ? set : clear;
            }
        }
    }
}

}  // namespace
}  // namespace onebit
