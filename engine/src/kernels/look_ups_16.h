// Products of bits by look-ups in registers of 16 bytes: what Advanced SIMD's and WebAssembly's share. Four bits of each of 16 outputs pick one of
// the 16 sums of four inputs. A sum takes two look-ups, because they give bytes: a low one of 5 bits and a high one.
//
// A set is a struct that has
//   Bytes                                            a register of 16 bytes
//   load, store, low_half, high_half                 of it; the halves are the four lower and the four upper bits of each byte
//   Sums                                             of 16 outputs in 16 bits: begin, add, put
//   steps<positions, registers, count>(...)          some steps, at most as many as fit in bytes, added to sums
#pragma once

#include "bits.h"
#include "kernels.h"

namespace onebit {
namespace {

// 32 bytes hold 8 inputs of 32 outputs, and a step two of these.
using Layout = Columns<8, 32>;
constexpr int step_groups = Layout::step_inputs / 4;
constexpr int unit_registers = 2;  // of 16 outputs

// Sums of all subsets of 4 inputs lie between -512 and 508: as 32 * high + low - 512, two tables of 16 bytes, side by side.
constexpr int tables_of_group = 32, tables_of_step = step_groups * tables_of_group;
constexpr int low_bits = 5, bias = 512;
// Look-ups whose low bytes, and whose high ones, can be added in bytes (8 * 31), and steps whose sums fit in 16 bits once both are joined.
constexpr int groups_of_bytes = 8, some_steps = groups_of_bytes / step_groups, steps_of_words = 16;
static_assert(steps_of_words * step_groups * ((1 << 2 * low_bits) - 1) <= 65535 && groups_of_bytes % step_groups == 0);

// Bits as they lie in a tile, and the indices that a group of four makes of them.
template <class Set>
struct PackedBits {
    const std::uint8_t* at;
    std::ptrdiff_t step_stride;

    template <int registers>
    [[gnu::always_inline]] typename Set::Bytes index(int group, int r) const {
        const std::uint8_t* step = at + group / step_groups * step_stride + r / unit_registers * unit_step_bytes;
        const typename Set::Bytes bits = Set::load(step + group % step_groups / 2 * 32 + r % unit_registers * 16);
        return group % 2 == 1 ? Set::high_half(bits) : Set::low_half(bits);
    }
};

// Indices of their own, a byte for each four bits: [step][group][32 outputs].
template <class Set>
struct Indices {
    const std::uint8_t* at;

    template <int registers>
    [[gnu::always_inline]] typename Set::Bytes index(int group, int r) const {
        return Set::load(at + (group * registers + r) * 16);
    }
};

// One row of inputs times `units` of 32 outputs.
template <class Set, int units>
void look_up(const std::uint8_t* w, std::ptrdiff_t step_stride, const std::uint8_t* tables, std::int64_t steps, bool add, std::int32_t* out) {
    constexpr int registers = units * unit_registers;
    constexpr std::int32_t offsets[] = {0, tables_of_step};
    for (std::int64_t first = 0; first < steps; first += steps_of_words) {
        auto here = static_cast<int>(steps - first < steps_of_words ? steps - first : steps_of_words);
        const std::int32_t taken_off = here * step_groups * bias;
        typename Set::Sums sums[1][registers];
#pragma GCC unroll 4
        for (int r = 0; r < registers; ++r) sums[0][r].begin();
        for (; here >= some_steps; here -= some_steps, w += some_steps * step_stride, tables += some_steps * tables_of_step) {
            Set::template steps<1, registers, some_steps>(PackedBits<Set>{w, step_stride}, tables, 0, offsets, sums);
        }
        if (here > 0) Set::template steps<1, registers, 1>(PackedBits<Set>{w, step_stride}, tables, 0, offsets, sums);
#pragma GCC unroll 4
        for (int r = 0; r < registers; ++r) sums[0][r].put(taken_off, first == 0 && !add, out + r * 16);
    }
}

// Two units' sums stay in the registers of most processors.
constexpr int look_up_units = 2;

template <class Set>
void product_bits(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps, bool add,
                  std::int32_t* out) {
    if (count == 1) return look_up<Set, 1>(units, step_stride, prepared, steps, add, out);
    look_up<Set, look_up_units>(units, step_stride, prepared, steps, add, out);
}

// The bits of a unit as indices.
template <class Set>
void expand_indices(const std::uint8_t* tile, std::ptrdiff_t step_stride, int steps, std::uint8_t* indices) {
    for (int s = 0; s < steps; ++s, tile += step_stride) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half, indices += 64) {
#pragma GCC unroll 2
            for (int r = 0; r < unit_registers; ++r) {
                const typename Set::Bytes bits = Set::load(tile + half * 32 + r * 16);
                Set::store(indices + r * 16, Set::low_half(bits));
                Set::store(indices + 32 + r * 16, Set::high_half(bits));
            }
        }
    }
}

template <class Set, int positions>
void look_up_image(const std::uint8_t* indices, const std::uint8_t* prepared, std::ptrdiff_t position_stride, const std::int32_t* offsets, int steps,
                   bool first, std::int32_t* out, std::ptrdiff_t out_stride) {
    typename Set::Sums sums[positions][unit_registers];
    const std::int32_t taken_off = steps * step_groups * bias;
#pragma GCC unroll 2
    for (int p = 0; p < positions; ++p) {
#pragma GCC unroll 2
        for (int r = 0; r < unit_registers; ++r) sums[p][r].begin();
    }
    for (; steps >= some_steps; steps -= some_steps, offsets += some_steps, indices += some_steps * step_groups * Layout::unit_outputs) {
        Set::template steps<positions, unit_registers, some_steps>(Indices<Set>{indices}, prepared, position_stride, offsets, sums);
    }
    if (steps > 0) Set::template steps<positions, unit_registers, 1>(Indices<Set>{indices}, prepared, position_stride, offsets, sums);
#pragma GCC unroll 2
    for (int p = 0; p < positions; ++p) {
#pragma GCC unroll 2
        for (int r = 0; r < unit_registers; ++r) sums[p][r].put(taken_off, first, out + p * out_stride + r * 16);
    }
}

// Two positions' sums of a unit stay in registers.
template <class Set>
void product_image(const ConvArgs& args) {
    static_assert(image_steps <= steps_of_words);
    alignas(16) std::uint8_t indices[image_steps * step_groups * Layout::unit_outputs];
    for (int u = 0; u < args.units; ++u) {
        expand_indices<Set>(args.tile + u * unit_step_bytes, args.step_stride, args.steps, indices);
        const std::uint8_t* prepared = args.prepared;
        std::int32_t* out = args.out + u * Layout::unit_outputs;
        int left = args.positions;
        for (; left >= 2; left -= 2, prepared += 2 * args.position_stride, out += 2 * args.out_stride) {
            look_up_image<Set, 2>(indices, prepared, args.position_stride, args.offsets, args.steps, args.first, out, args.out_stride);
        }
        if (left > 0) look_up_image<Set, 1>(indices, prepared, args.position_stride, args.offsets, args.steps, args.first, out, args.out_stride);
    }
}

}  // namespace
}  // namespace onebit
