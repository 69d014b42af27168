// Plain loops over rows of floats. They are compiled once per instruction set, with its flags, so that the compiler vectorises them.
// Everything has internal linkage: a function shared between sets could contain instructions that a CPU lacks.
//
// All sets give the same bits. They add in the same order. The build switches contraction off (-ffp-contract=off), so a product and a sum are
// rounded once only in `fused`.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "four_weights.h"
#include "kernels.h"

namespace onebit {
namespace {

#if defined(__AVX512F__)
constexpr int register_lanes = 16;
#elif defined(__AVX2__)
constexpr int register_lanes = 8;
#else
constexpr int register_lanes = 4;
#endif

// The numbers in a register. With wider vectors the compiler would keep each operation's result in memory.
typedef float Lanes __attribute__((vector_size(4 * register_lanes)));
typedef std::uint32_t Words __attribute__((vector_size(4 * register_lanes)));
typedef std::int32_t Integers __attribute__((vector_size(4 * register_lanes)));

// Sums over a row use this many lanes in each set, in one or several registers, so that all sets add in the same order.
constexpr int lanes = 16;

inline Lanes load_lanes(const float* from) {
    Lanes to;
    std::memcpy(&to, from, sizeof to);
    return to;
}

inline void store_lanes(const Lanes& from, float* to) {
    std::memcpy(to, &from, sizeof from);
}

// a * b + c, rounded once. Without an instruction for this it is a separate function: inlined copies would be half of the library.
#if defined(__AVX2__) || defined(__ARM_NEON)
[[gnu::always_inline]]
#else
[[gnu::noinline]]
#endif
inline Lanes fused(const Lanes& a, const Lanes& b, const Lanes& c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__ARM_NEON)
    return vfmaq_f32(c, a, b);
#else
    // The product is exact in double, and so is the error of its sum with c. If there is an error, an odd last bit tells the second rounding
    // (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
    typedef double Doubles __attribute__((vector_size(8 * register_lanes)));
    typedef std::int64_t Longs __attribute__((vector_size(8 * register_lanes)));
    const Doubles product = __builtin_convertvector(a, Doubles) * __builtin_convertvector(b, Doubles), addend = __builtin_convertvector(c, Doubles);
    Doubles sum = product + addend;
    const Doubles of_addend = sum - product, lost = (product - (sum - of_addend)) + (addend - of_addend);
    Longs bits;
    std::memcpy(&bits, &sum, sizeof bits);
    const Longs inexact = (lost > 0) | (lost < 0), even = (bits & 1) - 1, away = ((lost > 0) ^ (sum > 0)) | 1;
    bits += inexact & even & away;
    std::memcpy(&sum, &bits, sizeof sum);
    return __builtin_convertvector(sum, Lanes);
#endif
}

// The same number in all lanes. A sum with 0 would also work, except for -0, and compilers keep that addition.
[[gnu::always_inline]] inline Lanes broadcast(float x) {
#if defined(__AVX512F__)
    return _mm512_set1_ps(x);
#elif defined(__AVX2__)
    return _mm256_set1_ps(x);
#elif defined(__ARM_NEON)
    return vdupq_n_f32(x);
#else
    return Lanes{x, x, x, x};
#endif
}

[[gnu::always_inline]] inline Lanes fused(const Lanes& a, float b, const Lanes& c) {
    return fused(a, broadcast(b), c);
}

// Rotates the lanes by `by`.
template <int by, int... lane>
inline Lanes turn(const Lanes& x, std::integer_sequence<int, lane...>) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(x, x, ((lane + by) % register_lanes)...);
#else
    return __builtin_shuffle(x, Words{(lane + by) % register_lanes...});
#endif
}

// Adds all lanes to one number: the upper half to the lower half, until one is left.
template <class Function>
inline float fold_lanes(Lanes (&x)[lanes / register_lanes], const Function& f) {
#pragma GCC unroll 2
    for (int half = lanes / register_lanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 2
        for (int c = 0; c < half; ++c) x[c] = f(x[c], x[c + half]);
    }
    constexpr std::make_integer_sequence<int, register_lanes> in_order;
    Lanes all = x[0];
    if constexpr (register_lanes > 8) all = f(all, turn<8>(all, in_order));
    if constexpr (register_lanes > 4) all = f(all, turn<4>(all, in_order));
    all = f(all, turn<2>(all, in_order));
    all = f(all, turn<1>(all, in_order));
    return all[0];
}

