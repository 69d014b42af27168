// A model whose input is a sequence of tokens: prompts in one pass, then a token after the other, with the keys and values, or the states, of each
// sequence kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "buffer.h"
#include "executor.h"
#include "turn.h"

namespace onebit {

class TokenModel {
  public:
    // As ArrayModel's; the program must be one over tokens. Precision::float32 takes no cache but one of float32.
    TokenModel(const std::string& program, const Tensors& tensors, const Options& options);

    std::int64_t context() const { return context_; }
    // Numbers that the program gives for each token.
    std::int64_t outputs() const { return executor_.shape(executor_.output()).back(); }
    const Kernels& kernels() const { return executor_.kernels(); }
    int threads() const { return executor_.pool().threads(); }
    Precision precision() const { return executor_.precision(); }
    CacheNumbers cache() const { return numbers_; }
    std::size_t memory_bytes() const;
    // What that will be at most with one sequence of one token: it was compared with the cap at load. What further tokens take is the caller's to
    // limit.
    std::uint64_t most_bytes() const { return executor_.most_bytes(); }
    std::size_t arena_bytes() const { return executor_.arena_bytes(); }
    std::vector<PlanLine> plan() const { return executor_.plan(); }
    // See Executor.
    void time_nodes();
    std::vector<std::int64_t> nanoseconds() const;

    // A new, empty sequence; its number is free again after `close`.
    int open();
    void close(int sequence);
    std::int64_t length(int sequence) const;
    // A new sequence that begins with the first `length` tokens of one, which stays as it is. Texts with the same beginning compute it once.
    int fork(int sequence, std::int64_t length);
    // What the engine keeps of a sequence's tokens, as bytes. They fit engines of the same program, precision and numbers of the cache.
    std::vector<std::byte> save(int sequence);
    // A new sequence of `length` tokens, of such bytes. Throws std::invalid_argument if they are not as many as such a sequence has.
    int restore(std::int64_t length, std::span<const std::byte> saved);
    // Forget the tokens from `length` on.
    void cut(int sequence, std::int64_t length);

    // Append counts[i] tokens to sequences[i], all in one pass. Writes the outputs that follow each token (`all`), or only the last of each
    // sequence. Throws std::invalid_argument for an unknown or repeated sequence, a token out of range, or more tokens than the context. Where it
    // throws, for this or any other reason (what `ask` throws included), nothing is appended.
    void extend(const std::vector<int>& sequences, const std::vector<std::int64_t>& counts, const std::int32_t* tokens, bool all, float* out,
                const Ask& ask = {});

  private:
    // A value that is made before the last node with a memory and read after it, with the rows that are asked for.
    struct Kept {
        int value;
        Buffer<float> rows;
    };

    TokenModel(Program program, const Options& options);
    Sequence fresh() const;
    int add(Sequence fresh);
    void find_kept();
    void check(int sequence) const;
    Sequence& sequence(int number) { return sequences_[static_cast<std::size_t>(number)]; }
    std::vector<Row> rows_of(const std::vector<int>& sequences, const std::vector<std::int64_t>& counts, const std::int32_t* tokens, bool all);
    // Returns how many rows of outputs it wrote.
    std::int64_t run_rows(std::span<const Row> rows, float* out);

    CacheNumbers numbers_;
    std::int64_t context_, vocabulary_;
    Executor executor_;
    std::vector<Kept> kept_;
    std::vector<Sequence> sequences_;
    mutable Turn turn_;  // taken before the pool's
};

}  // namespace onebit
