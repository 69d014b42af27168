// Products with weights: a node for each kind of layer that computes them.
#include <optional>

#include "index.h"
#include "ops/families.h"

namespace onebit {
namespace {

// What the three kinds share.
class LayerNode : public Node {
  public:
    explicit LayerNode(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          source_(source.step.as<ops::Layer>()),
          input_(source.input()),
          output_(source.own_output()),
          quantizes_(source.quantizes(source_.bits)) {}

  protected:
    const Kernels& kernels_;
    ops::Layer source_;  // until it is loaded
    Shape input_, output_;
    bool quantizes_;
};

// A dense layer whose weights are read as bits, or that is one of a program over tokens.
class DenseNode : public LayerNode {
  public:
    using LayerNode::LayerNode;

    TensorBytes tensor_bytes() const override { return {DenseLayer::weight_bytes(source_, input_.back(), output_.back(), kernels_), bits_bytes()}; }
    void load(Loading& loading) override {
        layer_.emplace(source_, input_.back(), output_.back(), quantizes_, kernels_, loading.bits, loading.threads, &loading.pool);
        loading.bits += bits_bytes();
        source_ = {};
    }
    void expect(std::int64_t rows, Workspace& workspace) const override { layer_->expect(rows, workspace.dense); }
    const DenseLayer* prepares() const override { return quantizes_ ? &*layer_ : nullptr; }
    std::string kernel() const override { return layer_->kernel(); }
    std::uint64_t weight_bytes() const override { return layer_->bytes(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        layer_->run(in[0].data, in[0].rows, reuses_prepared(), out.data, context.pool, context.workspace.dense);
    }

  private:
    std::uint64_t bits_bytes() const {
        if (!source_.binary()) return 0;
        return BitMatrix::bytes(input_.back(), source_.bits.plane_count() * output_.back(), kernels_);
    }

    std::optional<DenseLayer> layer_;
};

// A convolution, or a dense layer of floats.
class ProductNode : public LayerNode {
  public:
    using LayerNode::LayerNode;

    TensorBytes tensor_bytes() const override { return {ProductLayer::weight_bytes(source_, input_, output_, quantizes_, kernels_), 0}; }
    void load(Loading& loading) override {
        layer_.emplace(source_, input_, output_, quantizes_, kernels_, loading.panels);
        source_ = {};
    }
    void expect(std::int64_t, Workspace& workspace) const override { layer_->expect(workspace.product); }
    std::string kernel() const override { return layer_->kernel(); }
    std::uint64_t weight_bytes() const override { return layer_->bytes(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        out.range = layer_->run(in[0].data, in[0].range, out.data, context.pool, context.workspace.product);
    }

  private:
    std::optional<ProductLayer> layer_;
};

// A convolution or a dense layer whose inputs are signs, or levels of few bits.
class XnorNode : public LayerNode {
  public:
    using LayerNode::LayerNode;

    TensorBytes tensor_bytes() const override { return {XnorLayer::weight_bytes(source_, input_.back(), output_.back()), 0}; }
    void load(Loading&) override {
        layer_.emplace(source_, input_, output_, kernels_);
        source_ = {};
    }
    void expect(std::int64_t rows, Workspace& workspace) const override { layer_->expect(rows, workspace.count); }
    std::string kernel() const override { return layer_->kernel(); }
    std::uint64_t weight_bytes() const override { return layer_->bytes(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        out.range = layer_->run(in[0].data, in[0].rows, out.data, context.pool, context.workspace.count);
    }

  private:
    std::optional<XnorLayer> layer_;
};

// A dense layer with a scale for each group of inputs.
class GroupedNode : public LayerNode {
  public:
    explicit GroupedNode(const NodeSource& source) : LayerNode(source) { quantizes_ = source.precision == Precision::int8; }

    TensorBytes tensor_bytes() const override {
        const std::uint64_t bytes = GroupedLayer::weight_bytes(source_, input_.back(), output_.back(), kernels_);
        return {bytes, bytes};
    }
    void load(Loading& loading) override {
        layer_.emplace(source_, input_.back(), output_.back(), quantizes_, kernels_, loading.bits, loading.threads, loading.pool);
        loading.bits += tensor_bytes().bits;
        source_ = {};
    }
    const GroupedLayer* grouped() const override { return &*layer_; }
    void expect(std::int64_t rows, Workspace& workspace) const override { layer_->expect(rows, workspace.grouped); }
    std::string kernel() const override { return layer_->kernel(); }
    std::uint64_t weight_bytes() const override { return layer_->bytes(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        layer_->run(in[0].data, in[0].rows, out.data, context.pool, context.workspace.grouped);
    }

  private:
    std::optional<GroupedLayer> layer_;
};

}  // namespace

std::unique_ptr<Node> make_layer(const NodeSource& source) {
    const auto& layer = source.step.as<ops::Layer>();
    if (layer.groups.scales != nullptr) return std::make_unique<GroupedNode>(source);
    if (counts_in_groups(layer, source.input().back(), source.own_output().back())) return make_grouped_signs(source);
    if (XnorLayer::suits(layer, source.input().back(), source.own_output().back())) return std::make_unique<XnorNode>(source);
    if (!layer.convolution && (source.program.tokens || source.quantizes(layer.bits))) return std::make_unique<DenseNode>(source);
    return std::make_unique<ProductNode>(source);
}

}  // namespace onebit
