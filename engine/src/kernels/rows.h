// Plain loops over rows of floats, compiled once for each instruction set with its flags so that the compiler vectorises them.
// Everything has internal linkage: a function shared between the sets could end up with instructions that a CPU lacks.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels.h"

namespace onebit {
namespace {

// Sums are kept in lanes, as a vector unit keeps them; the scalar set adds in the same order, so results differ little between sets.
constexpr int lanes = 16;

float lane_sum(const float* x, std::ptrdiff_t n) {
    float part[lanes] = {};
    std::ptrdiff_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (int l = 0; l < lanes; ++l) part[l] += x[i + l];
    }
    float sum = 0;
    for (; i < n; ++i) sum += x[i];
    for (int l = 0; l < lanes; ++l) sum += part[l];
    return sum;
}

float lane_squares(const float* x, std::ptrdiff_t n, float mean) {
    float part[lanes] = {};
    std::ptrdiff_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (int l = 0; l < lanes; ++l) {
            const float d = x[i + l] - mean;
            part[l] += d * d;
        }
    }
    float sum = 0;
    for (; i < n; ++i) sum += (x[i] - mean) * (x[i] - mean);
    for (int l = 0; l < lanes; ++l) sum += part[l];
    return sum;
}

// Images have millions of elements: sums of pieces of this many keep a float's error small.
constexpr std::ptrdiff_t piece = 4096;

void row_normalize(const float* x, std::ptrdiff_t n, float eps, float* y) {
    double sum = 0, squares = 0;
    for (std::ptrdiff_t i = 0; i < n; i += piece) sum += lane_sum(x + i, n - i < piece ? n - i : piece);
    const auto mean = static_cast<float>(sum / static_cast<double>(n));
    for (std::ptrdiff_t i = 0; i < n; i += piece) squares += lane_squares(x + i, n - i < piece ? n - i : piece, mean);
    const float factor = 1.0f / std::sqrt(static_cast<float>(squares / static_cast<double>(n)) + eps);
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * factor;
}

void row_relu(const float* x, std::ptrdiff_t n, float* y) {
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = x[i] < 0 ? 0.0f : x[i];  // NaN stays NaN
}

void row_scale(const float* x, std::ptrdiff_t n, float factor, float* y) {
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = x[i] * factor;
}

