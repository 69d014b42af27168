// What an instruction set offers to the executor: one table of functions each. scalar.cpp is the specification.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tiles.h"

namespace onebit {

// CPU features, asked of the processor and of the operating system: a bit each, in the order of features.def.
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
// Rows (positions of an image, or rows of a matrix) that one call of a product with a panel takes at most.
constexpr int max_rows = 32;
// Inputs that lie side by side in a panel for 8-bit products; 1 for float ones.
constexpr int int8_group = 4;
// Signed levels are stored shifted up by this where a product takes unsigned inputs, and the other way round.
constexpr int signed_shift = 128;
// What a set that never computes images with bits asks of them.
constexpr std::int64_t never = INT64_MAX;
// Kernels read up to this many bytes beyond a row's last input, and use none of them.
constexpr int slack_bytes = 64;

// Where a row's inputs lie: `segments` runs of `length` inputs, each at an offset (in elements) from the row's first.
// For 8-bit products `length` is padded to a multiple of 4; the panel's weights there are 0.
struct Segments {
    const std::ptrdiff_t* offsets;
    int segments;
    int length;
};

// Bits of a dense layer in the layout that an instruction set's product with bits reads fastest (bits.h has them). 64 bytes, a unit's step, hold
// `step_inputs` inputs of `unit_outputs` outputs. Units lie side by side in tiles: for each step the 64 bytes of one unit after the other's. All
// tiles pass for a chunk of steps before the next chunk's begin, so that what was prepared of the inputs stays in the first-level cache while the
// bits stream. Inputs beyond a layer's last are zero bits.
constexpr int unit_step_bytes = 64;
constexpr std::int64_t any_rows = std::int64_t{1} << 30;
constexpr std::int64_t all_steps = std::int64_t{1} << 30;
struct BitLayout {
    const char* name;
    int unit_outputs;
    int step_inputs;
    int tile_units;            // in a tile at most: so many as the product keeps in registers
    std::int64_t chunk_steps;  // even, or all_steps
    int prepared_bytes;        // that `prepare_bits` makes of the inputs of a step
    std::int64_t most_inputs;  // up to which sums are exact
    std::int64_t most_rows;    // up to which it is faster than a panel is; any_rows where it always is
};

// What a product of an image with bits takes in one call: positions of a row of the output, so many that they share registers, and at most so many
// units of outputs and steps.
constexpr int image_positions = 6;
constexpr int image_units = 2;
constexpr int image_steps = 16;

// Keys and values lie in blocks of so many tokens, and in a block one head's behind the other's, so that what a head reads is one stream. The
// numbers that a sum adds one after the other share 32 bits: keys are [feature / g][token][g] and values [token / g][feature][g], where g is 1 for
// floats, 2 for bfloat16 (a float's upper 16 bits) and 4 for int8. Behind a head's int8 numbers of a block stand the tokens' scales, a float each.
constexpr int token_block = 64;

// The features of a head with those that fill its last register of values. What stands there is of no concern, but keys need zeros in the rest of
// their last group.
constexpr std::int64_t stored_features(std::int64_t features) {
    return (features + 15) / 16 * 16;
}

// Queries of one head that stand behind each other share what they read, up to so many.
constexpr int most_queries = 4;

// What some queries attend to: one head of `features` numbers a token.
struct Attended {
    int rows;             // queries
    std::int64_t tokens;  // that the first query sees; each further one sees one more
    std::int64_t features;
    std::int64_t block_stride;  // in numbers, from the head's part of a block of keys, or of values, to that of the next
    std::int64_t row_stride;    // from a query to the next, and from its result to the next
    std::int64_t score_stride;  // the same of `scores`
    float scale;
};

// What happens to a row of sums before it is stored.
// y[i] = f(x[i]); y may be x.
using UnaryKernel = void (*)(const float* x, std::ptrdiff_t n, float* y);

// Sums over a row are taken of pieces of so many numbers, which keeps a float's error small and lets threads share a row.
constexpr std::int64_t sums_piece = 4096;

struct EpilogueArgs {
    enum class Norm { none, channel, affine };
    Norm norm = Norm::none;
    bool relu = false;
    float eps = 0;
    const float* bias = nullptr;           // (outputs), never null
    const float* scale = nullptr;          // affine
    const float* shift = nullptr;          // affine
    const std::int32_t* offset = nullptr;  // int8: what the shift of signed inputs added to each sum, or null
    UnaryKernel activation = nullptr;      // after all of it, or null; the caller's to compute
};

// One row of inputs times bits: what a token, or a single example, passes through.
struct Gemv {
    BitLayout layout;
    // Products of a row with bits from which on threads divide them: a microsecond's work.
    std::int64_t least_divided;
    // `rows` outputs' rows of bits into a unit of zeros whose steps lie `step_stride` bytes apart.
    void (*lay_out)(const std::uint8_t* bits, std::ptrdiff_t row_bytes, int rows, std::int64_t inputs, std::uint8_t* unit,
                    std::ptrdiff_t step_stride);
    // One row of inputs, padded to whole steps, as the product takes it: tables of sums, or the inputs themselves.
    void (*prepare)(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared);
    // Some units of a tile times one row: out[o] = sum over i of bit(o, i) * x[i], added to what is there if `add`; exact.
    void (*product)(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps, bool add,
                    std::int32_t* out);
    // The same with float inputs, of which `inputs` stand at x, one added after the other as Gemm's product_float does: those whose bit is set, or
    // all with the signs that the bits say. Null where a set expands instead.
    void (*product_float)(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const float* x, std::int64_t inputs, bool plus_minus,
                          bool add, float* out);
};

// Rows of bits to a panel: for each group of 4 inputs, for each of 16 * blocks outputs, 4 bytes of 0/1 or -1/+1. Each segment of `raw_length` bits is
// padded with zeros to `length`. Rows from `rows` on are zero.
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
    // How many rows a product with a panel best takes at once: so many that the panel stays in the first-level cache while they use it, a multiple
    // of what its fastest tile takes; at most max_rows.
    int rows_at_once;
    void (*expand_int8)(const ExpandArgs& args, std::int8_t* panel);
    // out[row * out_stride + o] = sum over inputs of rows[row][...] * panel; exact.
    void (*product_int8)(const std::uint8_t* const* rows, int count, const Segments& segments, const std::int8_t* panel, int blocks,
                         std::int32_t* out, std::ptrdiff_t out_stride);
    // The same in float: the panel holds one input after another, for each 16 * blocks outputs.
    void (*product_float)(const float* const* rows, int count, const Segments& segments, const float* panel, int blocks, float* out,
                          std::ptrdiff_t out_stride);
    // Some blocks of 16 outputs of a tile of Gemv's layout to a panel of 0 and 1; for floats also of -1 and 1.
    void (*expand_bits_int8)(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks,
                             std::int8_t* panel);
    void (*expand_bits_float)(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks, bool plus_minus,
                              float* panel);
};

