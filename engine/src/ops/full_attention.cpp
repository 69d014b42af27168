#include <algorithm>
#include <cmath>
#include <vector>

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

    TensorBytes tensor_bytes() const override { return {weight_bytes(), 0}; }
    void load(Loading&) override {
        if (of_.bias != nullptr) bias_.assign(of_.bias, of_.bias + of_.heads * source_rows_ * source_rows_);
        seen_.reserve(at(source_rows_));
    }
    std::uint64_t weight_bytes() const override {
        return of_.bias == nullptr ? 0 : static_cast<std::uint64_t>(of_.heads * source_rows_ * source_rows_) * sizeof(float);
    }
    std::uint64_t passing_bytes() const override {
        return static_cast<std::uint64_t>(blocks_) * empty_.block_bytes() + static_cast<std::uint64_t>(source_rows_) * sizeof(std::int64_t);
    }
    void expect(std::int64_t, Workspace& workspace) const override {
        workspace.scores.expect(static_cast<std::uint64_t>(scores()) * workspace.dense.threads.size());
    }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        find_seen(in.size() > 3 ? in[3].data : nullptr);
        if (of_.bias != nullptr) return run_biased(in, out, context);
        const auto count = static_cast<std::int64_t>(seen_.size());
        KvCache kept = empty_;
        kept.reserve(count);
        const std::int64_t kv_width = width_ / of_.heads * of_.kv_heads, shares = of_.heads / of_.kv_heads;
        parallel(context.pool, count * kv_width * 16, of_.kv_heads, [&](std::int64_t head, int thread) {
            for (std::int64_t r = 0; r < count; ++r) {
                if (r % calls_of_check == 0) context.pool.check(thread);
                kept.put(kernels_, head, r, in[1].data + seen_[at(r)] * kv_width, in[2].data + seen_[at(r)] * kv_width);
            }
        });
        const std::int64_t rows = in[0].rows, together = of_.causal ? 1 : most_queries, groups = (rows + together - 1) / together;
        float* scores = context.workspace.scores.reserve(at(this->scores() * context.pool.threads()));
        // A head's queries one after the other, so that its keys and values stay in the cache.
        parallel(context.pool, 2 * rows * width_ * blocks_ * token_block, groups * of_.heads, [&](std::int64_t unit, int thread) {
            context.pool.check(thread);
            const std::int64_t first = unit % groups * together, head = unit / groups;
            Attended a{};
            a.rows = static_cast<int>(std::min<std::int64_t>(together, rows - first));
            a.tokens = seen_by(first);
            a.step = 0;
            a.row_stride = width_;
            a.score_stride = this->scores() / most_queries;
            const std::int64_t offset = first * width_ + head * (width_ / of_.heads);
            if (a.tokens == 0) {
                for (std::int64_t r = 0; r < a.rows; ++r) std::fill_n(out.data + offset + r * width_, width_ / of_.heads, 0.0f);
                return;
            }
            kept.attend(kernels_, head / shares, a, in[0].data + offset, scores + this->scores() * thread, out.data + offset);
        });
    }

  private:
    // Numbers that a thread needs.
    std::int64_t scores() const { return blocks_ * token_block * most_queries; }

    // Keys that a mask hides are left out.
    void find_seen(const float* mask) {
        seen_.clear();
        for (std::int64_t r = 0; r < source_rows_; ++r) {
            if (mask == nullptr || mask[r] != 0) seen_.push_back(r);
        }
    }

    // How many of these a query sees.
    std::int64_t seen_by(std::int64_t query) const {
        if (!of_.causal) return static_cast<std::int64_t>(seen_.size());
        return std::upper_bound(seen_.begin(), seen_.end(), query) - seen_.begin();
    }

    // With a number added to each score, in plain loops.
    void run_biased(std::span<const In> in, Out& out, const RunContext& context) {
        const auto count = static_cast<std::int64_t>(seen_.size());
        const std::int64_t rows = in[0].rows, each = width_ / of_.heads, kv_width = each * of_.kv_heads, shares = of_.heads / of_.kv_heads;
        const float scale = 1.0f / std::sqrt(static_cast<float>(each));
        float* scores = context.workspace.scores.reserve(at(this->scores() * context.pool.threads()));
        std::vector<float> keys(at(count * kv_width));  // (heads, features, keys): a row of products at a time
        for (std::int64_t r = 0; r < count; ++r) {
            if (r % calls_of_check == 0) context.pool.check(0);
            for (std::int64_t c = 0; c < kv_width; ++c) keys[at(c * count + r)] = in[1].data[seen_[at(r)] * kv_width + c];
        }
        parallel(context.pool, 2 * rows * width_ * blocks_ * token_block, rows * of_.heads, [&](std::int64_t unit, int thread) {
            context.pool.check(thread);
            const std::int64_t t = unit % rows, head = unit / rows, n = seen_by(t);
            const float* q = in[0].data + t * width_ + head * each;
            const float* bias = bias_.data() + (head * rows + t) * source_rows_;
            float* s = scores + this->scores() * thread;
            float* y = out.data + t * width_ + head * each;
            std::fill_n(s, n, 0.0f);
            std::fill_n(y, each, 0.0f);
            if (n == 0) return;
            for (std::int64_t c = 0; c < each; ++c) {
                const float* row = keys.data() + (head / shares * each + c) * count;
                for (std::int64_t r = 0; r < n; ++r) s[r] += q[c] * row[r];
            }
            for (std::int64_t r = 0; r < n; ++r) s[r] = s[r] * scale + bias[seen_[at(r)]];
            kernels_.rows.softmax(s, n, s);
            for (std::int64_t r = 0; r < n; ++r) {
                const float* value = in[2].data + seen_[at(r)] * kv_width + head / shares * each;
                for (std::int64_t c = 0; c < each; ++c) y[c] += s[r] * value[c];
            }
        });
    }

    const Kernels& kernels_;
    ops::FullAttention of_;
    std::int64_t width_;        // of all heads of queries
    std::int64_t source_rows_;  // of keys and values
    std::int64_t blocks_;
    KvCache empty_;
    std::vector<float> bias_;         // (heads, queries, keys), or empty
    std::vector<std::int64_t> seen_;  // the keys that the mask leaves, in order
};

}  // namespace

std::unique_ptr<Node> make_full_attention(const NodeSource& source) {
    return std::make_unique<FullAttentionNode>(source);
}

}  // namespace onebit
