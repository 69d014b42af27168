// The keys and values of the tokens of one sequence in one attention, in the layout of kernels.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "large_pages.h"
#include "options.h"

namespace onebit {

class KvCache {
  public:
    // For at most `most_tokens`. Memory grows with the tokens.
    KvCache(CacheNumbers numbers, std::int64_t heads, std::int64_t features, std::int64_t most_tokens);

    // Makes space for this many tokens and keeps the existing ones.
    void reserve(std::int64_t tokens);
    // Stores the keys and values (heads, features) of the token at a position with space, for one head. Heads have separate memory, so that several
    // threads may store one each.
    void put(const Kernels& kernels, std::int64_t head, std::int64_t position, const float* keys, const float* values);
    // Attention of the queries `a.rows` to one head. `a` needs its rows, tokens, step, hidden tokens and strides of rows and scores; the rest is
    // filled in.
    void attend(const Kernels& kernels, std::int64_t head, Attended a, const float* q, float* scores, float* y) const;
    // The bytes of a block of tokens, which the first token allocates.
    std::size_t block_bytes() const { return 2 * sizeof(Line) * static_cast<std::size_t>(heads_ * head_lines_); }
    // The keys and the values of the blocks that hold so many tokens. Makes space for them.
    std::vector<std::span<std::byte>> contents(std::int64_t tokens);
    std::size_t bytes() const { return sizeof(Line) * (keys_.capacity() + values_.capacity()); }

  private:
    std::size_t lines_of(std::int64_t tokens) const {
        return static_cast<std::size_t>((tokens + token_block - 1) / token_block * heads_ * head_lines_);
    }
    // The line of a cache: loads of registers then never cross two lines.
    struct alignas(64) Line {
        std::byte bytes[64];
    };

    template <class Stored>
    void put_head(const Kernels& kernels, std::int64_t head, std::int64_t position, const float* key, const float* value);

    CacheNumbers numbers_;
    std::int64_t heads_, features_, most_tokens_;
    std::int64_t head_lines_;  // of a head's part of a block
    std::vector<Line, LargePages<Line>> keys_, values_;
};

}  // namespace onebit
