#include "fuse.h"

#include <algorithm>
#include <utility>

#include "index.h"
#include "product_layer.h"
#include "xnor_layer.h"

namespace onebit {
namespace {

// How often each value is read; the program's output once more.
std::vector<int> uses_of(const Program& program) {
    std::vector<int> uses(program.shapes.size(), 0);
    for (const Step& step : program.steps) {
        for (const int input : step.inputs) {
            if (input >= 0) ++uses[at(input)];
        }
    }
    ++uses[at(program.output)];
    return uses;
}

bool is_product(Op op) {
    return op == Op::bit_conv2d || op == Op::bit_linear || op == Op::conv2d || op == Op::linear;
}

const Shape& input_of(const Program& program, const Step& step) {
    return program.shapes[at(step.inputs[0])];
}

bool counts(const Program& program, const Step& step) {
    return XnorLayer::suits(step, input_of(program, step).back(), program.shapes[at(step.output)].back());
}

bool has(const Step& product, Op op) {
    return std::any_of(product.after.begin(), product.after.end(), [op](const Step& taken) { return taken.op == op; });
}

// Whether the epilogue of a product, with what it has taken in already, has a place for the step that follows.
bool takes(const Program& program, const Step& product, const Step& next) {
    if (has(product, Op::max_pool2d)) return false;
    if (next.op == Op::normalize) return next.over_channel && product.after.empty();
    if (next.op == Op::scale_shift) return product.after.empty();
    if (next.op == Op::relu) return !has(product, Op::relu);
    if (next.op != Op::max_pool2d || (product.op != Op::bit_conv2d && product.op != Op::conv2d)) return false;
    const Window& w = next.window;
    const bool side_by_side =
        w.kernel[0] == w.stride[0] && w.kernel[1] == w.stride[1] && std::all_of(w.padding, w.padding + 4, [](auto p) { return p == 0; });
    // Rows of a convolution of bytes wait until they are pooled.
    const Shape& x = input_of(program, next);
    const std::int64_t sums = static_cast<std::int64_t>(product.planes.size()) * x.back();
    return side_by_side && (counts(program, product) || ProductLayer::can_pool(w, x[1], sums));
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
        if (step.op == Op::scale_shift && next != nullptr && next->inputs[0] == step.output && uses[at(step.output)] == 1 && counts(program, *next) &&
            XnorLayer::folds(*next, step, input_of(program, step).back())) {
            next->inputs[0] = step.inputs[0];
            next->before.push_back(std::move(step));
            continue;
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
        Step* product = steps.empty() || !is_product(steps.back().op) ? nullptr : &steps.back();
        if (product != nullptr && step.inputs[0] == product->output && uses[at(product->output)] == 1 && takes(program, *product, step)) {
            product->output = step.output;
            product->after.push_back(std::move(step));
            continue;
        }
        steps.push_back(std::move(step));
    }
    program.steps = std::move(steps);
    return program;
}

}  // namespace onebit
