// What each op of a program takes: its attributes, tensors and shapes, each checked. src/onebit/op_checks.py is its twin, in the same order and
// words.
#pragma once

#include <cstdint>
#include <string>

#include "json.h"
#include "program.h"

namespace onebit {

constexpr std::int64_t max_axis = std::int64_t{1} << 24;

// What a step's JSON holds, and the tensors of its file.
struct StepSource {
    const std::string& where;  // for messages
    const Json& attributes;    // an object
    const Json& roles;         // an object: to the names of tensors
    const Tensors& tensors;
};

// Fills in a step whose op and inputs are known; returns its output's shape. `x`, `y`, `z` are the shapes of its inputs, `tokens` says that the
// program is one over tokens. Throws std::invalid_argument with a message for users.
Shape check_step(Step& step, const StepSource& source, const Shape& x, const Shape* y, const Shape* z, bool tokens);

// Throws std::invalid_argument where a value would have too many elements.
void check_shape(const Shape& shape, const std::string& where);

}  // namespace onebit
