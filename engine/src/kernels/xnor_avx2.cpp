// AVX2: one look-up per four bits; xnor_scalar.cpp has the definitions.
#include <immintrin.h>

#include "kernels.h"
#include "xnor_plain.h"
#include "xnor_tiles.h"

namespace onebit {
namespace {

void pack_signs(const float* x, std::int64_t n, const float* least, const std::uint32_t* flips, std::uint64_t* words) {
    for (std::int64_t i = 0; i < n; i += xnor_inputs) {
        if (n - i < xnor_inputs) {
            *words = signs_of(x + i, n - i, least == nullptr ? nullptr : least + i, least == nullptr ? nullptr : flips + i);
            return;
        }
        std::uint64_t word = 0;
        for (std::int64_t k = 0; k < xnor_inputs; k += 8) {
            __m256 v = _mm256_loadu_ps(x + i + k), from = _mm256_setzero_ps();
            if (least != nullptr) {
                v = _mm256_xor_ps(v, _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(flips + i + k))));
                from = _mm256_loadu_ps(least + i + k);
            }
            word |= static_cast<std::uint64_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, from, _CMP_GE_OQ))) << k;
        }
        *words++ = word;
    }
}

struct Tile {
    // Sums of bytes: a step adds at most 8 to each.
    static constexpr int most_added = 31;

    template <int positions, int units, bool both>
    static void run(const std::uint64_t* tile, std::ptrdiff_t step_stride, const std::uint64_t* x, std::ptrdiff_t position_stride,
                    const std::int32_t* offsets, int steps, const XnorSums& sums) {
        int p = 0;
        for (; p + 2 <= positions; p += 2) run_some<2, both>(tile, step_stride, units, x, position_stride, offsets, steps, sums, p);
        if (p < positions) run_some<1, both>(tile, step_stride, units, x, position_stride, offsets, steps, sums, p);
    }

    // A unit is two registers of four outputs.
    template <int positions, bool both>
    static void run_some(const std::uint64_t* tile, std::ptrdiff_t step_stride, int units, const std::uint64_t* x, std::ptrdiff_t position_stride,
                         const std::int32_t* offsets, int steps, const XnorSums& sums, int first_position) {
        const __m256i nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
        const __m256i bits_of = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
        x += first_position * position_stride;
        for (int u = 0; u < units; ++u, tile += xnor_outputs) {
            __m256i counts[positions][2];
            for (int p = 0; p < positions; ++p) counts[p][0] = counts[p][1] = zero;
            for (int first = 0; first < steps; first += most_added) {
                const int end = first + most_added < steps ? first + most_added : steps;
                __m256i bytes[positions][2];
                for (int p = 0; p < positions; ++p) bytes[p][0] = bytes[p][1] = zero;
                for (int s = first; s < end; ++s) {
                    const auto* weights = reinterpret_cast<const __m256i*>(tile + s * step_stride);
                    const __m256i half[2] = {_mm256_loadu_si256(weights), _mm256_loadu_si256(weights + 1)};
                    const std::uint64_t* from = x + offsets[s];
#pragma GCC unroll 2
                    for (int p = 0; p < positions; ++p) {
                        const __m256i inputs = _mm256_set1_epi64x(static_cast<long long>(from[p * position_stride]));
#pragma GCC unroll 2
                        for (int h = 0; h < 2; ++h) {
                            const __m256i matches = both ? _mm256_and_si256(inputs, half[h]) : _mm256_xor_si256(inputs, half[h]);
                            const __m256i low = _mm256_shuffle_epi8(bits_of, _mm256_and_si256(matches, nibble));
                            const __m256i high = _mm256_shuffle_epi8(bits_of, _mm256_and_si256(_mm256_srli_epi16(matches, 4), nibble));
                            bytes[p][h] = _mm256_add_epi8(bytes[p][h], _mm256_add_epi8(low, high));
                        }
                    }
                }
                for (int p = 0; p < positions; ++p) {
                    for (int h = 0; h < 2; ++h) counts[p][h] = _mm256_add_epi64(counts[p][h], _mm256_sad_epu8(bytes[p][h], zero));
                }
            }
            for (int p = 0; p < positions; ++p) {
                // The lower halves of eight numbers of 64 bits.
                const __m256 both_halves =
                    _mm256_shuffle_ps(_mm256_castsi256_ps(counts[p][0]), _mm256_castsi256_ps(counts[p][1]), _MM_SHUFFLE(2, 0, 2, 0));
                const __m256i eight = _mm256_permute4x64_epi64(_mm256_castps_si256(both_halves), _MM_SHUFFLE(3, 1, 2, 0));
                const int position = first_position + p;
                const auto* base = reinterpret_cast<const __m256i*>(sums.base + position * sums.base_stride + u * xnor_outputs);
                auto* out = reinterpret_cast<__m256i*>(sums.out + position * sums.out_stride + u * xnor_outputs);
                const __m256i weighed = _mm256_mullo_epi32(eight, _mm256_set1_epi32(sums.factor));
                _mm256_storeu_si256(out, _mm256_add_epi32(_mm256_loadu_si256(base), weighed));
            }
        }
    }
};

}  // namespace

constinit const XnorKernels avx2_xnor = {"look-ups of four bits", pack_signs, pack_levels_plain, count_tile<Tile, false>, count_tile<Tile, true>};

}  // namespace onebit