// e^x to 2 units in the last place, without branches so that the compiler makes vectors of it: x = n ln 2 + r, a polynomial for e^r (Cephes),
// and n added to the exponent. Below -87 it gives about 1e-38, above 88 about 1e38; NaN stays NaN.
inline float exponential(float x) {
    const float bounded = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    const float n = __builtin_rintf(bounded * 1.44269504088896341f);
    const float r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const std::int32_t bits = (static_cast<std::int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return p * power;
}

// x/2 * erfc(-x / sqrt(2)). For z >= 0 erfc(z) = t (a1 + t (a2 + ...)) e^(-z^2) with t = 1 / (1 + p z), to 1.5e-7 (Abramowitz and Stegun 7.1.26); as
// a product it does not lose its tail to rounding as 1 + erf would.
inline float gelu_of(float x) {
    const float z = std::fabs(x) * 0.70710678118654752f;
    const float t = 1.0f / (1.0f + 0.3275911f * z);
    const float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    const float tail = p * exponential(-z * z);
    return 0.5f * x * (x < 0 ? tail : 2.0f - tail);
}

void row_gelu(const float* x, std::ptrdiff_t n, float* y) {
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = gelu_of(x[i]);
}

void row_softmax(const float* x, std::ptrdiff_t n, float* y) {
    float largest = x[0];
    for (std::ptrdiff_t i = 1; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = exponential(x[i] - largest);
    const float share = 1.0f / lane_sum(y, n);
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] *= share;
}

void row_add(const float* a, const float* b, std::ptrdiff_t n, float* y) {
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

void row_maximum(const float* x, std::ptrdiff_t n, float* y) {
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = (x[i] > y[i] || x[i] != x[i]) ? x[i] : y[i];
}

void rows_scale_shift(const float* x, std::ptrdiff_t rows, int channels, const float* scale, const float* shift, float* y) {
    for (std::ptrdiff_t r = 0; r < rows; ++r, x += channels, y += channels) {
        for (int c = 0; c < channels; ++c) y[c] = x[c] * scale[c] + shift[c];
    }
}

// A row of sums, already scaled and with its bias, to its place.
void finish_row(int n, const Epilogue& e, float* y) {
    if (e.norm == Epilogue::Norm::channel) {
        row_normalize(y, n, e.eps, y);
    } else if (e.norm == Epilogue::Norm::affine) {
        for (int i = 0; i < n; ++i) y[i] = y[i] * e.scale[i] + e.shift[i];
    }
    if (e.relu) row_relu(y, n, y);
}

void row_finish_int8(const std::int32_t* sums, float scale, int n, const Epilogue& e, float* y) {
    if (e.offset != nullptr) {
        for (int i = 0; i < n; ++i) y[i] = scale * static_cast<float>(sums[i] - e.offset[i]) + e.bias[i];
    } else {
        for (int i = 0; i < n; ++i) y[i] = scale * static_cast<float>(sums[i]) + e.bias[i];
    }
    finish_row(n, e, y);
}

void row_finish_float(const float* sums, int n, const Epilogue& e, float* y) {
    for (int i = 0; i < n; ++i) y[i] = sums[i] + e.bias[i];
    finish_row(n, e, y);
}

void row_range(const float* x, std::ptrdiff_t n, std::uint32_t* largest_bits, bool* negative) {
    std::uint32_t largest = 0;
    std::int32_t below = 0;
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, x + i, 4);
        bits &= 0x7FFFFFFFu;
        largest = bits > largest ? bits : largest;
        below |= x[i] < 0 ? 1 : 0;
    }
    *largest_bits = largest;
    *negative = below != 0;
}

void row_quantize(const float* x, std::ptrdiff_t n, float inverse, float low, float high, int shift, std::uint8_t* q) {
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        float v = __builtin_rintf(x[i] * inverse);
        v = v < low ? low : v;
        v = v > high ? high : v;
        q[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(v) + shift);
    }
}

// The four bytes of four bits, least significant first.
inline std::uint32_t four_weights(unsigned nibble, bool plus_minus) {
    std::uint32_t word = 0;
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t set = nibble >> i & 1u;
        word |= (plus_minus ? (set ? 0x01u : 0xFFu) : set) << (8 * i);
    }
    return word;
}

void expand_rows(const std::uint8_t* bits, std::ptrdiff_t row_bytes, int rows, int blocks, int segments, int raw_length, int length, bool plus_minus,
                 std::int8_t* panel) {
    const int width = block_outputs * blocks;
    const std::size_t words = static_cast<std::size_t>(segments) * static_cast<std::size_t>(length / int8_group);
    std::uint32_t table[16];
    for (unsigned i = 0; i < 16; ++i) table[i] = four_weights(i, plus_minus);
    const auto put = [&](std::size_t group, int o, std::uint32_t word) {
        std::memcpy(panel + (group * static_cast<std::size_t>(width) + static_cast<std::size_t>(o)) * 4, &word, 4);
    };
    for (int o = 0; o < width; ++o) {
        const std::uint8_t* row = bits + o * row_bytes;
        if (o >= rows) {
            for (std::size_t g = 0; g < words; ++g) put(g, o, 0);
        } else if (raw_length == length) {
            for (std::size_t g = 0; g < words; ++g) put(g, o, table[row[g / 2] >> (g % 2 * 4) & 15]);
        } else {
            std::size_t g = 0, bit = 0;
            for (int s = 0; s < segments; ++s) {
                for (int i = 0; i < length; i += 4, ++g) {
                    std::uint32_t word = 0;
                    for (int j = 0; j < 4 && i + j < raw_length; ++j, ++bit) {
                        word |= (four_weights(row[bit / 8] >> (bit % 8) & 1u, plus_minus) & 0xFFu) << (8 * j);
                    }
                    put(g, o, word);
                }
            }
        }
    }
}

