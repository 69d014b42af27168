#include <vector>

#include "index.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// Of nodes with a constant for each channel.
struct Channels {
    explicit Channels(const Shape& shape) : count(shape.back()) {}

    TensorBytes tensor_bytes(int vectors) const { return {static_cast<std::uint64_t>(vectors * count) * sizeof(float), 0}; }

    std::int64_t count;
};

class Unary : public Node {
  public:
    Unary(const NodeSource& source, UnaryKernel f)
        : Node(source.step), f_(f), width_(source.input().back()), cheap_(source.step.op == Op::relu || source.step.op == Op::relu_squared) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const auto some = [&](std::int64_t first, std::int64_t count) { f_(in[0].data + first, count, out.data + first); };
        if (cheap_) return parallel_rows(context.pool, in[0].rows * width_, 1, some);
        parallel_numbers(context.pool, in[0].rows * width_, some);
    }

  private:
    UnaryKernel f_;
    std::int64_t width_;
    bool cheap_;  // without e^x
};

class Scale : public Node {
  public:
    explicit Scale(const NodeSource& source)
        : Node(source.step), kernels_(source.kernels), width_(source.input().back()), factor_(source.step.as<ops::Scale>().factor) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        parallel_rows(context.pool, in[0].rows * width_, 1,
                      [&](std::int64_t first, std::int64_t count) { kernels_.rows.scale(in[0].data + first, count, factor_, out.data + first); });
    }

  private:
    const Kernels& kernels_;
    std::int64_t width_;
    float factor_;
};

class Clip : public Node {
  public:
    explicit Clip(const NodeSource& source)
        : Node(source.step), kernels_(source.kernels), width_(source.input().back()), clip_(source.step.as<ops::Clip>()) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        parallel_rows(context.pool, in[0].rows * width_, 1, [&](std::int64_t first, std::int64_t count) {
            kernels_.rows.clip(in[0].data + first, count, clip_.low, clip_.high, out.data + first);
        });
    }

  private:
    const Kernels& kernels_;
    std::int64_t width_;
    ops::Clip clip_;
};

class Prelu : public Node {
  public:
    explicit Prelu(const NodeSource& source)
        : Node(source.step), kernels_(source.kernels), channels_(source.input()), source_(source.step.as<ops::Prelu>().slope) {}

    TensorBytes tensor_bytes() const override { return channels_.tensor_bytes(1); }
    void load(Loading&) override { slope_.assign(source_, source_ + channels_.count), source_ = nullptr; }
    std::uint64_t weight_bytes() const override { return sizeof(float) * slope_.size(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const std::int64_t width = channels_.count;
        parallel_rows(context.pool, in[0].rows, width, [&](std::int64_t r, std::int64_t count) {
            kernels_.rows.prelu(in[0].data + r * width, count, static_cast<int>(width), slope_.data(), out.data + r * width);
        });
    }

  private:
    const Kernels& kernels_;
    Channels channels_;
    const float* source_;
    std::vector<float> slope_;
};

// Rows of fewer numbers than this are joined to rows of about that many.
constexpr std::int64_t narrow = 16, wide = 48;

class ScaleShift : public Node {
  public:
    explicit ScaleShift(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          channels_(source.input()),
          pixels_(channels_.count < narrow && source.input().size() == 3 ? wide / channels_.count : 1),
          source_(source.step.as<ops::ScaleShift>()) {}

    TensorBytes tensor_bytes() const override { return channels_.tensor_bytes(static_cast<int>(2 * pixels_)); }
    void load(Loading&) override {
        // The few channels of an image would not fill a register, so several pixels are one row.
        for (std::int64_t pixel = 0; pixel < pixels_; ++pixel) {
            const std::vector<float> scales = source_.scales(channels_.count), shifts = source_.shifts(channels_.count);
            scale_.insert(scale_.end(), scales.begin(), scales.end());
            shift_.insert(shift_.end(), shifts.begin(), shifts.end());
        }
        source_ = {};
    }
    std::uint64_t weight_bytes() const override { return sizeof(float) * (scale_.size() + shift_.size()); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const std::int64_t whole = in[0].rows / pixels_;
        run_rows(in[0].data, whole, pixels_ * channels_.count, out.data, context);
        const std::int64_t done = whole * pixels_, first = done * channels_.count;
        if (done < in[0].rows) run_rows(in[0].data + first, in[0].rows - done, channels_.count, out.data + first, context);
    }

  private:
    void run_rows(const float* x, std::int64_t rows, std::int64_t width, float* y, const RunContext& context) const {
        parallel_rows(context.pool, rows, width, [&](std::int64_t r, std::int64_t count) {
            kernels_.rows.scale_shift(x + r * width, count, static_cast<int>(width), scale_.data(), shift_.data(), y + r * width);
        });
    }

    const Kernels& kernels_;
    Channels channels_;
    std::int64_t pixels_;  // that are one row
    ops::ScaleShift source_;
    std::vector<float> scale_, shift_;
};

class Add : public Node {
  public:
    explicit Add(const NodeSource& source) : Node(source.step), kernels_(source.kernels), width_(source.input().back()) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        parallel_rows(context.pool, in[0].rows * width_, 1, [&](std::int64_t first, std::int64_t count) {
            kernels_.rows.add(in[0].data + first, in[1].data + first, count, out.data + first);
        });
    }

