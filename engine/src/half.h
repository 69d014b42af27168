// Float16 numbers, which C++20 has no type for, as their bits.
#pragma once

#include <cmath>
#include <cstdint>

namespace onebit {

// Of a finite number, exact.
inline float from_half(std::uint16_t half) {
    const int magnitude = half & 0x7FFF, exponent = magnitude >> 10, fraction = magnitude & 0x3FF;
    const float number =
        exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24) : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return (half & 0x8000) != 0 ? -number : number;
}

}  // namespace onebit
