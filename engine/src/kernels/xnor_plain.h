// Packing in plain C++, compiled once for each set without its own version. Internal linkage, as in rows.h.
#pragma once

#include <cstring>

#include "xnor.h"

namespace onebit {
namespace {

// The bits of up to 64 floats.
inline std::uint64_t signs_of(const float* x, std::int64_t n, const float* least, const std::uint32_t* flips) {
    std::uint64_t word = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        float v = x[i], from = 0.0f;
        if (least != nullptr) {
            std::uint32_t bits;
            std::memcpy(&bits, &v, 4);
            bits ^= flips[i];
            std::memcpy(&v, &bits, 4);
            from = least[i];
        }
        word |= static_cast<std::uint64_t>(v >= from) << i;
    }
    return word;
}

[[maybe_unused]] void pack_signs_plain(const float* x, std::int64_t n, const float* least, const std::uint32_t* flips, std::uint64_t* words) {
    for (std::int64_t i = 0; i < n; i += xnor_inputs) {
        const std::int64_t here = n - i < xnor_inputs ? n - i : xnor_inputs;
        *words++ = signs_of(x + i, here, least == nullptr ? nullptr : least + i, least == nullptr ? nullptr : flips + i);
    }
}

[[maybe_unused]] void pack_levels_plain(const std::uint8_t* levels, std::int64_t n, int bits, std::ptrdiff_t plane_stride, std::uint64_t* words) {
    for (std::int64_t i = 0; i < n; i += xnor_inputs, ++words) {
        const std::int64_t here = n - i < xnor_inputs ? n - i : xnor_inputs;
        for (int j = 0; j < bits; ++j) {
            std::uint64_t word = 0;
            for (std::int64_t k = 0; k < here; k += 8) {
                std::uint64_t eight = 0;
                std::memcpy(&eight, levels + i + k, static_cast<std::size_t>(here - k < 8 ? here - k : 8));
                // Packs the lowest bits of eight bytes into one byte: multiplying moves each to its place in the highest byte.
                word |= ((eight >> j & 0x0101010101010101u) * 0x0102040810204080u >> 56) << k;
            }
            words[j * plane_stride] = word;
        }
    }
}

}  // namespace
}  // namespace onebit
