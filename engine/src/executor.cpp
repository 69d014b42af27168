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
// Threads share the laying out of so many bytes, which takes a millisecond, and more than starting them.
constexpr std::uint64_t least_loaded_together = std::uint64_t{8} << 20;
// The bytes of the widest value of the tokens that pass at once: with a value's width of 6,144 as many as may.
constexpr std::int64_t widest_value_bytes = std::int64_t{6} << 20;
constexpr std::int64_t least_rows = 64, row_step = 32;
// Layers that run as one.
constexpr std::size_t most_layers = 16;

}  // namespace

Executor::Executor(Program program, const Options& options, CacheNumbers cache)
    : kernels_(calibrated(choose_kernels(options.isa))),
      precision_(options.precision),
      memory_cap_(options.memory_cap),
      program_(fuse(std::move(program))),
      pool_(options.pool ? options.pool : std::make_shared<ThreadPool>(options.threads, options.pin)),
      workspace_(pool_->threads()),
      ranges_(program_.shapes.size()) {
    make_nodes(cache, options.memory_cap);
    share_prepared_inputs();
    group_layers();
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
    // Threads of its own: those of the pool may be at work for another session.
    ThreadPool loaders(sum.bits >= least_loaded_together ? pool_->threads() : 1);
    Loading loading{weights_.data(), kept_panels_bytes, pool_->threads(), loaders, nodes_};
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        nodes_[i]->load(loading);
        if (nodes_[i]->new_memory() == nullptr) continue;
        nodes_[i]->set_memory(memories++);
        remembering_ = i + 1;
    }
    program_.steps.clear();
    std::int64_t widest = 1;
    for (std::size_t i = 0; i < remembering_; ++i) widest = std::max(widest, shape(nodes_[i]->output()).back());
    const std::int64_t fit = widest_value_bytes / (widest * std::int64_t{sizeof(float)}) / row_step * row_step;
    rows_at_once_ = std::clamp(fit, least_rows, most_rows);
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

// Layers that follow each other and use what one of them prepared run as one.
void Executor::group_layers() {
    groups_.resize(nodes_.size());
    // A value that nobody reads may lie where the next one does: it must be made before that.
    std::vector<bool> read(program_.shapes.size(), false);
    for (const auto& node : nodes_) {
        for (const int input : node->inputs()) read[at(input)] = true;
    }
    for (const int output : outputs()) read[at(output)] = true;
    const auto joins = [&](std::size_t i) { return nodes_[i]->prepares() != nullptr && read[at(nodes_[i]->output())]; };
    for (std::size_t i = 0; i < nodes_.size();) {
        std::vector<const DenseLayer*> layers;
        std::size_t end = i;
        while (end < nodes_.size() && layers.size() < most_layers && joins(end) && (end == i || nodes_[end]->reuses_prepared()))
            layers.push_back(nodes_[end++]->prepares());
        if (layers.size() > 1) groups_[i].emplace(std::move(layers));
        i = std::max(i + 1, end);
    }
}

std::int64_t Executor::rows_of(int value, std::size_t node) const {
    if (tokens()) return node < remembering_ ? rows_at_once_ : most_wanted_rows;
    return elements(shape(value)) / shape(value).back();
}

void Executor::place(std::uint64_t more) {
    std::vector<Uses> steps;
    std::vector<std::int64_t> sizes(program_.shapes.size(), 0);
    for (std::size_t i = 0; !tokens() && i < inputs(); ++i) sizes[i] = elements(program_.shapes[i]) * std::int64_t{sizeof(float)};
    std::uint64_t passing = 0;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const Node& node = *nodes_[i];
        steps.push_back({node.inputs(), node.output()});
        sizes[at(node.output())] = rows_of(node.output(), i) * shape(node.output()).back() * std::int64_t{sizeof(float)};
        // Which way a layer takes depends on its rows: more need not be more memory.
        const std::int64_t most = rows_of(node.inputs()[0], i);
        for (std::int64_t rows = tokens() ? 1 : most; rows <= most; ++rows) {
            node.expect(rows, workspace_);
            if (groups_[i]) groups_[i]->expect(rows, workspace_.dense);
        }
        passing = std::max(passing, node.passing_bytes());
    }
    placed_ = plan_memory(steps, sizes, inputs(), outputs());
    most_bytes_ = weight_bytes() + workspace_.working_bytes().most + passing + static_cast<std::uint64_t>(placed_.bytes) + more;
    check_memory(most_bytes_, memory_cap_);
    arena_ = Block(at(placed_.bytes));
}

float* Executor::place_of(int index, const Call& call) const {
    return index == output() && call.taken != nullptr ? call.taken : value(index);
}

In Executor::input_of(int index, const Call& call) const {
    const std::optional<Range>& range = ranges_[at(index)];
    return {index == 0 && call.given != nullptr ? call.given : place_of(index, call),
            tokens() ? static_cast<std::int64_t>(call.tokens.size()) : elements(shape(index)) / shape(index).back(), range ? &*range : nullptr};
}

int Executor::run(std::size_t first, std::size_t end, const Call& call) {
    int passed = 0;
    for (std::size_t i = first; i < end; i += together(i)) {
        const trace::Span span(trace::enabled ? trace::keep(nodes_[i]->name()) : nullptr);
        pool_->check(0);
        const std::int64_t begin = nanoseconds_.empty() ? 0 : trace::now();
        bool ends = false;
        if (groups_[i]) {
            run_group(i, call);
        } else {
            ends = run_node(i, call);
        }
        if (!nanoseconds_.empty()) add_time(i, trace::now() - begin);
        if (ends) break;
        passed += nodes_[i]->may_end();
    }
    return passed;
}

bool Executor::run_node(std::size_t i, const Call& call) {
    constexpr std::size_t most_inputs = 4;
    Node& node = *nodes_[i];
    In in[most_inputs] = {};
    const std::vector<int>& inputs = node.inputs();
    for (std::size_t k = 0; k < inputs.size(); ++k) in[k] = input_of(inputs[k], call);
    Out out{place_of(node.output(), call), std::nullopt};
    node.run({in, inputs.size()}, out, {call.tokens, i + 1 == remembering_, *pool_, workspace_, call.threshold});
    ranges_[at(node.output())] = out.range;
    if (out.ends) {
        float* taken = place_of(output(), call);
        if (taken != out.data) std::copy_n(out.data, elements(shape(output())), taken);
    }
    return out.ends;
}

// The nodes of a group share its time as they share its weights: each row of weights is the same work.
void Executor::add_time(std::size_t first, std::int64_t nanoseconds) {
    const std::size_t end = first + together(first);
    std::size_t all = 0;
    for (std::size_t i = first; i < end; ++i) all += nodes_[i]->weight_bytes();
    for (std::size_t i = first; i < end; ++i) {
        const double share = end - first == 1 ? 1.0 : static_cast<double>(nodes_[i]->weight_bytes()) / static_cast<double>(all);
        nanoseconds_[i] += static_cast<std::int64_t>(share * static_cast<double>(nanoseconds));
    }
}

void Executor::run_group(std::size_t first, const Call& call) {
    float* y[most_layers];
    const DenseGroup& group = *groups_[first];
    for (std::size_t i = 0; i < group.size(); ++i) {
        const int value = nodes_[first + i]->output();
        y[i] = place_of(value, call);
        ranges_[at(value)] = std::nullopt;
    }
    const In in = input_of(nodes_[first]->inputs()[0], call);
    group.run(in.data, in.rows, nodes_[first]->reuses_prepared(), {y, group.size()}, *pool_, workspace_.dense);
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
