// Runs the nodes of a program, one after the other: the same for programs over arrays and over tokens. array_model.h and token_model.h say what comes
// in and what goes out.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "block.h"
#include "dense_group.h"
#include "kernels/kernels.h"
#include "memory_plan.h"
#include "ops/node.h"
#include "options.h"
#include "program.h"
#include "thread_pool.h"

namespace onebit {

// Tokens that pass through a program at once, at most: enough to share each expanded weight, few enough to stay small.
constexpr std::int64_t most_rows = 256;
// The same after the last node with a memory, where values are widest.
constexpr std::int64_t most_wanted_rows = 96;

class Executor {
  public:
    // Fuses the program, makes its nodes and copies what they need of the tensors. Throws std::invalid_argument for an unknown or unsupported
    // instruction set, or more memory for weights than the options allow. `place` comes next.
    Executor(Program program, const Options& options, CacheNumbers cache);

    // Finds room for all values. `more`: bytes that the caller takes besides. Throws std::invalid_argument where all together need more memory than
    // the options allow.
    void place(std::uint64_t more);

    // Where the caller has the input and wants the output, or null where they are in the arena. Such pointers are arguments and never members: a call
    // that fails must leave none.
    struct Call {
        const float* given = nullptr;
        float* taken = nullptr;
        std::span<const Row> tokens = {};               // of a program over tokens
        std::optional<float> threshold = std::nullopt;  // in place of that of every exit
    };
    // Runs nodes from `first` to before `end`, or to an exit at which the program ends. Returns the exits that it passed. The caller has the pool's
    // turn, if others may use it.
    int run(std::size_t first, std::size_t end, const Call& call);

    const Kernels& kernels() const { return kernels_; }
    Precision precision() const { return precision_; }
    ThreadPool& pool() { return *pool_; }
    const ThreadPool& pool() const { return *pool_; }
    const Shape& shape(int value) const { return program_.shapes[static_cast<std::size_t>(value)]; }
    std::size_t inputs() const { return program_.inputs(); }
    const std::string& name_of(int value) const { return program_.names[static_cast<std::size_t>(value)]; }
    // The first of them.
    int output() const { return program_.outputs.front(); }
    const std::vector<int>& outputs() const { return program_.outputs; }
    bool tokens() const { return program_.tokens; }
    std::size_t size() const { return nodes_.size(); }
    const Node& node(std::size_t i) const { return *nodes_[i]; }
    // Nodes up to the last that has a memory: of what comes after it, only the rows that are asked for are computed.
    std::size_t remembering() const { return remembering_; }
    // Tokens that pass at once up to there: fewer of programs with wide values.
    std::int64_t rows_at_once() const { return rows_at_once_; }
    // A value's place in the arena.
    float* value(int index) const { return reinterpret_cast<float*>(arena_.data() + placed_.offsets[static_cast<std::size_t>(index)]); }

    // Weights in the engine's layout, activations and working memory: now, and at most.
    std::size_t memory_bytes() const;
    std::uint64_t most_bytes() const { return most_bytes_; }
    std::size_t arena_bytes() const { return arena_.bytes(); }
    // From now on runs are timed node by node, beginning at 0. The caller has the turn.
    void time_nodes() { nanoseconds_.assign(nodes_.size(), 0); }
    // Of each node in the plan's order, all runs since then; empty before.
    const std::vector<std::int64_t>& nanoseconds() const { return nanoseconds_; }
    // What runs, in its order.
    std::vector<PlanLine> plan() const;

  private:
    void make_nodes(CacheNumbers cache, std::uint64_t memory_cap);
    void share_prepared_inputs();
    void group_layers();
    // Nodes that run as one from `first` on.
    std::size_t together(std::size_t first) const { return groups_[first] ? groups_[first]->size() : 1; }
    // Whether the program ends with the node.
    bool run_node(std::size_t i, const Call& call);
    void run_group(std::size_t first, const Call& call);
    void add_time(std::size_t first, std::int64_t nanoseconds);
    In input_of(int value, const Call& call) const;
    std::int64_t rows_of(int value, std::size_t node) const;
    // A value's place in a call: the output's is the caller's where it gave one, for those that read it too.
    float* place_of(int index, const Call& call) const;
    std::uint64_t weight_bytes() const;

    const Kernels& kernels_;
    Precision precision_;
    std::uint64_t memory_cap_;
    Program program_;  // after fusing; its tensors are the caller's and gone once the nodes are loaded
    std::shared_ptr<ThreadPool> pool_;
    Workspace workspace_;
    Block weights_;  // bits of all layers, in the order in which they are read
    std::vector<std::unique_ptr<Node>> nodes_;
    std::vector<std::optional<DenseGroup>> groups_;  // of nodes that begin one
    std::size_t remembering_ = 0;
    std::int64_t rows_at_once_ = most_rows;
    MemoryPlan placed_;
    std::uint64_t most_bytes_ = 0;
    Block arena_;                               // all values
    std::vector<std::optional<Range>> ranges_;  // of values whose makers told them
    std::vector<std::int64_t> nanoseconds_;     // of each node; empty where runs are not timed
};

}  // namespace onebit
