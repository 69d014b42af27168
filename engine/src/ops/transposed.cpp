// Transposed convolutions. The outputs whose places have the same remainder by the stride are a convolution of the input with every stride-th tap of
// the kernel, turned around. So each remainder, a phase, is a convolution that reads its own taps, and no product with an inserted zero is computed.
#include <algorithm>
#include <optional>
#include <vector>

#include "index.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// A phase along one axis: places o of the output with o + cut = m * stride + remainder.
struct Along {
    std::int64_t remainder, taps;
    std::int64_t first_m, outputs;  // of the output that it makes
    std::int64_t before, after;     // padding of its convolution
    std::int64_t passed;            // outputs of the convolution before the first that is wanted

    // The tap of the whole kernel that its convolution reads at place t.
    std::int64_t tap(std::int64_t t, std::int64_t stride) const { return remainder + stride * (taps - 1 - t); }
};

std::int64_t ceil_divided(std::int64_t a, std::int64_t b) {
    return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

std::vector<Along> phases_along(std::int64_t inputs, std::int64_t outputs, std::int64_t kernel, std::int64_t stride, std::int64_t cut) {
    std::vector<Along> phases;
    // Remainders beyond those of the output have none of its places.
    for (std::int64_t i = 0; i < std::min(stride, outputs); ++i) {
        const std::int64_t r = (cut + i) % stride;
        Along along{};
        along.remainder = r;
        along.taps = r < kernel ? (kernel - 1 - r) / stride + 1 : 0;
        along.first_m = ceil_divided(cut - r, stride);
        const std::int64_t last_m = (outputs - 1 + cut - r) / stride;
        along.outputs = last_m - along.first_m + 1;
        along.before = std::max<std::int64_t>(0, along.taps - 1 - along.first_m);
        along.passed = along.first_m - (along.taps - 1 - along.before);
        along.after = std::max<std::int64_t>(0, last_m - (inputs - 1));
        phases.push_back(along);
    }
    return phases;
}

struct Phase {
    Along down, across;
    std::unique_ptr<Node> layer;     // null: it reads no tap, and its outputs are the bias
    Shape made;                      // by the layer
    std::vector<std::uint8_t> bits;  // its taps, until they are loaded
    std::vector<float> weight;
};

class TransposedNode : public Node {
  public:
    explicit TransposedNode(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          of_(source.step.as<ops::TransposedConvolution>()),
          in_(source.input()),
          out_(source.output()),
          quantizes_(source.quantizes(of_.layer.bits)) {
        const Window& w = of_.layer.window;
        stride_[0] = w.stride[0], stride_[1] = w.stride[1];
        cut_[0] = w.padding[0], cut_[1] = w.padding[2];
        for (const Along& down : phases_along(in_[0], out_[0], w.kernel[0], w.stride[0], w.padding[0])) {
            for (const Along& across : phases_along(in_[1], out_[1], w.kernel[1], w.stride[1], w.padding[2])) {
                phases_.push_back({down, across, nullptr, {}, {}, {}});
                if (down.taps > 0 && across.taps > 0) make_layer_of(phases_.back(), source);
            }
        }
    }

    TensorBytes tensor_bytes() const override {
        TensorBytes sum{static_cast<std::uint64_t>(out_[2]) * sizeof(float), 0};
        for (const Phase& phase : phases_) {
            if (phase.layer) sum.all += phase.layer->tensor_bytes().all;
        }
        return sum;
    }
    void load(Loading& loading) override {
        bias_.assign(at(out_[2]), 0.0f);
        const ops::Layer& layer = of_.layer;
        for (std::int64_t o = 0; o < out_[2]; ++o) {
            if (layer.bias != nullptr) bias_[at(o)] = layer.bias[o];
            if (layer.bias_bits != nullptr) bias_[at(o)] = (layer.bias_bits[o / 8] >> (o % 8) & 1) != 0 ? 1.0f : layer.bits.plus_minus ? -1.0f : 0.0f;
        }
        for (Phase& phase : phases_) {
            if (phase.layer) phase.layer->load(loading);
            phase.bits = {};
            phase.weight = {};
        }
        of_.layer = {};
    }
    void expect(std::int64_t rows, Workspace& workspace) const override {
        for (const Phase& phase : phases_) {
            if (phase.layer) phase.layer->expect(rows, workspace);
        }
    }
    std::uint64_t passing_bytes() const override { return static_cast<std::uint64_t>(largest_made()) * sizeof(float); }
    std::string kernel() const override {
        const auto real = std::find_if(phases_.begin(), phases_.end(), [](const Phase& phase) { return phase.layer != nullptr; });
        return std::to_string(phases_.size()) + " phases" + (real == phases_.end() ? "" : ", each of " + real->layer->kernel());
    }
    std::uint64_t weight_bytes() const override {
        std::uint64_t sum = sizeof(float) * bias_.size();
        for (const Phase& phase : phases_) {
            if (phase.layer) sum += phase.layer->weight_bytes();
        }
        return sum;
    }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        std::vector<float> made(at(largest_made()));
        In x = in[0];
        Range range;
        if (x.range == nullptr && quantizes_) {
            // All phases quantise the same image.
            kernels_.rows.range(x.data, elements(in_), &range.largest_bits, &range.negative);
            x.range = &range;
        }
        for (const Phase& phase : phases_) {
            context.pool.check(0);
            Out result{made.data(), std::nullopt};
            if (phase.layer) phase.layer->run({&x, 1}, result, context);
            place(phase, made.data(), out.data, context);
        }
    }

  private:
    // The convolution of a phase. Its tensors are those taps of the layer's that it reads, in their turned order.
    void make_layer_of(Phase& phase, const NodeSource& source) const {
        const auto& [down, across] = std::pair(phase.down, phase.across);
        Step step;
        step.op = of_.layer.binary() ? Op::bit_conv2d : Op::conv2d;
        step.inputs[0] = 0;
        step.output = 1;
        ops::Layer layer = of_.layer;
        Window& w = layer.window;
        w = {};
        w.groups = of_.layer.window.groups;
        w.kernel[0] = down.taps, w.kernel[1] = across.taps;
        w.padding[0] = down.before, w.padding[1] = down.after, w.padding[2] = across.before, w.padding[3] = across.after;
        take_taps(phase, layer);
        phase.made = {in_[0] + down.before + down.after - down.taps + 1, in_[1] + across.before + across.after - across.taps + 1, out_[2]};
        Program program;
        program.shapes = {in_, phase.made};
        step.attributes = std::move(layer);
        phase.layer = make_layer({step, program, source.kernels, source.precision, source.cache});
    }

    void take_taps(Phase& phase, ops::Layer& layer) const {
        const Window& whole = of_.layer.window;
        const std::int64_t inputs = in_[2] / whole.groups, rows = out_[2] * layer.bits.plane_count();
        const std::int64_t all = whole.kernel[0] * whole.kernel[1] * inputs, own = phase.down.taps * phase.across.taps * inputs;
        if (layer.binary()) {
            phase.bits.assign(at(rows * row_bytes(own)), 0);
        } else {
            phase.weight.resize(at(rows * own));
        }
        for (std::int64_t row = 0; row < rows; ++row) {
            std::int64_t to = 0;
            for (std::int64_t t = 0; t < phase.down.taps * phase.across.taps; ++t) {
                const std::int64_t r = phase.down.tap(t / phase.across.taps, stride_[0]), c = phase.across.tap(t % phase.across.taps, stride_[1]);
                const std::int64_t from = (r * whole.kernel[1] + c) * inputs;
                for (std::int64_t i = 0; i < inputs; ++i, ++to) {
                    if (layer.binary()) {
                        const std::uint8_t byte = of_.layer.bits.rows[row * row_bytes(all) + (from + i) / 8];
                        const auto bit = static_cast<std::uint8_t>(byte >> ((from + i) % 8) & 1);
                        phase.bits[at(row * row_bytes(own) + to / 8)] |= static_cast<std::uint8_t>(bit << (to % 8));
                    } else {
                        phase.weight[at(row * own + to)] = of_.layer.weight[row * all + from + i];
                    }
                }
            }
        }
        if (layer.binary()) {
            layer.bits.rows = phase.bits.data();
        } else {
            layer.weight = phase.weight.data();
        }
    }

    std::int64_t largest_made() const {
        std::int64_t most = 0;
        for (const Phase& phase : phases_) most = std::max(most, phase.layer ? elements(phase.made) : 0);
        return most;
    }

    // Puts what a phase made to its places in the output.
    void place(const Phase& phase, const float* made, float* y, const RunContext& context) const {
        const std::int64_t channels = out_[2];
        const Along &down = phase.down, &across = phase.across;
        parallel_rows(context.pool, down.outputs, across.outputs * channels, [&](std::int64_t first, std::int64_t count) {
            for (std::int64_t r = first; r < first + count; ++r) {
                const std::int64_t line = (down.first_m + r) * stride_[0] + down.remainder - cut_[0];
                for (std::int64_t c = 0; c < across.outputs; ++c) {
                    const std::int64_t column = (across.first_m + c) * stride_[1] + across.remainder - cut_[1];
                    const float* from = phase.layer ? made + ((down.passed + r) * phase.made[1] + across.passed + c) * channels : bias_.data();
                    std::copy_n(from, channels, y + (line * out_[1] + column) * channels);
                }
            }
        });
    }

    const Kernels& kernels_;
    ops::TransposedConvolution of_;  // its layer until it is loaded
    Shape in_, out_;
    bool quantizes_;
    std::int64_t stride_[2], cut_[2];
    std::vector<Phase> phases_;
    std::vector<float> bias_;
};

}  // namespace

std::unique_ptr<Node> make_transposed_convolution(const NodeSource& source) {
    if (are_tiles(source.step.as<ops::TransposedConvolution>())) return make_transposed_tiles(source);
    return std::make_unique<TransposedNode>(source);
}

}  // namespace onebit