// The sum of f(x) over a row, several registers at a time, so that additions do not wait for each other. The scalar set adds in the same order, so
// all sets agree.
template <class Function>
float lane_total(const float* x, std::ptrdiff_t n, const Function& f) {
    constexpr int chains = 4, each = lanes / register_lanes;
    Lanes part[chains * each] = {};
    std::ptrdiff_t i = 0;
    for (; i + chains * lanes <= n; i += chains * lanes) {
        for (int c = 0; c < chains * each; ++c) part[c] += f(load_lanes(x + i + c * register_lanes));
    }
    for (; i + lanes <= n; i += lanes) {
        for (int c = 0; c < each; ++c) part[c] += f(load_lanes(x + i + c * register_lanes));
    }
    Lanes sums[each];
    for (int c = 0; c < each; ++c) sums[c] = (part[c] + part[each + c]) + (part[2 * each + c] + part[3 * each + c]);
    float sum = fold_lanes(sums, [](const Lanes& a, const Lanes& b) { return a + b; });
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

constexpr std::ptrdiff_t piece = sums_piece;

// Whether a variance, with eps, is valid: sums of floats have neither overflowed nor rounded to 0. NaN is not valid.
constexpr float least_variance = 1e-30f;
inline bool ordinary(float variance) {
    return variance >= least_variance && variance <= std::numeric_limits<float>::max();
}

// The same for numbers so large or so small that their squares do not fit floats.
[[gnu::noinline]] void row_normalize_in_double(const float* x, std::ptrdiff_t n, float eps, float* y) {
    double sum = 0, squares = 0;
    for (std::ptrdiff_t i = 0; i < n; ++i) sum += x[i];
    const double mean = sum / static_cast<double>(n);
    for (std::ptrdiff_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(eps));
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = static_cast<float>((x[i] - mean) * factor);
}

float inverse_deviation(double squares, std::ptrdiff_t n, float eps) {
    const float variance = static_cast<float>(squares / static_cast<double>(n)) + eps;
    return ordinary(variance) ? 1.0f / std::sqrt(variance) : 0.0f;
}

void row_center(const float* x, std::ptrdiff_t n, float mean, float factor, float* y) {
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * factor;
}

void row_normalize(const float* x, std::ptrdiff_t n, float eps, float* y) {
    double sum = 0, squares = 0;
    for (std::ptrdiff_t i = 0; i < n; i += piece) sum += lane_sum(x + i, n - i < piece ? n - i : piece);
    const auto mean = static_cast<float>(sum / static_cast<double>(n));
    for (std::ptrdiff_t i = 0; i < n; i += piece) squares += lane_squares(x + i, n - i < piece ? n - i : piece, mean);
    const float factor = inverse_deviation(squares, n, eps);
    if (factor == 0.0f) return row_normalize_in_double(x, n, eps, y);
    row_center(x, n, mean, factor, y);
}

void row_rms_normalize(const float* x, std::ptrdiff_t n, float eps, float* y) {
    double squares = 0;
    for (std::ptrdiff_t i = 0; i < n; i += piece) squares += lane_squares(x + i, n - i < piece ? n - i : piece, 0.0f);
    const float factor = inverse_deviation(squares, n, eps);
    if (factor != 0.0f) return row_center(x, n, 0.0f, factor, y);
    squares = 0;
    for (std::ptrdiff_t i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double root = std::sqrt(squares / static_cast<double>(n) + static_cast<double>(eps));
    // An infinity makes all numbers NaN, as in `normalize`.
    const double precise = root <= std::numeric_limits<double>::max() ? 1.0 / root : std::numeric_limits<double>::quiet_NaN();
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * precise);
}

void row_rotate(const float* __restrict x, std::ptrdiff_t half, const float* __restrict cosine, const float* __restrict sine, float* __restrict y) {
    for (std::ptrdiff_t i = 0; i < half; ++i) {
        const float first = x[i], second = x[half + i];
        y[i] = first * cosine[i] - second * sine[i];
        y[half + i] = second * cosine[i] + first * sine[i];
    }
}

void row_scale(const float* x, std::ptrdiff_t n, float factor, float* y) {
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = x[i] * factor;
}

// e^x to 2 units in the last place, without branches so that the compiler vectorises it: x = n ln 2 + r, a polynomial for e^r (Cephes), times 2^n in
// two factors, because one factor may leave the range of floats. It ends like float32's own: in subnormals and 0 below -103.97, and in
// infinity above 88.72. NaN stays NaN. For one number or for a register.
template <class Float, class Integer>
inline Float exponential_of(const Float& x) {
    const Float low = Float{} - 104.0f, high = Float{} + 89.0f;
    const Float above = x < low ? low : x, bounded = above > high ? high : above;
    // Adding 1.5 * 2^23 rounds a number to an integer, which is in the lowest bits of the sum.
    const Float sum = bounded * 1.44269504088896341f + 12582912.0f, n = sum - 12582912.0f;
    const Float r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
    Float p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    Integer bits;
    std::memcpy(&bits, &sum, sizeof bits);
    const Integer whole = bits - 0x4B400000, half = whole >> 1;
    const auto power_of_two = [](const Integer& exponent) {
        const Integer of_power = (exponent + 127) << 23;
        Float power;
        std::memcpy(&power, &of_power, sizeof power);
        return power;
    };
    return p * power_of_two(half) * power_of_two(whole - half);
}

inline float exponential(float x) {
    return exponential_of<float, std::int32_t>(x);
}

inline Lanes exponential(const Lanes& x) {
    return exponential_of<Lanes, Integers>(x);
}

// x/2 * (1 + erf(x / sqrt(2))). For z >= 0 erf(z) = 1 - t (a1 + t (a2 + ...)) e^(-z^2) with t = 1 / (1 + p z), to 1.5e-7 (Abramowitz and Stegun
// 7.1.26). The sum is rounded as in PyTorch, so that the result is -0 where the network saw -0 in training, below about -5.5.
inline float gelu_of(float x) {
    const float z = std::fabs(x) * 0.70710678118654752f;
    const float t = 1.0f / (1.0f + 0.3275911f * z);
    const float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    const float erf = 1.0f - p * exponential(-z * z);
    return 0.5f * x * (1.0f + (x < 0 ? -erf : erf));
}

// e^x / (1 + e^x) for negative x: 1 / (1 + e^-x) would be 0 where e^-x is infinite and e^x is not 0 yet.
inline float sigmoid_of(float x) {
    const float power = exponential(-std::fabs(x));
    return (x < 0 ? power : 1.0f) / (1.0f + power);
}

// min(max(x + 3, 0), 6) / 6; NaN stays NaN.
inline float hard_sigmoid_of(float x) {
    const float above = x + 3.0f < 0 ? 0.0f : x + 3.0f;
    return (above > 6.0f ? 6.0f : above) / 6.0f;
}

// Near 0, where 1 - 2 / (e^2x + 1) would lose its digits, an odd polynomial (Cephes).
inline float tanh_of(float x) {
    const float size = std::fabs(x), z = x * x;
    const float p = (((-5.70498872745e-3f * z + 2.06390887954e-2f) * z - 5.37397155531e-2f) * z + 1.33314422036e-1f) * z - 3.33332819422e-1f;
    const float small = p * z * x + x, large = 1.0f - 2.0f / (exponential(2.0f * size) + 1.0f);
    return size < 0.625f ? small : x < 0 ? -large : large;
}

// A loop for each function of one number.
#define UNARY(name, formula)                                         \
    void row_##name(const float* from, std::ptrdiff_t n, float* y) { \
        for (std::ptrdiff_t i = 0; i < n; ++i) {                     \
            const float x = from[i];                                 \
            y[i] = formula;                                          \
        }                                                            \
    }
