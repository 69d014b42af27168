// Products of bits by look-ups with AVX2, a part of avx2.cpp. Four bits of each of 32 outputs select, by vpshufb, one of the 16 sums of four inputs.
// A sum takes two look-ups, because vpshufb gives bytes: a low byte of 5 bits, and a high byte.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "bits.h"
#include "kernels.h"

namespace onebit {
namespace {

// 32 bytes hold 8 inputs of 32 outputs, and a step has two of these. Each 4 bytes belong to outputs 8 apart, so that widening their sums
// twice, without moving them, puts them in order.
using Layout = Columns<8, 32, 4>;
constexpr int step_groups = Layout::step_inputs / 4;

// Sums of all subsets of 4 inputs lie between -512 and 508. They are stored as 32 * high + low - 512 in two tables of 16 bytes. For 8 inputs, the low
// bytes of the first four and of the last four come first, then the high bytes.
constexpr int tables_of_step = 128;
constexpr int low_bits = 5, bias = 512;
// The number of look-ups that can be added in bytes (8 * 31), and the number of steps with joined sums that fit in 16 bits.
constexpr int groups_of_bytes = 8, some_steps = groups_of_bytes / step_groups, steps_of_words = 16;
static_assert(steps_of_words * Layout::step_inputs * 128 <= 32768 && groups_of_bytes % step_groups == 0);

// For the tables' first eight entries, in pairs of bytes: which of two inputs each contains. The last eight also contain the fourth input.
constexpr struct SubsetMasks {
    std::uint8_t first_two[32], third[32], fourth[32];
} subset_masks = [] {
    SubsetMasks m{};
    for (int i = 0; i < 16; ++i) {
        m.first_two[2 * i] = i & 1, m.first_two[2 * i + 1] = i >> 1 & 1;
        m.third[2 * i] = i >> 2 & 1;
        m.fourth[2 * i + 1] = 1;
    }
    return m;
}();

// The tables of 8 inputs, 64 bytes. `x`: the 16 bytes with the inputs in both halves of a register, at `first` and `second`.
inline void eight_sums(__m256i x, const __m256i& pairs, std::uint8_t* tables) {
    const auto mask = [](const std::uint8_t* bytes) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)); };
    // The first half of a register is for the first four inputs, the second for the last four.
    const __m256i two = _mm256_shuffle_epi8(x, pairs), next = _mm256_shuffle_epi8(x, _mm256_add_epi8(pairs, _mm256_set1_epi8(2)));
    const __m256i three =
        _mm256_add_epi16(_mm256_maddubs_epi16(mask(subset_masks.first_two), two), _mm256_maddubs_epi16(mask(subset_masks.third), next));
    const __m256i without = _mm256_add_epi16(three, _mm256_set1_epi16(bias));
    const __m256i with = _mm256_add_epi16(without, _mm256_maddubs_epi16(mask(subset_masks.fourth), next));
    const __m256i low = _mm256_set1_epi16((1 << low_bits) - 1);
    const __m256i lows = _mm256_packus_epi16(_mm256_and_si256(without, low), _mm256_and_si256(with, low));
    const __m256i highs = _mm256_packus_epi16(_mm256_srli_epi16(without, low_bits), _mm256_srli_epi16(with, low_bits));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(tables), lows);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(tables + 32), highs);
}

void prepare_pixels(const std::int8_t* x, std::ptrdiff_t stride, std::int64_t pixels, std::uint8_t* prepared) {
    const auto pairs_at = [](int first, int second) {
        return _mm256_set_m128i(_mm_set1_epi16(static_cast<short>(second | (second + 1) << 8)),
                                _mm_set1_epi16(static_cast<short>(first | (first + 1) << 8)));
    };
    const __m256i of_first = pairs_at(0, 4), of_second = pairs_at(8, 12);
    for (std::int64_t i = 0; i < pixels; ++i, x += stride, prepared += tables_of_step) {
        const __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
        eight_sums(all, of_first, prepared);
        eight_sums(all, of_second, prepared + 64);
    }
}

