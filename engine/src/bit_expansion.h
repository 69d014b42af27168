// Rows of bits as numbers.
#pragma once

#include <cstdint>

namespace onebit {

// The eight numbers of each byte of bits.
struct BitExpansion {
    float of[256][8];

    explicit BitExpansion(float clear) {
        for (int byte = 0; byte < 256; ++byte) {
            for (int bit = 0; bit < 8; ++bit) of[byte][bit] = (byte >> bit & 1) != 0 ? 1.0f : clear;
        }
    }
};

// y[i] += count * (0 or 1, or -1 or 1 where bits are `plus_minus`), of the first n bits. Sums of whole numbers are exact.
inline void add_bits(const std::uint8_t* bits, std::int64_t n, bool plus_minus, float count, float* y) {
    static const BitExpansion zero_one(0.0f), signs(-1.0f);
    const BitExpansion& expansion = plus_minus ? signs : zero_one;
    std::int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int bit = 0; bit < 8; ++bit) y[i + bit] += count * expansion.of[bits[i / 8]][bit];
    }
    for (; i < n; ++i) y[i] += count * expansion.of[bits[i / 8]][i % 8];
}

}  // namespace onebit
