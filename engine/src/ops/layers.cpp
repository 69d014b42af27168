// Products with weights: a node for each kind of layer that computes them.
#include <optional>

#include "index.h"
#include "ops/families.h"

namespace onebit {
namespace {

// What the three kinds share. The step is the program's until it is loaded.
class LayerNode : public Node {
  public:
    explicit LayerNode(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          step_(source.step),
          input_(source.input()),
          output_(source.own_output()),
          quantizes_(source.quantizes()) {}

  protected:
    const Kernels& kernels_;
    Step step_;
    Shape input_, output_;
    bool quantizes_;
};

// A dense layer whose weights are read as bits, or that is one of a program over tokens.
class DenseNode : public LayerNode {
  public:
    using LayerNode::LayerNode;

    TensorBytes tensor_bytes() const override { return {DenseLayer::weight_bytes(step_, input_.back(), output_.back(), kernels_), bits_bytes()}; }
    void load(Loading& loading) override {
        layer_.emplace(step_, input_.back(), output_.back(), quantizes_, kernels_, loading.bits, loading.threads);
        loading.bits += bits_bytes();
        step_ = {};
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
        if (step_.bits == nullptr) return 0;
        return BitMatrix::bytes(input_.back(), static_cast<std::int64_t>(step_.planes.size()) * output_.back(), kernels_);
    }

    std::optional<DenseLayer> layer_;
};

// A convolution, or a dense layer of floats.
class ProductNode : public LayerNode {
  public:
    using LayerNode::LayerNode;

    TensorBytes tensor_bytes() const override { return {ProductLayer::weight_bytes(step_, input_, output_, quantizes_, kernels_), 0}; }
    void load(Loading& loading) override {
        layer_.emplace(step_, input_, output_, quantizes_, kernels_, loading.panels);
        step_ = {};
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

    TensorBytes tensor_bytes() const override { return {XnorLayer::weight_bytes(step_, input_.back(), output_.back()), 0}; }
    void load(Loading&) override {
        layer_.emplace(step_, input_, output_, kernels_);
        step_ = {};
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

}  // namespace

std::unique_ptr<Node> make_layer(const NodeSource& source) {
    const Step& step = source.step;
    if (XnorLayer::suits(step, source.input().back(), source.own_output().back())) return std::make_unique<XnorNode>(source);
    const bool dense = step.op == Op::bit_linear || step.op == Op::linear;
    if (dense && (source.program.tokens || source.quantizes())) return std::make_unique<DenseNode>(source);
    return std::make_unique<ProductNode>(source);
}

}  // namespace onebit
