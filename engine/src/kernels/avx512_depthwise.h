// Depthwise convolutions of bytes with AVX-512: two taps of 64 channels are multiplied and added in 16 bits at once. A part of avx512.cpp.
// depthwise.h explains the sums, which are the same.
#pragma once

#include <immintrin.h>

#include "depthwise.h"

namespace onebit {
namespace {

constexpr int pairs_in_16_bits = taps_in_16_bits / 2;

// The weights of two taps next to each other, as what is loaded of the pixels will be: of the lower and of the upper 8 of each 16 channels.
struct TapPair {
    __m512i low, high;
};

// The sums of some channels of all positions. `fixed_pairs`: the pairs of taps, or 0 for any number.
template <int fixed_pairs>
void depthwise_channels(const std::uint8_t* x, const DepthwiseArgs& a, const TapPair* weights, int any_pairs, __mmask64 here, std::int32_t* out) {
    const int pairs = fixed_pairs != 0 ? fixed_pairs : any_pairs;
    const __m512i first_half = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), second_half = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    const auto quarter = [&](int i) { return static_cast<__mmask16>(here >> (16 * i)); };
    for (std::int64_t p = 0; p < a.positions; ++p, x += a.step, out += a.out_stride) {
        __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
#pragma GCC unroll 5
        for (int t = 0; t < pairs; ++t) {
            // The last of an odd number of taps is a pair with itself, whose second weight is 0.
            const int next = 2 * t + 1 < a.taps ? 2 * t + 1 : 2 * t;
            const __m512i first = _mm512_maskz_loadu_epi8(here, x + a.offsets[2 * t]), second = _mm512_maskz_loadu_epi8(here, x + a.offsets[next]);
            low = _mm512_add_epi16(low, _mm512_maddubs_epi16(_mm512_unpacklo_epi8(first, second), weights[t].low));
            high = _mm512_add_epi16(high, _mm512_maddubs_epi16(_mm512_unpackhi_epi8(first, second), weights[t].high));
        }
        const __m512i sums[2] = {_mm512_permutex2var_epi64(low, first_half, high), _mm512_permutex2var_epi64(low, second_half, high)};
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            if (quarter(i) == 0) break;
            const __m256i half = i % 2 == 0 ? _mm512_castsi512_si256(sums[i / 2]) : _mm512_extracti64x4_epi64(sums[i / 2], 1);
            _mm512_mask_storeu_epi32(out + 16 * i, quarter(i), _mm512_cvtepi16_epi32(half));
        }
    }
}

void depthwise_pairs(const std::uint8_t* x, const DepthwiseArgs& a, const std::int8_t* weights, std::int32_t* out) {
    if (a.taps > taps_in_16_bits) return depthwise_int8(x, a, weights, out);
    const int pairs = (a.taps + 1) / 2;
    TapPair pair[pairs_in_16_bits];
    for (int c = 0; c < a.channels; c += 64) {
        const __mmask64 here = a.channels - c < 64 ? (std::uint64_t{1} << (a.channels - c)) - 1 : ~std::uint64_t{0};
        for (int t = 0; t < pairs; ++t) {
            const std::int8_t* from = weights + std::ptrdiff_t{2} * t * a.channels + c;
            const __m512i first = _mm512_maskz_loadu_epi8(here, from);
            const __m512i second = 2 * t + 1 < a.taps ? _mm512_maskz_loadu_epi8(here, from + a.channels) : _mm512_setzero_si512();
            pair[t] = {_mm512_unpacklo_epi8(first, second), _mm512_unpackhi_epi8(first, second)};
        }
        const auto channels = pairs == 5 ? depthwise_channels<5> : depthwise_channels<0>;
        channels(x + c, a, pair, pairs, here, out + c);
    }
}

}  // namespace
}  // namespace onebit
