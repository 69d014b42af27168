// How the inputs of binary layers become whole numbers, and how the sums over the planes of their weights become those of the outputs.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "program.h"

namespace onebit {

// What quantising needs to know of a value: its largest magnitude, as bits, and whether any element is below 0.
struct Range {
    std::uint32_t largest_bits = 0;
    bool negative = false;

    void include(const Range& other) {
        largest_bits = largest_bits > other.largest_bits ? largest_bits : other.largest_bits;
        negative |= other.negative;
    }
};

// How a value of a range becomes levels: level = clip(round(x * inverse), low, high), x = scale * level; docs/program.md.
struct Quantizer {
    Quantizer(const InputLevels& input, const Range& range);

    // Levels of n numbers as bytes: the level and `shift`.
    void bytes(const Kernels& kernels, const float* x, std::int64_t n, int shift, std::uint8_t* to) const;
    // Levels of more than 8 bits as 256 * upper + lower: lower unsigned, upper signed and shifted by `shift`.
    void digits(const float* x, std::int64_t n, int shift, std::uint8_t* lower, std::uint8_t* upper) const;

    bool finite;     // else one NaN or infinity leaves no scale for the others
    bool is_signed;  // levels below 0 may occur
    bool sign_only;  // x >= 0 is 1, all else -1
    float scale, inverse, low, high;
};

// Bytes of a level.
inline int digits_of(const InputLevels& input) {
    return input.bits > 8 ? 2 : 1;
}

// Whether the range of an input decides its levels.
inline bool needs_range(const InputLevels& input) {
    return input.quantizer == InputLevels::Quantizer::absent || input.quantizer == InputLevels::Quantizer::absmax;
}

// Whether sums over planes are those of the outputs already.
inline bool one_plane(const std::vector<int>& planes) {
    return planes.size() == 1 && planes[0] == 1;
}

// Sums over planes, one plane's `outputs` sums behind the other's, to those of the outputs, which take the first plane's place. They fit in 32 bits,
// what is added on the way need not.
// Of the first `count` outputs.
void combine_planes(const std::vector<int>& planes, std::int64_t outputs, std::int64_t count, std::int32_t* sums);
void combine_planes(const std::vector<int>& planes, std::int64_t outputs, std::int64_t count, float* sums);
template <class Sum>
void combine_planes(const std::vector<int>& planes, std::int64_t outputs, Sum* sums) {
    combine_planes(planes, outputs, outputs, sums);
}

}  // namespace onebit