void prepare_bits(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared) {
    prepare_pixels(x, Layout::step_inputs, steps, prepared);
}

inline __m256i both_lanes(const std::uint8_t* table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}

// The place of a group's table of low bytes within its step. The table of high bytes is 32 bytes after it.
constexpr int table_of(int group) {
    return group / 2 * 64 + group % 2 * 16;
}

// Sums of 32 outputs in 16 bits, mod 2^16: of low and high bytes, with those of the next output times 256, and of every second output alone.
// Shuffles would separate two outputs directly, but look-ups keep the shuffle units busy.
struct WordSums {
    __m256i low, high, odd;

    // Sums of this many steps. Their start values subtract the bias of the tables.
    [[gnu::always_inline]] void begin(std::int64_t steps) {
        const auto taken_off = static_cast<short>(-steps * step_groups * bias);
        low = _mm256_set1_epi16(static_cast<short>(taken_off * 257));
        odd = _mm256_set1_epi16(taken_off);
        high = _mm256_setzero_si256();
    }

    // The sums of a further plane of bits, over this many steps, are added next. `doubled`: what is there counts twice.
    [[gnu::always_inline]] void add_plane(bool doubled, int steps) {
        const __m128i by = _mm_cvtsi32_si128(doubled ? 1 : 0);
        const auto taken_off = static_cast<short>(-steps * step_groups * bias);
        low = _mm256_add_epi16(_mm256_sll_epi16(low, by), _mm256_set1_epi16(static_cast<short>(taken_off * 257)));
        odd = _mm256_add_epi16(_mm256_sll_epi16(odd, by), _mm256_set1_epi16(taken_off));
        high = _mm256_sll_epi16(high, by);
    }

    [[gnu::always_inline]] void add(const __m256i& lows, const __m256i& highs) {
        const __m256i second = _mm256_set1_epi16(1 << 8), second_high = _mm256_set1_epi16((1 << low_bits) << 8);
        low = _mm256_add_epi16(low, lows);
        high = _mm256_add_epi16(high, highs);
        odd = _mm256_add_epi16(odd, _mm256_add_epi16(_mm256_maddubs_epi16(lows, second), _mm256_maddubs_epi16(highs, second_high)));
    }

    // The sums of every first output of two; `odd` has those of the second.
    [[gnu::always_inline]] __m256i even() const {
        return _mm256_sub_epi16(_mm256_add_epi16(low, _mm256_slli_epi16(high, low_bits)), _mm256_slli_epi16(odd, 8));
    }

    // Converts to sums in 32 bits.
    [[gnu::always_inline]] void put(bool first, std::int32_t* out) const {
        const __m256i firsts = even();
        const __m256i lower = _mm256_set1_epi32(1), upper = _mm256_set1_epi32(1 << 16);
        const auto eight = [&](int o, const __m256i& sums) {
            auto* to = reinterpret_cast<__m256i*>(out + o);
            _mm256_storeu_si256(to, first ? sums : _mm256_add_epi32(sums, _mm256_loadu_si256(to)));
        };
        eight(0, _mm256_madd_epi16(firsts, lower));
        eight(8, _mm256_madd_epi16(odd, lower));
        eight(16, _mm256_madd_epi16(firsts, upper));
        eight(24, _mm256_madd_epi16(odd, upper));
    }
};

// Bits in the layout of a tile, and the indices of a group of four.
struct PackedBits {
    const std::uint8_t* at;
    std::ptrdiff_t step_stride;

    template <int units>
    [[gnu::always_inline]] __m256i index(int group, int unit) const {
        constexpr std::ptrdiff_t ahead = 2048;  // as in avx512.cpp
        const std::uint8_t* step = at + group / step_groups * step_stride + unit * unit_step_bytes;
        if (group % step_groups == 0) _mm_prefetch(reinterpret_cast<const char*>(step + ahead), _MM_HINT_T0);
        __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(step + group % step_groups / 2 * 32));
        if (group % 2 == 1) bits = _mm256_srli_epi16(bits, 4);
        return _mm256_and_si256(bits, _mm256_set1_epi8(15));
    }
};

