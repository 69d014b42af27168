// Dense layers of floats of which most weights are 0: each output reads only the inputs that have a weight.
#include <algorithm>
#include <vector>

#include "index.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// A multiply-accumulate reads its input from wherever the mask says, which takes as long as so many of a dense product.
constexpr std::int64_t work_of_one = 8;
// Outputs that one task of a loop takes.
constexpr std::int64_t outputs_at_once = 64;

class SparseDense : public Node {
  public:
    explicit SparseDense(const NodeSource& source)
        : Node(source.step), source_(source.step.as<ops::SparseDense>()), inputs_of_row_(source.input().back()), outputs_(source.output().back()) {}

    TensorBytes tensor_bytes() const override {
        const auto kept = static_cast<std::uint64_t>(source_.kept), outputs = static_cast<std::uint64_t>(outputs_);
        return {kept * (sizeof(float) + sizeof(std::uint32_t)) + (outputs + 1) * sizeof(std::uint32_t) + outputs * sizeof(float), 0};
    }
    void load(Loading&) override {
        places_.reserve(at(source_.kept));
        starts_.assign(1, 0);
        for (std::int64_t output = 0; output < outputs_; ++output) {
            const std::uint8_t* row = source_.mask + output * row_bytes(inputs_of_row_);
            for (std::int64_t i = 0; i < inputs_of_row_; ++i) {
                if ((row[i / 8] >> (i % 8) & 1) != 0) places_.push_back(static_cast<std::uint32_t>(i));
            }
            starts_.push_back(static_cast<std::uint32_t>(places_.size()));
        }
        weights_.assign(source_.weight, source_.weight + source_.kept);
        bias_.assign(at(outputs_), 0.0f);
        if (source_.bias != nullptr) bias_.assign(source_.bias, source_.bias + outputs_);
        source_ = {};
    }
    std::string kernel() const override { return "sparse floats"; }
    std::uint64_t weight_bytes() const override {
        return weights_.size() * (sizeof(float) + sizeof(std::uint32_t)) + starts_.size() * sizeof(std::uint32_t) + bias_.size() * sizeof(float);
    }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const std::int64_t parts = (outputs_ + outputs_at_once - 1) / outputs_at_once;
        const std::int64_t work = in[0].rows * static_cast<std::int64_t>(places_.size()) * work_of_one;
        parallel(context.pool, work, in[0].rows * parts, [&](std::int64_t i, int thread) {
            context.pool.check(thread);
            const std::int64_t row = i / parts, first = i % parts * outputs_at_once;
            const float* x = in[0].data + row * inputs_of_row_;
            float* y = out.data + row * outputs_;
            for (std::int64_t output = first; output < std::min(first + outputs_at_once, outputs_); ++output) y[output] = sum(x, output);
        });
    }

  private:
    // Four sums at a time, added in this order on every machine.
    float sum(const float* x, std::int64_t output) const {
        std::size_t k = starts_[at(output)];
        const std::size_t end = starts_[at(output) + 1];
        float sums[4] = {};
        for (; k + 4 <= end; k += 4) {
            for (std::size_t lane = 0; lane < 4; ++lane) sums[lane] += weights_[k + lane] * x[places_[k + lane]];
        }
        for (; k < end; ++k) sums[0] += weights_[k] * x[places_[k]];
        return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + bias_[at(output)];
    }

    ops::SparseDense source_;  // until it is loaded
    std::int64_t inputs_of_row_, outputs_;
    std::vector<std::uint32_t> places_, starts_;  // the input of each weight; the first weight of each output
    std::vector<float> weights_, bias_;
};

}  // namespace

std::unique_ptr<Node> make_sparse(const NodeSource& source) {
    return std::make_unique<SparseDense>(source);
}

}  // namespace onebit