// What one call of a convolution takes: neighbouring positions of a row of the output, some units of outputs, some steps. The bits of a step lie
// `step_stride` bytes after the one before; what is prepared of the inputs, `position_stride` bytes from a position to the next, `offsets` to each
// step. Sums go to out[position * out_stride + output]: they are its first if `first`, else they are added.
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

// Convolutions whose weights stay bits, in the layout of Gemv and with inputs prepared in the same way: an input is prepared once for all the
// positions that its kernel passes it at. Rows of a dense layer are positions too.
struct Conv {
    // What a position saves over a panel (taps of the kernel times 16 outputs) must be at least so much for each input.
    std::int64_t least_gain;
    // The same where channels do not fill steps, and what a row of the kernel reads at a position is prepared for that position.
    std::int64_t least_run_gain;
    // Positions that a product takes in one call at most: more than image_positions where what it makes of the bits serves them all.
    int most_positions;
    // A step's inputs of some pixels that lie `stride` apart.
    void (*prepare)(const std::int8_t* x, std::ptrdiff_t stride, std::int64_t pixels, std::uint8_t* prepared);
    // The sum over steps of bits times what is prepared; exact.
    void (*product)(const ConvArgs& args);
};

// Rows of floats, and rows of sums to floats.
struct Rows {
    // One row of sums (outputs) to y = norm(scale * (sum - offset) + bias), with ReLU.
    void (*epilogue_int8)(const std::int32_t* sums, float scale, int outputs, const EpilogueArgs& epilogue, float* y);
    void (*epilogue_float)(const float* sums, int outputs, const EpilogueArgs& epilogue, float* y);
    // The same of many rows: positions of an image, which have few outputs each.
    void (*epilogue_rows_int8)(const std::int32_t* sums, std::ptrdiff_t sum_stride, std::int64_t rows, float scale, int outputs,
                               const EpilogueArgs& epilogue, float* y);
    // y[c] = the maximum of a window of height * width positions of x, for each of some columns of windows; NaN wins.
    void (*pool)(const float* x, std::ptrdiff_t row_stride, int height, int width, std::int64_t columns, int channels, float* y);

