// Products of bits with bits: what an instruction set offers to layers whose inputs are signs or a few levels. xnor_scalar.cpp is the
// specification.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onebit {

// Weights lie in tiles of up to 4 units of 8 outputs: for each step, which is 64 inputs, the words of one unit's outputs, then the next unit's. With
// 512 bits a register is the same step of 8 outputs, to which one word of inputs is broadcast.
constexpr int xnor_inputs = 64;
constexpr int xnor_outputs = 8;
constexpr int xnor_units = 4;
// Positions of an image, or rows of a matrix, that one call takes at most.
constexpr int xnor_positions = 6;

// Where counts go: out[o] = base[o] + factor * count, modulo 2^32; strides lead from a position to the next. `base` may be `out`.
struct XnorSums {
    const std::int32_t* base;
    std::ptrdiff_t base_stride;
    std::int32_t factor;
    std::int32_t* out;
    std::ptrdiff_t out_stride;
};

struct XnorKernels {
    const char* name;

    // Bit i of the words: x[i] >= 0; with `least`, x[i] with its sign bit turned by flips[i] >= least[i]. NaN is 0, and so are the last word's
    // bits behind n.
    void (*pack_signs)(const float* x, std::int64_t n, const float* least, const std::uint32_t* flips, std::uint64_t* words);
    // Bit j of each level to words + j * plane_stride, for each j below `bits`.
    void (*pack_levels)(const std::uint8_t* levels, std::int64_t n, int bits, std::ptrdiff_t plane_stride, std::uint64_t* words);
    // Count, over the steps, the bits of weights ^ inputs (or &); an input's words stand at x + position * position_stride + offsets[step].
    // `step_stride`: words from a step of the tile to the next.
    void (*product_xor)(const std::uint64_t* tile, std::ptrdiff_t step_stride, int units, const std::uint64_t* x, std::ptrdiff_t position_stride,
                        int positions, const std::int32_t* offsets, int steps, const XnorSums& sums);
    void (*product_and)(const std::uint64_t* tile, std::ptrdiff_t step_stride, int units, const std::uint64_t* x, std::ptrdiff_t position_stride,
                        int positions, const std::int32_t* offsets, int steps, const XnorSums& sums);
};

extern const XnorKernels scalar_xnor;
#if defined(ONEBIT_X86)
extern const XnorKernels avx2_xnor;
extern const XnorKernels avx512_xnor;     // by look-ups
extern const XnorKernels vpopcntdq_xnor;  // by its own instruction, which not every CPU with AVX-512 has
#elif defined(ONEBIT_ARM)
extern const XnorKernels neon_xnor;
#endif

}  // namespace onebit
