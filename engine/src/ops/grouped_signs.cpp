// Convolutions in groups whose inputs are counted as bits (xnor_layer.h): a layer for each group, which reads its channels and writes its outputs.
#include <algorithm>
#include <vector>

#include "copy_short.h"
#include "index.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

class GroupedSigns : public Node {
  public:
    explicit GroupedSigns(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          source_(source.step.as<ops::Layer>()),
          in_(source.input()),
          own_(source.own_output()),
          out_(source.output()),
          groups_(source_.window.groups) {}

    TensorBytes tensor_bytes() const override {
        const auto groups = static_cast<std::uint64_t>(groups_);
        return {groups * XnorLayer::weight_bytes(of_group(), in_.back() / groups_, own_.back() / groups_), 0};
    }
    void load(Loading&) override {
        for (std::int64_t g = 0; g < groups_; ++g) load_group(g);
        source_ = {};
    }
    void expect(std::int64_t rows, Workspace& workspace) const override {
        for (const XnorLayer& layer : layers_) layer.expect(rows, workspace.count);
        workspace.scores.expect(static_cast<std::uint64_t>((elements(in_) + elements(out_)) / groups_));
    }
    std::string kernel() const override { return std::to_string(groups_) + " groups of " + layers_.front().kernel(); }
    std::uint64_t weight_bytes() const override {
        std::uint64_t sum = 0;
        for (const XnorLayer& layer : layers_) sum += layer.bytes();
        return sum;
    }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const std::int64_t channels = in_.back() / groups_, outputs = out_.back() / groups_;
        const std::int64_t pixels = elements(in_) / in_.back(), made = elements(out_) / out_.back();
        float* x = context.workspace.scores.reserve(at((elements(in_) + elements(out_)) / groups_));
        float* y = x + pixels * channels;
        Range range;
        for (std::int64_t g = 0; g < groups_; ++g) {
            const float* from = in[0].data + g * channels;
            parallel_rows(context.pool, pixels, channels, [&](std::int64_t first, std::int64_t count) {
                for (std::int64_t p = first; p < first + count; ++p) copy_short(from + p * in_.back(), channels, x + p * channels);
            });
            range.include(layers_[at(g)].run(x, in[0].rows, y, context.pool, context.workspace.count));
            float* to = out.data + g * outputs;
            parallel_rows(context.pool, made, outputs, [&](std::int64_t first, std::int64_t count) {
                for (std::int64_t p = first; p < first + count; ++p) copy_short(y + p * outputs, outputs, to + p * out_.back());
            });
        }
        out.range = range;
    }

  private:
    ops::Layer of_group() const {
        ops::Layer layer = source_;
        layer.window.groups = 1;
        return layer;
    }

    void load_group(std::int64_t g) {
        const std::int64_t outputs = own_.back() / groups_, inputs = in_.back() / groups_, planes = source_.bits.plane_count();
        const std::int64_t stored = row_bytes(source_.window.kernel[0] * source_.window.kernel[1] * inputs), first = g * outputs;
        ops::Layer layer = of_group();
        std::vector<std::uint8_t> rows, bias;
        for (std::int64_t plane = 0; plane < planes; ++plane) {
            const std::uint8_t* from = source_.bits.rows + (plane * own_.back() + first) * stored;
            rows.insert(rows.end(), from, from + outputs * stored);
        }
        layer.bits.rows = rows.data();
        if (layer.bias_bits != nullptr) {
            bias.assign(at(row_bytes(outputs)), 0);
            for (std::int64_t o = 0; o < outputs; ++o) {
                const auto bit = static_cast<std::uint8_t>(source_.bias_bits[(first + o) / 8] >> ((first + o) % 8) & 1);
                bias[at(o / 8)] |= static_cast<std::uint8_t>(bit << (o % 8));
            }
            layer.bias_bits = bias.data();
        }
        if (auto& affine = layer.after.scale_shift; affine) {
            affine->scale += first;
            if (affine->shift != nullptr) affine->shift += first;
        }
        Shape in = in_, own = own_;
        in.back() = inputs, own.back() = outputs;
        layers_.emplace_back(layer, in, own, kernels_);
    }

    const Kernels& kernels_;
    ops::Layer source_;  // until it is loaded
    Shape in_, own_, out_;
    std::int64_t groups_;
    std::vector<XnorLayer> layers_;
};

}  // namespace

bool counts_in_groups(const ops::Layer& layer, std::int64_t channels, std::int64_t outputs) {
    const std::int64_t groups = layer.window.groups;
    ops::Layer of_group = layer;
    of_group.window.groups = 1;
    // With words that are filled in part, bytes are faster.
    return groups > 1 && channels / groups >= xnor_inputs && !layer.before && !layer.after.normalize &&
           XnorLayer::suits(of_group, channels / groups, outputs / groups);
}
std::unique_ptr<Node> make_grouped_signs(const NodeSource& source) {
    return std::make_unique<GroupedSigns>(source);
}

}  // namespace onebit
