// Quantises the inputs of binary layers to integers, and turns sums over the planes of weights into sums of outputs.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "program.h"

namespace onebit {

// The range of a value for quantising: its largest magnitude, as bits, and whether any element is below 0.
struct Range {
    std::uint32_t largest_bits = 0;
    bool negative = false;

    void include(const Range& other) {
        largest_bits = largest_bits > other.largest_bits ? largest_bits : other.largest_bits;
        negative |= other.negative;
    }
};

// The conversion of a value to levels: level = clip(round(x * inverse), low, high), x = scale * level; docs/program.md.
struct Quantizer {
    Quantizer(const InputLevels& input, const Range& range);

    // The levels of n numbers as bytes, plus `shift`.
    void bytes(const Kernels& kernels, const float* x, std::int64_t n, int shift, std::uint8_t* to) const;
    // Levels of more than 8 bits as 256 * upper + lower: lower is unsigned, upper is signed and shifted by `shift`.
    void digits(const float* x, std::int64_t n, int shift, std::uint8_t* lower, std::uint8_t* upper) const;

    bool finite;     // otherwise one NaN or infinity takes the scale from all others
    bool is_signed;  // levels below 0 may occur
    bool sign_only;  // x >= 0 is 1, everything else -1
    float scale, inverse, low, high;
};

// The bytes of a level.
inline int digits_of(const InputLevels& input) {
    return input.bits > 8 ? 2 : 1;
}

// Whether the range of an input decides its levels.
inline bool needs_range(const InputLevels& input) {
    return input.quantizer == InputLevels::Quantizer::absent || input.quantizer == InputLevels::Quantizer::absmax;
}

// Whether sums over planes are already the sums of outputs.
inline bool one_plane(const std::vector<int>& planes) {
    return planes.size() == 1 && planes[0] == 1;
}

// Turns sums over planes (`outputs` sums per plane, plane after plane) into the sums of outputs, in the place of the first plane. The results fit in
// 32 bits; intermediate sums may not.
// Of the first `count` outputs.
void combine_planes(const std::vector<int>& planes, std::int64_t outputs, std::int64_t count, std::int32_t* sums);
void combine_planes(const std::vector<int>& planes, std::int64_t outputs, std::int64_t count, float* sums);
template <class Sum>
void combine_planes(const std::vector<int>& planes, std::int64_t outputs, Sum* sums) {
    combine_planes(planes, outputs, outputs, sums);
}

}  // namespace onebit
