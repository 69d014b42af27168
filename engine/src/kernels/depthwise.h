// Depthwise convolutions: each channel is multiplied by its own taps, so that a position's channels fill registers and nothing is summed across them.
// Compiled once for each instruction set, with internal linkage, as rows.h.
#pragma once

#include "rows.h"

namespace onebit {
namespace {

// Products of a byte and -1, 0 or 1 whose sum fits 16 bits: 128 * 255 < 2^15.
constexpr int taps_in_16_bits = 128;

// So many numbers as one operand.
template <class Number, int n>
struct Several {
    typedef Number Type __attribute__((vector_size(n * sizeof(Number))));
};

// The sums of n channels of a position: bytes, 16 bits at a time.
template <int n>
[[gnu::always_inline]] inline void depthwise_bytes(const std::uint8_t* x, const DepthwiseArgs& a, const std::int8_t* weights, std::int32_t* out) {
    using Levels = typename Several<std::uint8_t, n>::Type;
    using Signs = typename Several<std::int8_t, n>::Type;
    using Sums = typename Several<std::int16_t, n>::Type;
    std::int32_t sums[n] = {};
    for (int first = 0; first < a.taps; first += taps_in_16_bits) {
        const int end = first + taps_in_16_bits < a.taps ? first + taps_in_16_bits : a.taps;
        Sums part = {};
        for (int t = first; t < end; ++t) {
            Levels bytes;
            Signs by;
            std::memcpy(&bytes, x + a.offsets[t], sizeof bytes);
            std::memcpy(&by, weights + static_cast<std::ptrdiff_t>(t) * a.channels, sizeof by);
            part += __builtin_convertvector(bytes, Sums) * __builtin_convertvector(by, Sums);
        }
        for (int i = 0; i < n; ++i) sums[i] += part[i];
    }
    std::memcpy(out, sums, sizeof sums);
}

void depthwise_int8(const std::uint8_t* x, const DepthwiseArgs& a, const std::int8_t* weights, std::int32_t* out) {
    for (std::int64_t p = 0; p < a.positions; ++p, x += a.step, out += a.out_stride) {
        int c = 0;
        if constexpr (register_lanes == 16) {
            for (; c + 32 <= a.channels; c += 32) depthwise_bytes<32>(x + c, a, weights + c, out + c);
        }
        for (; c + 16 <= a.channels; c += 16) depthwise_bytes<16>(x + c, a, weights + c, out + c);
        for (; c + 8 <= a.channels; c += 8) depthwise_bytes<8>(x + c, a, weights + c, out + c);
        for (; c < a.channels; ++c) {
            std::int32_t sum = 0;
            for (int t = 0; t < a.taps; ++t) sum += x[a.offsets[t] + c] * weights[static_cast<std::ptrdiff_t>(t) * a.channels + c];
            out[c] = sum;
        }
    }
}

void depthwise_float(const float* x, const DepthwiseArgs& a, const float* weights, float* out) {
    for (std::int64_t p = 0; p < a.positions; ++p, x += a.step, out += a.out_stride) {
        int c = 0;
        for (; c + register_lanes <= a.channels; c += register_lanes) {
            Lanes sum = {};
            for (int t = 0; t < a.taps; ++t) {
                sum += load_lanes(x + a.offsets[t] + c) * load_lanes(weights + static_cast<std::ptrdiff_t>(t) * a.channels + c);
            }
            store_lanes(sum, out + c);
        }
        for (; c < a.channels; ++c) {
            float sum = 0;
            for (int t = 0; t < a.taps; ++t) sum += x[a.offsets[t] + c] * weights[static_cast<std::ptrdiff_t>(t) * a.channels + c];
            out[c] = sum;
        }
    }
}

}  // namespace
}  // namespace onebit