  private:
    const Kernels& kernels_;
    std::int64_t width_;
};

class AddConstant : public Node {
  public:
    explicit AddConstant(const NodeSource& source)
        : Node(source.step), kernels_(source.kernels), count_(elements(source.input())), source_(source.step.as<ops::Constant>().values) {}

    TensorBytes tensor_bytes() const override { return {static_cast<std::uint64_t>(count_) * sizeof(float), 0}; }
    void load(Loading&) override { constant_.assign(source_, source_ + count_), source_ = nullptr; }
    std::uint64_t weight_bytes() const override { return sizeof(float) * constant_.size(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        parallel_rows(context.pool, count_, 1, [&](std::int64_t first, std::int64_t count) {
            kernels_.rows.add(in[0].data + first, constant_.data() + first, count, out.data + first);
        });
    }

  private:
    const Kernels& kernels_;
    std::int64_t count_;
    const float* source_;
    std::vector<float> constant_;
};

// By a value of the same shape, by one number for each row, or by one for each channel.
class Multiply : public Node {
  public:
    explicit Multiply(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          width_(source.input().back()),
          same_shape_(source.input(1) == source.input()),
          by_channel_(source.input(1) == Shape{width_}) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const float *x = in[0].data, *factors = in[1].data;
        parallel_rows(context.pool, in[0].rows, width_, [&](std::int64_t first, std::int64_t count) {
            const std::int64_t offset = first * width_;
            if (same_shape_) return kernels_.rows.multiply(x + offset, factors + offset, count * width_, out.data + offset);
            for (std::int64_t r = first; r < first + count; ++r) {
                if (by_channel_) {
                    kernels_.rows.multiply(x + r * width_, factors, width_, out.data + r * width_);
                } else {
                    kernels_.rows.scale(x + r * width_, width_, factors[r], out.data + r * width_);
                }
            }
        });
    }

  private:
    const Kernels& kernels_;
    std::int64_t width_;
    bool same_shape_, by_channel_;
};

}  // namespace

std::unique_ptr<Node> make_unary(const NodeSource& source, UnaryKernel kernel) {
    return std::make_unique<Unary>(source, kernel);
}
std::unique_ptr<Node> make_scale(const NodeSource& source) {
    return std::make_unique<Scale>(source);
}
std::unique_ptr<Node> make_clip(const NodeSource& source) {
    return std::make_unique<Clip>(source);
}
std::unique_ptr<Node> make_prelu(const NodeSource& source) {
    return std::make_unique<Prelu>(source);
}
std::unique_ptr<Node> make_scale_shift(const NodeSource& source) {
    return std::make_unique<ScaleShift>(source);
}
std::unique_ptr<Node> make_add(const NodeSource& source) {
    return std::make_unique<Add>(source);
}
std::unique_ptr<Node> make_add_constant(const NodeSource& source) {
    return std::make_unique<AddConstant>(source);
}
std::unique_ptr<Node> make_multiply(const NodeSource& source) {
    return std::make_unique<Multiply>(source);
}

}  // namespace onebit
