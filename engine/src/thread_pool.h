// A few threads that wait for work; one caller at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace onebit {

// Asked about every 50 ms, in the thread that called, while a computation runs or waits for its turn; throws to end it. Empty: nobody asks.
using Ask = std::function<void()>;

// What a computation throws that was ended.
struct Interrupted : std::runtime_error {
    Interrupted() : std::runtime_error("[engine] the computation was interrupted") {}
};

// Waits for the turn of a computation, and asks meanwhile.
std::unique_lock<std::timed_mutex> take_turn(std::timed_mutex& mutex, const Ask& ask);

class ThreadPool {
  public:
    // While one lives, work of the pool asks the caller whether to go on.
    class Asking {
      public:
        Asking(ThreadPool& pool, const Ask& ask);
        ~Asking() { pool_.ask_ = nullptr; }
        Asking(const Asking&) = delete;
        Asking& operator=(const Asking&) = delete;

      private:
        ThreadPool& pool_;
    };

    // `threads` in all, the caller's included; 1 starts none. `pin`: each worker stays on a processor of its own, of those that this process may use,
    // where the system offers that; the caller's thread is left alone. Throws std::system_error where a thread cannot be started.
    explicit ThreadPool(int threads, bool pin = false);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return static_cast<int>(workers_.size()) + 1; }

    // Call body(index, thread) for each index from 0 to count - 1, in any order, and return when all are done. Where a body throws, no new index is
    // begun, and the first exception reaches the caller once every thread has left.
    // A body that takes long calls `check` every now and then.
    void parallel_for(std::int64_t count, const std::function<void(std::int64_t, int)>& body);

    // Throws where the computation is to end: `thread` is the body's; 0 between bodies.
    void check(int thread) {
        if (failed_.load(std::memory_order_relaxed)) throw Interrupted();
        if (thread == 0 && ask_ != nullptr) ask_now_and_then();
    }

  private:
    void start(int threads, bool pin);
    void ask_now_and_then();
    // Calls f; what it throws is kept for the caller.
    template <class Function>
    void keep_error(const Function& f) noexcept;
    void stop();
    void work(int thread);
    void take(int thread) noexcept;

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    // Odd while there is work. A worker says that it is active, looks again, and only then touches the work; the caller ends the round and waits
    // until nobody is active. So a worker that sleeps is waited for by nobody.
    std::atomic<std::uint64_t> round_{0};
    std::atomic<int> active_{0};
    std::atomic<int> sleeping_{0};
    std::atomic<bool> stop_{false};
    std::atomic<std::int64_t> next_{0};
    std::int64_t count_ = 0;
    const std::function<void(std::int64_t, int)>* body_ = nullptr;
    std::exception_ptr error_;  // the first of a round
    std::atomic<bool> failed_{false};
    const Ask* ask_ = nullptr;
    std::chrono::steady_clock::time_point asked_;
};

}  // namespace onebit
