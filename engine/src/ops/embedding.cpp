#include <algorithm>
#include <vector>

#include "bit_expansion.h"
#include "half.h"
#include "index.h"
#include "ops/families.h"

namespace onebit {
namespace {

// A row of a table for each token, or for each position.
class EmbeddingNode : public Node {
  public:
    explicit EmbeddingNode(const NodeSource& source)
        : Node(source.step),
          source_(source.step.as<ops::Embedding>()),
          of_position_(source_.of_position),
          width_(source.output().back()),
          in_width_(source.input().back()) {}

  protected:
    // Calls of(row) for the table's row of each token, or of each of a program's integers.
    template <class Function>
    void each_row(std::span<const In> in, const RunContext& context, const Function& of) const {
        for (const Row& row : context.tokens) of(of_position_ ? row.position : row.token);
        if (!context.tokens.empty()) return;
        for (std::int64_t i = 0; i < in[0].rows * in_width_; ++i) of(of_position_ ? i : static_cast<std::int64_t>(in[0].data[i]));
    }

    ops::Embedding source_;  // until it is loaded
    bool of_position_;
    std::int64_t width_, in_width_;
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

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        float* y = out.data;
        each_row(in, context, [&](std::int64_t row) { y = std::copy_n(table_.data() + row * width_, width_, y); });
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

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        float* y = out.data;
        each_row(in, context, [&](std::int64_t row) {
            std::copy_n(table_.data() + row * width_, width_, y);
            factors_.apply(row, y);
            y += width_;
        });
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

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        float* y = out.data;
        each_row(in, context, [&](std::int64_t row) {
            std::fill(y, y + width_, static_cast<float>(-zero_));
            const std::uint8_t* bits = bits_.data() + row * row_bytes(width_);
            for (std::size_t p = 0; p < planes_.size(); ++p) {
                add_bits(bits + static_cast<std::ptrdiff_t>(p) * plane_bytes(), width_, plus_minus_, static_cast<float>(planes_[p]), y);
            }
            factors_.apply(row, y);
            for (std::int64_t c = 0; c < width_; ++c) y[c] += bias_[at(c)];
            y += width_;
        });
    }

  private:
    std::int64_t plane_bytes() const { return rows_ * row_bytes(width_); }

    bool plus_minus_;
    std::int64_t rows_;
    std::vector<int> planes_;
    int zero_;
    GroupFactors factors_;
    std::vector<std::uint8_t> bits_;
    std::vector<float> bias_;
};

// The table of a layer with scales for groups, which lies in memory as that layer's product reads it.
class TiedEmbedding : public EmbeddingNode {
  public:
    TiedEmbedding(const NodeSource& source, std::size_t tied) : EmbeddingNode(source), tied_(tied) {}

    void load(Loading& loading) override {
        layer_ = loading.nodes[tied_].get();
        source_ = {};
    }
    std::string kernel() const override { return "rows of the tied layer's weights"; }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const GroupedLayer& layer = *layer_->grouped();
        bits_.resize(at(layer.row_bits_bytes()));
        float* y = out.data;
        each_row(in, context, [&](std::int64_t row) {
            layer.write_row(row, bits_.data(), y);
            y += width_;
        });
    }

  private:
    std::size_t tied_;
    const Node* layer_ = nullptr;
    std::vector<std::uint8_t> bits_;  // of a row
};

// The number of the step whose weights are an embedding's table, in every respect; or the number of steps.
std::size_t tied_step(const NodeSource& source) {
    const auto& table = source.step.as<ops::Embedding>();
    const auto& steps = source.program.steps;
    const auto tied = std::find_if(steps.begin(), steps.end(), [&](const Step& step) {
        const auto* layer = step.find<ops::Layer>();
        if (layer == nullptr || layer->groups.scales == nullptr || layer->groups.scales != table.groups.scales) return false;
        const NodeSource of_layer{step, source.program, source.kernels, source.precision, source.cache};
        const bool same_shape = of_layer.input().back() == source.output().back() && of_layer.own_output().back() == table.rows;
        const bool same_numbers = layer->groups.group == table.groups.group && layer->groups.zero == table.groups.zero && table.bias == nullptr;
        if (!same_shape || !same_numbers) return false;
        if (table.bytes != nullptr) return layer->bytes == table.bytes;
        return layer->bits.rows == table.bits && layer->bits.plus_minus == table.plus_minus && layer->bits.planes == table.planes;
    });
    return static_cast<std::size_t>(tied - steps.begin());
}

}  // namespace

std::unique_ptr<Node> make_embedding(const NodeSource& source) {
    if (const std::size_t tied = tied_step(source); tied < source.program.steps.size()) return std::make_unique<TiedEmbedding>(source, tied);
    if (source.step.op == Op::embedding) return std::make_unique<FloatEmbedding>(source);
    if (source.step.op == Op::int8_embedding) return std::make_unique<Int8Embedding>(source);
    return std::make_unique<BitEmbedding>(source);
}

}  // namespace onebit
