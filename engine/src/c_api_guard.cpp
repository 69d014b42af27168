#include "c_api_guard.h"

#include <algorithm>
#include <cstring>

namespace onebit::c_api {
namespace {

// A fixed size: reporting that memory is exhausted must not need memory.
constexpr std::size_t message_bytes = 1024;
thread_local char last_error[message_bytes] = "";

void set_error(const char* message) noexcept {
    const std::size_t length = std::min(std::strlen(message), message_bytes - 1);
    std::memcpy(last_error, message, length);
    last_error[length] = '\0';
}

}  // namespace

onebit_status report(onebit_status status, const char* message) noexcept {
    set_error(message);
    return status;
}

const char* last_message() noexcept {
    return last_error;
}

}  // namespace onebit::c_api
