// Indices are signed everywhere, but containers take unsigned ones.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onebit {

constexpr std::size_t at(std::int64_t index) {
    return static_cast<std::size_t>(index);
}

}  // namespace onebit
