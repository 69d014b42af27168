// A few threads that wait for work; one caller at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace onebit {

class ThreadPool {
  public:
    // `threads` in all, the caller's included; 1 starts none.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return static_cast<int>(workers_.size()) + 1; }

    // Call body(index, thread) for each index from 0 to count - 1, in any order, and return when all are done. The body must not throw.
    void parallel_for(std::int64_t count, const std::function<void(std::int64_t, int)>& body);

  private:
    void stop();
    void work(int thread);
    void take(int thread);

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<std::uint64_t> round_{0};  // counts calls; a change wakes the workers
    std::atomic<int> busy_{0};
    std::atomic<std::int64_t> next_{0};
    std::int64_t count_ = 0;
    const std::function<void(std::int64_t, int)>* body_ = nullptr;
    bool stop_ = false;
};

}  // namespace onebit
