// The kernels of an instruction set, one table of functions per set. scalar.cpp is the specification.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tiles.h"

namespace onebit {

// CPU features, from the processor and the operating system, one bit each, in the order of features.def.
enum class FeatureIndex {
#define FEATURE(name, text, word, bit, registers) name,
#include "features.def"
#undef FEATURE
};
enum Feature : std::uint32_t {
#define FEATURE(name, text, word, bit, registers) feature_##name = 1u << static_cast<int>(FeatureIndex::name),
#include "features.def"
#undef FEATURE
};

// Outputs are computed in blocks of this many; a panel holds the weights of 1 to 4 blocks.
constexpr int block_outputs = 16;
constexpr int max_blocks = 4;
// The most rows (positions of an image, or rows of a matrix) in one call of a product with a panel.
constexpr int max_rows = 32;
// The adjacent inputs in a panel for 8-bit products; 1 for float products.
constexpr int int8_group = 4;
// The shift of signed levels for products with unsigned inputs, and of unsigned levels for products with signed inputs.
constexpr int signed_shift = 128;
// The gain of a set that never computes images with bits.
constexpr std::int64_t never = INT64_MAX;
// Kernels read up to this many bytes after a row's last input, but do not use them.
constexpr int slack_bytes = 64;

// The place of a row's inputs: `segments` runs of `length` inputs, each at an offset (in elements) from the row's first.
// For 8-bit products `length` is padded to a multiple of 4; the panel's weights there are 0.
struct Segments {
    const std::ptrdiff_t* offsets;
    int segments;
    int length;
};

// The layout of a dense layer's bits that an instruction set's product reads fastest (bits.h has the layouts). A unit's step is 64 bytes, with
// `step_inputs` inputs of `unit_outputs` outputs. Units form tiles: for each step, the 64 bytes of one unit follow those of the other. All tiles of
// a chunk of steps come before the next chunk, so that the prepared inputs stay in the first-level cache while the bits stream. Inputs beyond a
// layer's last are zero bits.
constexpr int unit_step_bytes = 64;
constexpr std::int64_t any_rows = std::int64_t{1} << 30;
constexpr std::int64_t all_steps = std::int64_t{1} << 30;
struct BitLayout {
    const char* name;
    int unit_outputs;
    int step_inputs;
    int tile_units;            // the most in a tile: as many as the product keeps in registers
    std::int64_t chunk_steps;  // even, or all_steps
    int prepared_bytes;        // that `prepare_bits` makes from the inputs of a step
    std::int64_t most_inputs;  // up to which sums are exact
    std::int64_t most_rows;    // up to which it is faster than a panel; any_rows if it always is
};

// The size of one call of a product of an image with bits: positions of an output row that share registers, and the most units of outputs and
// steps.
constexpr int image_positions = 6;
constexpr int image_units = 2;
constexpr int image_steps = 16;

// Keys and values are in blocks of this many tokens. In a block, head follows head, so that a head reads one stream. Numbers that are added one after
// the other share 32 bits: keys are [feature / g][token][g] and values [token / g][feature][g], where g is 1 for floats, 2 for bfloat16 (a float's
// upper 16 bits) and 4 for int8. The tokens' scales, a float each, follow a head's int8 numbers of a block.
constexpr int token_block = 64;

// The features of a head, padded to whole registers of values. The padding may have any value, but keys need zeros in the rest of their last
// group.
constexpr std::int64_t stored_features(std::int64_t features) {
    return (features + 15) / 16 * 16;
}

// Up to this many consecutive queries of one head share the keys and values that they read.
constexpr int most_queries = 4;

// The attention of some queries to one head with `features` numbers per token.
struct Attended {
    int rows;             // queries
    std::int64_t tokens;  // that the first query sees; each next query sees `step` more
    std::int64_t features;
    std::int64_t block_stride;  // in numbers, from the head's part of a block of keys or values to that of the next block
    std::int64_t row_stride;    // from a query to the next, and from its result to the next
    std::int64_t score_stride;  // the same for `scores`
    float scale;
    int step = 1;                         // of neighbouring tokens 1; of several heads of one token 0
    std::int64_t hidden = -most_queries;  // of these the first query sees none, each next one of `step` more; below 0 it is all
};

// The operations on a row of sums before it is stored.
// y[i] = f(x[i]); y may be x.
using UnaryKernel = void (*)(const float* x, std::ptrdiff_t n, float* y);

// Sums over a row are computed in pieces of this many numbers, which keeps rounding errors small and lets threads share a row.
constexpr std::int64_t sums_piece = 4096;

struct EpilogueArgs {
    enum class Norm { none, channel, affine };
    Norm norm = Norm::none;
    bool relu = false;
    float eps = 0;
    const float* bias = nullptr;           // (outputs), never null
    const float* scale = nullptr;          // affine
    const float* shift = nullptr;          // affine
    const std::int32_t* offset = nullptr;  // int8: the offset of each sum from the shift of signed inputs, or null
    UnaryKernel activation = nullptr;      // after all of these, or null; the caller computes it
};

// One row of inputs times bits, for a token or a single example.
struct Gemv {
    BitLayout layout;
    // Threads divide the products of a row with bits from this number on, which is the work of a microsecond.
    std::int64_t least_divided;
    // Writes the rows of bits of `rows` outputs into a zeroed unit with steps `step_stride` bytes apart.
    void (*lay_out)(const std::uint8_t* bits, std::ptrdiff_t row_bytes, int rows, std::int64_t inputs, std::uint8_t* unit,
                    std::ptrdiff_t step_stride);
    // Reads the bits of one output of a unit again: of `steps` whole steps.
    void (*read_row)(const std::uint8_t* unit, std::ptrdiff_t step_stride, std::int64_t steps, int output, std::uint8_t* bits);
    // Prepares one row of inputs, padded to whole steps, for the product: tables of sums, or the inputs themselves.
    void (*prepare)(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared);
    // Some units of a tile times one row: out[o] = sum over i of bit(o, i) * x[i], added to the old value if `add`. Exact.
    void (*product)(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps, bool add,
                    std::int32_t* out);
    // The same with `inputs` float inputs at x, added one after the other as in Gemm's product_float: those with a set bit, or all with the signs of
    // the bits. Null if a set expands instead.
    void (*product_float)(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const float* x, std::int64_t inputs, bool plus_minus,
                          bool add, float* out);
};

// Expands rows of bits to a panel: for each group of 4 inputs and each of 16 * blocks outputs, 4 bytes of 0/1 or -1/+1. Each segment of `raw_length`
// bits is padded with zeros to `length`. Rows from `rows` on are zero.
struct ExpandArgs {
    const std::uint8_t* bits;
    std::ptrdiff_t row_bytes;
    int rows;
    int blocks;
    int segments;
    int raw_length;
    int length;
    bool plus_minus;
};

// Rows times a panel of weights.
struct Gemm {
    // The best number of rows for a product with a panel: the panel stays in the first-level cache while they use it, and it is a multiple of the
    // fastest tile; at most max_rows.
    int rows_at_once;
    void (*expand_int8)(const ExpandArgs& args, std::int8_t* panel);
    // out[row * out_stride + o] = sum over inputs of rows[row][...] * panel; exact.
    void (*product_int8)(const std::uint8_t* const* rows, int count, const Segments& segments, const std::int8_t* panel, int blocks,
                         std::int32_t* out, std::ptrdiff_t out_stride);
    // The same in float: the panel has one input after another, for each 16 * blocks outputs.
    void (*product_float)(const float* const* rows, int count, const Segments& segments, const float* panel, int blocks, float* out,
                          std::ptrdiff_t out_stride);
    // Expands some blocks of 16 outputs of a tile in Gemv's layout to a panel of 0 and 1; for floats also of -1 and 1.
    void (*expand_bits_int8)(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks,
                             std::int8_t* panel);
    void (*expand_bits_float)(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks, bool plus_minus,
                              float* panel);
};

// The arguments of one call of a convolution: neighbouring positions of an output row, some units of outputs, some steps. The bits of steps are
// `step_stride` bytes apart. The prepared inputs of positions are `position_stride` bytes apart, with `offsets` to each step. Sums are written to
// out[position * out_stride + output] if `first`, and otherwise added there.
struct ConvArgs {
    const std::uint8_t* tile;
    std::ptrdiff_t step_stride;
    int units;
    const std::uint8_t* prepared;
    std::ptrdiff_t position_stride;
    int positions;
    const std::int32_t* offsets;
    int steps;
    bool first;
    std::int32_t* out;
    std::ptrdiff_t out_stride;
};

// Convolutions with weights as bits, in the layout of Gemv and with inputs prepared in the same way. An input is prepared once for all positions of
// the kernel that read it. Rows of a dense layer are positions too.
struct Conv {
    // The least gain of a position over a panel (taps of the kernel times 16 outputs) for each input.
    std::int64_t least_gain;
    // The same if channels do not fill steps, and the inputs of a kernel row are prepared per position.
    std::int64_t least_run_gain;
    // The most positions in one call of a product: more than image_positions if all of them share its work on the bits.
    int most_positions;
    // Prepares a step's inputs of some pixels, `stride` apart.
    void (*prepare)(const std::int8_t* x, std::ptrdiff_t stride, std::int64_t pixels, std::uint8_t* prepared);
    // The sum over steps of bits times prepared inputs. Exact.
    void (*product)(const ConvArgs& args);
};

// A depthwise convolution at neighbouring positions of an output row. Position p reads channel c of tap t at x[p * step + offsets[t] + c], and its
// sum goes to out[p * out_stride + c]. Weights are [tap][channel], whole numbers of -1, 0 or 1.
struct DepthwiseArgs {
    std::ptrdiff_t step;
    std::int64_t positions;
    const std::ptrdiff_t* offsets;
    int taps, channels;
    std::ptrdiff_t out_stride;
};

// Operations on rows of floats, and from rows of sums to floats.
struct Rows {
    // One row of sums (outputs) to y = norm(scale * (sum - offset) + bias), with ReLU.
    void (*epilogue_int8)(const std::int32_t* sums, float scale, int outputs, const EpilogueArgs& epilogue, float* y);
    void (*epilogue_float)(const float* sums, int outputs, const EpilogueArgs& epilogue, float* y);
    // The same for many rows: positions of an image, with few outputs each.
    void (*epilogue_rows_int8)(const std::int32_t* sums, std::ptrdiff_t sum_stride, std::int64_t rows, float scale, int outputs,
                               const EpilogueArgs& epilogue, float* y);
    // y[c] = the maximum of a window of height * width positions of x, for some columns of windows. NaN wins.
    void (*pool)(const float* x, std::ptrdiff_t row_stride, int height, int width, std::int64_t columns, int channels, float* y);

