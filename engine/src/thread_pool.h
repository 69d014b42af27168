// A few threads that wait for work, for one model or for several that take turns.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "turn.h"

namespace onebit {

class ThreadPool {
  public:
    // While one lives, the pool is its maker's: others wait for their turn, in the order in which they came, and work of the pool asks the caller
    // whether to go on. What a model does between two of its rounds belongs to the turn, so a turn is a whole computation. Throws as Turn::lock.
    class Use {
      public:
        Use(ThreadPool& pool, const Ask& ask);
        ~Use();
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;

      private:
        ThreadPool& pool_;
    };

    // After fork() the child's pool has no workers: the caller computes alone.
    // `threads` in all, the caller's included; 1 starts none. `pin`: each worker stays on a processor of its own, of those that this process may use,
    // where the system offers that; the caller's thread is left alone. Throws std::system_error where a thread cannot be started.
    explicit ThreadPool(int threads, bool pin = false);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return static_cast<int>(workers_.size()) + 1; }

    // Call body(index, thread) for each index from 0 to count - 1, in any order, and return when all are done. With no more indices than threads
    // each thread takes the index of its number, unless it comes too late; so what an earlier call left in its cache is there. Where a body throws,
    // no new index is begun, and the first exception reaches the caller once every thread has left.
    // A body that takes long calls `check` every now and then.
    void parallel_for(std::int64_t count, const std::function<void(std::int64_t, int)>& body);

    // Throws where the computation is to end: `thread` is the body's; 0 between bodies.
    void check(int thread) {
        if (failed_.load(std::memory_order_relaxed)) throw Interrupted();
        if (thread == 0 && ask_ != nullptr) ask_now_and_then();
    }

  private:
    // A worker's place, on lines of the cache of its own: what its owner writes in each round must not take a line away from anybody else.
    struct Seat {
        // The last round that the worker took part in, or that was closed to it because it came too late.
        alignas(64) std::atomic<std::uint64_t> claimed{0};
        alignas(64) std::atomic<std::uint64_t> done{0};  // the last round that it took part in and has left
        alignas(64) std::atomic<bool> sleeps{false};
        std::condition_variable wake;
        bool came = false;  // to the last round that it was wanted for, as the caller knows
    };
    // What a round is, in one line, so that a worker which sees it begin has all of it.
    struct Round {
        // How many there were, times `seats`, and how many threads this one is for, the caller's included. So a worker that is not wanted touches
        // nothing.
        std::atomic<std::uint64_t> word{0};
        std::atomic<bool> stop{false};
        std::int64_t count = 0;
        const std::function<void(std::int64_t, int)>* body = nullptr;
    };
    static constexpr std::uint64_t seats = 1 << 10;

    void start(int threads, bool pin);
    void ask_now_and_then();
    // Forgets workers that do not exist in this process.
    void leave_workers();
    // Calls f; what it throws is kept for the caller.
    template <class Function>
    void keep_error(const Function& f) noexcept;
    void stop();
    void begin(std::uint64_t wanted);
    void finish(std::uint64_t word, std::int64_t count);
    void wait_for(Seat& seat, std::uint64_t word);
    void work(int thread);
    // What falls to a thread: its own index where there are no more indices than threads, else some at a time until none is left.
    void take(int thread) noexcept;
    void take_some(int thread);

    std::vector<std::thread> workers_;
    std::unique_ptr<Seat[]> seats_;  // of workers; a thread's is at its number less 1
    std::mutex mutex_;
    alignas(64) Round round_;
    alignas(64) std::atomic<std::int64_t> next_{0};
    alignas(64) std::atomic<int> sleeping_{0};
    Turn turn_;
    const long process_ = process_id();  // where the workers are
    bool alone_ = false;                 // in a child of that process
    std::exception_ptr error_;           // the first of a round
    std::atomic<bool> failed_{false};
    const Ask* ask_ = nullptr;
    std::chrono::steady_clock::time_point asked_;
};

}  // namespace onebit
