#include <algorithm>
#include <utility>
#include <vector>

#include "attention_cache.h"
#include "index.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// Numbers that a thread needs to attend to so many tokens.
std::int64_t scores_of(std::int64_t tokens) {
    return (tokens + token_block - 1) / token_block * token_block * most_queries;
}

class CachedTokens : public Memory {
  public:
    explicit CachedTokens(const AttentionCache& empty) : cache(empty) {}
    std::size_t bytes() const override { return cache.bytes(); }

    AttentionCache cache;
};

// Each query attends to the keys and values of its own token and of those before it.
class AttentionNode : public Node {
  public:
    explicit AttentionNode(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          width_(source.output().back()),
          heads_(source.step.heads),
          context_(source.program.shapes.front()[0]),
          empty_(source.cache, heads_, width_ / heads_, context_) {}

    void expect(std::int64_t, Workspace& workspace) const override {
        const auto threads = static_cast<std::int64_t>(workspace.dense.threads.size());
        workspace.scores.expect(static_cast<std::uint64_t>(scores_of(context_) * threads));
    }
    std::unique_ptr<Memory> new_memory() const override { return std::make_unique<CachedTokens>(empty_); }
    std::uint64_t memory_bytes() const override { return empty_.block_bytes(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        keep(in[1].data, in[2].data, context);
        attend(in[0].data, out.data, context);
    }

  private:
    struct Group {  // queries of one sequence that stand one after the other: they read the same keys and values
        std::int64_t first;
        int queries;
    };

    AttentionCache& cache_of(const Row& row) const { return static_cast<CachedTokens&>(memory_of(row)).cache; }

    void keep(const float* keys, const float* values, const RunContext& context) const {
        const auto rows = context.tokens;
        // From the last on, so that a prompt's cache grows once.
        for (std::size_t r = rows.size(); r-- > 0;) cache_of(rows[r]).reserve(rows[r].position + 1);
        const auto count = static_cast<std::int64_t>(rows.size());
        parallel(context.pool, count * width_ * 16, count,
                 [&](std::int64_t r, int) { cache_of(rows[at(r)]).put(kernels_, rows[at(r)].position, keys + r * width_, values + r * width_); });
    }

    std::vector<Group> groups_of(const RunContext& context) const {
        std::vector<Group> groups;
        const auto rows = context.tokens;
        for (std::size_t r = 0; r < rows.size(); ++r) {
            if (context.only_wanted && !rows[r].wanted) continue;
            const bool joins = !groups.empty() && groups.back().first + groups.back().queries == static_cast<std::int64_t>(r) &&
                               groups.back().queries < most_queries && rows[r].sequence == rows[r - 1].sequence;
            if (joins) {
                ++groups.back().queries;
            } else {
                groups.push_back({static_cast<std::int64_t>(r), 1});
            }
        }
        return groups;
    }

    void attend(const float* q, float* y, const RunContext& context) const {
        const auto rows = context.tokens;
        std::int64_t work = 0, longest = 0;
        for (const Row& row : rows) {
            longest = std::max(longest, row.position + 1);
            work += 2 * (row.position + 1) * width_;
        }
        const std::vector<Group> groups = groups_of(context);
        const std::int64_t of_thread = scores_of(longest), features = width_ / heads_;
        float* scores = context.workspace.scores.reserve(at(of_thread * context.pool.threads()));
        const auto count = static_cast<std::int64_t>(groups.size());
        // A head's queries one after the other, so that its keys and values stay in the cache.
        parallel(context.pool, work, count * heads_, [&](std::int64_t unit, int thread) {
            const Group& group = groups[at(unit % count)];
            const std::int64_t head = unit / count, offset = group.first * width_ + head * features;
            const Row& row = rows[at(group.first)];
            Attended a{};
            a.rows = group.queries;
            a.tokens = row.position + 1;
            a.row_stride = width_;
            a.score_stride = of_thread / most_queries;
            cache_of(row).attend(kernels_, head, a, q + offset, scores + of_thread * thread, y + offset);
        });
    }

    const Kernels& kernels_;
    std::int64_t width_, heads_, context_;
    AttentionCache empty_;
};

}  // namespace

std::unique_ptr<Node> make_attention(const NodeSource& source) {
    return std::make_unique<AttentionNode>(source);
}

}  // namespace onebit
