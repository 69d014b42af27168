// What each op of a program takes: its attributes, tensors and shapes, each checked. src/onebit/ops/ is its twin, in the same words.
#pragma once

#include <cstdint>
#include <string>

#include "json.h"
#include "program.h"

namespace onebit {

constexpr std::int64_t max_axis = std::int64_t{1} << 24;
constexpr std::int64_t max_elements = std::int64_t{1} << 31;
// An int32 holds the sum of 2^23 products of 8 bits; 2^22 leaves room for the shift of signed activations.
constexpr std::int64_t max_binary_row = std::int64_t{1} << 22;

// What a step's JSON holds, and the tensors of its file.
struct StepSource {
    const std::string& where;  // for messages
    const Json& attributes;    // an object
    const Json& roles;         // an object: to the names of tensors
    const Tensors& tensors;
};

// Shapes of a step's inputs; of those that its op does not take, null. `tokens`: the program is one over tokens.
struct Inputs {
    const Shape& x;
    const Shape* y;
    const Shape* z;
    bool tokens;
};

// Fills in a step whose op and inputs are known; returns its output's shape. Throws std::invalid_argument with a message for users.
Shape check_step(Step& step, const StepSource& source, const Inputs& inputs);

// Throws std::invalid_argument where a value would have too many elements.
void check_shape(const Shape& shape, const std::string& where);

}  // namespace onebit
