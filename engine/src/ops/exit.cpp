// Where a program may end early: for an example whose answer is probable enough.
#include <algorithm>
#include <cmath>

#include "ops/families.h"

namespace onebit {
namespace {

// The largest of softmax(x). NaN where a number is NaN or all are infinite: nothing ends there.
double certainty(const float* x, std::int64_t count) {
    double largest = static_cast<double>(x[0]), sum = 0;
    for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<double>(x[i]));
    for (std::int64_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(x[i]) - largest);
    return 1 / sum;
}

class Exit : public Node {
  public:
    explicit Exit(const NodeSource& source) : Node(source.step), width_(source.input().back()), threshold_(source.step.as<ops::Exit>().threshold) {}

    bool may_end() const override { return true; }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        if (in[0].data != out.data) std::copy_n(in[0].data, width_, out.data);
        out.ends = certainty(in[0].data, width_) > static_cast<double>(context.threshold.value_or(threshold_));
    }

  private:
    std::int64_t width_;
    float threshold_;
};

}  // namespace

std::unique_ptr<Node> make_exit(const NodeSource& source) {
    return std::make_unique<Exit>(source);
}

}  // namespace onebit
