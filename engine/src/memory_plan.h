// Which values of a program may share memory: one block holds them all, and values that are never needed at the same time may overlap in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "program.h"

namespace onebit {

struct MemoryPlan {
    std::vector<std::int64_t> offsets;  // of each value, in bytes from the block's beginning; -1 for values that no step makes (fusing removed them)
    std::int64_t bytes = 0;             // of the block
};

// A step's values: those that it reads, and the one that it makes.
struct Uses {
    const std::vector<int>& inputs;
    int output;
};

// `steps` in the order in which they run, `sizes` of each value in bytes. A value's memory is free again after the last step that reads it; the
// outputs keep theirs. The first `inputs` values are there from the beginning.
MemoryPlan plan_memory(const std::vector<Uses>& steps, const std::vector<std::int64_t>& sizes, std::size_t inputs, const std::vector<int>& outputs);

// Throws std::invalid_argument where weights, activations and working memory need more than `cap` bytes.
void check_memory(std::uint64_t bytes, std::uint64_t cap);

// A step as it is executed, for people to read: what was fused, how its weights lie, where its result goes.
struct PlanLine {
    std::string step;   // "bit_linear + normalize"
    std::string value;  // the name of its result
    Shape shape;
    std::string kernel;                  // with the layout of its weights; empty for plain loops
    std::int64_t offset = 0, bytes = 0;  // of the result in the block of activations
    std::int64_t weight_bytes = 0;
};

}  // namespace onebit
