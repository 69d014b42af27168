// Indices are signed everywhere, containers want them unsigned.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onebit {

constexpr std::size_t at(std::int64_t index) {
    return static_cast<std::size_t>(index);
}

}  // namespace onebit
