// The attributes and tensors of ops, a struct for each family of ops. The caller owns the tensors.
// docs/program.md says what they mean.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

namespace onebit {

enum class Op {
#define OP(name, inputs, programs, check) name,
#include "ops.def"
#undef OP
};

// The sliding window of a convolution, of a pooling, or (1x1 with one pixel per row) of a dense layer.
struct Window {
    std::int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1};
    std::int64_t padding[4] = {0, 0, 0, 0};  // top, bottom, left, right
    std::int64_t groups = 1;
};

// The third axis of a convolution's window.
struct Depth {
    std::int64_t kernel = 1, stride = 1, dilation = 1;
    std::int64_t padding[2] = {0, 0};  // front, back
};

// How a binary layer's inputs are quantised before the product; `absent`: as the precision says.
struct InputLevels {
    enum class Quantizer { absent, sign, unit, absmax };
    Quantizer quantizer = Quantizer::absent;
    int bits = 8;  // for unit and absmax

    bool operator==(const InputLevels&) const = default;
    bool given() const { return quantizer != Quantizer::absent; }
    // The largest magnitude of a level.
    std::int64_t largest() const;
};

// The weights of a binary layer, and the quantizer of its inputs.
struct BitWeights {
    const std::uint8_t* rows = nullptr;  // of all planes, one after the other
    bool plus_minus = false;             // bits read as -1 and +1
    std::vector<int> planes{1};          // the weights of the planes
    InputLevels input;

    std::int64_t plane_count() const { return static_cast<std::int64_t>(planes.size()); }
};

// The scales of a layer's weights, a float16 for each group of inputs of each output.
struct GroupScales {
    const std::uint16_t* scales = nullptr;  // null: none
    std::int64_t group = 0;                 // inputs of one
    int zero = 0;                           // what is taken off each weight before its scale
};

namespace ops {

struct Normalize {
    bool over_channel = false;  // the last axis, otherwise the whole example
    float eps = 0;
};

struct GroupNormalize {
    std::int64_t groups = 0;
    float eps = 0;
};

struct RmsNormalize {
    std::int64_t groups = 1;  // of the last axis
    float eps = 0;
};

struct ScaleShift {
    const float *scale = nullptr, *shift = nullptr;  // of each channel; a null shift is none

    std::vector<float> scales(std::int64_t channels) const { return {scale, scale + channels}; }
    // Of none -0: x + -0 is x, with its sign where it is 0.
    std::vector<float> shifts(std::int64_t channels) const {
        return shift == nullptr ? std::vector<float>(static_cast<std::size_t>(channels), -0.0f) : std::vector<float>(shift, shift + channels);
    }
};

// What fuse.h puts into a layer's epilogue: the operations on its sums, in this order.
struct Fused {
    std::optional<Normalize> normalize;
    std::optional<ScaleShift> scale_shift;
    bool relu = false;
    std::optional<Op> activation;  // another function of one number
    std::optional<Window> max_pool;
    int own_output = -1;  // the layer's value before these operations, which is not computed any more

    bool any() const { return own_output >= 0; }
};

// bit_conv2d, bit_conv3d, bit_linear, conv2d, conv3d, int8_linear, linear.
struct Layer {
    bool convolution = false;
    Window window;               // of a convolution
    std::optional<Depth> depth;  // of a convolution of volumes
    BitWeights bits;
    const std::uint8_t* bias_bits = nullptr;
    const float *weight = nullptr, *bias = nullptr;  // of a float layer
    const std::int8_t* bytes = nullptr;              // of int8_linear
    GroupScales groups;
    std::optional<ScaleShift> before;  // which fuse.h folded into a layer of signs
    Fused after;

