#include <algorithm>

#include "ops/families.h"
#include "parallel.h"
#include "step_checks.h"

namespace onebit {
namespace {

// The numbers as they lie: `flatten` in the order "hwc", `rows` and `reshape`.
class Copy : public Node {
  public:
    explicit Copy(const NodeSource& source) : Node(source.step), width_(source.input().back()) {}

    void run(std::span<const In> in, Out& out, const RunContext&) override { std::copy_n(in[0].data, in[0].rows * width_, out.data); }

  private:
    std::int64_t width_;
};

// Channel after channel.
class FlattenChannelsFirst : public Node {
  public:
    explicit FlattenChannelsFirst(const NodeSource& source) : Node(source.step), channels_(source.input().back()) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const std::int64_t positions = in[0].rows;
        parallel_rows(context.pool, positions, channels_, [&](std::int64_t first, std::int64_t count) {
            for (std::int64_t p = first; p < first + count; ++p) {
                for (std::int64_t c = 0; c < channels_; ++c) out.data[c * positions + p] = in[0].data[p * channels_ + c];
            }
        });
    }

  private:
    std::int64_t channels_;
};

// Axes in another order: a run of the output's last axis after the other.
class Transpose : public Node {
  public:
    explicit Transpose(const NodeSource& source) : Node(source.step) {
        const Shape &x = source.input(), &y = source.output();
        const auto& axes = source.step.as<ops::Transpose>().axes;
        Shape strides(x.size(), 1);
        for (std::size_t i = x.size() - 1; i-- > 0;) strides[i] = strides[i + 1] * x[i + 1];
        const std::size_t missing = max_axes - axes.size();
        for (std::size_t i = 0; i < axes.size(); ++i) {
            sides_[missing + i] = y[i];
            strides_[missing + i] = strides[static_cast<std::size_t>(axes[i])];
        }
    }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const std::int64_t width = sides_[3], stride = strides_[3], runs = sides_[0] * sides_[1] * sides_[2];
        parallel_rows(context.pool, runs, width, [&](std::int64_t first, std::int64_t count) {
            for (std::int64_t r = first; r < first + count; ++r) {
                const std::int64_t c = r % sides_[2], b = r / sides_[2] % sides_[1], a = r / sides_[2] / sides_[1];
                const float* x = in[0].data + a * strides_[0] + b * strides_[1] + c * strides_[2];
                float* y = out.data + r * width;
                if (stride == 1) {
                    std::copy_n(x, width, y);
                } else {
                    for (std::int64_t i = 0; i < width; ++i) y[i] = x[i * stride];
                }
            }
        });
    }

  private:
    // Of the output, with axes of one before it where it has fewer than four.
    std::int64_t sides_[max_axes] = {1, 1, 1, 1}, strides_[max_axes] = {0, 0, 0, 0};
};

// The last row.
class Last : public Node {
  public:
    explicit Last(const NodeSource& source) : Node(source.step), width_(source.input().back()) {}

    void run(std::span<const In> in, Out& out, const RunContext&) override { std::copy_n(in[0].data + (in[0].rows - 1) * width_, width_, out.data); }

  private:
    std::int64_t width_;
};

}  // namespace

std::unique_ptr<Node> make_flatten(const NodeSource& source) {
    if (source.step.as<ops::Flatten>().channels_first) return std::make_unique<FlattenChannelsFirst>(source);
    return std::make_unique<Copy>(source);
}
std::unique_ptr<Node> make_rows(const NodeSource& source) {
    return std::make_unique<Copy>(source);
}
std::unique_ptr<Node> make_reshape(const NodeSource& source) {
    return std::make_unique<Copy>(source);
}
std::unique_ptr<Node> make_transpose(const NodeSource& source) {
    return std::make_unique<Transpose>(source);
}
std::unique_ptr<Node> make_last(const NodeSource& source) {
    return std::make_unique<Last>(source);
}

}  // namespace onebit
