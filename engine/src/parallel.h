// Loops over the threads of a pool, where there is enough work to wake them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "thread_pool.h"

namespace onebit {

// Calls of a kernel after which a long loop checks whether to go on: checking costs little beside so many, and so many take a part of a second at
// most.
constexpr std::int64_t calls_of_check = 16;

// Call body(index, thread) for each index below `count`, by several threads where there is enough work (multiply-accumulates, or elements times
// 8) to be worth waking them.
void parallel(ThreadPool& pool, std::int64_t work, std::int64_t count, const std::function<void(std::int64_t, int)>& body);

// Numbers that one task of a loop over rows takes: a few microseconds' work.
constexpr std::int64_t numbers_at_once = std::int64_t{1} << 14;

// Call body(first, count) for all of some rows of `width` numbers, so many at a time that threads share them and Ctrl-C is heard between them.
template <class Body>
void parallel_rows(ThreadPool& pool, std::int64_t rows, std::int64_t width, const Body& body) {
    const std::int64_t some = std::max<std::int64_t>(1, numbers_at_once / width), pieces = (rows + some - 1) / some;
    if (pieces == 1) return body(std::int64_t{0}, rows);
    parallel(pool, rows * width * 8, pieces, [&](std::int64_t i, int thread) {
        pool.check(thread);
        body(i * some, std::min(some, rows - i * some));
    });
}

// Numbers of which a function that takes about a nanosecond for each is worth a thread's coming.
constexpr std::int64_t least_numbers_of_a_thread = 512;

// The same for such functions, of `n` numbers: threads share even a single row.
template <class Body>
void parallel_numbers(ThreadPool& pool, std::int64_t n, const Body& body) {
    constexpr std::int64_t line = 16;
    const std::int64_t shares = std::clamp<std::int64_t>(n / least_numbers_of_a_thread, 1, pool.threads());
    const std::int64_t lines = ((n + shares - 1) / shares + line - 1) / line;
    const std::int64_t some = std::clamp(lines * line, line, numbers_at_once), pieces = (n + some - 1) / some;
    if (pieces <= 1) return body(std::int64_t{0}, n);
    pool.parallel_for(pieces, [&](std::int64_t i, int thread) {
        pool.check(thread);
        body(i * some, std::min(some, n - i * some));
    });
}

}  // namespace onebit
