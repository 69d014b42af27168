// Records what each thread did and when, to find lost time. When it is off, each span costs one check of a constant.
#pragma once

#include <cstdint>
#include <string>

namespace onebit::trace {

// Whether ONEBIT_TRACE named a file when the process began: it is written when the process ends, as events that chrome://tracing and Perfetto show.
#if defined(ONEBIT_WASM)
constexpr bool enabled = false;  // a page has neither an environment nor files
#else
extern const bool enabled;
#endif

std::int64_t now();
// A copy of a name that stays valid until the process ends.
const char* keep(const std::string& name);
// `what`: a literal or a kept name.
void record(const char* what, std::int64_t begin, std::int64_t end);

// A span from here to the end of the block.
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
