#include "turn.h"

#include <algorithm>
#include <chrono>

namespace onebit {
namespace {

constexpr auto ask_every = std::chrono::milliseconds(50);

}  // namespace

void Turn::lock(const Ask& ask) {
    std::unique_lock held(mutex_);
    if (taken_ && owner_ == std::this_thread::get_id()) {
        throw std::invalid_argument(
            "[engine] a computation of this thread that is under way has the turn: what is asked during one cannot use its model or threads");
    }
    const std::uint64_t ticket = tickets_++;
    if (taken_ || !waiting_.empty()) {
        waiting_.push_back(ticket);
        const auto turn = [&] { return !taken_ && waiting_.front() == ticket; };
        while (!turn()) {
            if (!ask) {
                freed_.wait(held);
                continue;
            }
            // This uses the system's clock, because gcc 12's thread sanitizer does not know the call for the steady clock. If the clock is set,
            // the next check comes earlier or later.
            if (freed_.wait_until(held, std::chrono::system_clock::now() + ask_every, turn)) break;
            held.unlock();
            try {
                ask();
            } catch (...) {
                held.lock();
                waiting_.erase(std::find(waiting_.begin(), waiting_.end(), ticket));
                freed_.notify_all();
                throw;
            }
            held.lock();
        }
        waiting_.erase(waiting_.begin());
    }
    taken_ = true;
    owner_ = std::this_thread::get_id();
}

void Turn::unlock() {
    const std::lock_guard held(mutex_);
    taken_ = false;
    // Wake all, because the next one may be any of them.
    if (!waiting_.empty()) freed_.notify_all();
}

}  // namespace onebit
