#include <algorithm>
#include <vector>

#include "copy_short.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// The numbers of a value from an axis on: what lies together for each place before that axis.
std::int64_t run_of(const Shape& shape, std::int64_t axis) {
    std::int64_t run = 1;
    for (auto i = static_cast<std::size_t>(axis); i < shape.size(); ++i) run *= shape[i];
    return run;
}

class Concatenate : public Node {
  public:
    explicit Concatenate(const NodeSource& source) : Node(source.step), width_(source.input().back()) {
        const std::int64_t axis = source.step.as<ops::Concatenate>().axis;
        first_ = run_of(source.input(), axis);
        second_ = run_of(source.input(1), axis);
    }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const std::int64_t runs = in[0].rows * width_ / first_, both = first_ + second_;
        parallel_rows(context.pool, runs, both, [&](std::int64_t begin, std::int64_t count) {
            for (std::int64_t r = begin; r < begin + count; ++r) {
                copy_short(in[0].data + r * first_, first_, out.data + r * both);
                copy_short(in[1].data + r * second_, second_, out.data + r * both + first_);
            }
        });
        if (in[0].range == nullptr || in[1].range == nullptr) return;
        out.range = *in[0].range;
        out.range->include(*in[1].range);
    }

  private:
    std::int64_t width_, first_, second_;
};

class Slice : public Node {
  public:
    explicit Slice(const NodeSource& source) : Node(source.step), width_(source.input().back()) {
        const auto& slice = source.step.as<ops::Slice>();
        whole_ = run_of(source.input(), slice.axis);
        const std::int64_t place = whole_ / source.input()[static_cast<std::size_t>(slice.axis)];
        start_ = slice.start * place;
        taken_ = (slice.stop - slice.start) * place;
    }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const std::int64_t runs = in[0].rows * width_ / whole_;
        parallel_rows(context.pool, runs, taken_, [&](std::int64_t first, std::int64_t count) {
            for (std::int64_t r = first; r < first + count; ++r) copy_short(in[0].data + r * whole_ + start_, taken_, out.data + r * taken_);
        });
    }

  private:
    std::int64_t width_, whole_, start_, taken_;
};

class Prepend : public Node {
  public:
    explicit Prepend(const NodeSource& source)
        : Node(source.step),
          width_(source.input().back()),
          count_(source.step.as<ops::Constant>().rows * width_),
          source_(source.step.as<ops::Constant>().values) {}

    TensorBytes tensor_bytes() const override { return {static_cast<std::uint64_t>(count_) * sizeof(float), 0}; }
    void load(Loading&) override { constant_.assign(source_, source_ + count_), source_ = nullptr; }
    std::uint64_t weight_bytes() const override { return sizeof(float) * constant_.size(); }

    void run(std::span<const In> in, Out& out, const RunContext&) override {
        std::copy_n(constant_.data(), count_, out.data);
        std::copy_n(in[0].data, in[0].rows * width_, out.data + count_);
    }

  private:
    std::int64_t width_, count_;
    const float* source_;
    std::vector<float> constant_;
};

}  // namespace

std::unique_ptr<Node> make_concatenate(const NodeSource& source) {
    return std::make_unique<Concatenate>(source);
}
std::unique_ptr<Node> make_slice(const NodeSource& source) {
    return std::make_unique<Slice>(source);
}
std::unique_ptr<Node> make_prepend(const NodeSource& source) {
    return std::make_unique<Prepend>(source);
}

}  // namespace onebit
