#include <algorithm>
#include <utility>
#include <vector>

#include "index.h"
#include "kv_cache.h"
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
    explicit CachedTokens(const KvCache& empty) : cache(empty) {}
    std::size_t bytes() const override { return cache.bytes(); }
    std::unique_ptr<Memory> copy() const override { return std::make_unique<CachedTokens>(*this); }
    std::vector<std::span<std::byte>> contents(std::int64_t tokens) override { return cache.contents(tokens); }

    KvCache cache;
};

// Each query attends to the keys and values of its own token and of those before it.
class AttentionNode : public Node {
  public:
    explicit AttentionNode(const NodeSource& source)
        : Node(source.step),
          kernels_(source.kernels),
          of_(source.step.as<ops::Attention>()),
          width_(source.output().back()),
          features_(width_ / of_.heads),
          shares_(of_.heads / of_.kv_heads),
          context_(source.program.shapes.front()[0]),
          empty_(source.cache, of_.kv_heads, features_, context_) {}

    void expect(std::int64_t, Workspace& workspace) const override {
        const auto threads = static_cast<std::int64_t>(workspace.dense.threads.size());
        workspace.scores.expect(static_cast<std::uint64_t>(scores_of(context_) * threads));
    }
    std::unique_ptr<Memory> new_memory() const override { return std::make_unique<CachedTokens>(empty_); }
    std::uint64_t memory_bytes() const override { return empty_.block_bytes(); }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const auto rows = context.tokens;
        std::int64_t longest = 0;
        for (const Row& row : rows) {
            longest = std::max(longest, row.position + 1);
            cache_of(row).reserve(row.sequence->awaited);
        }
        const std::vector<Group> groups = groups_of(context);
        const std::int64_t of_thread = scores_of(longest);
        const Work work{in[0].data, in[1].data, in[2].data, out.data, context.workspace.scores.reserve(at(of_thread * context.pool.threads())),
                        of_thread};
        // Heads that share keys may be too few for the threads.
        const std::size_t kept = groups.size() * at(of_.kv_heads);
        if (groups.size() == rows.size() && (shares_ == 1 || kept >= at(context.pool.threads()))) return write(groups, work, context);
        keep_all(work, context);
        attend_all(groups, work, context);
    }

  private:
    struct Group {  // queries of one sequence that stand one after the other: they read the same keys and values
        std::int64_t first;
        int queries;
    };

    KvCache& cache_of(const Row& row) const { return static_cast<CachedTokens&>(memory_of(row)).cache; }

    struct Work {
        const float *q, *keys, *values;
        float *y, *scores;
        std::int64_t of_thread;  // scores
    };

    // `head` of the keys and values.
    void keep(const Row& row, std::int64_t r, std::int64_t head, const Work& work) const {
        const std::int64_t offset = r * of_.kv_heads * features_;
        cache_of(row).put(kernels_, head, row.position, work.keys + offset, work.values + offset);
    }

    // Of the queries of some tokens in one head.
    void attend(const Row& first, const Group& group, std::int64_t head, int thread, const Work& work) const {
        Attended a{};
        a.rows = group.queries;
        a.row_stride = width_;
        attend(first, a, group.first, head, thread, work);
    }

    // Of one token in all heads that share keys.
    void attend_shared(const Row& row, std::int64_t r, std::int64_t kv_head, int thread, const Work& work) const {
        for (std::int64_t some = 0; some < shares_; some += most_queries) {
            Attended a{};
            a.rows = static_cast<int>(std::min<std::int64_t>(most_queries, shares_ - some));
            a.row_stride = features_;
            a.step = 0;
            attend(row, a, r, kv_head * shares_ + some, thread, work);
        }
    }

    void attend(const Row& first, Attended& a, std::int64_t r, std::int64_t head, int thread, const Work& work) const {
        const std::int64_t offset = r * width_ + head * features_;
        a.tokens = first.position + 1;
        if (of_.window > 0) a.hidden = a.tokens - of_.window;
        a.score_stride = work.of_thread / most_queries;
        cache_of(first).attend(kernels_, head / shares_, a, work.q + offset, work.scores + work.of_thread * thread, work.y + offset);
    }

    // Products of a token that kernels, which take whole blocks, compute.
    std::int64_t products_of(const Row& row) const {
        const std::int64_t seen = row.position / token_block + 1, most = of_.window / token_block + 2;
        return 2 * width_ * token_block * (of_.window > 0 ? std::min(seen, most) : seen);
    }

    // A token of each of some sequences: a head needs nothing but its own keys and values, so that all is one round, in which a thread has the same
    // heads as for the last token.
    void write(const std::vector<Group>& groups, const Work& work, const RunContext& context) const {
        const auto units = static_cast<std::int64_t>(groups.size()) * of_.kv_heads, pieces = std::min<std::int64_t>(context.pool.threads(), units);
        std::int64_t products = 0;
        for (const Row& row : context.tokens) products += products_of(row);
        parallel(context.pool, products, pieces, [&](std::int64_t piece, int thread) {
            for (std::int64_t unit = units * piece / pieces; unit < units * (piece + 1) / pieces; ++unit) {
                const std::int64_t r = groups[at(unit / of_.kv_heads)].first, head = unit % of_.kv_heads;
                const Row& row = context.tokens[at(r)];
                keep(row, r, head, work);
                attend_shared(row, r, head, thread, work);
            }
        });
    }

    void keep_all(const Work& work, const RunContext& context) const {
        const auto count = static_cast<std::int64_t>(context.tokens.size());
        parallel(context.pool, count * of_.kv_heads * features_ * 16, count, [&](std::int64_t r, int) {
            for (std::int64_t head = 0; head < of_.kv_heads; ++head) keep(context.tokens[at(r)], r, head, work);
        });
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

    void attend_all(const std::vector<Group>& groups, const Work& work, const RunContext& context) const {
        std::int64_t products = 0;
        for (const Row& row : context.tokens) products += products_of(row);
        const auto count = static_cast<std::int64_t>(groups.size());
        // A head's queries one after the other, so that its keys and values stay in the cache.
        parallel(context.pool, products, count * of_.heads, [&](std::int64_t unit, int thread) {
            const Group& group = groups[at(unit % count)];
            attend(context.tokens[at(group.first)], group, unit / count, thread, work);
        });
    }

    const Kernels& kernels_;
    ops::Attention of_;
    std::int64_t width_, features_;  // of all heads of queries, and of one
    std::int64_t shares_;            // heads of queries for each of keys
    std::int64_t context_;
    KvCache empty_;
};

}  // namespace

std::unique_ptr<Node> make_attention(const NodeSource& source) {
    return std::make_unique<AttentionNode>(source);
}

}  // namespace onebit
