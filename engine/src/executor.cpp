#include "executor.h"

#include <algorithm>
#include <utility>

#include "calibration.h"
#include "cpu.h"
#include "fuse.h"
#include "index.h"
#include "ops/make_node.h"
#include "trace.h"

namespace onebit {
namespace {

// Expanded weights that are kept rather than expanded anew in each run: small networks become faster, large ones stay small.
constexpr std::size_t kept_panels_bytes = std::size_t{1} << 20;

}  // namespace

Executor::Executor(Program program, const Options& options, CacheNumbers cache)
    : kernels_(calibrated(choose_kernels(options.isa))),
      precision_(options.precision),
      memory_cap_(options.memory_cap),
      program_(fuse(std::move(program))),
      pool_(options.threads, options.pin),
      workspace_(pool_.threads()),
      ranges_(program_.shapes.size()) {
    make_nodes(cache, options.memory_cap);
    share_prepared_inputs();
}

void Executor::make_nodes(CacheNumbers cache, std::uint64_t memory_cap) {
    TensorBytes sum;
    int memories = 0;
    for (const Step& step : program_.steps) {
        nodes_.push_back(make_node({step, program_, kernels_, precision_, cache}));
        const TensorBytes of_node = nodes_.back()->tensor_bytes();
        sum.all += of_node.all;
        sum.bits += of_node.bits;
    }
    // Some layouts take many times the bytes of the file.
    check_memory(sum.all, memory_cap);
    weights_ = Block(static_cast<std::size_t>(sum.bits), true);
    Loading loading{weights_.data(), kept_panels_bytes, pool_.threads()};
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        nodes_[i]->load(loading);
        if (nodes_[i]->new_memory() == nullptr) continue;
        nodes_[i]->set_memory(memories++);
        remembering_ = i + 1;
    }
    program_.steps.clear();
}

// Queries, keys and values have one input, which is quantised once.
void Executor::share_prepared_inputs() {
    const Node* last = nullptr;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        Node& node = *nodes_[i];
        if (i == remembering_) last = nullptr;  // other rows from here on
        if (node.prepares() != nullptr) {
            const bool same_input = last != nullptr && last->inputs()[0] == node.inputs()[0];
            if (same_input && last->prepares()->prepares_for(*node.prepares())) node.reuse_prepared();
            last = &node;
        } else if (node.writes_prepared()) {
            last = nullptr;
        }
    }
}

std::int64_t Executor::rows_of(int value, std::size_t node) const {
    if (tokens()) return node < remembering_ ? most_rows : most_wanted_rows;
    return elements(shape(value)) / shape(value).back();
}

void Executor::place(std::uint64_t more) {
    std::vector<Uses> steps;
    std::vector<std::int64_t> sizes(program_.shapes.size(), 0);
    if (!tokens()) sizes[0] = elements(shape(0)) * std::int64_t{sizeof(float)};
    std::uint64_t passing = 0;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const Node& node = *nodes_[i];
        steps.push_back({node.inputs(), node.output()});
        sizes[at(node.output())] = rows_of(node.output(), i) * shape(node.output()).back() * std::int64_t{sizeof(float)};
        // Which way a layer takes depends on its rows: more need not be more memory.
        const std::int64_t most = rows_of(node.inputs()[0], i);
        for (std::int64_t rows = tokens() ? 1 : most; rows <= most; ++rows) node.expect(rows, workspace_);
        passing = std::max(passing, node.passing_bytes());
    }
    placed_ = plan_memory(steps, sizes, output());
    most_bytes_ = weight_bytes() + workspace_.working_bytes().most + passing + static_cast<std::uint64_t>(placed_.bytes) + more;
    check_memory(most_bytes_, memory_cap_);
    arena_ = Block(at(placed_.bytes));
}

float* Executor::place_of(int index, const Call& call) const {
    return index == output() && call.taken != nullptr ? call.taken : value(index);
}

void Executor::run(std::size_t first, std::size_t end, const Call& call) {
    constexpr std::size_t most_inputs = 3;
    const auto rows = static_cast<std::int64_t>(call.tokens.size());
    for (std::size_t i = first; i < end; ++i) {
        Node& node = *nodes_[i];
        const trace::Span span(trace::enabled ? trace::keep(node.name()) : nullptr);
        pool_.check(0);
        In in[most_inputs] = {};
        const std::vector<int>& inputs = node.inputs();
        for (std::size_t k = 0; k < inputs.size(); ++k) {
            const int index = inputs[k];
            const std::optional<Range>& range = ranges_[at(index)];
            in[k].data = index == 0 && call.given != nullptr ? call.given : place_of(index, call);
            in[k].rows = tokens() ? rows : elements(shape(index)) / shape(index).back();
            in[k].range = range ? &*range : nullptr;
        }
        Out out{place_of(node.output(), call), std::nullopt};
        node.run({in, inputs.size()}, out, {call.tokens, i + 1 == remembering_, pool_, workspace_});
        ranges_[at(node.output())] = out.range;
    }
}

std::vector<PlanLine> Executor::plan() const {
    std::vector<PlanLine> lines;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const Node& node = *nodes_[i];
        const int value = node.output();
        PlanLine line;
        line.step = node.name();
        line.value = program_.names[at(value)];
        line.shape = shape(value);
        line.kernel = node.kernel();
        line.offset = placed_.offsets[at(value)];
        line.bytes = rows_of(value, i) * shape(value).back() * std::int64_t{sizeof(float)};
        line.weight_bytes = static_cast<std::int64_t>(node.weight_bytes());
        lines.push_back(std::move(line));
    }
    return lines;
}

std::uint64_t Executor::weight_bytes() const {
    std::uint64_t sum = 0;
    for (const auto& node : nodes_) sum += node->weight_bytes();
    return sum;
}

std::size_t Executor::memory_bytes() const {
    return static_cast<std::size_t>(weight_bytes() + workspace_.working_bytes().now) + arena_.bytes();
}

}  // namespace onebit
