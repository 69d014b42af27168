// Copies of the few channels of a pixel, of which an image has many: a call for each would cost more than the copy.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace onebit {

inline void copy_short(const float* from, std::int64_t n, float* to) {
    constexpr std::int64_t four = 4, few = 128;
    if (n > few) {
        std::copy_n(from, n, to);
        return;
    }
    std::int64_t i = 0;
    for (; i + four <= n; i += four) std::memcpy(to + i, from + i, four * sizeof(float));
    for (; i < n; ++i) to[i] = from[i];
}

}  // namespace onebit
