// Checks the attributes, tensors and shapes of each op of a program. src/onebit/ops/ is its twin, with the same messages.
#pragma once

#include <cstdint>
#include <string>

#include "json.h"
#include "program.h"

namespace onebit {

constexpr std::int64_t max_axis = std::int64_t{1} << 24;
constexpr std::size_t max_axes = 4;  // of a value
constexpr std::int64_t max_elements = std::int64_t{1} << 31;
// An int32 can hold the sum of 2^23 products of 8 bits. 2^22 leaves room for the shift of signed activations.
constexpr std::int64_t max_binary_row = std::int64_t{1} << 22;

// A transposed convolution is as many convolutions as the square of this, at most.
constexpr std::int64_t max_transposed_stride = 64;

// With rows of bytes of this length a sum of products of bytes fits an int32: 2^17 * 127 * 128 < 2^31.
constexpr std::int64_t max_int8_row = std::int64_t{1} << 17;

// The contents of a step's JSON, and the tensors of its file.
struct StepSource {
    const std::string& where;  // for messages
    const Json& attributes;    // an object
    const Json& roles;         // an object: roles to names of tensors
    const Tensors& tensors;
};

// The shapes of a step's inputs; null for inputs that its op does not have. `tokens`: whether the program is over tokens; `integers`: whether one of
// them is an input of integers.
struct Inputs {
    const Shape& x;
    const Shape* y;
    const Shape* z;
    const Shape* fourth;
    bool tokens, integers;
};

// Fills in a step with known op and inputs. Returns its output's shape. Throws std::invalid_argument with a message for users.
Shape check_step(Step& step, const StepSource& source, const Inputs& inputs);

// Throws std::invalid_argument if a value would have too many elements.
void check_shape(const Shape& shape, const std::string& where);

}  // namespace onebit