#include "unary.def"
#undef UNARY

void row_clip(const float* x, std::ptrdiff_t n, float low, float high, float* y) {
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        const float above = x[i] < low ? low : x[i];
        y[i] = above > high ? high : above;
    }
}

void rows_prelu(const float* x, std::ptrdiff_t rows, int channels, const float* slope, float* y) {
    for (std::ptrdiff_t r = 0; r < rows; ++r, x += channels, y += channels) {
        for (int c = 0; c < channels; ++c) y[c] = x[c] > 0 ? x[c] : slope[c] * x[c];
    }
}

void row_add_to_doubles(const float* __restrict x, std::ptrdiff_t n, double* __restrict sums) {
    for (std::ptrdiff_t i = 0; i < n; ++i) sums[i] += x[i];
}

float row_mean_magnitude(const float* x, std::ptrdiff_t n) {
    double sum = 0;
    const auto magnitude = [](const auto& v) { return v < 0 ? -v : v; };
    for (std::ptrdiff_t i = 0; i < n; i += piece) sum += lane_total(x + i, n - i < piece ? n - i : piece, magnitude);
    // A sum of floats may be infinite although the mean is finite.
    if (!(sum <= std::numeric_limits<double>::max())) {
        sum = 0;
        for (std::ptrdiff_t i = 0; i < n; ++i) sum += std::fabs(x[i]);
    }
    return static_cast<float>(sum / static_cast<double>(n));
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

void row_multiply(const float* a, const float* b, std::ptrdiff_t n, float* y) {
    for (std::ptrdiff_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
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

// Writes a row of sums, already scaled and with its bias, to its place.
void finish_row(int n, const EpilogueArgs& e, float* y) {
    if (e.norm == EpilogueArgs::Norm::channel) {
        row_normalize(y, n, e.eps, y);
    } else if (e.norm == EpilogueArgs::Norm::affine) {
        for (int i = 0; i < n; ++i) y[i] = y[i] * e.scale[i] + e.shift[i];
    }
    if (e.relu) row_relu(y, n, y);
}

void row_finish_int8(const std::int32_t* sums, float scale, int n, const EpilogueArgs& e, float* y) {
    if (e.offset != nullptr) {
        for (int i = 0; i < n; ++i) y[i] = scale * static_cast<float>(sums[i] - e.offset[i]) + e.bias[i];
    } else {
        for (int i = 0; i < n; ++i) y[i] = scale * static_cast<float>(sums[i]) + e.bias[i];
    }
    finish_row(n, e, y);
}

void row_finish_float(const float* sums, int n, const EpilogueArgs& e, float* y) {
    for (int i = 0; i < n; ++i) y[i] = sums[i] + e.bias[i];
    finish_row(n, e, y);
}

[[maybe_unused]] void rows_finish_int8(const std::int32_t* sums, std::ptrdiff_t sum_stride, std::int64_t rows, float scale, int n,
                                       const EpilogueArgs& e, float* y) {
    for (std::int64_t r = 0; r < rows; ++r) row_finish_int8(sums + r * sum_stride, scale, n, e, y + r * n);
}

void rows_pool(const float* x, std::ptrdiff_t row_stride, int height, int width, std::int64_t columns, int channels, float* y) {
    for (std::int64_t c = 0; c < columns; ++c, x += width * channels, y += channels) {
        int i = 0;
        for (; i + register_lanes <= channels; i += register_lanes) {
            Lanes most = load_lanes(x + i);
            const float* row = x + i;
            for (int h = 0; h < height; ++h, row += row_stride) {
                for (int w = 0; w < width; ++w) {
                    const Lanes v = load_lanes(row + w * channels);
                    most = ((v > most) | (v != v)) ? v : most;
                }
            }
            store_lanes(most, y + i);
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
        v = v > low ? v : low;  // NaN too is low
        v = v > high ? high : v;
        q[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(v) + shift);
    }
}

void expand_rows(const ExpandArgs& args, std::int8_t* panel) {
    const auto& [bits, row_bytes, rows, blocks, segments, raw_length, length, plus_minus] = args;
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
