#include "ops/node.h"

#include "index.h"

namespace onebit {

Workspace::Workspace(int threads) {
    product.threads.resize(at(threads));
    dense.threads.resize(at(threads));
    count.threads.resize(at(threads));
    grouped.threads.resize(at(threads));
}

WorkingBytes Workspace::working_bytes() const {
    WorkingBytes sum = product.working_bytes();
    sum += dense.working_bytes();
    sum += count.working_bytes();
    sum += recurrent.working_bytes();
    sum += scores.working_bytes();
    sum += rotary.working_bytes();
    sum += grouped.working_bytes();
    return sum;
}

Node::Node(const Step& step) : output_(step.output) {
    for (const int input : step.inputs) {
        if (input >= 0) inputs_.push_back(input);
    }
    const auto* layer = step.find<ops::Layer>();
    if (layer != nullptr && layer->before) name_ += op_name(Op::scale_shift) + std::string(" + ");
    name_ += op_name(step.op);
    if (layer == nullptr) return;
    const auto add = [&](bool fused, Op op) {
        if (fused) name_ += std::string(" + ") + op_name(op);
    };
    add(layer->after.normalize.has_value(), Op::normalize);
    add(layer->after.scale_shift.has_value(), Op::scale_shift);
    add(layer->after.relu, Op::relu);
    if (layer->after.activation) add(true, *layer->after.activation);
    add(layer->after.max_pool.has_value(), Op::max_pool2d);
}

Memory& Node::memory_of(const Row& row) const {
    return *row.sequence->memories[at(memory_)];
}

}  // namespace onebit
