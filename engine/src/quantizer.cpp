#include "quantizer.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace onebit {
namespace {

// A largest activation below this counts as 0, because its reciprocal would not be finite.
constexpr float smallest_largest = 1e-30f;
// The least maximum of "absmax", the same as in training.
constexpr float least_absmax = 1e-5f;

}  // namespace

Quantizer::Quantizer(const InputLevels& input, const Range& range)
    : finite(true), is_signed(true), sign_only(false), scale(1.0f), inverse(1.0f), low(-1.0f), high(1.0f) {
    const auto largest = std::bit_cast<float>(range.largest_bits);
    switch (input.quantizer) {
        case InputLevels::Quantizer::sign: sign_only = true; return;
        case InputLevels::Quantizer::unit:
            is_signed = false;
            low = 0.0f;
            high = inverse = static_cast<float>(input.largest());
            scale = 1.0f / high;
            return;
        case InputLevels::Quantizer::absmax: {
            finite = std::isfinite(largest);
            const float most = std::max(largest, least_absmax);
            high = static_cast<float>(input.largest());
            low = -high;
            scale = most / high;
            inverse = high / most;
            return;
        }
        case InputLevels::Quantizer::absent: break;
    }
    finite = std::isfinite(largest);
    is_signed = range.negative;
    high = is_signed ? 127.0f : 255.0f;
    low = is_signed ? -high : 0.0f;
    scale = largest > smallest_largest ? largest / high : 1.0f;
    inverse = largest > smallest_largest ? 1.0f / scale : 0.0f;
}

void Quantizer::bytes(const Kernels& kernels, const float* x, std::int64_t n, int shift, std::uint8_t* to) const {
    if (!sign_only) {
        kernels.rows.quantize(x, n, inverse, low, high, shift, to);
        return;
    }
    const auto one = static_cast<std::uint8_t>(shift + 1), minus_one = static_cast<std::uint8_t>(shift - 1);
    for (std::int64_t i = 0; i < n; ++i) to[i] = x[i] >= 0 ? one : minus_one;
}

void Quantizer::digits(const float* x, std::int64_t n, int shift, std::uint8_t* lower, std::uint8_t* upper) const {
    for (std::int64_t i = 0; i < n; ++i) {
        const auto level = static_cast<std::int32_t>(std::clamp(std::nearbyint(x[i] * inverse), low, high));
        lower[i] = static_cast<std::uint8_t>(level & 255);
        upper[i] = static_cast<std::uint8_t>((level >> 8) + shift);
    }
}

namespace {

template <class Sum, class Number>
void add_planes(const std::vector<int>& planes, std::int64_t outputs, std::int64_t count, Sum* sums) {
    for (std::size_t p = 0; p < planes.size(); ++p) {
        const Sum* plane = sums + static_cast<std::int64_t>(p) * outputs;
        const auto counts = static_cast<Number>(planes[p]);
        for (std::int64_t o = 0; o < count; ++o) {
            const Number product = counts * static_cast<Number>(plane[o]);
            sums[o] = static_cast<Sum>(p == 0 ? product : static_cast<Number>(sums[o]) + product);
        }
    }
}

}  // namespace

void combine_planes(const std::vector<int>& planes, std::int64_t outputs, std::int64_t count, std::int32_t* sums) {
    if (!one_plane(planes)) add_planes<std::int32_t, std::uint32_t>(planes, outputs, count, sums);
}

void combine_planes(const std::vector<int>& planes, std::int64_t outputs, std::int64_t count, float* sums) {
    if (!one_plane(planes)) add_planes<float, float>(planes, outputs, count, sums);
}

}  // namespace onebit
