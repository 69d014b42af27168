// The specification of the products of bits with bits, in plain C++.
#include <bit>

#include "xnor_plain.h"

namespace onebit {
namespace {

template <class Match>
void count(const std::uint64_t* tile, std::ptrdiff_t step_stride, int units, const std::uint64_t* x, std::ptrdiff_t position_stride, int positions,
           const std::int32_t* offsets, int steps, const XnorSums& sums, const Match& match) {
    for (int p = 0; p < positions; ++p, x += position_stride) {
        for (int o = 0; o < units * xnor_outputs; ++o) {
            std::uint32_t bits = 0;
            for (int s = 0; s < steps; ++s) bits += static_cast<std::uint32_t>(std::popcount(match(tile[s * step_stride + o], x[offsets[s]])));
            const auto base = static_cast<std::uint32_t>(sums.base[p * sums.base_stride + o]);
            sums.out[p * sums.out_stride + o] = static_cast<std::int32_t>(base + static_cast<std::uint32_t>(sums.factor) * bits);
        }
    }
}

void product_xor(const std::uint64_t* tile, std::ptrdiff_t step_stride, int units, const std::uint64_t* x, std::ptrdiff_t position_stride,
                 int positions, const std::int32_t* offsets, int steps, const XnorSums& sums) {
    const auto match = [](std::uint64_t a, std::uint64_t b) { return a ^ b; };
    count(tile, step_stride, units, x, position_stride, positions, offsets, steps, sums, match);
}

void product_and(const std::uint64_t* tile, std::ptrdiff_t step_stride, int units, const std::uint64_t* x, std::ptrdiff_t position_stride,
                 int positions, const std::int32_t* offsets, int steps, const XnorSums& sums) {
    const auto match = [](std::uint64_t a, std::uint64_t b) { return a & b; };
    count(tile, step_stride, units, x, position_stride, positions, offsets, steps, sums, match);
}

}  // namespace

constinit const XnorKernels scalar_xnor = {"plain C++", pack_signs_plain, pack_levels_plain, product_xor, product_and};

}  // namespace onebit
