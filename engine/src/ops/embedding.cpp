#include <algorithm>
#include <vector>

#include "half.h"
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

// A float16 number for each group of features of a row.
class GroupFactors {
  public:
    explicit GroupFactors(const ops::Embedding& of, std::int64_t width)
        : group_(of.groups.scales == nullptr ? width : of.groups.group), groups_(of.groups.scales == nullptr ? 0 : width / group_) {}

    std::uint64_t bytes(std::int64_t rows) const { return static_cast<std::uint64_t>(rows * groups_) * sizeof(std::uint16_t); }
    void load(const ops::Embedding& of) { scales_.assign(of.groups.scales, of.groups.scales + of.rows * groups_); }
    // Multiplies a row's numbers.
    void apply(std::int64_t row, float* y) const {
        for (std::int64_t g = 0; g < groups_; ++g, y += group_) {
            const float scale = from_half(scales_[at(row * groups_ + g)]);
            for (std::int64_t i = 0; i < group_; ++i) y[i] *= scale;
        }
    }

  private:
    std::int64_t group_, groups_;
    std::vector<std::uint16_t> scales_;
};

// Signed bytes with scales.
class Int8Embedding : public EmbeddingNode {
  public:
    explicit Int8Embedding(const NodeSource& source) : EmbeddingNode(source), rows_(source_.rows), factors_(source_, width_) {}

    TensorBytes tensor_bytes() const override { return {weight_bytes(), 0}; }
    void load(Loading&) override {
        table_.assign(source_.bytes, source_.bytes + rows_ * width_);
        factors_.load(source_);
        source_ = {};
    }
    std::uint64_t weight_bytes() const override { return static_cast<std::uint64_t>(rows_ * width_) + factors_.bytes(rows_); }

    void run(std::span<const In>, Out& out, const RunContext& context) override {
        float* y = out.data;
        for (const Row& row : context.tokens) {
            std::copy_n(table_.data() + row_of(row) * width_, width_, y);
            factors_.apply(row_of(row), y);
            y += width_;
        }
    }

  private:
    std::int64_t rows_;
    GroupFactors factors_;
    std::vector<std::int8_t> table_;
};

class BitEmbedding : public EmbeddingNode {
  public:
    explicit BitEmbedding(const NodeSource& source)
        : EmbeddingNode(source),
          plus_minus_(source_.plus_minus),
          rows_(source_.rows),
          planes_(source_.planes),
          zero_(source_.groups.zero),
          factors_(source_, width_) {}

    TensorBytes tensor_bytes() const override { return {weight_bytes(), 0}; }
    void load(Loading&) override {
        bits_.assign(source_.bits, source_.bits + plane_bytes() * static_cast<std::int64_t>(planes_.size()));
        bias_.assign(at(width_), 0.0f);
        for (std::int64_t c = 0; source_.bias != nullptr && c < width_; ++c) {
            bias_[at(c)] = (source_.bias[c / 8] >> (c % 8) & 1) != 0 ? 1.0f : (plus_minus_ ? -1.0f : 0.0f);
        }
        if (source_.groups.scales != nullptr) factors_.load(source_);
        source_ = {};
    }
    std::uint64_t weight_bytes() const override {
        return static_cast<std::uint64_t>(plane_bytes()) * planes_.size() + sizeof(float) * at(width_) + factors_.bytes(rows_);
    }

    void run(std::span<const In>, Out& out, const RunContext& context) override {
        float* y = out.data;
        for (const Row& row : context.tokens) {
            std::fill(y, y + width_, static_cast<float>(-zero_));
            const std::uint8_t* bits = bits_.data() + row_of(row) * row_bytes(width_);
            for (std::size_t p = 0; p < planes_.size(); ++p) {
                add_row(bits + static_cast<std::ptrdiff_t>(p) * plane_bytes(), static_cast<float>(planes_[p]), y);
            }
            factors_.apply(row_of(row), y);
            for (std::int64_t c = 0; c < width_; ++c) y[c] += bias_[at(c)];
            y += width_;
        }
    }

  private:
    std::int64_t plane_bytes() const { return rows_ * row_bytes(width_); }

    // A row of a plane: whole numbers, whose sums are exact.
    void add_row(const std::uint8_t* bits, float count, float* y) const {
        static const Expansion zero_one(0.0f), plus_minus(-1.0f);
        const Expansion& expansion = plus_minus_ ? plus_minus : zero_one;
        std::int64_t c = 0;
        for (; c + 8 <= width_; c += 8) {
            for (int i = 0; i < 8; ++i) y[c + i] += count * expansion.of[bits[c / 8]][i];
        }
        for (; c < width_; ++c) y[c] += count * expansion.of[bits[c / 8]][c % 8];
    }

    bool plus_minus_;
    std::int64_t rows_;
    std::vector<int> planes_;
    int zero_;
    GroupFactors factors_;
    std::vector<std::uint8_t> bits_;
    std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<Node> make_embedding(const NodeSource& source) {
    if (source.step.op == Op::embedding) return std::make_unique<FloatEmbedding>(source);
    if (source.step.op == Op::int8_embedding) return std::make_unique<Int8Embedding>(source);
    return std::make_unique<BitEmbedding>(source);
}

}  // namespace onebit
