// The options for running a program.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace onebit {

class ThreadPool;

enum class Precision { int8, float32 };
// The number type of the KV cache: floats, their upper 16 bits, or 8 bits with one scale for a token's keys in a head and one for its values.
enum class CacheNumbers { float32, bf16, int8 };

struct Options {
    Precision precision = Precision::int8;
    int threads = 1;
    std::string isa;                                    // empty: ONEBIT_ISA's, or else the best of this processor
    std::uint64_t memory_cap = std::uint64_t{4} << 30;  // bytes of weights, activations and working memory
    bool pin = false;                                   // each worker stays on its own processor
    std::optional<CacheNumbers> cache;                  // for programs over tokens; by default as docs/engine.md says
    std::shared_ptr<ThreadPool> pool;                   // shared with other models, instead of own threads; `threads` and `pin` are then the pool's
};

}  // namespace onebit
