// Layouts of the bits of dense layers. An instruction set takes the layout that its product reads fastest. Functions here write and read it.
// Internal linkage, as in rows.h.
#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels.h"
#include "rows.h"

namespace onebit {
namespace {

typedef std::uint8_t Bytes __attribute__((vector_size(16)));
typedef std::uint16_t Shorts __attribute__((vector_size(16)));

// 16 bytes as numbers of one byte or of two.
template <int bytes>
using Square = std::conditional_t<bytes == 1, Bytes, Shorts>;

// The upper or the lower halves of two registers, number by number.
template <class Register, std::size_t... lane>
[[gnu::always_inline]] inline Register interleaved(const Register& a, const Register& b, std::size_t first, std::index_sequence<lane...>) {
    constexpr int count = sizeof...(lane);
#if defined(__clang__)
    return first == 0 ? __builtin_shufflevector(a, b, (lane / 2 + lane % 2 * count)...)
                      : __builtin_shufflevector(a, b, (count / 2 + lane / 2 + lane % 2 * count)...);
#else
    using Places = Register;
    return first == 0 ? __builtin_shuffle(a, b, Places{(lane / 2 + lane % 2 * count)...})
                      : __builtin_shuffle(a, b, Places{(count / 2 + lane / 2 + lane % 2 * count)...});
#endif
}

// Rows become columns: each round puts the first half of the rows between those of the second.
template <class Register, std::size_t count>
[[gnu::always_inline]] inline void transpose(Register (&rows)[count]) {
    constexpr std::make_index_sequence<count> places;
    for (std::size_t round = 1; round < count; round *= 2) {
        Register next[count];
#pragma GCC unroll 8
        for (std::size_t i = 0; i < count / 2; ++i) {
            next[2 * i] = interleaved(rows[i], rows[i + count / 2], 0, places);
            next[2 * i + 1] = interleaved(rows[i], rows[i + count / 2], 1, places);
        }
        std::memcpy(rows, next, sizeof rows);
    }
}

// A layout for look-ups: each output has `width` adjacent bits of its inputs. A step holds the first `width` inputs of all outputs of the unit,
// then the next ones if there is space. With `parts` above 1 the outputs are divided into parts. Outputs at the same place of each part are then
// adjacent.
template <int width, int outputs = 512 / width, int parts = 1>
struct Columns {
    static constexpr int step_inputs = 512 / outputs, unit_outputs = outputs, bytes = width / 8, rounds = step_inputs / width;
    // Columns that fill 16 bytes of a row.
    static constexpr int square = 16 / bytes;
    static_assert(outputs % square == 0);

    static constexpr int column_of(int output) { return output % (outputs / parts) * parts + output / (outputs / parts); }

    // The bits of column c of the output whose place is `column`.
    static std::uint8_t* place(std::uint8_t* unit, std::ptrdiff_t step_stride, std::int64_t c, int column) {
        return unit + c / rounds * step_stride + (c % rounds * outputs + column) * bytes;
    }

    static void lay_out(const std::uint8_t* bits, std::ptrdiff_t row_bytes, int rows, std::int64_t inputs, std::uint8_t* unit,
                        std::ptrdiff_t step_stride) {
        const std::int64_t columns = (inputs + step_inputs - 1) / step_inputs * rounds;
        // Some columns of all outputs at a time, so that the written lines stay in the cache until they are complete.
        constexpr std::int64_t some = 64;
        for (std::int64_t first = 0; first < columns; first += some) {
            const std::int64_t end = first + some < columns ? first + some : columns;
            std::int64_t done = first;
            if (rows == outputs) {
                for (; done + square <= end; done += square) lay_out_squares(bits, row_bytes, done, unit, step_stride);
            }
            for (int o = 0; o < rows; ++o) {
                const std::uint8_t* row = bits + o * row_bytes;
                const auto place = [&](std::int64_t c) { return Columns::place(unit, step_stride, c, column_of(o)); };
                std::int64_t c = done;
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

    // Reads the bits of one output again, of whole steps.
    static void read_row(const std::uint8_t* unit, std::ptrdiff_t step_stride, std::int64_t steps, int output, std::uint8_t* bits) {
        auto* from = const_cast<std::uint8_t*>(unit);
        for (std::int64_t c = 0; c < steps * rounds; ++c, bits += bytes) std::memcpy(bits, place(from, step_stride, c, column_of(output)), bytes);
    }

    static unsigned four_inputs(const std::uint8_t* step, int output, int group) {
        constexpr int groups = width / 4;
        return step[(group / groups * outputs + column_of(output)) * bytes + group % groups / 2] >> (group % 2 * 4) & 15u;
    }

  private:
    // The output at each place of a column.
    static constexpr int output_at(int column) { return column % parts * (outputs / parts) + column / parts; }

    // `square` columns of all outputs, as many outputs at a time, transposed in registers.
    static void lay_out_squares(const std::uint8_t* bits, std::ptrdiff_t row_bytes, std::int64_t first, std::uint8_t* unit,
                                std::ptrdiff_t step_stride) {
        for (int column = 0; column < outputs; column += square) {
            Square<bytes> rows[square];
            for (int i = 0; i < square; ++i) std::memcpy(&rows[i], bits + output_at(column + i) * row_bytes + first * bytes, sizeof rows[i]);
            transpose(rows);
            for (int i = 0; i < square; ++i) std::memcpy(place(unit, step_stride, first + i, column), &rows[i], sizeof rows[i]);
        }
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