    // The largest |x| as its bits (NaN above infinity above numbers), and whether any x is below 0.
    void (*range)(const float* x, std::ptrdiff_t n, std::uint32_t* largest_bits, bool* negative);
    // q = clip(round_half_even(x * inverse), low, high) + shift; NaN is low
    void (*quantize)(const float* x, std::ptrdiff_t n, float inverse, float low, float high, int shift, std::uint8_t* q);

    void (*normalize)(const float* x, std::ptrdiff_t n, float eps, float* y);  // y may be x
    // What it consists of, for threads that share a row. The sum of a piece, and of the squares of its distances from the mean:
    float (*sum)(const float* x, std::ptrdiff_t n);
    float (*squares)(const float* x, std::ptrdiff_t n, float mean);
    // 1 over the deviation, from all squares of n numbers; 0 where sums of floats will not do.
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
    void (*softmax)(const float* x, std::ptrdiff_t n, float* y);
    void (*multiply)(const float* a, const float* b, std::ptrdiff_t n, float* y);
    void (*add)(const float* a, const float* b, std::ptrdiff_t n, float* y);
    void (*maximum)(const float* x, std::ptrdiff_t n, float* y);  // y = max(y, x), NaN wins
};

// y = softmax(scale * q K^T) V for one head, by what keys and values are kept as; `scores` has room for the tokens of each query rounded up to whole
// blocks.
struct Attention {
    void (*float32)(const float* q, const float* keys, const float* values, const Attended& a, float* scores, float* y);
    void (*bf16)(const float* q, const std::uint16_t* keys, const std::uint16_t* values, const Attended& a, float* scores, float* y);
    // Where a set multiplies integers, queries and weights are rounded to 16 bits of the largest.
    void (*int8)(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y);
};

// One instruction set: kernels.def has them all.
struct Kernels {
    const char* name;
    const char* text;
    std::uint32_t needs;

    Gemv gemv;
    Gemm gemm;
    // Products of many rows with bits in tile registers; the layout is then 16 inputs of 32 outputs. Null where a set has none.
    const TileKernels* tiles;
    Conv conv;
    Rows rows;
    Attention attention;
};

// The tables that this build has, the best last.
const Kernels* const* all_kernels(int* count);

#define KERNELS(set, features, words) extern const Kernels set##_kernels;
#include "kernels.def"
#if defined(ONEBIT_X86)
// Of amx.cpp; the rest of amx's table is avx512's.
void amx_product_int8(const std::uint8_t* const* rows, int count, const Segments& segments, const std::int8_t* panel, int blocks, std::int32_t* out,
                      std::ptrdiff_t out_stride);
#endif

// A table with what kernels.def states of it.
#define KERNELS(set, features, words)          \
    constexpr Kernels named_##set(Kernels k) { \
        k.name = #set;                         \
        k.needs = features;                    \
        k.text = words;                        \
        return k;                              \
    }
#include "kernels.def"

}  // namespace onebit
