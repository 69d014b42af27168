// A step as it runs. make_node.h makes one of each step; the executor gives them their inputs and the places of their outputs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dense_layer.h"
#include "grouped_layer.h"
#include "memory_plan.h"
#include "product_layer.h"
#include "program.h"
#include "quantizer.h"
#include "recurrent_layer.h"
#include "rotary.h"
#include "thread_pool.h"
#include "xnor_layer.h"

namespace onebit {

// Working memory that all nodes share: they run one after the other.
struct Workspace {
    Scratch product;
    DenseScratch dense;
    XnorScratch count;
    RecurrentScratch recurrent;
    Buffer<float> scores;  // of attention; what the layer of a transposed convolution makes
    RotaryTables rotary;
    GroupedScratch grouped;

    explicit Workspace(int threads);
    WorkingBytes working_bytes() const;
};

// What a node keeps of one sequence of tokens: keys and values, or states.
class Memory {
  public:
    virtual ~Memory() = default;
    virtual std::size_t bytes() const = 0;
    virtual std::unique_ptr<Memory> copy() const = 0;
    // What it keeps of the first `tokens` tokens, for which it makes room: to copy out, or in from another one of the same node.
    virtual std::vector<std::span<std::byte>> contents(std::int64_t tokens) = 0;
};

struct Sequence {
    bool open = false;
    std::int64_t length = 0;
    std::int64_t awaited = 0;  // its length after the tokens that are on their way: memories need not grow with each part of a prompt
    std::vector<std::unique_ptr<Memory>> memories;  // of each node that has one
};

// A row of values over tokens.
struct Row {
    Sequence* sequence;
    std::int64_t position;
    std::int32_t token;
    bool wanted;  // its outputs are asked for
};

// Rows are all but the last axis of a value: positions of an image, time steps, tokens.
struct In {
    const float* data;
    std::int64_t rows;
    const Range* range;  // of a whole array where its maker has told it, else null
};

struct Out {
    float* data;
    std::optional<Range> range;
    bool ends = false;  // the program ends here, with this value as its output
};

struct RunContext {
    std::span<const Row> tokens;  // of programs over tokens, else empty
    bool only_wanted;             // no later node looks back: rows that are not wanted need no output
    ThreadPool& pool;
    Workspace& workspace;
    std::optional<float> threshold = std::nullopt;  // in place of that of every exit
};

// Bytes that a node takes of its tensors.
struct TensorBytes {
    std::uint64_t all = 0;
    std::uint64_t bits = 0;  // of these, in the block of bits that all nodes share
};

class Node;

// Where nodes copy their tensors to, one after the other.
struct Loading {
    std::uint8_t* bits;                            // in the block that they share: the rest of it
    std::size_t panels;                            // bytes that may still be spent on keeping expanded weights
    int threads;                                   // that will run the nodes
    ThreadPool& pool;                              // that lays weights out
    std::span<const std::unique_ptr<Node>> nodes;  // of the program's steps
};

class Node {
  public:
    explicit Node(const Step& step);
    virtual ~Node() = default;
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    // What `load` will take, at most.
    virtual TensorBytes tensor_bytes() const { return {}; }
    // Copies the step's tensors: they are the caller's.
    virtual void load(Loading&) {}
    virtual void run(std::span<const In> in, Out& out, const RunContext& context) = 0;

    // Says what runs of so many rows of the first input will take of the working memory.
    virtual void expect(std::int64_t /*rows*/, Workspace&) const {}
    // What a run takes for itself and gives back.
    virtual std::uint64_t passing_bytes() const { return 0; }
    // A new memory of a sequence, or null where a node remembers nothing; and what it takes for the first tokens.
    virtual std::unique_ptr<Memory> new_memory() const { return nullptr; }
    virtual std::uint64_t memory_bytes() const { return 0; }

    // The weights of a layer with scales for groups, which an embedding of the same tensors reads; else null.
    virtual const GroupedLayer* grouped() const { return nullptr; }
    // The layer that leaves its first input quantised in the working memory, or null. Another one of the same input may reuse it, unless a node
    // between them writes there too.
    virtual const DenseLayer* prepares() const { return nullptr; }
    virtual bool writes_prepared() const { return false; }

    // Whether a program may end here.
    virtual bool may_end() const { return false; }

    // The kernel and the layout of the weights, for people; empty for plain loops.
    virtual std::string kernel() const { return ""; }
    virtual std::uint64_t weight_bytes() const { return 0; }

    const std::vector<int>& inputs() const { return inputs_; }
    int output() const { return output_; }
    const std::string& name() const { return name_; }
    int memory() const { return memory_; }
    void set_memory(int index) { memory_ = index; }
    void reuse_prepared() { reuses_prepared_ = true; }
    bool reuses_prepared() const { return reuses_prepared_; }

  protected:
    Memory& memory_of(const Row& row) const;

  private:
    bool reuses_prepared_ = false;
    std::vector<int> inputs_;  // values
    int output_;
    std::string name_;  // with the steps that it took in
    int memory_ = -1;   // which of a sequence's is this node's
};

}  // namespace onebit
