#include "fuse.h"

#include <algorithm>
#include <utility>

#include "index.h"
#include "product_layer.h"
#include "unary.h"
#include "xnor_layer.h"

namespace onebit {
namespace {

// How often each value is read; the program's outputs once more.
std::vector<int> uses_of(const Program& program) {
    std::vector<int> uses(program.shapes.size(), 0);
    for (const Step& step : program.steps) {
        for (const int input : step.inputs) {
            if (input >= 0) ++uses[at(input)];
        }
    }
    for (const int output : program.outputs) ++uses[at(output)];
    return uses;
}

const Shape& input_of(const Program& program, const Step& step) {
    return program.shapes[at(step.inputs[0])];
}

bool counts(const Program& program, const Step& step) {
    const auto* layer = step.find<ops::Layer>();
    return layer != nullptr && XnorLayer::suits(*layer, input_of(program, step).back(), program.shapes[at(step.output)].back());
}

// Puts the step that follows a layer into the layer's epilogue where, with what it has taken in already, it has a place for it.
bool take(const Program& program, const Step& product, const Step& next, ops::Layer& layer) {
    ops::Fused& after = layer.after;
    if (after.max_pool) return false;
    if (const auto* normalize = next.find<ops::Normalize>(); normalize != nullptr && normalize->over_channel && !after.any()) {
        after.normalize = *normalize;
        return true;
    }
    if (const auto* scale_shift = next.find<ops::ScaleShift>(); scale_shift != nullptr && !after.any()) {
        after.scale_shift = *scale_shift;
        return true;
    }
    const bool active = after.relu || after.activation;
    if (next.op == Op::relu && !active) {
        after.relu = true;
        return true;
    }
    // Threads share a single row's activation only in the layers of programs over tokens.
    if (is_unary(next.op) && !active && (layer.convolution || (program.tokens && !counts(program, product)))) {
        after.activation = next.op;
        return true;
    }
    if (next.op != Op::max_pool2d || !layer.convolution) return false;
    const Window& w = next.as<ops::Pool>().window;
    const bool side_by_side =
        w.kernel[0] == w.stride[0] && w.kernel[1] == w.stride[1] && std::all_of(w.padding, w.padding + 4, [](auto p) { return p == 0; });
    // Rows of a convolution of bytes wait until they are pooled.
    const Shape& x = input_of(program, next);
    if (!side_by_side || !(counts(program, product) || ProductLayer::can_pool(w, x[1], layer.bits.plane_count() * x.back()))) return false;
    after.max_pool = w;
    return true;
}

}  // namespace

Program fuse(Program program) {
    return fuse_epilogues(fold_scale_shift_into_signs(std::move(program)));
}

Program fold_scale_shift_into_signs(Program program) {
    const std::vector<int> uses = uses_of(program);
    std::vector<Step> steps;
    for (std::size_t i = 0; i < program.steps.size(); ++i) {
        Step& step = program.steps[i];
        Step* next = i + 1 < program.steps.size() ? &program.steps[i + 1] : nullptr;
        const auto* scale_shift = step.find<ops::ScaleShift>();
        if (scale_shift != nullptr && next != nullptr && next->inputs[0] == step.output && uses[at(step.output)] == 1 && counts(program, *next)) {
            auto& layer = std::get<ops::Layer>(next->attributes);
            if (XnorLayer::folds(layer, *scale_shift, input_of(program, step).back())) {
                next->inputs[0] = step.inputs[0];
                layer.before = *scale_shift;
                continue;
            }
        }
        steps.push_back(std::move(step));
    }
    program.steps = std::move(steps);
    return program;
}

Program fuse_epilogues(Program program) {
    const std::vector<int> uses = uses_of(program);
    std::vector<Step> steps;
    for (Step& step : program.steps) {
        Step* product = steps.empty() ? nullptr : &steps.back();
        auto* layer = product == nullptr ? nullptr : std::get_if<ops::Layer>(&product->attributes);
        if (layer != nullptr && step.inputs[0] == product->output && uses[at(product->output)] == 1 && take(program, *product, step, *layer)) {
            if (!layer->after.any()) layer->after.own_output = product->output;
            product->output = step.output;
            continue;
        }
        steps.push_back(std::move(step));
    }
    program.steps = std::move(steps);
    return program;
}

}  // namespace onebit
