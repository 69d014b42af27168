// From a step to what runs it.
#pragma once

#include <memory>

#include "kernels/kernels.h"
#include "ops/node.h"
#include "options.h"
#include "program.h"

namespace onebit {

// What a node is made from. `step` is one of the program's, after fusing.
struct NodeSource {
    const Step& step;
    const Program& program;
    const Kernels& kernels;
    Precision precision;
    CacheNumbers cache;

    const Shape& input(int i = 0) const { return program.shapes[static_cast<std::size_t>(step.inputs[i])]; }
    const Shape& output() const { return program.shapes[static_cast<std::size_t>(step.output)]; }
    // Of a layer itself, before what was fused into it.
    const Shape& own_output() const {
        const auto& after = step.as<ops::Layer>().after;
        return after.any() ? program.shapes[static_cast<std::size_t>(after.own_output)] : output();
    }
    // Whether the inputs of a layer with such weights become whole numbers.
    bool quantizes(const BitWeights& weights) const { return weights.rows != nullptr && (precision == Precision::int8 || weights.input.given()); }
};

// The only switch over ops.
std::unique_ptr<Node> make_node(const NodeSource& source);

}  // namespace onebit