// Separate indices, a byte per four bits: [step][group][unit][32 outputs].
struct Indices {
    const std::uint8_t* at;

    template <int units>
    [[gnu::always_inline]] __m256i index(int group, int unit) const {
        return _mm256_load_si256(reinterpret_cast<const __m256i*>(at + (group * units + unit) * 32));
    }
};

// Adds bytes immediately. The order does not change the sum, but compilers would first add the looked-up values to each other, and there are too few
// registers for that.
[[gnu::always_inline]] inline void add_here(__m256i& sum, const __m256i& bytes) {
    sum = _mm256_add_epi8(sum, bytes);
    asm("" : "+x"(sum));
}

// Some steps, at most as many as fit in bytes. An index is loaded once for all positions, a table once for all units. Twelve registers of sums, two
// of indices and two for looked-up values use all registers.
template <int positions, int units, int steps, class Bits>
[[gnu::always_inline]] inline void look_up_steps(const Bits& bits, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                                                 const std::int32_t* offsets, WordSums (&sums)[positions][units]) {
    static_assert(steps * step_groups <= groups_of_bytes);
    __m256i low[positions][units], high[positions][units];
#pragma GCC unroll 8
    for (int group = 0; group < steps * step_groups; ++group) {
        __m256i index[units];
#pragma GCC unroll 4
        for (int u = 0; u < units; ++u) index[u] = bits.template index<units>(group, u);
        const std::uint8_t* tables = prepared + offsets[group / step_groups] + table_of(group % step_groups);
#pragma GCC unroll 6
        for (int p = 0; p < positions; ++p) {
            const auto add = [&](const __m256i& table, __m256i(&bytes)[units]) __attribute__((always_inline)) {
#pragma GCC unroll 4
                for (int u = 0; u < units; ++u) {
                    if (group == 0) {
                        bytes[u] = _mm256_shuffle_epi8(table, index[u]);
                    } else {
                        add_here(bytes[u], _mm256_shuffle_epi8(table, index[u]));
                    }
                }
            };
            add(both_lanes(tables + p * position_stride), low[p]);
            add(both_lanes(tables + p * position_stride + 32), high[p]);
        }
    }
#pragma GCC unroll 6
    for (int p = 0; p < positions; ++p) {
#pragma GCC unroll 4
        for (int u = 0; u < units; ++u) sums[p][u].add(low[p][u], high[p][u]);
    }
}

// One row of inputs times `units` of 32 outputs.
template <int units>
void look_up(const std::uint8_t* w, std::ptrdiff_t step_stride, const std::uint8_t* tables, std::int64_t steps, bool add, std::int32_t* out) {
    constexpr std::int32_t offsets[] = {0, tables_of_step};
    for (std::int64_t first = 0; first < steps; first += steps_of_words) {
        std::int64_t here = first + steps_of_words < steps ? steps_of_words : steps - first;
        WordSums sums[1][units];
        for (auto& unit : sums[0]) unit.begin(here);
        for (; here >= some_steps; here -= some_steps, w += some_steps * step_stride, tables += some_steps * tables_of_step) {
            look_up_steps<1, units, some_steps>(PackedBits{w, step_stride}, tables, 0, offsets, sums);
            asm volatile("" : : "r"(sums) : "memory");  // these stay in memory: the registers are for bytes
        }
        if (here > 0) look_up_steps<1, units, 1>(PackedBits{w, step_stride}, tables, 0, offsets, sums);
        for (int u = 0; u < units; ++u) sums[0][u].put(first == 0 && !add, out + u * 32);
    }
}

void product_bits(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps, bool add,
                  std::int32_t* out) {
    switch (count) {
        case 1: return look_up<1>(units, step_stride, prepared, steps, add, out);
        case 2: return look_up<2>(units, step_stride, prepared, steps, add, out);
        case 3: return look_up<3>(units, step_stride, prepared, steps, add, out);
        default: return look_up<4>(units, step_stride, prepared, steps, add, out);
    }
}

