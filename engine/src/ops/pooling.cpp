#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "image_ops.h"
#include "index.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// Windows of an image: what the three ops over them share.
class Windowed : public Node {
  public:
    Windowed(const NodeSource& source, const Window& window)
        : Node(source.step), kernels_(source.kernels), window_(window), shape_(source.input()), out_shape_(source.output()) {}

    std::uint64_t passing_bytes() const override { return pool_bytes(window_, shape_, out_shape_); }

  protected:
    const Kernels& kernels_;
    Window window_;
    Shape shape_, out_shape_;
};

class MaxPool : public Windowed {
  public:
    explicit MaxPool(const NodeSource& source) : Windowed(source, source.step.as<ops::Pool>().window) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        max_pool(kernels_, window_, in[0].data, shape_, out.data, out_shape_, context.pool);
    }
};

class AveragePool : public Windowed {
  public:
    explicit AveragePool(const NodeSource& source)
        : Windowed(source, source.step.as<ops::Pool>().window), counts_padding_(source.step.as<ops::Pool>().counts_padding) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        average_pool(kernels_, window_, counts_padding_, in[0].data, shape_, out.data, out_shape_, context.pool);
    }

  private:
    bool counts_padding_;
};

class WindowedMagnitude : public Windowed {
  public:
    using Windowed::Windowed;

    std::uint64_t passing_bytes() const override {
        return static_cast<std::uint64_t>(shape_[0] * shape_[1]) * sizeof(float) + pool_bytes(window_, {shape_[0], shape_[1], 1}, out_shape_);
    }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        mean_magnitude(kernels_, window_, in[0].data, shape_, out.data, out_shape_, context.pool);
    }
};

// The mean of |x| over each row.
class MeanMagnitude : public Node {
  public:
    explicit MeanMagnitude(const NodeSource& source) : Node(source.step), kernels_(source.kernels), width_(source.input().back()) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        parallel_rows(context.pool, in[0].rows, width_, [&](std::int64_t first, std::int64_t count) {
            for (std::int64_t r = first; r < first + count; ++r) out.data[r] = kernels_.rows.mean_magnitude(in[0].data + r * width_, width_);
        });
    }

  private:
    const Kernels& kernels_;
    std::int64_t width_;
};

// The place of the largest number of each row: the first of equal ones, and of NaN the first.
class Argmax : public Node {
  public:
    explicit Argmax(const NodeSource& source) : Node(source.step), width_(source.input().back()) {}

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        parallel_rows(context.pool, in[0].rows, width_, [&](std::int64_t first, std::int64_t count) {
            for (std::int64_t r = first; r < first + count; ++r) {
                const float* x = in[0].data + r * width_;
                std::int64_t best = 0;
                for (std::int64_t i = 1; i < width_ && !std::isnan(x[best]); ++i) {
                    if (x[i] > x[best] || std::isnan(x[i])) best = i;
                }
                out.data[r] = static_cast<float>(best);
            }
        });
    }

  private:
    std::int64_t width_;
};

// The mean of all rows, summed one after the other in double.
class MeanPool : public Node {
  public:
    explicit MeanPool(const NodeSource& source) : Node(source.step), kernels_(source.kernels), width_(source.input().back()) {}

    std::uint64_t passing_bytes() const override { return static_cast<std::uint64_t>(width_) * sizeof(double); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const std::int64_t rows_of_check = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / width_);
        std::vector<double> sums(at(width_), 0.0);
        const float* x = in[0].data;
        for (std::int64_t r = 0; r < in[0].rows; ++r, x += width_) {
            if (r % rows_of_check == 0) context.pool.check(0);
            kernels_.rows.add_to_doubles(x, width_, sums.data());
        }
        for (std::int64_t c = 0; c < width_; ++c) out.data[c] = static_cast<float>(sums[at(c)] / static_cast<double>(in[0].rows));
    }

  private:
    const Kernels& kernels_;
    std::int64_t width_;
};

}  // namespace

std::unique_ptr<Node> make_max_pool(const NodeSource& source) {
    return std::make_unique<MaxPool>(source);
}
std::unique_ptr<Node> make_average_pool(const NodeSource& source) {
    return std::make_unique<AveragePool>(source);
}
std::unique_ptr<Node> make_mean_pool(const NodeSource& source) {
    return std::make_unique<MeanPool>(source);
}
std::unique_ptr<Node> make_argmax(const NodeSource& source) {
    return std::make_unique<Argmax>(source);
}
std::unique_ptr<Node> make_mean_magnitude(const NodeSource& source) {
    const std::optional<Window>& window = source.step.as<ops::MeanMagnitude>().window;
    if (window) return std::make_unique<WindowedMagnitude>(source, *window);
    return std::make_unique<MeanMagnitude>(source);
}

}  // namespace onebit
