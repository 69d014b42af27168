#include "turn.h"

#include <algorithm>
#include <chrono>
#include <memory>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace onebit {
namespace {

constexpr auto ask_every = std::chrono::milliseconds(50);

}  // namespace

long process_id() {
#if defined(__unix__) || defined(__APPLE__)
    return getpid();
#else
    return 0;
#endif
}

Turn::Turn() : state_(new State) {}

Turn::~Turn() {
    // In a child the parent's is leaked: destroying a condition variable waits for threads that do not exist.
    if (State* last = state_.load(); last->process == process_id()) delete last;
}

Turn::State& Turn::state() {
    State* current = state_.load();
    if (current->process == process_id()) return *current;
    auto own = std::make_unique<State>();
    // Another thread of the child may have come first.
    return state_.compare_exchange_strong(current, own.get()) ? *own.release() : *current;
}

void Turn::lock(const Ask& ask) {
    State& s = state();
    std::unique_lock held(s.mutex);
    if (s.taken && s.owner == std::this_thread::get_id()) {
        throw std::invalid_argument(
            "[engine] a computation of this thread that is under way has the turn: what is asked during one cannot use its model or threads");
    }
    const std::uint64_t ticket = s.tickets++;
    if (s.taken || !s.waiting.empty()) {
        s.waiting.push_back(ticket);
        const auto turn = [&] { return !s.taken && s.waiting.front() == ticket; };
        while (!turn()) {
            if (!ask) {
                s.freed.wait(held);
                continue;
            }
            // This uses the system's clock, because gcc 12's thread sanitizer does not know the call for the steady clock. If the clock is set,
            // the next check comes earlier or later.
            if (s.freed.wait_until(held, std::chrono::system_clock::now() + ask_every, turn)) break;
            held.unlock();
            try {
                ask();
            } catch (...) {
                held.lock();
                s.waiting.erase(std::find(s.waiting.begin(), s.waiting.end(), ticket));
                s.freed.notify_all();
                throw;
            }
            held.lock();
        }
        s.waiting.erase(s.waiting.begin());
    }
    s.taken = true;
    s.owner = std::this_thread::get_id();
}

void Turn::unlock() {
    State& s = state();
    const std::lock_guard held(s.mutex);
    s.taken = false;
    // Wake all, because the next one may be any of them.
    if (!s.waiting.empty()) s.freed.notify_all();
}

}  // namespace onebit
