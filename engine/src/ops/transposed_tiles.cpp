// Transposed convolutions whose kernel is their stride, as U-Nets have them: each pixel becomes a tile of its own. So all taps are the outputs of one
// layer of single pixels, and its results are put side by side.
#include <algorithm>
#include <vector>

#include "copy_short.h"
#include "index.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

class TransposedTiles : public Node {
  public:
    explicit TransposedTiles(const NodeSource& source)
        : Node(source.step), in_(source.input()), outputs_(source.output().back()), high_(window(source).kernel[0]), wide_(window(source).kernel[1]) {
        Step step;
        ops::Layer layer = source.step.as<ops::TransposedConvolution>().layer;
        step.op = layer.binary() ? Op::bit_conv2d : Op::conv2d;
        step.inputs[0] = 0;
        step.output = 1;
        layer.window = {};
        take_weights(layer);
        Program program;
        program.shapes = {in_, {in_[0], in_[1], high_ * wide_ * outputs_}};
        step.attributes = std::move(layer);
        layer_ = make_layer({step, program, source.kernels, source.precision, source.cache});
    }

    static bool suits(const ops::TransposedConvolution& of) {
        const Window& w = of.layer.window;
        return w.groups == 1 && w.kernel[0] == w.stride[0] && w.kernel[1] == w.stride[1] && of.output_padding[0] == 0 && of.output_padding[1] == 0 &&
               std::all_of(w.padding, w.padding + 4, [](std::int64_t p) { return p == 0; });
    }

    TensorBytes tensor_bytes() const override { return layer_->tensor_bytes(); }
    void load(Loading& loading) override {
        layer_->load(loading);
        bits_ = {}, bias_bits_ = {};
        weight_ = {}, bias_ = {};
    }
    void expect(std::int64_t rows, Workspace& workspace) const override {
        layer_->expect(rows, workspace);
        workspace.scores.expect(static_cast<std::uint64_t>(made()));
    }
    std::string kernel() const override { return "tiles of " + layer_->kernel(); }
    std::uint64_t weight_bytes() const override { return layer_->weight_bytes(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        Out result{context.workspace.scores.reserve(at(made())), std::nullopt};
        layer_->run(in, result, context);
        // The places of a pixel in a line of the output are neighbours, in what the layer made too.
        const std::int64_t run = wide_ * outputs_, pixel = high_ * run;
        parallel_rows(context.pool, in_[0] * high_, in_[1] * run, [&](std::int64_t first, std::int64_t count) {
            for (std::int64_t line = first; line < first + count; ++line) {
                const float* from = result.data + line / high_ * in_[1] * pixel + line % high_ * run;
                float* to = out.data + line * in_[1] * run;
                for (std::int64_t x = 0; x < in_[1]; ++x, from += pixel, to += run) copy_short(from, run, to);
            }
        });
        out.range = result.range;
    }

  private:
    static const Window& window(const NodeSource& source) { return source.step.as<ops::TransposedConvolution>().layer.window; }
    std::int64_t made() const { return in_[0] * in_[1] * high_ * wide_ * outputs_; }

    // A layer of single pixels: of each plane the outputs of a tap, then those of the next.
    void take_weights(ops::Layer& layer) {
        const std::int64_t inputs = in_[2], taps = high_ * wide_, planes = layer.bits.plane_count();
        const std::int64_t stored = row_bytes(taps * inputs), own = row_bytes(inputs);
        if (layer.binary()) {
            bits_.assign(at(planes * taps * outputs_ * own), 0);
        } else {
            weight_.resize(at(taps * outputs_ * inputs));
        }
        for (std::int64_t row = 0; row < planes * outputs_; ++row) {
            for (std::int64_t t = 0; t < taps; ++t) {
                const std::int64_t to = (row / outputs_ * taps + t) * outputs_ + row % outputs_;
                if (!layer.binary()) {
                    std::copy_n(layer.weight + (row * taps + t) * inputs, inputs, weight_.data() + to * inputs);
                    continue;
                }
                for (std::int64_t i = 0; i < inputs; ++i) {
                    const std::int64_t from = t * inputs + i;
                    const auto bit = static_cast<std::uint8_t>(layer.bits.rows[row * stored + from / 8] >> (from % 8) & 1);
                    bits_[at(to * own + i / 8)] |= static_cast<std::uint8_t>(bit << (i % 8));
                }
            }
        }
        if (layer.binary()) {
            layer.bits.rows = bits_.data();
        } else {
            layer.weight = weight_.data();
        }
        take_bias(layer, taps);
    }

    void take_bias(ops::Layer& layer, std::int64_t taps) {
        if (layer.bias != nullptr) {
            for (std::int64_t t = 0; t < taps; ++t) bias_.insert(bias_.end(), layer.bias, layer.bias + outputs_);
            layer.bias = bias_.data();
        }
        if (layer.bias_bits != nullptr) {
            bias_bits_.assign(at(row_bytes(taps * outputs_)), 0);
            for (std::int64_t i = 0; i < taps * outputs_; ++i) {
                const std::int64_t o = i % outputs_;
                const auto bit = static_cast<std::uint8_t>(layer.bias_bits[o / 8] >> (o % 8) & 1);
                bias_bits_[at(i / 8)] |= static_cast<std::uint8_t>(bit << (i % 8));
            }
            layer.bias_bits = bias_bits_.data();
        }
    }

    Shape in_;
    std::int64_t outputs_, high_, wide_;
    std::unique_ptr<Node> layer_;
    // Its tensors, until they are loaded.
    std::vector<std::uint8_t> bits_, bias_bits_;
    std::vector<float> weight_, bias_;
};

}  // namespace

bool are_tiles(const ops::TransposedConvolution& of) {
    return TransposedTiles::suits(of);
}
std::unique_ptr<Node> make_transposed_tiles(const NodeSource& source) {
    return std::make_unique<TransposedTiles>(source);
}

}  // namespace onebit
