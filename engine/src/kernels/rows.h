// Plain loops over rows of floats, compiled once for each instruction set with its flags so that the compiler vectorises them.
// Everything has internal linkage: a function shared between the sets could end up with instructions that a CPU lacks.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels.h"

namespace onebit {
namespace {

constexpr int lanes = 16;

// Sixteen numbers that the compiler keeps in as many registers as an instruction set needs for them.
typedef float Lanes __attribute__((vector_size(4 * lanes)));
typedef std::uint16_t HalfLanes __attribute__((vector_size(2 * lanes)));
typedef std::uint32_t WordLanes __attribute__((vector_size(4 * lanes)));

float sum_of(const Lanes& x) {
    float sum = 0;
    for (int l = 0; l < lanes; ++l) sum += x[l];
    return sum;
}

// The sum of f(x) over a row, kept in lanes as a vector unit keeps it, several at a time so that one addition need not wait for the other; the
// scalar set adds in the same order, so results differ little between sets.
template <class Function>
float lane_total(const float* x, std::ptrdiff_t n, const Function& f) {
    constexpr int chains = 4;
    Lanes part[chains] = {};
    std::ptrdiff_t i = 0;
    for (; i + chains * lanes <= n; i += chains * lanes) {
        for (int c = 0; c < chains; ++c) {
            Lanes v;
            std::memcpy(&v, x + i + c * lanes, sizeof v);
            part[c] += f(v);
        }
    }
    for (; i + lanes <= n; i += lanes) {
        Lanes v;
        std::memcpy(&v, x + i, sizeof v);
        part[0] += f(v);
    }
    float sum = sum_of((part[0] + part[1]) + (part[2] + part[3]));
    for (; i < n; ++i) sum += f(x[i]);
    return sum;
}

float lane_sum(const float* x, std::ptrdiff_t n) {
    return lane_total(x, n, [](const auto& v) { return v; });
}

float lane_squares(const float* x, std::ptrdiff_t n, float mean) {
    return lane_total(x, n, [mean](const auto& v) {
        const auto d = v - mean;
        return d * d;
    });
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
    float part[lanes];
    for (int l = 0; l < lanes; ++l) part[l] = x[0];
    std::ptrdiff_t first = 0;
    for (; first + lanes <= n; first += lanes) {
        for (int l = 0; l < lanes; ++l) part[l] = x[first + l] > part[l] ? x[first + l] : part[l];
    }
    float largest = part[0];
    for (int l = 1; l < lanes; ++l) largest = part[l] > largest ? part[l] : largest;
    for (; first < n; ++first) largest = x[first] > largest ? x[first] : largest;
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

[[maybe_unused]] void rows_finish_int8(const std::int32_t* sums, std::ptrdiff_t sum_stride, std::int64_t rows, float scale, int n, const Epilogue& e,
                                       float* y) {
    for (std::int64_t r = 0; r < rows; ++r) row_finish_int8(sums + r * sum_stride, scale, n, e, y + r * n);
}

void rows_pool(const float* x, std::ptrdiff_t row_stride, int height, int width, std::int64_t columns, int channels, float* y) {
    for (std::int64_t c = 0; c < columns; ++c, x += width * channels, y += channels) {
        int i = 0;
        for (; i + lanes <= channels; i += lanes) {
            Lanes most;
            std::memcpy(&most, x + i, sizeof most);
            for (int p = 1; p < height * width; ++p) {
                Lanes v;
                std::memcpy(&v, x + p / width * row_stride + p % width * channels + i, sizeof v);
                most = (v > most) | (v != v) ? v : most;
            }
            std::memcpy(y + i, &most, sizeof most);
        }
        for (; i < channels; ++i) {
            float most = x[i];
            for (int p = 1; p < height * width; ++p) {
                const float v = x[p / width * row_stride + p % width * channels + i];
                most = v > most || v != v ? v : most;
            }
            y[i] = most;
        }
    }
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

inline void load_lanes(const float* from, Lanes& to) {
    std::memcpy(&to, from, sizeof to);
}

inline void load_lanes(const std::uint16_t* from, Lanes& to) {
#if defined(__AVX512F__)
    // The compiler would widen each half by itself and then join them.
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    to = reinterpret_cast<Lanes>(_mm512_slli_epi32(words, 16));
#else
    HalfLanes half;
    std::memcpy(&half, from, sizeof half);
    const WordLanes words = __builtin_convertvector(half, WordLanes) << 16;
    std::memcpy(&to, &words, sizeof to);
#endif
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

// The products of some queries with the first 16 * parts tokens of a block of keys.
template <int rows, int parts, class Stored>
void score_block(const float* q, const Stored* keys, const Attended& a, float* scores) {
    Lanes sums[rows][parts] = {};
    for (std::int64_t i = 0; i < a.features; ++i) {
        for (int p = 0; p < parts; ++p) {
            Lanes key;
            load_lanes(keys + i * key_block + p * lanes, key);
            for (int r = 0; r < rows; ++r) sums[r][p] += key * q[r * a.row_stride + i];
        }
    }
    for (int r = 0; r < rows; ++r) std::memcpy(scores + r * a.score_stride, sums[r], sizeof sums[r]);
}

// softmax(scale * x) over the first n; there is room for whole registers behind them, which saves a loop over the rest.
void softmax_scores(float* x, std::int64_t n, float scale) {
    const std::int64_t whole = (n + lanes - 1) / lanes * lanes;
    for (std::int64_t t = n; t < whole; ++t) x[t] = x[0];
    Lanes most;
    std::memcpy(&most, x, sizeof most);
    for (std::int64_t t = lanes; t < whole; t += lanes) {
        Lanes v;
        std::memcpy(&v, x + t, sizeof v);
        most = v > most ? v : most;
    }
    float largest = most[0];
    for (int l = 1; l < lanes; ++l) largest = most[l] > largest ? most[l] : largest;
    for (std::int64_t t = 0; t < whole; ++t) x[t] = exponential(scale * (x[t] - largest));
    for (std::int64_t t = n; t < whole; ++t) x[t] = 0;
    const float share = 1.0f / lane_sum(x, whole);
    for (std::int64_t t = 0; t < whole; ++t) x[t] *= share;
}

template <class Stored, int rows>
void attend_rows(const float* q, const Stored* keys, const Stored* values, const Attended& a, float* scores, float* y) {
    const std::int64_t most = a.tokens + rows - 1;
    for (std::int64_t first = 0; first < most; first += key_block, keys += a.key_stride) {
        const std::int64_t left = most - first;
        if (left > 3 * lanes) {
            score_block<rows, 4>(q, keys, a, scores + first);
        } else if (left > 2 * lanes) {
            score_block<rows, 3>(q, keys, a, scores + first);
        } else if (left > lanes) {
            score_block<rows, 2>(q, keys, a, scores + first);
        } else {
            score_block<rows, 1>(q, keys, a, scores + first);
        }
    }
    for (int r = 0; r < rows; ++r) softmax_scores(scores + r * a.score_stride, a.tokens + r, a.scale);
    // Sixteen features at a time stay in registers while the tokens pass, those at even and those at odd places in two sums; in what order a row
    // adds does not depend on the rows beside it, so that a text read whole and one read token by token agree to the last bit.
    const std::int64_t pairs = a.tokens / 2 * 2;
    std::int64_t i = 0;
    for (; i + lanes <= a.features; i += lanes) {
        Lanes sums[rows][2] = {};
        const Stored* value = values + i;
        for (std::int64_t t = 0; t < pairs; t += 2, value += 2 * a.value_stride) {
            Lanes even, odd;
            load_lanes(value, even);
            load_lanes(value + a.value_stride, odd);
            for (int r = 0; r < rows; ++r) {
                sums[r][0] += even * scores[r * a.score_stride + t];
                sums[r][1] += odd * scores[r * a.score_stride + t + 1];
            }
        }
        for (int r = 0; r < rows; ++r) {
            for (std::int64_t t = pairs; t < a.tokens + r; ++t) {
                Lanes one;
                load_lanes(values + i + t * a.value_stride, one);
                sums[r][t % 2] += one * scores[r * a.score_stride + t];
            }
            sums[r][0] += sums[r][1];
            std::memcpy(y + r * a.row_stride + i, &sums[r][0], sizeof(Lanes));
        }
    }
    for (; i < a.features; ++i) {
        for (int r = 0; r < rows; ++r) {
            float sum = 0;
            for (std::int64_t t = 0; t < a.tokens + r; ++t) sum += load_one(values[t * a.value_stride + i]) * scores[r * a.score_stride + t];
            y[r * a.row_stride + i] = sum;
        }
    }
}

template <class Stored>
void attend_head(const float* q, const Stored* keys, const Stored* values, const Attended& a, float* scores, float* y) {
    switch (a.rows) {
        case 1: return attend_rows<Stored, 1>(q, keys, values, a, scores, y);
        case 2: return attend_rows<Stored, 2>(q, keys, values, a, scores, y);
        case 3: return attend_rows<Stored, 3>(q, keys, values, a, scores, y);
        default: return attend_rows<Stored, 4>(q, keys, values, a, scores, y);
    }
}

}  // namespace
}  // namespace onebit
