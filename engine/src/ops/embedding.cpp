#include <algorithm>
#include <vector>

#include "index.h"
#include "ops/families.h"

namespace onebit {
namespace {

// The eight numbers of each byte of bits.
struct Expansion {
    float of[256][8];

    explicit Expansion(float clear) {
        for (int byte = 0; byte < 256; ++byte) {
            for (int bit = 0; bit < 8; ++bit) of[byte][bit] = (byte >> bit & 1) != 0 ? 1.0f : clear;
        }
    }
};

// A row of a table for each token, or for each position.
class EmbeddingNode : public Node {
  public:
    explicit EmbeddingNode(const NodeSource& source)
        : Node(source.step), source_(source.step.as<ops::Embedding>()), of_position_(source_.of_position), width_(source.output().back()) {}

  protected:
    std::int64_t row_of(const Row& row) const { return of_position_ ? row.position : row.token; }

    ops::Embedding source_;  // until it is loaded
    bool of_position_;
    std::int64_t width_;
};

class FloatEmbedding : public EmbeddingNode {
  public:
    using EmbeddingNode::EmbeddingNode;

    TensorBytes tensor_bytes() const override { return {static_cast<std::uint64_t>(source_.rows * width_) * sizeof(float), 0}; }
    void load(Loading&) override {
        table_.assign(source_.table, source_.table + source_.rows * width_);
        source_ = {};
    }
    std::uint64_t weight_bytes() const override { return sizeof(float) * table_.size(); }

    void run(std::span<const In>, Out& out, const RunContext& context) override {
        float* y = out.data;
        for (const Row& row : context.tokens) y = std::copy_n(table_.data() + row_of(row) * width_, width_, y);
    }

  private:
    std::vector<float> table_;
};

class BitEmbedding : public EmbeddingNode {
  public:
    explicit BitEmbedding(const NodeSource& source) : EmbeddingNode(source), plus_minus_(source_.plus_minus) {}

    TensorBytes tensor_bytes() const override {
        return {static_cast<std::uint64_t>(source_.rows * row_bytes(width_) + width_ * std::int64_t{sizeof(float)}), 0};
    }
    void load(Loading&) override {
        bits_.assign(source_.bits, source_.bits + source_.rows * row_bytes(width_));
        bias_.assign(at(width_), 0.0f);
        for (std::int64_t c = 0; source_.bias != nullptr && c < width_; ++c) {
            bias_[at(c)] = (source_.bias[c / 8] >> (c % 8) & 1) != 0 ? 1.0f : (plus_minus_ ? -1.0f : 0.0f);
        }
        source_ = {};
    }
    std::uint64_t weight_bytes() const override { return bits_.size() + sizeof(float) * bias_.size(); }

    void run(std::span<const In>, Out& out, const RunContext& context) override {
        static const Expansion zero_one(0.0f), plus_minus(-1.0f);
        const Expansion& expansion = plus_minus_ ? plus_minus : zero_one;
        float* y = out.data;
        for (const Row& row : context.tokens) {
            const std::uint8_t* bits = bits_.data() + row_of(row) * row_bytes(width_);
            std::int64_t c = 0;
            for (; c + 8 <= width_; c += 8) {
                for (int i = 0; i < 8; ++i) y[c + i] = expansion.of[bits[c / 8]][i] + bias_[at(c + i)];
            }
            for (; c < width_; ++c) y[c] = expansion.of[bits[c / 8]][c % 8] + bias_[at(c)];
            y += width_;
        }
    }

  private:
    bool plus_minus_;
    std::vector<std::uint8_t> bits_;
    std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<Node> make_embedding(const NodeSource& source) {
    if (source.step.op == Op::embedding) return std::make_unique<FloatEmbedding>(source);
    return std::make_unique<BitEmbedding>(source);
}

}  // namespace onebit
