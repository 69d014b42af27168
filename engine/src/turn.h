// Whose turn a computation is: a lock that threads take in the order in which they asked for it.
#pragma once

#include <condition_variable>
#include <cstdint>
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

class Turn {
  public:
    // Waits for the turn, and asks meanwhile. Throws what `ask` throws, and std::invalid_argument where this thread has the turn already, as within
    // a signal handler that `ask` called: it would wait for itself.
    void lock(const Ask& ask);
    void lock() { lock(Ask()); }
    void unlock();

  private:
    std::mutex mutex_;  // of what follows, held for moments only
    std::condition_variable freed_;
    bool taken_ = false;
    std::thread::id owner_;  // where taken
    // A mutex alone would let a thread that computes in a loop take it again before another one has woken.
    std::vector<std::uint64_t> waiting_;  // tickets, the first one first
    std::uint64_t tickets_ = 0;
};

// The turn, until what it gives ends.
inline std::unique_lock<Turn> take_turn(Turn& turn, const Ask& ask) {
    turn.lock(ask);
    return {turn, std::adopt_lock};
}

}  // namespace onebit
