// What each thread did and when, for people who look for time that is lost. Off, it costs a look at a constant for each span.
#pragma once

#include <cstdint>
#include <string>

namespace onebit::trace {

// Whether ONEBIT_TRACE named a file when the process began: it is written when the process ends, as events that chrome://tracing and Perfetto show.
extern const bool enabled;

std::int64_t now();
// A name that stays until the process ends.
const char* keep(const std::string& name);
// `what`: a literal, or a name that was kept.
void record(const char* what, std::int64_t begin, std::int64_t end);

// From here to the end of the block.
class Span {
  public:
    explicit Span(const char* what) : what_(what), begin_(enabled ? now() : 0) {}
    ~Span() {
        if (enabled) record(what_, begin_, now());
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

  private:
    const char* what_;
    std::int64_t begin_;
};

}  // namespace onebit::trace
