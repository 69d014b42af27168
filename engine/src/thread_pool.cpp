#include "thread_pool.h"

#include <chrono>

namespace onebit {
namespace {

// The steps of a network follow each other within microseconds: a worker that spins so long is there for the next, one that finds
// nothing goes to sleep and costs nobody anything.
constexpr auto spin = std::chrono::microseconds(50);

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
    try {
        for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (...) {
        stop();  // no destructor runs for what was not built, and a thread that is left running ends the process
        throw;
    }
}

ThreadPool::~ThreadPool() {
    stop();
}

void ThreadPool::stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
        round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::parallel_for(std::int64_t count, const std::function<void(std::int64_t, int)>& body) {
    if (workers_.empty() || count <= 1) {
        for (std::int64_t i = 0; i < count; ++i) body(i, 0);
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        body_ = &body;
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
        busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
        round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    take(0);
    // Every worker signs off before the next call, so none can meet the next call's work with this call's body. After a short spin the
    // core is given away: the worker that is waited for may need it.
    for (int turns = 0; busy_.load(std::memory_order_acquire) != 0; ++turns) {
        if (turns < 2000) {
            relax();
        } else {
            std::this_thread::yield();
        }
    }
}

void ThreadPool::take(int thread) {
    for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) (*body_)(i, thread);
}

void ThreadPool::work(int thread) {
    std::uint64_t seen = 0;
    while (true) {
        const auto start = std::chrono::steady_clock::now();
        while (round_.load(std::memory_order_acquire) == seen && std::chrono::steady_clock::now() - start < spin) relax();
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
            seen = round_.load(std::memory_order_acquire);
            if (stop_) return;
        }
        take(thread);
        busy_.fetch_sub(1, std::memory_order_release);
    }
}

}  // namespace onebit