    bool binary() const { return bits.rows != nullptr; }
};

// sparse_linear.
struct SparseDense {
    const std::uint8_t* mask = nullptr;  // a row of bits for each output: which inputs have a weight
    const float* weight = nullptr;       // of the ones of the mask, row after row
    const float* bias = nullptr;
    std::int64_t kept = 0;
};

// conv_transpose2d, bit_conv_transpose2d.
struct TransposedConvolution {
    Layer layer;  // `padding` of its window is what is cut off the output
    std::int64_t output_padding[2] = {0, 0};
};

// bit_gru, bit_lstm, gru, lstm.
struct Recurrence {
    std::int64_t gates = 0;   // 4 of an LSTM, 3 of a GRU
    std::int64_t hidden = 0;  // numbers of the state that the next step sees
    bool reverse = false;     // from the last row to the first
    float eps = 0;            // of a binary one that normalises; else 0
    BitWeights bits;
    const float* weight = nullptr;                   // of a float one
    const float *scale = nullptr, *shift = nullptr;  // of a binary one, after its normalisation

    bool binary() const { return bits.rows != nullptr; }
    std::int64_t outputs() const { return gates * hidden; }
};

struct Attention {
    std::int64_t heads = 0;
    std::int64_t kv_heads = 0;  // of keys and values; neighbouring heads of queries share one
    std::int64_t window = 0;    // tokens that one sees, itself among them; 0: all before it
};

struct FullAttention {
    std::int64_t heads = 0, kv_heads = 0;
    bool causal = false;          // a query sees the keys up to its own place
    const float* bias = nullptr;  // (heads, queries, keys), added to the scores; or null
};

// What slows the angles of rotary positions.
struct RotaryScaling {
    enum class Kind { none, linear, yarn, llama3 };
    Kind kind = Kind::none;
    float factor = 1;
    std::int64_t original_context = 0;
    float fast = 0, slow = 0;               // beta_fast and beta_slow, or high_freq_factor and low_freq_factor
    std::optional<float> attention_factor;  // of yarn

    bool operator==(const RotaryScaling&) const = default;
};

struct Rotary {
    std::int64_t heads = 0;
    std::int64_t rotated = 0;  // features of each head
    float base = 0;
    RotaryScaling scaling;
};

// embedding, bit_embedding, int8_embedding.
struct Embedding {
    bool of_position = false;                             // of the position, not of the token
    std::int64_t rows = 0;                                // of the table
    const float* table = nullptr;                         // of floats
    const std::uint8_t *bits = nullptr, *bias = nullptr;  // of a binary one
    bool plus_minus = false;
    std::vector<int> planes{1};
    const std::int8_t* bytes = nullptr;  // of int8_embedding
    GroupScales groups;
};

// max_pool2d, avg_pool2d.
struct Pool {
    Window window;
    bool counts_padding = false;  // of avg_pool2d
};

struct MeanMagnitude {
    std::optional<Window> window;  // of an image; else of each row
};

struct Flatten {
    bool channels_first = false;  // order "chw"
};

struct Transpose {
    std::vector<std::int64_t> axes;  // of the input, in the output's order
};

struct Concatenate {
    std::int64_t axis = 0;
};

struct Slice {
    std::int64_t axis = 0, start = 0, stop = 0;
};

struct Resize {
    bool bilinear = false, align_corners = false;
};

// add_constant, prepend.
struct Constant {
    const float* values = nullptr;
    std::int64_t rows = 0;
};

struct Scale {
    float factor = 0;
};

struct Clip {
    float low = 0, high = 0;
};

struct Exit {
    float threshold = 0;  // of the answer's probability
};

struct Prelu {
    const float* slope = nullptr;  // of each channel
};

}  // namespace ops

// Of ops that are given nothing else: monostate.
using Attributes = std::variant<std::monostate, ops::Layer, ops::Recurrence, ops::Attention, ops::Rotary, ops::Embedding, ops::Normalize,
                                ops::GroupNormalize, ops::RmsNormalize, ops::ScaleShift, ops::Pool, ops::MeanMagnitude, ops::Flatten, ops::Scale,
                                ops::Clip, ops::Prelu, ops::TransposedConvolution, ops::FullAttention, ops::Transpose, ops::Concatenate, ops::Slice,
                                ops::Resize, ops::Constant, ops::SparseDense, ops::Exit>;

}  // namespace onebit
