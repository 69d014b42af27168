// Plain loops over rows of floats, compiled once for each instruction set with its flags so that the compiler vectorises them.
// Everything has internal linkage: a function shared between the sets could end up with instructions that a CPU lacks.
#pragma once

#include <cmath>
#include <cstring>

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

}  // namespace
}  // namespace onebit
