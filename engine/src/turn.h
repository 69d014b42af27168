// A fair lock for computations: threads get it in the order in which they asked for it.
#pragma once

#include <atomic>
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

// The number of this process. It differs in a child of fork(), where the parent's other threads do not exist.
long process_id();

// After fork() the child has a turn of its own: threads that had the parent's, or waited for it, do not exist there.
class Turn {
  public:
    Turn();
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    // Waits for the turn, and calls `ask` meanwhile. Throws what `ask` throws. Throws std::invalid_argument if this thread already has the turn, as
    // in a signal handler that `ask` called, because it would wait for itself.
    void lock(const Ask& ask);
    void lock() { lock(Ask()); }
    void unlock();

  private:
    struct State {
        const long process = process_id();
        std::mutex mutex;  // for the members below, held only for moments
        std::condition_variable freed;
        bool taken = false;
        std::thread::id owner;  // where taken
        // With a mutex alone, a thread that computes in a loop could take it again before another thread wakes.
        std::vector<std::uint64_t> waiting;  // tickets, the first one first
        std::uint64_t tickets = 0;
    };

    // The state of this process. A parent's is left as it is: its mutex may be locked for ever.
    State& state();

    std::atomic<State*> state_;
};

// Takes the turn until the returned object is destroyed.
inline std::unique_lock<Turn> take_turn(Turn& turn, const Ask& ask) {
    turn.lock(ask);
    return {turn, std::adopt_lock};
}

}  // namespace onebit
