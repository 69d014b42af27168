#include "thread_pool.h"

#include <utility>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace onebit {
namespace {

// The steps of a network follow each other within microseconds, and a text's tokens within a fraction of a millisecond: a worker that spins so long
// is there for the next, one that finds nothing goes to sleep and costs nobody anything.
constexpr auto spin = std::chrono::microseconds(400);
// Ctrl-C is heard within this time: too short to be felt, too long to cost anything.
constexpr auto ask_every = std::chrono::milliseconds(50);
// How often a spinning thread looks at the work before it looks at the clock, which costs more.
constexpr int looks = 64;

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Keep a thread on the `index`-th processor of those that this process may use.
void pin_thread([[maybe_unused]] std::thread& thread, [[maybe_unused]] int index) {
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    const int count = CPU_COUNT(&allowed);
    int wanted = count > 0 ? index % count : 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed) || wanted-- > 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(thread.native_handle(), sizeof one, &one);
        return;
    }
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads, bool pin) {
    try {
        start(threads, pin);
    } catch (...) {
        // The threads that did start must end before what they use does.
        stop();
        throw;
    }
}

void ThreadPool::start(int threads, bool pin) {
    for (int i = 1; i < threads; ++i) {
        workers_.emplace_back([this, i] { work(i); });
        if (pin) pin_thread(workers_.back(), i);
    }
}

ThreadPool::~ThreadPool() {
    stop();
}

void ThreadPool::stop() {
    {
        const std::lock_guard lock(mutex_);
        stop_.store(true);
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::parallel_for(std::int64_t count, const std::function<void(std::int64_t, int)>& body) {
    if (workers_.empty() || count <= 1) {
        for (std::int64_t i = 0; i < count; ++i) {
            check(0);
            body(i, 0);
        }
        return;
    }
    body_ = &body;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1);
    if (sleeping_.load() > 0) {
        // Taking the lock means that a worker that is about to sleep either has looked at the round after it changed, or hears the call.
        {
            const std::lock_guard lock(mutex_);
        }
        wake_.notify_all();
    }
    take(0);
    round_.fetch_add(1);
    // After a short spin the core is given away: the worker that is waited for may need it.
    for (int turns = 0; active_.load() != 0; ++turns) {
        if (turns < 2000) {
            relax();
        } else {
            std::this_thread::yield();
            if (ask_ != nullptr && !failed_.load(std::memory_order_relaxed)) keep_error([&] { ask_now_and_then(); });
        }
    }
    body_ = nullptr;
    if (failed_.exchange(false)) std::rethrow_exception(std::exchange(error_, nullptr));
}

template <class Function>
void ThreadPool::keep_error(const Function& f) noexcept {
    try {
        f();
    } catch (...) {
        next_.store(count_, std::memory_order_relaxed);
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        failed_.store(true);
    }
}

void ThreadPool::take(int thread) noexcept {
    keep_error([&] {
        for (std::int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
            (*body_)(i, thread);
            check(thread);
        }
    });
}

void ThreadPool::ask_now_and_then() {
    const auto now = std::chrono::steady_clock::now();
    if (now - asked_ < ask_every) return;
    (*ask_)();
    asked_ = std::chrono::steady_clock::now();
}

ThreadPool::Asking::Asking(ThreadPool& pool, const Ask& ask) : pool_(pool) {
    pool.ask_ = ask ? &ask : nullptr;
    if (ask) pool.asked_ = std::chrono::steady_clock::now();
}

std::unique_lock<std::timed_mutex> take_turn(std::timed_mutex& mutex, const Ask& ask) {
    std::unique_lock lock(mutex, std::defer_lock);
    if (!ask) {
        lock.lock();
    } else {
        // By the system's clock: the thread sanitizer of gcc 12 does not know the call that waits by the steady one. Where the clock is set, the
        // question comes earlier or later.
        while (!lock.try_lock_until(std::chrono::system_clock::now() + ask_every)) ask();
    }
    return lock;
}

void ThreadPool::work(int thread) {
    std::uint64_t seen = 0;
    const auto waiting = [&] {
        const std::uint64_t round = round_.load();
        return (round % 2 == 1 && round != seen) || stop_.load();
    };
    while (true) {
        const auto end = std::chrono::steady_clock::now() + spin;
        while (!waiting() && std::chrono::steady_clock::now() < end) {
            for (int i = 0; i < looks && !waiting(); ++i) relax();
        }
        if (!waiting()) {
            std::unique_lock lock(mutex_);
            sleeping_.fetch_add(1);
            wake_.wait(lock, waiting);
            sleeping_.fetch_sub(1);
        }
        if (stop_.load()) return;
        active_.fetch_add(1);
        const std::uint64_t round = round_.load();
        if (round % 2 == 1) {
            seen = round;
            take(thread);
        }
        active_.fetch_sub(1);
    }
}

}  // namespace onebit
