// In a page only libc++ prints by format: "Unknown error %d" of a system that a page does not have. The C library's snprintf would bring 4 kB along,
// compressed, with soft floats of 128 bits. This one takes the format as it is.
#include <algorithm>
#include <cstddef>
#include <cstring>

extern "C" int snprintf(char* to, std::size_t size, const char* format, ...) {
    const std::size_t length = std::strlen(format);
    if (size > 0) {
        const std::size_t taken = std::min(length, size - 1);
        std::memcpy(to, format, taken);
        to[taken] = '\0';
    }
    return static_cast<int>(length);
}
