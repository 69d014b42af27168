// What an instruction set offers to the executor: one table of functions each. scalar.cpp is the specification.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onebit {

// CPU features, asked of the processor and of the operating system.
enum Feature : std::uint32_t {
    feature_avx2 = 1u << 0,
    feature_fma = 1u << 1,
    feature_avx512f = 1u << 2,
    feature_avx512bw = 1u << 3,
    feature_avx512dq = 1u << 4,
    feature_avx512vl = 1u << 5,
    feature_avx512vnni = 1u << 6,
    feature_amx_tile = 1u << 7,
    feature_amx_int8 = 1u << 8,
};

// Outputs are computed in blocks of this many; a panel holds the weights of 1 to 4 blocks.
constexpr int block_outputs = 16;
constexpr int max_blocks = 4;
// Rows (positions of an image, or rows of a matrix) that one call of a product with a panel takes at most.
constexpr int max_rows = 32;
// Inputs that lie side by side in a panel for 8-bit products; 1 for float ones.
constexpr int int8_group = 4;
// Kernels read up to this many bytes beyond a row's last input, and use none of them.
constexpr int slack_bytes = 64;

// Where a row's inputs lie: `segments` runs of `length` inputs, each at an offset (in elements) from the row's first.
// For 8-bit products `length` is padded to a multiple of 4; the panel's weights there are 0.
struct Segments {
    const std::ptrdiff_t* offsets;
    int segments;
    int length;
};

// Bits in the layout that products with few rows read, for they take as long as reading the weights takes: a tile holds 128 outputs; for each
// group of 4 inputs it has 64 bytes, of which byte 4 * lane + i belongs to input i of the group, and its bit b to the output 16 * b + lane.
constexpr int tile_blocks = 8;
constexpr int tile_outputs = block_outputs * tile_blocks;
constexpr int tile_group_bytes = 64;
// Keys lie in blocks of so many tokens.
constexpr int key_block = 64;

// Queries of one head that stand behind each other share what they read, up to so many.
constexpr int most_queries = 4;

// What some queries attend to: one head of `features` numbers a token.
struct Attended {
    int rows;             // queries
    std::int64_t tokens;  // that the first query sees; each further one sees one more
    std::int64_t features;
    std::int64_t key_stride;    // from a block of keys to the next; the head's begin at [feature][token of the block]
    std::int64_t value_stride;  // from a token's values to the next's
    std::int64_t row_stride;    // from a query to the next, and from its result to the next
    std::int64_t score_stride;  // the same of `scores`
    float scale;
};

// What happens to a row of sums before it is stored.
struct Epilogue {
    enum class Norm { none, channel, affine };
    Norm norm = Norm::none;
    bool relu = false;
    float eps = 0;
    const float* bias = nullptr;           // (outputs), never null
    const float* scale = nullptr;          // affine
    const float* shift = nullptr;          // affine
    const std::int32_t* offset = nullptr;  // int8: what the shift of signed inputs added to each sum, or null
};

struct Kernels {
    const char* name;
    const char* text;
    std::uint32_t needs;
    // How many rows a product with a panel best takes at once: so many that the panel stays in the first-level cache while they use it, a multiple
    // of what its fastest tile takes; at most max_rows.
    int rows_at_once;

    // Expand 16 * blocks rows of bits to a panel: for each group of 4 inputs, for each output, 4 bytes of 0/1 or -1/+1. Each segment of
    // `raw_length` bits is padded with zeros to `length`. Rows from `rows` on are zero.
    void (*expand_int8)(const std::uint8_t* bits, std::ptrdiff_t row_bytes, int rows, int blocks, int segments, int raw_length, int length,
                        bool plus_minus, std::int8_t* panel);
    // out[row * out_stride + o] = sum over inputs of rows[row][...] * panel; exact.
    void (*product_int8)(const std::uint8_t* const* rows, int count, const Segments& segments, const std::int8_t* panel, int blocks,
                         std::int32_t* out, std::ptrdiff_t out_stride);
    // The same in float: the panel holds one input after another, for each 16 * blocks outputs.
    void (*product_float)(const float* const* rows, int count, const Segments& segments, const float* panel, int blocks, float* out,
                          std::ptrdiff_t out_stride);
    // One tile of bits times one row of inputs (4 * groups): out[o] = sum over i of bit(o, i) * x[i], for 128 outputs; exact.
    void (*product_bits)(const std::uint8_t* tile, const std::int8_t* x, std::int64_t groups, std::int32_t* out);
    // Some blocks of a tile to a panel of 0 and 1, as the products with many rows take it; for floats also of -1 and 1.
    void (*expand_tile_int8)(const std::uint8_t* tile, std::int64_t groups, int first_block, int blocks, std::int8_t* panel);
    void (*expand_tile_float)(const std::uint8_t* tile, std::int64_t groups, int first_block, int blocks, bool plus_minus, float* panel);
    // One row of sums (outputs) to y = norm(scale * (sum - offset) + bias), with ReLU.
    void (*finish_int8)(const std::int32_t* sums, float scale, int outputs, const Epilogue& epilogue, float* y);
    void (*finish_float)(const float* sums, int outputs, const Epilogue& epilogue, float* y);

    // The largest |x| as its bits (NaN above infinity above numbers), and whether any x is below 0.
    void (*range)(const float* x, std::ptrdiff_t n, std::uint32_t* largest_bits, bool* negative);
    // q = clip(round_half_even(x * inverse), low, high) + shift
    void (*quantize)(const float* x, std::ptrdiff_t n, float inverse, float low, float high, int shift, std::uint8_t* q);

    void (*normalize)(const float* x, std::ptrdiff_t n, float eps, float* y);  // y may be x
    void (*scale_shift)(const float* x, std::ptrdiff_t rows, int channels, const float* scale, const float* shift, float* y);
    void (*scale)(const float* x, std::ptrdiff_t n, float factor, float* y);
    void (*relu)(const float* x, std::ptrdiff_t n, float* y);
    void (*gelu)(const float* x, std::ptrdiff_t n, float* y);
    void (*softmax)(const float* x, std::ptrdiff_t n, float* y);
    void (*add)(const float* a, const float* b, std::ptrdiff_t n, float* y);
    void (*maximum)(const float* x, std::ptrdiff_t n, float* y);  // y = max(y, x), NaN wins
    // y = softmax(scale * q K^T) V for one head, with keys and values as floats or as their upper 16 bits (bfloat16); `scores` has room for the
    // tokens of each query rounded up to whole blocks.
    void (*attend)(const float* q, const float* keys, const float* values, const Attended& a, float* scores, float* y);
    void (*attend_bf16)(const float* q, const std::uint16_t* keys, const std::uint16_t* values, const Attended& a, float* scores, float* y);
};

// The tables that this build has, the best last.
const Kernels* const* all_kernels(int* count);

extern const Kernels scalar_kernels;
#if defined(ONEBIT_X86)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
extern const Kernels amx_kernels;  // avx512's but for the product in amx.cpp
void amx_product_int8(const std::uint8_t* const* rows, int count, const Segments& segments, const std::int8_t* panel, int blocks, std::int32_t* out,
                      std::ptrdiff_t out_stride);
#endif

}  // namespace onebit
