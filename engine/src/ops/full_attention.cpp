#include <algorithm>

#include "index.h"
#include "kv_cache.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// Queries attend to all keys and values. These are laid out anew in each run, as those of tokens are kept.
class FullAttentionNode : public Node {
  public:
    explicit FullAttentionNode(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          of_(source.step.as<ops::FullAttention>()),
          width_(source.output()[1]),
          source_rows_(source.input(1)[0]),
          blocks_((source_rows_ + token_block - 1) / token_block),
          empty_(CacheNumbers::float32, of_.kv_heads, width_ / of_.heads, source_rows_) {}

    std::uint64_t passing_bytes() const override { return static_cast<std::uint64_t>(blocks_) * empty_.block_bytes(); }
    void expect(std::int64_t, Workspace& workspace) const override {
        workspace.scores.expect(static_cast<std::uint64_t>(scores()) * workspace.dense.threads.size());
    }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        KvCache kept = empty_;
        kept.reserve(source_rows_);
        const std::int64_t kv_width = width_ / of_.heads * of_.kv_heads, shares = of_.heads / of_.kv_heads;
        parallel(context.pool, source_rows_ * kv_width * 16, of_.kv_heads, [&](std::int64_t head, int thread) {
            for (std::int64_t r = 0; r < source_rows_; ++r) {
                if (r % calls_of_check == 0) context.pool.check(thread);
                kept.put(kernels_, head, r, in[1].data + r * kv_width, in[2].data + r * kv_width);
            }
        });
        const std::int64_t rows = in[0].rows, groups = (rows + most_queries - 1) / most_queries;
        float* scores = context.workspace.scores.reserve(at(this->scores() * context.pool.threads()));
        // A head's queries one after the other, so that its keys and values stay in the cache.
        parallel(context.pool, 2 * rows * width_ * blocks_ * token_block, groups * of_.heads, [&](std::int64_t unit, int thread) {
            context.pool.check(thread);
            const std::int64_t first = unit % groups * most_queries, head = unit / groups;
            Attended a{};
            a.rows = static_cast<int>(std::min<std::int64_t>(most_queries, rows - first));
            a.tokens = source_rows_;
            a.step = 0;
            a.row_stride = width_;
            a.score_stride = this->scores() / most_queries;
            const std::int64_t offset = first * width_ + head * (width_ / of_.heads);
            kept.attend(kernels_, head / shares, a, in[0].data + offset, scores + this->scores() * thread, out.data + offset);
        });
    }

  private:
    // Numbers that a thread needs.
    std::int64_t scores() const { return blocks_ * token_block * most_queries; }

    const Kernels& kernels_;
    ops::FullAttention of_;
    std::int64_t width_;        // of all heads of queries
    std::int64_t source_rows_;  // of keys and values
    std::int64_t blocks_;
    KvCache empty_;
};

}  // namespace

std::unique_ptr<Node> make_full_attention(const NodeSource& source) {
    return std::make_unique<FullAttentionNode>(source);
}

}  // namespace onebit
