#include <optional>
#include <span>
#include <vector>

#include "index.h"
#include "ops/families.h"

namespace onebit {
namespace {

// What a recurrence has made of one sequence: its state after each token, so that a sequence may be cut anywhere, as one with keys and values may.
class States : public Memory {
  public:
    explicit States(std::int64_t size) : size_(size) {}

    // Room for so many tokens; what is there stays.
    void reserve(std::int64_t tokens) {
        const std::size_t size = at((tokens + 1) * size_);
        if (size > numbers_.size()) numbers_.resize(size, 0.0f);
    }
    // The state after the token at a position for which there is room; at -1 the state before all tokens, which is 0.
    float* after(std::int64_t position) { return numbers_.data() + (position + 1) * size_; }
    std::size_t bytes() const override { return numbers_.capacity() * sizeof(float); }
    std::unique_ptr<Memory> copy() const override { return std::make_unique<States>(*this); }
    std::vector<std::span<std::byte>> contents(std::int64_t tokens) override {
        reserve(tokens);
        return {std::as_writable_bytes(std::span(numbers_.data(), at((tokens + 1) * size_)))};
    }

  private:
    std::int64_t size_;
    std::vector<float> numbers_;
};

class RecurrenceNode : public Node {
  public:
    explicit RecurrenceNode(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          source_(source.step.as<ops::Recurrence>()),
          quantizes_(source.quantizes(source_.bits)),
          tokens_(source.program.tokens),
          gates_(source.input().back()),
          hidden_(source.output().back()) {}

    TensorBytes tensor_bytes() const override {
        return {RecurrentLayer::weight_bytes(source_, kernels_), RecurrentLayer::bits_bytes(source_, kernels_)};
    }
    void load(Loading& loading) override {
        layer_.emplace(source_, quantizes_, kernels_, loading.bits);
        loading.bits += RecurrentLayer::bits_bytes(source_, kernels_);
        source_ = {};
    }
    void expect(std::int64_t rows, Workspace& workspace) const override {
        // Of tokens, as many sequences as rows may pass at once; an array is one.
        layer_->expect(tokens_ ? rows : 1, workspace.dense, workspace.recurrent);
    }
    std::unique_ptr<Memory> new_memory() const override { return tokens_ ? std::make_unique<States>(layer_->state_size()) : nullptr; }
    std::uint64_t memory_bytes() const override { return static_cast<std::uint64_t>(2 * layer_->state_size()) * sizeof(float); }
    bool writes_prepared() const override { return true; }
    std::string kernel() const override { return layer_->kernel(); }
    std::uint64_t weight_bytes() const override { return layer_->bytes(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        Workspace& workspace = context.workspace;
        if (tokens_) {
            layer_->run(parts_of(in[0].data, out.data, context.tokens), context.pool, workspace.dense, workspace.recurrent);
        } else {
            layer_->run_whole(in[0].data, in[0].rows, out.data, context.pool, workspace.dense, workspace.recurrent);
        }
    }

  private:
    // Neighbouring rows of one sequence are a part.
    std::vector<RecurrentLayer::Part> parts_of(const float* x, float* y, std::span<const Row> rows) const {
        std::vector<RecurrentLayer::Part> parts;
        for (std::size_t r = 0; r < rows.size();) {
            std::size_t end = r + 1;
            while (end < rows.size() && rows[end].sequence == rows[r].sequence) ++end;
            auto& states = static_cast<States&>(memory_of(rows[r]));
            states.reserve(rows[end - 1].position + 1);
            const auto first = static_cast<std::int64_t>(r), steps = static_cast<std::int64_t>(end - r);
            float *before = states.after(rows[r].position - 1), *after = states.after(rows[r].position);
            parts.push_back({steps, x + first * gates_, gates_, before, after, layer_->state_size(), y + first * hidden_, hidden_});
            r = end;
        }
        return parts;
    }

    const Kernels& kernels_;
    ops::Recurrence source_;  // until it is loaded
    bool quantizes_, tokens_;
    std::int64_t gates_, hidden_;
    std::optional<RecurrentLayer> layer_;
};

}  // namespace

std::unique_ptr<Node> make_recurrence(const NodeSource& source) {
    return std::make_unique<RecurrenceNode>(source);
}

}  // namespace onebit