void expand_tile_int8_rows(const std::uint8_t* tile, std::int64_t groups, int first_block, int blocks, std::int8_t* panel) {
    for (std::int64_t g = 0; g < groups; ++g, tile += tile_group_bytes) {
        std::uint32_t words[block_outputs];
        std::memcpy(words, tile, sizeof words);
        for (int b = 0; b < blocks; ++b, panel += sizeof words) {
            std::uint32_t weights[block_outputs];
            for (int lane = 0; lane < block_outputs; ++lane) weights[lane] = words[lane] >> (first_block + b) & 0x01010101u;
            std::memcpy(panel, weights, sizeof weights);
        }
    }
}

void expand_tile_float_rows(const std::uint8_t* tile, std::int64_t groups, int first_block, int blocks, bool plus_minus, float* panel) {
    const float set = 1.0f, clear = plus_minus ? -1.0f : 0.0f;
    for (std::int64_t g = 0; g < groups; ++g, tile += tile_group_bytes) {
        std::uint32_t words[block_outputs];
        std::memcpy(words, tile, sizeof words);
        for (int i = 0; i < int8_group; ++i) {
            for (int b = 0; b < blocks; ++b, panel += block_outputs) {
                for (int lane = 0; lane < block_outputs; ++lane) {
                    panel[lane] = (words[lane] >> (8 * i + first_block + b) & 1u) != 0 ? set : clear;
                }
            }
        }
    }
}

// Sixteen numbers that the compiler keeps in as many registers as an instruction set needs for them.
typedef float Lanes __attribute__((vector_size(4 * lanes)));
typedef std::uint16_t HalfLanes __attribute__((vector_size(2 * lanes)));
typedef std::uint32_t WordLanes __attribute__((vector_size(4 * lanes)));

inline void load_lanes(const float* from, Lanes& to) {
    std::memcpy(&to, from, sizeof to);
}

inline void load_lanes(const std::uint16_t* from, Lanes& to) {
    HalfLanes half;
    std::memcpy(&half, from, sizeof half);
    const WordLanes words = __builtin_convertvector(half, WordLanes) << 16;
    std::memcpy(&to, &words, sizeof to);
}

inline float load_one(float x) {
    return x;
}

inline float load_one(std::uint16_t x) {
    const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

template <class Stored>
void attend_head(const float* q, const Stored* keys, const Stored* values, const Attended& a, float* scores, float* y) {
    constexpr int parts = key_block / lanes;
    for (std::int64_t first = 0; first < a.tokens; first += key_block, keys += a.key_stride) {
        Lanes sums[parts] = {};
        for (std::int64_t i = 0; i < a.features; ++i) {
            for (int p = 0; p < parts; ++p) {
                Lanes key;
                load_lanes(keys + i * key_block + p * lanes, key);
                sums[p] += key * q[i];
            }
        }
        for (int p = 0; p < parts; ++p) std::memcpy(scores + first + p * lanes, &sums[p], sizeof sums[p]);
    }
    row_scale(scores, a.tokens, a.scale, scores);
    row_softmax(scores, a.tokens, scores);
    // Sixteen features at a time stay in registers while the tokens pass.
    std::int64_t i = 0;
    for (; i + lanes <= a.features; i += lanes) {
        Lanes even = {}, odd = {};
        std::int64_t t = 0;
        for (; t + 2 <= a.tokens; t += 2) {
            Lanes one, two;
            load_lanes(values + t * a.value_stride + i, one);
            load_lanes(values + (t + 1) * a.value_stride + i, two);
            even += one * scores[t];
            odd += two * scores[t + 1];
        }
        if (t < a.tokens) {
            Lanes one;
            load_lanes(values + t * a.value_stride + i, one);
            even += one * scores[t];
        }
        even += odd;
        std::memcpy(y + i, &even, sizeof even);
    }
    for (; i < a.features; ++i) {
        float sum = 0;
        for (std::int64_t t = 0; t < a.tokens; ++t) sum += load_one(values[t * a.value_stride + i]) * scores[t];
        y[i] = sum;
    }
}

}  // namespace
}  // namespace onebit
