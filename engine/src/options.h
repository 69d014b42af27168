// How a program is to be run.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace onebit {

class ThreadPool;

enum class Precision { int8, float32 };
// As what keys and values are kept: floats, their upper 16 bits, or 8 bits with one scale for a token's keys in a head and one for its values.
enum class CacheNumbers { float32, bf16, int8 };

struct Options {
    Precision precision = Precision::int8;
    int threads = 1;
    std::string isa;                                    // empty: ONEBIT_ISA's, else the best that the processor has
    std::uint64_t memory_cap = std::uint64_t{4} << 30;  // bytes of weights, activations and working memory
    bool pin = false;                                   // workers stay on processors of their own
    std::optional<CacheNumbers> cache;  // of programs over tokens; else bf16 where activations are quantised anyway, and float32 where they are not
    std::shared_ptr<ThreadPool> pool;   // shared with other models, in place of threads of its own: `threads` and `pin` are then its
};

}  // namespace onebit
