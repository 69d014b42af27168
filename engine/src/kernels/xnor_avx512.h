// The common part of both methods of counting bits with AVX-512: packing, and storing counts. xnor_scalar.cpp has the definitions.
#pragma once

#include <immintrin.h>

#include "xnor_tiles.h"

namespace onebit {
namespace {

// The lowest n bits, up to 64.
inline std::uint64_t lowest(std::int64_t n) {
    return n >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1;
}

void pack_signs(const float* x, std::int64_t n, const float* least, const std::uint32_t* flips, std::uint64_t* words) {
    for (std::int64_t i = 0; i < n; i += xnor_inputs) {
        std::uint64_t word = 0;
        for (std::int64_t k = i; k < n && k < i + xnor_inputs; k += 16) {
            const auto here = static_cast<__mmask16>(lowest(n - k < 16 ? n - k : 16));
            __m512 v = _mm512_maskz_loadu_ps(here, x + k), from = _mm512_setzero_ps();
            if (least != nullptr) {
                v = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), _mm512_maskz_loadu_epi32(here, flips + k)));
                from = _mm512_maskz_loadu_ps(here, least + k);
            }
            word |= static_cast<std::uint64_t>(_mm512_mask_cmp_ps_mask(here, v, from, _CMP_GE_OQ)) << (k - i);
        }
        *words++ = word;
    }
}

void pack_levels(const std::uint8_t* levels, std::int64_t n, int bits, std::ptrdiff_t plane_stride, std::uint64_t* words) {
    for (std::int64_t i = 0; i < n; i += xnor_inputs, ++words) {
        const __m512i v = _mm512_maskz_loadu_epi8(lowest(n - i), levels + i);
        for (int j = 0; j < bits; ++j) words[j * plane_stride] = _mm512_test_epi8_mask(v, _mm512_set1_epi8(static_cast<char>(1 << j)));
    }
}

// Stores the counts of 8 outputs, in 64 bits each.
inline void put_counts(const __m512i& counts, int position, int unit, const XnorSums& sums) {
    const __m256i eight = _mm256_mullo_epi32(_mm512_cvtepi64_epi32(counts), _mm256_set1_epi32(sums.factor));
    const auto* base = reinterpret_cast<const __m256i*>(sums.base + position * sums.base_stride + unit * xnor_outputs);
    auto* out = reinterpret_cast<__m256i*>(sums.out + position * sums.out_stride + unit * xnor_outputs);
    _mm256_storeu_si256(out, _mm256_add_epi32(_mm256_loadu_si256(base), eight));
}

// The same for two adjacent units.
inline void put_counts(const __m512i& counts, const __m512i& next, int position, int unit, const XnorSums& sums) {
    const __m512i lower_halves = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i sixteen = _mm512_mullo_epi32(_mm512_permutex2var_epi32(counts, lower_halves, next), _mm512_set1_epi32(sums.factor));
    const std::int32_t* base = sums.base + position * sums.base_stride + unit * xnor_outputs;
    _mm512_storeu_si512(sums.out + position * sums.out_stride + unit * xnor_outputs, _mm512_add_epi32(_mm512_loadu_si512(base), sixteen));
}

}  // namespace
}  // namespace onebit
