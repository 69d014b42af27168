#include "trace.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace onebit::trace {
namespace {

// The most events of a thread, about 100 MB. Later ones are lost.
constexpr std::size_t most_events = std::size_t{1} << 22;

struct Event {
    const char* what;
    std::int64_t begin, end;  // nanoseconds
};

const char* file() {
    const char* named = std::getenv("ONEBIT_TRACE");
    return named == nullptr || *named == '\0' ? nullptr : named;
}

// The events of all threads, including threads that have ended.
class Log {
  public:
    ~Log() {
        std::FILE* out = enabled ? std::fopen(file_.c_str(), "w") : nullptr;
        if (out == nullptr) return;
        std::fputs("{\"traceEvents\":[", out);
        const char* between = "\n";
        for (std::size_t thread = 0; thread < threads_.size(); ++thread) {
            for (const Event& event : *threads_[thread]) {
                std::fprintf(out, "%s{\"name\":\"%s\",\"ph\":\"X\",\"pid\":0,\"tid\":%zu,\"ts\":%.3f,\"dur\":%.3f}", between, event.what, thread,
                             static_cast<double>(event.begin - start_) / 1e3, static_cast<double>(event.end - event.begin) / 1e3);
                between = ",\n";
            }
        }
        std::fputs("\n]}\n", out);
        std::fclose(out);
    }

    std::vector<Event>* add_thread() {
        const std::lock_guard lock(mutex_);
        threads_.push_back(std::make_unique<std::vector<Event>>());
        threads_.back()->reserve(most_events);
        return threads_.back().get();
    }

  private:
    std::string file_ = enabled ? file() : "";
    std::int64_t start_ = now();
    std::mutex mutex_;
    std::vector<std::unique_ptr<std::vector<Event>>> threads_;
};

}  // namespace

#if !defined(ONEBIT_WASM)
const bool enabled = file() != nullptr;
#endif

std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

const char* keep(const std::string& name) {
    static std::mutex mutex;
    static std::set<std::string> names;
    const std::lock_guard lock(mutex);
    return names.insert(name).first->c_str();
}

void record(const char* what, std::int64_t begin, std::int64_t end) {
    static Log log;
    thread_local std::vector<Event>* const events = log.add_thread();
    if (events->size() < most_events) events->push_back({what, begin, end});
}

}  // namespace onebit::trace
