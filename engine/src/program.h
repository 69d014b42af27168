// A program and its tensors, read and checked. docs/program.md is the specification.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace onebit {

using Shape = std::vector<std::int64_t>;

std::int64_t elements(const Shape& shape);
// Bytes of a row of bits on disk: padded to a multiple of 64 bits.
std::int64_t row_bytes(std::int64_t bits);

// A tensor that the caller owns: rows of bits (uint8) or float32.
struct TensorView {
    const void* data = nullptr;
    bool is_float = false;
    Shape shape;
};
using Tensors = std::map<std::string, TensorView>;

enum class Op {
#define OP(name, inputs, programs, check) name,
#include "ops.def"
#undef OP
};

// Which programs an op may stand in: any, only those over arrays or over tokens, or those over tokens with the tokens themselves as its input.
enum class PlacedIn { any, arrays, tokens, tokens_themselves };

// What a window slides over: a convolution's, a pooling's, or (1x1 over one pixel a row) a dense layer's.
struct Window {
    std::int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1};
    std::int64_t padding[4] = {0, 0, 0, 0};  // top, bottom, left, right
    std::int64_t groups = 1;
};

// What a binary layer's inputs are quantised to before the product; `absent`: what the precision says.
struct InputLevels {
    enum class Quantizer { absent, sign, unit, absmax };
    Quantizer quantizer = Quantizer::absent;
    int bits = 8;  // of unit and absmax

    bool operator==(const InputLevels&) const = default;
    bool given() const { return quantizer != Quantizer::absent; }
    // The largest magnitude of a level.
    std::int64_t largest() const;
};

struct Step {
    Op op{};
    int inputs[3] = {-1, -1, -1};  // indices of values
    int output = -1;
    Window window;
    bool plus_minus = false;             // bits read as -1 and +1
    std::vector<int> planes{1};          // what the planes of a binary layer's weights count
    InputLevels input;                   // of a binary layer
    bool over_channel = false;           // normalize: the last axis; else the whole example
    bool channels_first = false;         // flatten: order "chw"
    bool of_position = false;            // embedding: of the position, not of the token
    bool counts_padding = false;         // avg_pool2d
    bool windowed = false;               // mean_magnitude: over the window of an image, not of each row
    std::int64_t rows = 0;               // embedding: of its table
    std::int64_t heads = 0;              // attention
    std::int64_t groups = 0;             // group_normalize
    std::int64_t hidden = 0;             // recurrences: numbers of the state that the next step sees
    bool reverse = false;                // recurrences: from the last row to the first
    float eps = 0;                       // of a binary recurrence that does not normalise: 0
    float factor = 0;                    // scale
    float low = 0, high = 0;             // clip
    const std::uint8_t* bits = nullptr;  // of binary layers
    const std::uint8_t* bias_bits = nullptr;
    const float* weight = nullptr;  // of float layers and embeddings; the scale of scale_shift; the slope of prelu; the scale of a binary recurrence
    const float* bias = nullptr;    // of float layers; the shift of scale_shift and of recurrences
    // Steps that fuse.h took in: a scale_shift before a layer of signs, and what its epilogue computes.
    std::vector<Step> before, after;
};

// Values are numbered in the order in which they are made; value 0 is the input.
struct Program {
    std::vector<Step> steps;
    std::vector<Shape> shapes;
    std::vector<std::string> names;  // of the values
    int output = 0;
    bool tokens = false;  // the input is a sequence of tokens, and every value has a row for each of them
};

const char* op_name(Op op);
PlacedIn placed_in(Op op);
// All names in their order, as messages list them.
std::string known_ops();
// Of a recurrence, 4 or 3; else 0.
std::int64_t gates_of(Op op);

// Throws std::invalid_argument with a message for users where the text or the tensors do not fit docs/program.md.
Program read_program(const std::string& json, const Tensors& tensors);

}  // namespace onebit
