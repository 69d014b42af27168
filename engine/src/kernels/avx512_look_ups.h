// Products of bits by look-ups with AVX-512, a part of avx512.cpp: the bits of 6, 5 and 5 inputs of each of 32 outputs select, by vpermt2w and
// vpermw, sums of their subsets.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "bits.h"
#include "kernels.h"

namespace onebit {
namespace {

using Layout = Columns<16>;

// Sums of all subsets of 6, 5 and 5 inputs: 64 + 32 + 32 numbers of 16 bits.
constexpr int tables_of_step = 128;
// Tables of 8 KB.
constexpr std::int64_t chunk_steps = 32;

// For each entry of a table, in pairs of bytes: which of two inputs it contains, by bit `first` of its index and the bit above it, if any.
constexpr struct SubsetMasks {
    std::uint8_t low[64], middle[64], fifth[64], fifth_and_sixth[64], fifth_second[64];
} subset_masks = [] {
    SubsetMasks m{};
    for (int i = 0; i < 32; ++i) {
        const auto bit = [i](int b) { return static_cast<std::uint8_t>(i >> b & 1); };
        m.low[2 * i] = bit(0), m.low[2 * i + 1] = bit(1);
        m.middle[2 * i] = bit(2), m.middle[2 * i + 1] = bit(3);
        m.fifth[2 * i] = bit(4);
        m.fifth_and_sixth[2 * i] = bit(4), m.fifth_and_sixth[2 * i + 1] = 1;
        m.fifth_second[2 * i + 1] = bit(4);
    }
    return m;
}();

// The prepared data of a step: the sums of all subsets of inputs 0 to 5, 6 to 10 and 11 to 15. Two inputs at a time are multiplied by 1 or 0,
// depending on whether they are in the subset.
void prepare_pixels(const std::int8_t* x, std::ptrdiff_t stride, std::int64_t pixels, std::uint8_t* prepared) {
    const __m512i low = _mm512_loadu_si512(subset_masks.low), middle = _mm512_loadu_si512(subset_masks.middle);
    const __m512i fifth = _mm512_loadu_si512(subset_masks.fifth), second = _mm512_loadu_si512(subset_masks.fifth_second);
    const __m512i both = _mm512_loadu_si512(subset_masks.fifth_and_sixth);
    for (std::int64_t i = 0; i < pixels; ++i, x += stride, prepared += tables_of_step * 2) {
        const auto pair = [x](int first) {
            std::int16_t two;
            std::memcpy(&two, x + first, 2);
            return _mm512_set1_epi16(two);
        };
        const __m512i four = _mm512_add_epi16(_mm512_maddubs_epi16(low, pair(0)), _mm512_maddubs_epi16(middle, pair(2)));
        const __m512i last = pair(4);
        _mm512_storeu_si512(prepared, _mm512_add_epi16(four, _mm512_maddubs_epi16(fifth, last)));
        _mm512_storeu_si512(prepared + 64, _mm512_add_epi16(four, _mm512_maddubs_epi16(both, last)));
        const auto five = [&](int a, int b, int c, const __m512i& mask) {
            const __m512i sums = _mm512_add_epi16(_mm512_maddubs_epi16(low, pair(a)), _mm512_maddubs_epi16(middle, pair(b)));
            return _mm512_add_epi16(sums, _mm512_maddubs_epi16(mask, pair(c)));
        };
        _mm512_storeu_si512(prepared + 128, five(6, 8, 10, fifth));
        _mm512_storeu_si512(prepared + 192, five(11, 13, 14, second));
    }
}

void prepare_bits(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared) {
    prepare_pixels(x, Layout::step_inputs, steps, prepared);
}

// The distance of prefetches into the second-level cache, in bytes. With less, memory answers too late. With more, or into the first level,
// the prefetched data evict needed data.
constexpr std::ptrdiff_t ahead = 12288;

// One step of some units. Look-ups of 6, 5 and 5 bits give the sums of 16 products: eight instructions for 512 products, compared with sixteen for
// multiplying. A sum of 16 steps fits in 16 bits (16 * 16 * 128 = 2^15).
template <int units>
[[gnu::always_inline]] inline void look_up_step(const std::uint8_t* w, const std::uint8_t* tables, __m512i (&sums)[units]) {
    const __m512i six_low = _mm512_loadu_si512(tables), six_high = _mm512_loadu_si512(tables + 64);
    const __m512i five = _mm512_loadu_si512(tables + 128), last = _mm512_loadu_si512(tables + 192);
#pragma GCC unroll 8
    for (int u = 0; u < units; ++u) {
        const __m512i bits = _mm512_loadu_si512(w + u * unit_step_bytes);
        _mm_prefetch(reinterpret_cast<const char*>(w + u * unit_step_bytes + ahead), _MM_HINT_T1);
        // The look-ups use the lowest bits of each index and ignore the others.
        const __m512i a = _mm512_permutex2var_epi16(six_low, bits, six_high);
        const __m512i b = _mm512_permutexvar_epi16(_mm512_srli_epi16(bits, 6), five);
        const __m512i c = _mm512_permutexvar_epi16(_mm512_srli_epi16(bits, 11), last);
        sums[u] = _mm512_add_epi16(sums[u], _mm512_add_epi16(a, _mm512_add_epi16(b, c)));
    }
}

template <int units>
void look_up(const std::uint8_t* w, std::ptrdiff_t step_stride, const std::uint8_t* tables, std::int64_t steps, bool add, std::int32_t* out) {
    __m512i totals[units][2];
    for (int u = 0; u < units; ++u) {
        totals[u][0] = add ? _mm512_loadu_si512(out + u * 32) : _mm512_setzero_si512();
        totals[u][1] = add ? _mm512_loadu_si512(out + u * 32 + 16) : _mm512_setzero_si512();
    }
    for (std::int64_t first = 0; first < steps; first += 16) {
        const std::int64_t end = first + 16 < steps ? first + 16 : steps;
        __m512i sums[units];
        for (int u = 0; u < units; ++u) sums[u] = _mm512_setzero_si512();
        for (std::int64_t s = first; s < end; ++s, w += step_stride, tables += tables_of_step * 2) {
            look_up_step<units>(w, tables, sums);
        }
#pragma GCC unroll 8
        for (int u = 0; u < units; ++u) {
            totals[u][0] = _mm512_add_epi32(totals[u][0], _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sums[u])));
            totals[u][1] = _mm512_add_epi32(totals[u][1], _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sums[u], 1)));
        }
    }
    for (int u = 0; u < units; ++u) {
        _mm512_storeu_si512(out + u * 32, totals[u][0]);
        _mm512_storeu_si512(out + u * 32 + 16, totals[u][1]);
    }
}

