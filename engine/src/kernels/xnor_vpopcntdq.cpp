// AVX-512 with VPOPCNTDQ: three instructions for 512 products.
#include "kernels.h"
#include "xnor_avx512.h"

namespace onebit {
namespace {

struct Tile {
    template <int positions, int units, bool both>
    static void run(const std::uint64_t* tile, std::ptrdiff_t step_stride, const std::uint64_t* x, std::ptrdiff_t position_stride,
                    const std::int32_t* offsets, int steps, const XnorSums& sums) {
        __m512i counts[positions][units];
        for (int p = 0; p < positions; ++p) {
            for (int u = 0; u < units; ++u) counts[p][u] = _mm512_setzero_si512();
        }
        for (int s = 0; s < steps; ++s, tile += step_stride) {
            const std::uint64_t* from = x + offsets[s];
            __m512i weights[units];
#pragma GCC unroll 4
            for (int u = 0; u < units; ++u) weights[u] = _mm512_loadu_si512(tile + u * xnor_outputs);
#pragma GCC unroll 6
            for (int p = 0; p < positions; ++p) {
                const __m512i inputs = _mm512_set1_epi64(static_cast<long long>(from[p * position_stride]));
#pragma GCC unroll 4
                for (int u = 0; u < units; ++u) {
                    const __m512i matches = both ? _mm512_and_si512(inputs, weights[u]) : _mm512_xor_si512(inputs, weights[u]);
                    counts[p][u] = _mm512_add_epi64(counts[p][u], _mm512_popcnt_epi64(matches));
                }
            }
        }
#pragma GCC unroll 6
        for (int p = 0; p < positions; ++p) {
            if constexpr (units == 1) {
                put_counts(counts[p][0], p, 0, sums);
            } else {
#pragma GCC unroll 2
                for (int u = 0; u < units; u += 2) put_counts(counts[p][u], counts[p][u + 1], p, u, sums);
            }
        }
    }
};

}  // namespace

constinit const XnorKernels vpopcntdq_xnor = {"VPOPCNTDQ", pack_signs, pack_levels, count_tile<Tile, false>, count_tile<Tile, true>};

}  // namespace onebit
