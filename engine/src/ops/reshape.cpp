#include <algorithm>

#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// The numbers as they lie: `flatten` in the order "hwc", and `rows`.
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
std::unique_ptr<Node> make_last(const NodeSource& source) {
    return std::make_unique<Last>(source);
}

}  // namespace onebit