void product_bits(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps, bool add,
                  std::int32_t* out) {
    switch (count) {
        case 1: return look_up<1>(units, step_stride, prepared, steps, add, out);
        case 2: return look_up<2>(units, step_stride, prepared, steps, add, out);
        case 3: return look_up<3>(units, step_stride, prepared, steps, add, out);
        case 4: return look_up<4>(units, step_stride, prepared, steps, add, out);
        case 5: return look_up<5>(units, step_stride, prepared, steps, add, out);
        case 6: return look_up<6>(units, step_stride, prepared, steps, add, out);
        case 7: return look_up<7>(units, step_stride, prepared, steps, add, out);
        default: return look_up<8>(units, step_stride, prepared, steps, add, out);
    }
}

// A step of some positions times some units: all positions share the shifted bits, and all units share the loaded tables.
template <int positions, int units>
[[gnu::always_inline]] inline void look_up_shared_step(const std::uint8_t* w, const std::uint8_t* tables, std::ptrdiff_t position_stride,
                                                       __m512i (&sums)[positions][units]) {
    __m512i bits[units], seventh[units], twelfth[units];
#pragma GCC unroll 2
    for (int u = 0; u < units; ++u) {
        bits[u] = _mm512_loadu_si512(w + u * unit_step_bytes);
        seventh[u] = _mm512_srli_epi16(bits[u], 6);
        twelfth[u] = _mm512_srli_epi16(bits[u], 11);
    }
#pragma GCC unroll 6
    for (int p = 0; p < positions; ++p, tables += position_stride) {
        __m512i six_low = _mm512_loadu_si512(tables), six_high = _mm512_loadu_si512(tables + 64);
        __m512i five = _mm512_loadu_si512(tables + 128), last = _mm512_loadu_si512(tables + 192);
        // The compiler would load them again for each unit, and loads would take longer than look-ups.
        if constexpr (units > 1) asm("" : "+v"(six_low), "+v"(six_high), "+v"(five), "+v"(last));
#pragma GCC unroll 2
        for (int u = 0; u < units; ++u) {
            const __m512i a = _mm512_permutex2var_epi16(six_low, bits[u], six_high);
            const __m512i b = _mm512_permutexvar_epi16(seventh[u], five);
            const __m512i c = _mm512_permutexvar_epi16(twelfth[u], last);
            sums[p][u] = _mm512_add_epi16(sums[p][u], _mm512_add_epi16(a, _mm512_add_epi16(b, c)));
        }
    }
}

// Tables of some positions times some units.
template <int positions, int units>
void look_up_image(const std::uint8_t* tile, std::ptrdiff_t step_stride, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                   const std::int32_t* offsets, int steps, bool first, std::int32_t* out, std::ptrdiff_t out_stride) {
    __m512i sums[positions][units];
    for (int p = 0; p < positions; ++p) {
        for (int u = 0; u < units; ++u) sums[p][u] = _mm512_setzero_si512();
    }
    for (int s = 0; s < steps; ++s, tile += step_stride) {
        look_up_shared_step<positions, units>(tile, prepared + offsets[s], position_stride, sums);
    }
#pragma GCC unroll 6
    for (int p = 0; p < positions; ++p) {
#pragma GCC unroll 2
        for (int u = 0; u < units; ++u) {
            std::int32_t* to = out + p * out_stride + u * 32;
            __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sums[p][u]));
            __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sums[p][u], 1));
            if (!first) {
                low = _mm512_add_epi32(low, _mm512_loadu_si512(to));
                high = _mm512_add_epi32(high, _mm512_loadu_si512(to + 16));
            }
            _mm512_storeu_si512(to, low);
            _mm512_storeu_si512(to + 16, high);
        }
    }
}

template <int units>
void look_up_shared_step(const std::uint8_t* tile, std::ptrdiff_t step_stride, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                         int positions, const std::int32_t* offsets, int steps, bool first, std::int32_t* out, std::ptrdiff_t out_stride) {
    switch (positions) {
        case 1: return look_up_image<1, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        case 2: return look_up_image<2, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        case 3: return look_up_image<3, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        case 4: return look_up_image<4, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        case 5: return look_up_image<5, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        default: return look_up_image<6, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
    }
}

void product_image(const ConvArgs& args) {
    const auto& [tile, step_stride, units, prepared, position_stride, positions, offsets, steps, first, out, out_stride] = args;
    static_assert(image_units == 2 && image_positions == 6 && image_steps * 16 * 128 <= 32768);
    if (units == 1) return look_up_shared_step<1>(tile, step_stride, prepared, position_stride, positions, offsets, steps, first, out, out_stride);
    look_up_shared_step<2>(tile, step_stride, prepared, position_stride, positions, offsets, steps, first, out, out_stride);
}

}  // namespace
}  // namespace onebit
