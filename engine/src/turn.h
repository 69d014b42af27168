// A fair lock for computations: threads get it in the order in which they asked for it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace onebit {

// Called about every 50 ms in the calling thread while a computation runs or waits for its turn. It throws to end the computation. May be empty.
using Ask = std::function<void()>;

// The exception of an interrupted computation.
struct Interrupted : std::runtime_error {
    Interrupted() : std::runtime_error("[engine] the computation was interrupted") {}
};

class Turn {
  public:
    // Waits for the turn, and calls `ask` meanwhile. Throws what `ask` throws. Throws std::invalid_argument if this thread already has the turn, as
    // in a signal handler that `ask` called, because it would wait for itself.
    void lock(const Ask& ask);
    void lock() { lock(Ask()); }
    void unlock();

  private:
    std::mutex mutex_;  // for the members below, held only for moments
    std::condition_variable freed_;
    bool taken_ = false;
    std::thread::id owner_;  // where taken
    // With a mutex alone, a thread that computes in a loop could take it again before another thread wakes.
    std::vector<std::uint64_t> waiting_;  // tickets, the first one first
    std::uint64_t tickets_ = 0;
};

// Takes the turn until the returned object is destroyed.
inline std::unique_lock<Turn> take_turn(Turn& turn, const Ask& ask) {
    turn.lock(ask);
    return {turn, std::adopt_lock};
}

}  // namespace onebit