    // The largest |x| as its bits (NaN above infinity above numbers), and whether any x is below 0.
    void (*range)(const float* x, std::ptrdiff_t n, std::uint32_t* largest_bits, bool* negative);
    // q = clip(round_half_even(x * inverse), low, high) + shift; NaN gives low
    void (*quantize)(const float* x, std::ptrdiff_t n, float inverse, float low, float high, int shift, std::uint8_t* q);

    void (*normalize)(const float* x, std::ptrdiff_t n, float eps, float* y);      // y may be x
    void (*rms_normalize)(const float* x, std::ptrdiff_t n, float eps, float* y);  // the same
    // Each of `half` pairs x[i], x[half + i] turned by its angle. y is not x.
    void (*rotate)(const float* x, std::ptrdiff_t half, const float* cosine, const float* sine, float* y);
    // Its parts, for threads that share a row. The sum of a piece, and the sum of the squares of its distances from the mean:
    float (*sum)(const float* x, std::ptrdiff_t n);
    float (*squares)(const float* x, std::ptrdiff_t n, float mean);
    // 1 / deviation, from the squares of all n numbers; 0 if sums of floats are not sufficient.
    float (*inverse_deviation)(double squares, std::ptrdiff_t n, float eps);
    // y = (x - mean) * factor
    void (*center)(const float* x, std::ptrdiff_t n, float mean, float factor, float* y);
    void (*scale_shift)(const float* x, std::ptrdiff_t rows, int channels, const float* scale, const float* shift, float* y);
    void (*scale)(const float* x, std::ptrdiff_t n, float factor, float* y);
#define UNARY(name, formula) UnaryKernel name;
#include "unary.def"
#undef UNARY
    void (*clip)(const float* x, std::ptrdiff_t n, float low, float high, float* y);  // NaN stays NaN
    void (*prelu)(const float* x, std::ptrdiff_t rows, int channels, const float* slope, float* y);
    float (*mean_magnitude)(const float* x, std::ptrdiff_t n);
    void (*add_to_doubles)(const float* x, std::ptrdiff_t n, double* sums);
    void (*softmax)(const float* x, std::ptrdiff_t n, float* y);
    void (*multiply)(const float* a, const float* b, std::ptrdiff_t n, float* y);
    void (*add)(const float* a, const float* b, std::ptrdiff_t n, float* y);
    void (*maximum)(const float* x, std::ptrdiff_t n, float* y);  // y = max(y, x), NaN wins
    void (*depthwise_int8)(const std::uint8_t* x, const DepthwiseArgs& args, const std::int8_t* weights, std::int32_t* out);  // exact
    void (*depthwise_float)(const float* x, const DepthwiseArgs& args, const float* weights, float* out);
    // Of scores of tokens: the largest, where NaN counts for nothing; and x = e^((x - largest) / temperature), 0 for NaN, with the sum.
    double (*largest)(const double* x, std::ptrdiff_t n);
    double (*powers)(double* x, std::ptrdiff_t n, double largest, double temperature);
};

// y = softmax(scale * q K^T) V for one head, per number type of keys and values. `scores` has space for the tokens of each query, rounded up to whole
// blocks.
struct Attention {
    void (*float32)(const float* q, const float* keys, const float* values, const Attended& a, float* scores, float* y);
    void (*bf16)(const float* q, const std::uint16_t* keys, const std::uint16_t* values, const Attended& a, float* scores, float* y);
    // If a set multiplies integers, queries and weights are rounded to 16 bits of their largest.
    void (*int8)(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y);
};

// The sums of a group of inputs for some units of outputs, and what turns them into numbers.
struct GroupSums {
    const std::int32_t* sums;  // of units one after the other, of a plane
    std::ptrdiff_t plane_stride;
    const int* planes;  // the weights of the planes
    int plane_count;
    std::int32_t times, taken_off;  // the sum of an output: times * (the sum over its planes) - taken_off
    float scale;                    // of a level
    const std::uint16_t* scales;    // float16, of the weights of each output
    std::ptrdiff_t scale_stride;    // from a unit to the next
    int units, unit_outputs;
    bool first;
    float* out;
};

// The outputs of a panel of signed bytes with scales for groups of inputs, for some rows of inputs. Rows share the weights that are loaded.
constexpr int byte_panel_outputs = 64;
struct ByteProduct {
    const std::uint8_t* weights;   // [group][input / 4][output][4], each plus 128
    const std::uint16_t* scales;   // [group][output], float16
    const std::int8_t* x;          // levels
    const float* x_scales;         // of each group's levels
    const std::int32_t* x_totals;  // the sum of each group's levels
    std::int64_t groups;
    std::int64_t group;  // inputs, a multiple of 4
    float* out;
    // Levels lie groups * group apart, scales and totals `groups`, outputs `out_stride`.
    std::int64_t rows = 1;
    std::ptrdiff_t out_stride = 0;
};

// The most planes, and steps of a group, that products of grouped bits take.
constexpr int most_group_planes = 8, most_group_steps = 8;
// Some units of a tile times some rows, for the groups of a chunk: as Conv's product and `accumulate` after each group.
struct GroupedBits {
    const std::uint8_t* const* planes;  // the units' bits in each plane
    int plane_count;
    bool doubled;  // a plane counts twice the one before it; else all count once
    std::ptrdiff_t step_stride;
    int units;
    const std::uint8_t* prepared;
    std::ptrdiff_t prepared_stride;  // from a row to the next
    int rows;
    int group_steps;  // of a group
    std::int64_t groups;
    bool plus_minus;         // sums count twice
    std::int32_t taken_off;  // times each group's total, from its sum
    const float* x_scales;
    const std::int32_t* x_totals;
    std::ptrdiff_t x_stride;      // of both, from a row to the next
    const std::uint16_t* scales;  // of the first unit and group; group after group
    std::ptrdiff_t scale_stride;  // from a unit to the next
    bool first;
    float* out;
    std::ptrdiff_t out_stride;
};

// Weights with a scale for each group of inputs. One fused multiply-add for each group, in their order.
struct Grouped {
    // out[o] = scales[o] * (scale * sum) + out[o], or + 0 if `first`
    void (*accumulate)(const GroupSums& group);
    // Null if a set has none. Each group's sum, with what is taken off, fits in 16 bits; what comes before it may not.
    void (*product_bits)(const GroupedBits& bits);
    void (*product_bytes)(const ByteProduct& product);
};

// One instruction set: kernels.def has them all.
struct Kernels {
    const char* name;
    const char* text;
    std::uint32_t needs;

    Gemv gemv;
    Gemm gemm;
    // Products of many rows with bits in tile registers, with a layout of 16 inputs of 32 outputs. Null if a set has none.
    const TileKernels* tiles;
    Conv conv;
    Rows rows;
    Attention attention;
    Grouped grouped;
};

// The tables that this build has, the best last.
const Kernels* const* all_kernels(int* count);

#define KERNELS(set, features, words) extern const Kernels set##_kernels;
#include "kernels.def"
#if defined(ONEBIT_X86)
// From amx.cpp; the rest of amx's table is avx512's.
void amx_product_int8(const std::uint8_t* const* rows, int count, const Segments& segments, const std::int8_t* panel, int blocks, std::int32_t* out,
                      std::ptrdiff_t out_stride);
#endif

// A table with its entry in kernels.def.
#define KERNELS(set, features, words)          \
    constexpr Kernels named_##set(Kernels k) { \
        k.name = #set;                         \
        k.needs = features;                    \
        k.text = words;                        \
        return k;                              \
    }
#include "kernels.def"

}  // namespace onebit