// The bits of a tile as indices.
template <int units>
void expand_indices(const std::uint8_t* tile, std::ptrdiff_t step_stride, int steps, std::uint8_t* indices) {
    const __m256i nibble = _mm256_set1_epi8(15);
    const auto store = [&](const __m256i& four) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(indices), _mm256_and_si256(four, nibble));
        indices += 32;
    };
    for (int s = 0; s < steps; ++s, tile += step_stride) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            __m256i bits[units];
#pragma GCC unroll 2
            for (int u = 0; u < units; ++u) bits[u] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + u * unit_step_bytes + half * 32));
#pragma GCC unroll 2
            for (int u = 0; u < units; ++u) store(bits[u]);
#pragma GCC unroll 2
            for (int u = 0; u < units; ++u) store(_mm256_srli_epi16(bits[u], 4));
        }
    }
}

template <int positions, int units>
[[gnu::noinline]] void look_up_image(const std::uint8_t* indices, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                                     const std::int32_t* offsets, int steps, bool first, std::int32_t* out, std::ptrdiff_t out_stride) {
    WordSums sums[positions][units];
    for (auto& position : sums) {
        for (auto& unit : position) unit.begin(steps);
    }
    for (; steps >= some_steps; steps -= some_steps, offsets += some_steps, indices += some_steps * step_groups * units * 32) {
        look_up_steps<positions, units, some_steps>(Indices{indices}, prepared, position_stride, offsets, sums);
        asm volatile("" : : "r"(sums) : "memory");  // as above
    }
    if (steps > 0) look_up_steps<positions, units, 1>(Indices{indices}, prepared, position_stride, offsets, sums);
    asm volatile("" : : "r"(sums) : "memory");
    for (int p = 0; p < positions; ++p) {
        for (int u = 0; u < units; ++u) sums[p][u].put(first, out + p * out_stride + u * 32);
    }
}

// Calls with as many positions or rows at once as the registers allow, and with how many were done before. A rest is divided into two parts for
// pairs of units if one part would have a single one.
template <int units, class Run>
[[gnu::always_inline]] inline void in_parts(int count, const Run& run) {
    constexpr int most = 6 / units;
    for (int done = 0; done < count;) {
        const int left = count - done, here = left == most + 1 ? most - 1 : left < most ? left : most;
        switch (here) {
            case 1: run(std::integral_constant<int, 1>{}, done); break;
            case 2: run(std::integral_constant<int, 2>{}, done); break;
            case 3: run(std::integral_constant<int, 3>{}, done); break;
            case 4: run(std::integral_constant<int, units == 1 ? 4 : 1>{}, done); break;
            case 5: run(std::integral_constant<int, units == 1 ? 5 : 1>{}, done); break;
            default: run(std::integral_constant<int, most>{}, done);
        }
        done += here;
    }
}

template <int units>
void look_up_positions(const std::uint8_t* tile, std::ptrdiff_t step_stride, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                       int positions, const std::int32_t* offsets, int steps, bool first, std::int32_t* out, std::ptrdiff_t out_stride) {
    alignas(32) std::uint8_t indices[image_steps * step_groups * units * 32];
    expand_indices<units>(tile, step_stride, steps, indices);
    in_parts<units>(positions, [&](auto count, int done) {
        look_up_image<decltype(count)::value, units>(indices, prepared + done * position_stride, position_stride, offsets, steps, first,
                                                     out + done * out_stride, out_stride);
    });
}

void product_image(const ConvArgs& args) {
    const auto& [tile, step_stride, units, prepared, position_stride, positions, offsets, steps, first, out, out_stride] = args;
    static_assert(image_units == 2 && image_steps <= steps_of_words);
    if (units == 1) return look_up_positions<1>(tile, step_stride, prepared, position_stride, positions, offsets, steps, first, out, out_stride);
    look_up_positions<2>(tile, step_stride, prepared, position_stride, positions, offsets, steps, first, out, out_stride);
}

}  // namespace
}  // namespace onebit
