#include "rotary.h"

#include <algorithm>

#include "index.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// Pairs of features of each head turned by the place of their token.
class RotaryNode : public Node {
  public:
    explicit RotaryNode(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          of_(source.step.as<ops::Rotary>()),
          width_(source.output().back()),
          context_(source.program.shapes.front()[0]) {}

    void expect(std::int64_t, Workspace& workspace) const override { workspace.rotary.expect(of_, context_); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        RotaryTable& table = context.workspace.rotary.of(of_);
        for (const Row& row : context.tokens) table.reserve(row.position + 1);
        const std::int64_t features = width_ / of_.heads, half = of_.rotated / 2;
        parallel_rows(context.pool, in[0].rows, width_, [&](std::int64_t first, std::int64_t count) {
            for (std::int64_t r = first; r < first + count; ++r) {
                const float* turn = table.row(context.tokens[at(r)].position);
                const float* x = in[0].data + r * width_;
                float* y = out.data + r * width_;
                for (std::int64_t head = 0; head < of_.heads; ++head, x += features, y += features) {
                    kernels_.rows.rotate(x, half, turn, turn + half, y);
                    std::copy(x + of_.rotated, x + features, y + of_.rotated);
                }
            }
        });
    }

  private:
    const Kernels& kernels_;
    ops::Rotary of_;
    std::int64_t width_, context_;
};

}  // namespace

std::unique_ptr<Node> make_rotary(const NodeSource& source) {
    return std::make_unique<RotaryNode>(source);
}

}  // namespace onebit
