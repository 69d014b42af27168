#include "thread_pool.h"

#include <algorithm>
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

// WebAssembly has threads only where a server sends special headers, so the build for it has none: a pool's caller computes alone.
#if defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)
constexpr bool has_threads = false;
#else
constexpr bool has_threads = true;
#endif

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
    if (!has_threads) return;
    if (threads > 1) seats_ = std::make_unique<Seat[]>(static_cast<std::size_t>(threads - 1));
    for (int i = 1; i < threads; ++i) {
        workers_.emplace_back([this, i] { work(i); });
        if (pin) pin_thread(workers_.back(), i);
    }
}

ThreadPool::~ThreadPool() {
    stop();
}

void ThreadPool::stop() {
    if (process_ != process_id()) {
        // A child of fork(): their handles can be neither joined nor destroyed here, nor can what they waited on, so both are leaked.
        [[maybe_unused]] const auto* handles = new std::vector<std::thread>(std::move(workers_));
        [[maybe_unused]] const auto* places = seats_.release();
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        round_.stop.store(true);
    }
    for (std::size_t i = 0; i < workers_.size(); ++i) seats_[i].wake.notify_one();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::parallel_for(std::int64_t count, const std::function<void(std::int64_t, int)>& body) {
    if (workers_.empty() || alone_ || count <= 1) {
        for (std::int64_t i = 0; i < count; ++i) {
            check(0);
            body(i, 0);
        }
        return;
    }
    round_.body = &body;
    round_.count = count;
    next_.store(0, std::memory_order_relaxed);
    const auto wanted = static_cast<std::uint64_t>(std::min<std::int64_t>(count, threads()));
    begin(wanted);
    take(0);
    finish(round_.word.load(std::memory_order_relaxed), count);
    if (failed_.exchange(false)) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::begin(std::uint64_t wanted) {
    const std::uint64_t before = round_.word.load(std::memory_order_relaxed);
    // Either a worker that is about to sleep sees this, or its sleep is seen here.
    round_.word.store((before / seats + 1) * seats + wanted);
    if (sleeping_.load() == 0) return;
    for (std::size_t i = 0; i + 1 < wanted; ++i) {
        if (!seats_[i].sleeps.load()) continue;
        // Taking the lock means that the worker hears the call, or has not looked yet.
        {
            const std::lock_guard lock(mutex_);
        }
        seats_[i].wake.notify_one();
    }
}

// A worker that has not come yet is waited for by nobody: what would be its share the caller does.
void ThreadPool::finish(std::uint64_t word, std::int64_t count) {
    const std::size_t wanted = word % seats;
    const bool own_index = count <= threads();
    for (std::size_t i = 0; i + 1 < wanted; ++i) {
        Seat& seat = seats_[i];
        // Who comes has claimed the round long before it is done with it, so that mostly its second line is all that is read.
        for (int turns = 0; seat.came && turns < 16 && seat.done.load(std::memory_order_acquire) != word; ++turns) relax();
        if (seat.done.load(std::memory_order_acquire) == word) continue;
        std::uint64_t claimed = seat.claimed.load(std::memory_order_relaxed);
        seat.came = claimed == word || !seat.claimed.compare_exchange_strong(claimed, word, std::memory_order_acq_rel);
        if (seat.came) continue;
        seat.done.store(word, std::memory_order_relaxed);
        if (own_index) {
            keep_error([&] {
                if (!failed_.load(std::memory_order_relaxed)) (*round_.body)(static_cast<std::int64_t>(i) + 1, 0);
                check(0);
            });
        }
    }
    for (std::size_t i = 0; i + 1 < wanted; ++i) wait_for(seats_[i], word);
}

void ThreadPool::wait_for(Seat& seat, std::uint64_t word) {
    // After a short spin the core is given away: the worker that is waited for may need it.
    for (int turns = 0; seat.done.load(std::memory_order_acquire) != word; ++turns) {
        if (turns < 2000) {
            relax();
        } else {
            std::this_thread::yield();
            if (ask_ != nullptr && !failed_.load(std::memory_order_relaxed)) keep_error([&] { ask_now_and_then(); });
        }
    }
}

template <class Function>
void ThreadPool::keep_error(const Function& f) noexcept {
    try {
        f();
    } catch (...) {
        next_.store(round_.count, std::memory_order_relaxed);
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        failed_.store(true);
    }
}

void ThreadPool::take(int thread) noexcept {
    keep_error([&] {
        if (round_.count > threads()) return take_some(thread);
        if (!failed_.load(std::memory_order_relaxed)) (*round_.body)(thread, thread);
        check(thread);
    });
}

void ThreadPool::take_some(int thread) {
    const std::int64_t count = round_.count, parts = 4 * std::int64_t{threads()};
    for (std::int64_t i = next_.load(std::memory_order_relaxed); i < count;) {
        // Many while there are many, so that threads seldom meet; single ones in the end, so that they end together.
        const std::int64_t some = std::max<std::int64_t>(1, (count - i) / parts);
        if (!next_.compare_exchange_weak(i, i + some, std::memory_order_relaxed)) continue;
        for (const std::int64_t end = i + some; i < end; ++i) {
            (*round_.body)(i, thread);
            check(thread);
        }
        i = next_.load(std::memory_order_relaxed);
    }
}

void ThreadPool::leave_workers() {
    alone_ = true;
    // The parent may have been in the midst of a round.
    failed_.store(false);
    error_ = nullptr;
}

void ThreadPool::ask_now_and_then() {
    const auto now = std::chrono::steady_clock::now();
    if (now - asked_ < ask_every) return;
    (*ask_)();
    asked_ = std::chrono::steady_clock::now();
}

ThreadPool::Use::Use(ThreadPool& pool, const Ask& ask) : pool_(pool) {
    pool.turn_.lock(ask);
    if (!pool.alone_ && pool.process_ != process_id()) pool.leave_workers();
    pool.ask_ = ask ? &ask : nullptr;
    if (ask) pool.asked_ = std::chrono::steady_clock::now();
}

ThreadPool::Use::~Use() {
    pool_.ask_ = nullptr;
    pool_.turn_.unlock();
}

void ThreadPool::work(int thread) {
    Seat& seat = seats_[static_cast<std::size_t>(thread - 1)];
    std::uint64_t seen = 0;
    const auto waiting = [&] {
        const std::uint64_t word = round_.word.load();
        return (word != seen && word % seats > static_cast<std::uint64_t>(thread)) || round_.stop.load(std::memory_order_relaxed);
    };
    while (true) {
        // The next round mostly begins at once: the clock is looked at when it does not.
        std::chrono::steady_clock::time_point end{};
        while (!waiting()) {
            for (int i = 0; i < looks && !waiting(); ++i) relax();
            const auto now = std::chrono::steady_clock::now();
            if (end == std::chrono::steady_clock::time_point{}) end = now + spin;
            if (now >= end) break;
        }
        if (!waiting()) {
            std::unique_lock lock(mutex_);
            seat.sleeps.store(true);
            sleeping_.fetch_add(1);
            seat.wake.wait(lock, waiting);
            sleeping_.fetch_sub(1);
            seat.sleeps.store(false);
        }
        if (round_.stop.load()) return;
        // The caller may be done with this round, or with others that came after it: then they are closed, and their words stand in `claimed`.
        const std::uint64_t word = round_.word.load();
        seen = word;
        std::uint64_t claimed = seat.claimed.load(std::memory_order_relaxed);
        if (word % seats <= static_cast<std::uint64_t>(thread) || claimed / seats >= word / seats) continue;
        if (!seat.claimed.compare_exchange_strong(claimed, word, std::memory_order_acq_rel)) continue;
        // From here on the round is not over before this thread says so.
        take(thread);
        seat.done.store(word, std::memory_order_release);
    }
}

}  // namespace onebit
