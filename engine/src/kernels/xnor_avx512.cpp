// AVX-512 without an instruction that counts bits: one look-up per four bits.
#include "xnor_avx512.h"

#include "kernels.h"

namespace onebit {
namespace {

struct Tile {
    // Sums of bytes: a step adds at most 8 to each.
    static constexpr int most_added = 31;

    template <int positions, int units, bool both>
    static void run(const std::uint64_t* tile, std::ptrdiff_t step_stride, const std::uint64_t* x, std::ptrdiff_t position_stride,
                    const std::int32_t* offsets, int steps, const XnorSums& sums) {
        // More would not stay in registers.
        constexpr int at_once = positions > 3 ? 3 : positions;
        run_some<at_once, units, both>(tile, step_stride, x, position_stride, offsets, steps, sums, 0);
        if constexpr (positions > at_once) {
            run_some<positions - at_once, units, both>(tile, step_stride, x + at_once * position_stride, position_stride, offsets, steps, sums,
                                                       at_once);
        }
    }

    template <int positions, int units, bool both>
    static void run_some(const std::uint64_t* tile, std::ptrdiff_t step_stride, const std::uint64_t* x, std::ptrdiff_t position_stride,
                         const std::int32_t* offsets, int steps, const XnorSums& sums, int first_position) {
        const __m512i nibble = _mm512_set1_epi8(15);
        const __m512i bits_of = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
        // Of three inputs: (a ^ b) & c, or a & b & c.
        constexpr int low_of = both ? 0x80 : 0x28;
        for (int u = 0; u < units; ++u, tile += xnor_outputs) {
            __m512i counts[positions];
            for (int p = 0; p < positions; ++p) counts[p] = _mm512_setzero_si512();
            for (int first = 0; first < steps; first += most_added) {
                const int end = first + most_added < steps ? first + most_added : steps;
                __m512i bytes[positions];
                for (int p = 0; p < positions; ++p) bytes[p] = _mm512_setzero_si512();
                for (int s = first; s < end; ++s) {
                    const __m512i weights = _mm512_loadu_si512(tile + s * step_stride);
                    const std::uint64_t* from = x + offsets[s];
#pragma GCC unroll 3
                    for (int p = 0; p < positions; ++p) {
                        const __m512i inputs = _mm512_set1_epi64(static_cast<long long>(from[p * position_stride]));
                        const __m512i matches = both ? _mm512_and_si512(inputs, weights) : _mm512_xor_si512(inputs, weights);
                        const __m512i low = _mm512_ternarylogic_epi64(inputs, weights, nibble, low_of);
                        const __m512i high = _mm512_and_si512(_mm512_srli_epi16(matches, 4), nibble);
                        bytes[p] = _mm512_add_epi8(bytes[p], _mm512_add_epi8(_mm512_shuffle_epi8(bits_of, low), _mm512_shuffle_epi8(bits_of, high)));
                    }
                }
                for (int p = 0; p < positions; ++p) counts[p] = _mm512_add_epi64(counts[p], _mm512_sad_epu8(bytes[p], _mm512_setzero_si512()));
            }
            for (int p = 0; p < positions; ++p) put_counts(counts[p], first_position + p, u, sums);
        }
    }
};

}  // namespace

constinit const XnorKernels avx512_xnor = {"look-ups of four bits", pack_signs, pack_levels, count_tile<Tile, false>, count_tile<Tile, true>};

}  // namespace onebit
