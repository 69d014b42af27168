#include "image_ops.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// f(x, y) for each run of `length` numbers.
template <class Function>
void each_run(const RunContext& context, const In& in, std::int64_t width, std::int64_t length, float* y, const Function& f) {
    parallel_rows(context.pool, in.rows * width / length, length, [&](std::int64_t first, std::int64_t count) {
        for (std::int64_t i = first * length; i < (first + count) * length; i += length) f(in.data + i, y + i);
    });
}

// Zero mean and unit deviation of each run of `length` numbers.
class RowNormalize : public Node {
  public:
    RowNormalize(const NodeSource& source, std::int64_t length, float eps)
        : Node(source.step), kernels_(source.kernels), width_(source.input().back()), length_(length), eps_(eps) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        each_run(context, in[0], width_, length_, out.data, [&](const float* x, float* y) { kernels_.rows.normalize(x, length_, eps_, y); });
    }

  private:
    const Kernels& kernels_;
    std::int64_t width_, length_;
    float eps_;
};

// Unit mean square of each run of `length` numbers.
class RmsNormalize : public Node {
  public:
    explicit RmsNormalize(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          width_(source.input().back()),
          length_(width_ / source.step.as<ops::RmsNormalize>().groups),
          eps_(source.step.as<ops::RmsNormalize>().eps) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        each_run(context, in[0], width_, length_, out.data, [&](const float* x, float* y) { kernels_.rows.rms_normalize(x, length_, eps_, y); });
    }

  private:
    const Kernels& kernels_;
    std::int64_t width_, length_;
    float eps_;
};

// Groups of channels over all positions of an image.
class ImageGroupNormalize : public Node {
  public:
    explicit ImageGroupNormalize(const NodeSource& source)
        : Node(source.step), width_(source.input().back()), of_(source.step.as<ops::GroupNormalize>()) {}

    std::uint64_t passing_bytes() const override { return static_cast<std::uint64_t>(width_) * 2 * (sizeof(double) + sizeof(float)); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        group_normalize(of_.groups, of_.eps, in[0].data, in[0].rows, width_, out.data, context.pool);
    }

  private:
    std::int64_t width_;
    ops::GroupNormalize of_;
};

class Softmax : public Node {
  public:
    explicit Softmax(const NodeSource& source) : Node(source.step), kernels_(source.kernels), width_(source.input().back()) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        each_run(context, in[0], width_, width_, out.data, [&](const float* x, float* y) { kernels_.rows.softmax(x, width_, y); });
    }

  private:
    const Kernels& kernels_;
    std::int64_t width_;
};

}  // namespace

std::unique_ptr<Node> make_normalize(const NodeSource& source) {
    const auto& of = source.step.as<ops::Normalize>();
    return std::make_unique<RowNormalize>(source, of.over_channel ? source.input().back() : elements(source.input()), of.eps);
}
std::unique_ptr<Node> make_group_normalize(const NodeSource& source) {
    if (source.input().size() == 3) return std::make_unique<ImageGroupNormalize>(source);
    const auto& of = source.step.as<ops::GroupNormalize>();
    return std::make_unique<RowNormalize>(source, source.input().back() / of.groups, of.eps);
}
std::unique_ptr<Node> make_rms_normalize(const NodeSource& source) {
    return std::make_unique<RmsNormalize>(source);
}
std::unique_ptr<Node> make_softmax(const NodeSource& source) {
    return std::make_unique<Softmax>(source);
}

}  // namespace onebit
