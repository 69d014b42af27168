// Products of bits with bits: the kernels of an instruction set for layers with signs or few levels as inputs. xnor_scalar.cpp is the
// specification.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onebit {

// Weights are in tiles of up to 4 units of 8 outputs. For each step of 64 inputs, the words of one unit's outputs come first, then the next unit's.
// A 512-bit register holds the same step of 8 outputs, and one word of inputs is broadcast to it.
constexpr int xnor_inputs = 64;
constexpr int xnor_outputs = 8;
constexpr int xnor_units = 4;
// The most positions of an image, or rows of a matrix, in one call.
constexpr int xnor_positions = 6;

// The destination of counts: out[o] = base[o] + factor * count, modulo 2^32. Strides lead from a position to the next. `base` may be `out`.
struct XnorSums {
    const std::int32_t* base;
    std::ptrdiff_t base_stride;
    std::int32_t factor;
    std::int32_t* out;
    std::ptrdiff_t out_stride;
};

struct XnorKernels {
    const char* name;

    // Bit i of the words is x[i] >= 0. With `least` it is y >= least[i], where y is x[i] with its sign bit flipped by flips[i]. NaN gives 0, and so
    // do the bits after n in the last word.
    void (*pack_signs)(const float* x, std::int64_t n, const float* least, const std::uint32_t* flips, std::uint64_t* words);
    // Writes bit j of each level to words + j * plane_stride, for each j below `bits`.
    void (*pack_levels)(const std::uint8_t* levels, std::int64_t n, int bits, std::ptrdiff_t plane_stride, std::uint64_t* words);
    // Counts, over the steps, the bits of weights ^ inputs (or &). An input's words are at x + position * position_stride + offsets[step].
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
extern const XnorKernels vpopcntdq_xnor;  // by a special instruction, which not every CPU with AVX-512 has
#elif defined(ONEBIT_ARM)
extern const XnorKernels neon_xnor;
#elif defined(ONEBIT_WASM)
extern const XnorKernels wasm_xnor;
#endif

}  // namespace onebit
