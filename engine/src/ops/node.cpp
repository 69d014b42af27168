#include "ops/node.h"

#include "index.h"

namespace onebit {

Workspace::Workspace(int threads) {
    product.threads.resize(at(threads));
    dense.threads.resize(at(threads));
    count.threads.resize(at(threads));
}

WorkingBytes Workspace::working_bytes() const {
    WorkingBytes sum = product.working_bytes();
    sum += dense.working_bytes();
    sum += count.working_bytes();
    sum += recurrent.working_bytes();
    sum += scores.working_bytes();
    return sum;
}

Node::Node(const Step& step) : output_(step.output) {
    for (const int input : step.inputs) {
        if (input >= 0) inputs_.push_back(input);
    }
    for (const Step& before : step.before) name_ += op_name(before.op) + std::string(" + ");
    name_ += op_name(step.op);
    for (const Step& after : step.after) name_ += std::string(" + ") + op_name(after.op);
}

Memory& Node::memory_of(const Row& row) const {
    return *row.sequence->memories[at(memory_)];
}

}  // namespace onebit
