// Expands bits to the bytes for products of bytes. Internal linkage, as in rows.h.
#pragma once

#include <cstdint>

namespace onebit {
namespace {

// The four bytes of four bits, least significant first.
constexpr std::uint32_t four_weights(unsigned nibble, bool plus_minus) {
    std::uint32_t word = 0;
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t set = nibble >> i & 1u;
        word |= (plus_minus ? (set ? 0x01u : 0xFFu) : set) << (8 * i);
    }
    return word;
}

}  // namespace
}  // namespace onebit
