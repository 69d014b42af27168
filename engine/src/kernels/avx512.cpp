// AVX-512 with VNNI; scalar.cpp explains what is computed.
#include <immintrin.h>

#include <bit>

#include "attention.h"
#include "bits.h"
#include "rows.h"

namespace onebit {
namespace {

// `count` rows times `blocks` registers of 16 outputs: at most 24 sums, so that with the weights and one broadcast all stays in registers.
template <int count, int blocks>
void tile_int8(const std::uint8_t* const* rows, const Segments& s, const std::int8_t* panel, std::int32_t* out, std::ptrdiff_t out_stride) {
    __m512i sums[count][blocks];
    for (int r = 0; r < count; ++r) {
        for (int b = 0; b < blocks; ++b) sums[r][b] = _mm512_setzero_si512();
    }
    const std::int8_t* w = panel;
    for (int segment = 0; segment < s.segments; ++segment) {
        const std::uint8_t* x[count];
        for (int r = 0; r < count; ++r) x[r] = rows[r] + s.offsets[segment];
        for (int k = 0; k < s.length; k += 4, w += blocks * 64) {
            __m512i weights[blocks];
#pragma GCC unroll 4
            for (int b = 0; b < blocks; ++b) weights[b] = _mm512_loadu_si512(w + b * 64);
#pragma GCC unroll 12
            for (int r = 0; r < count; ++r) {
                std::int32_t four;
                std::memcpy(&four, x[r] + k, 4);
                const __m512i inputs = _mm512_set1_epi32(four);
#pragma GCC unroll 4
                for (int b = 0; b < blocks; ++b) sums[r][b] = _mm512_dpbusd_epi32(sums[r][b], inputs, weights[b]);
            }
        }
    }
    for (int r = 0; r < count; ++r) {
        for (int b = 0; b < blocks; ++b) _mm512_storeu_si512(out + r * out_stride + b * 16, sums[r][b]);
    }
}

template <int count, int blocks>
void tile_float(const float* const* rows, const Segments& s, const float* panel, float* out, std::ptrdiff_t out_stride) {
    __m512 sums[count][blocks];
    for (int r = 0; r < count; ++r) {
        for (int b = 0; b < blocks; ++b) sums[r][b] = _mm512_setzero_ps();
    }
    const float* w = panel;
    for (int segment = 0; segment < s.segments; ++segment) {
        const float* x[count];
        for (int r = 0; r < count; ++r) x[r] = rows[r] + s.offsets[segment];
        for (int k = 0; k < s.length; ++k, w += blocks * 16) {
            __m512 weights[blocks];
#pragma GCC unroll 4
            for (int b = 0; b < blocks; ++b) weights[b] = _mm512_loadu_ps(w + b * 16);
#pragma GCC unroll 12
            for (int r = 0; r < count; ++r) {
                const __m512 input = _mm512_set1_ps(x[r][k]);
#pragma GCC unroll 4
                for (int b = 0; b < blocks; ++b) sums[r][b] = _mm512_fmadd_ps(input, weights[b], sums[r][b]);
            }
        }
    }
    for (int r = 0; r < count; ++r) {
        for (int b = 0; b < blocks; ++b) _mm512_storeu_ps(out + r * out_stride + b * 16, sums[r][b]);
    }
}

// Rows in tiles as large as the registers allow, then what is left one by one.
#define ONEBIT_TILES(name, tile, Input, Weight, Sum)                                                                                      \
    template <int blocks>                                                                                                                 \
    void name##_blocks(const Input* const* rows, int count, const Segments& s, const Weight* panel, Sum* out, std::ptrdiff_t stride) {    \
        constexpr int large = blocks == 4 ? 6 : blocks == 3 ? 8 : 12;                                                                     \
        int r = 0;                                                                                                                        \
        for (; r + large <= count; r += large) tile<large, blocks>(rows + r, s, panel, out + r * stride, stride);                         \
        for (; r + 4 <= count; r += 4) tile<4, blocks>(rows + r, s, panel, out + r * stride, stride);                                     \
        for (; r + 2 <= count; r += 2) tile<2, blocks>(rows + r, s, panel, out + r * stride, stride);                                     \
        for (; r < count; ++r) tile<1, blocks>(rows + r, s, panel, out + r * stride, stride);                                             \
    }                                                                                                                                     \
    void name(const Input* const* rows, int count, const Segments& s, const Weight* panel, int blocks, Sum* out, std::ptrdiff_t stride) { \
        switch (blocks) {                                                                                                                 \
            case 1: return name##_blocks<1>(rows, count, s, panel, out, stride);                                                          \
            case 2: return name##_blocks<2>(rows, count, s, panel, out, stride);                                                          \
            case 3: return name##_blocks<3>(rows, count, s, panel, out, stride);                                                          \
            default: return name##_blocks<4>(rows, count, s, panel, out, stride);                                                         \
        }                                                                                                                                 \
    }

ONEBIT_TILES(product_int8, tile_int8, std::uint8_t, std::int8_t, std::int32_t)
ONEBIT_TILES(product_float, tile_float, float, float, float)
#undef ONEBIT_TILES

// Sixteen rows at once: 32 bits of each in a register's lanes, and a look-up from each four bits to their four bytes.
void expand_int8(const std::uint8_t* bits, std::ptrdiff_t row_bytes, int rows, int blocks, int segments, int raw_length, int length, bool plus_minus,
                 std::int8_t* panel) {
    if (raw_length != length) return expand_rows(bits, row_bytes, rows, blocks, segments, raw_length, length, plus_minus, panel);
    alignas(64) std::uint32_t table[16];
    for (unsigned i = 0; i < 16; ++i) table[i] = four_weights(i, plus_minus);
    const __m512i look_up = _mm512_load_si512(table);
    const __m512i low_bits = _mm512_set1_epi32(15);
    const int groups = segments * (length / 4);
    const std::ptrdiff_t step = std::ptrdiff_t{64} * blocks;
    for (int b = 0; b < blocks; ++b) {
        const int valid = rows - b * 16 < 0 ? 0 : (rows - b * 16 > 16 ? 16 : rows - b * 16);
        const auto lanes_used = static_cast<__mmask16>((1u << valid) - 1u);
        std::int8_t* out = panel + b * 64;
        for (int g = 0; g < groups; g += 8) {
            alignas(64) std::uint32_t words[16] = {};
            for (int o = 0; o < valid; ++o) std::memcpy(words + o, bits + (b * 16 + o) * row_bytes + g / 2, 4);
            __m512i word = _mm512_load_si512(words);
            const int here = groups - g < 8 ? groups - g : 8;
            for (int j = 0; j < here; ++j, word = _mm512_srli_epi32(word, 4)) {
                const __m512i weights = _mm512_maskz_permutexvar_epi32(lanes_used, _mm512_and_si512(word, low_bits), look_up);
                _mm512_storeu_si512(out + (g + j) * step, weights);
            }
        }
    }
}

// A row of 16 * blocks outputs from sums to result without leaving the registers: for the many positions of a large image with few channels
// this costs as much as the products do.
template <int blocks>
void finish_registers(const std::int32_t* sums, float scale, const Epilogue& e, float* y) {
    constexpr float share = 1.0f / (16 * blocks);
    const __m512 factor = _mm512_set1_ps(scale);
    __m512 v[blocks];
#pragma GCC unroll 16
    for (int b = 0; b < blocks; ++b) {
        __m512i sum = _mm512_loadu_si512(sums + b * 16);
        if (e.offset != nullptr) sum = _mm512_sub_epi32(sum, _mm512_loadu_si512(e.offset + b * 16));
        v[b] = _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(sum), _mm512_loadu_ps(e.bias + b * 16));
    }
    if (e.norm == Epilogue::Norm::channel) {
        __m512 total = v[0];
#pragma GCC unroll 16
        for (int b = 1; b < blocks; ++b) total = _mm512_add_ps(total, v[b]);
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) * share);
        __m512 squares = _mm512_setzero_ps();
#pragma GCC unroll 16
        for (int b = 0; b < blocks; ++b) {
            v[b] = _mm512_sub_ps(v[b], mean);
            squares = _mm512_fmadd_ps(v[b], v[b], squares);
        }
        const __m512 inverse = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) * share + e.eps));
#pragma GCC unroll 16
        for (int b = 0; b < blocks; ++b) v[b] = _mm512_mul_ps(v[b], inverse);
    } else if (e.norm == Epilogue::Norm::affine) {
#pragma GCC unroll 16
        for (int b = 0; b < blocks; ++b) v[b] = _mm512_fmadd_ps(v[b], _mm512_loadu_ps(e.scale + b * 16), _mm512_loadu_ps(e.shift + b * 16));
    }
#pragma GCC unroll 16
    for (int b = 0; b < blocks; ++b) {
        // The second operand is what the instruction returns for NaN.
        if (e.relu) v[b] = _mm512_max_ps(_mm512_setzero_ps(), v[b]);
        _mm512_storeu_ps(y + b * 16, v[b]);
    }
}

void finish_int8(const std::int32_t* sums, float scale, int outputs, const Epilogue& e, float* y) {
    switch (outputs) {
        case 16: return finish_registers<1>(sums, scale, e, y);
        case 32: return finish_registers<2>(sums, scale, e, y);
        case 48: return finish_registers<3>(sums, scale, e, y);
        case 64: return finish_registers<4>(sums, scale, e, y);
        case 96: return finish_registers<6>(sums, scale, e, y);
        case 128: return finish_registers<8>(sums, scale, e, y);
        case 192: return finish_registers<12>(sums, scale, e, y);
        case 256: return finish_registers<16>(sums, scale, e, y);
        default: return row_finish_int8(sums, scale, outputs, e, y);
    }
}

using Layout = Columns<16>;

// Sums of all subsets of 6, 5 and 5 inputs: 64 + 32 + 32 numbers of 16 bits.
constexpr int tables_of_step = 128;

// Entry i has the sum of those of five inputs whose bits are set in i.
__m512i subset_sums(const std::int16_t* x) {
    __m512i sums = _mm512_maskz_set1_epi16(0xAAAAAAAAu, x[0]);
    sums = _mm512_mask_add_epi16(sums, 0xCCCCCCCCu, sums, _mm512_set1_epi16(x[1]));
    sums = _mm512_mask_add_epi16(sums, 0xF0F0F0F0u, sums, _mm512_set1_epi16(x[2]));
    sums = _mm512_mask_add_epi16(sums, 0xFF00FF00u, sums, _mm512_set1_epi16(x[3]));
    return _mm512_mask_add_epi16(sums, 0xFFFF0000u, sums, _mm512_set1_epi16(x[4]));
}

void prepare_bits(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared) {
    for (std::int64_t s = 0; s < steps; ++s, x += 16, prepared += tables_of_step * 2) {
        alignas(32) std::int16_t wide[16];
        _mm256_store_si256(reinterpret_cast<__m256i*>(wide), _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))));
        const __m512i sums = subset_sums(wide);
        _mm512_storeu_si512(prepared, sums);
        _mm512_storeu_si512(prepared + 64, _mm512_add_epi16(sums, _mm512_set1_epi16(wide[5])));
        _mm512_storeu_si512(prepared + 128, subset_sums(wide + 6));
        _mm512_storeu_si512(prepared + 192, subset_sums(wide + 11));
    }
}

// As the template in bits.h does it, sixteen outputs at once.
void expand_bits_panel(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks, std::int8_t* panel) {
    alignas(64) std::uint32_t table[16];
    for (unsigned i = 0; i < 16; ++i) table[i] = four_weights(i, false);
    const __m512i look_up = _mm512_load_si512(table);
    const std::ptrdiff_t group = std::ptrdiff_t{64} * blocks;
    // A block's bits are half a unit's step.
    tile += first_block * 32;
    for (std::int64_t s = 0; s < steps; ++s, tile += step_stride, panel += 4 * group) {
        for (int b = 0; b < blocks; ++b) {
            __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + b * 32)));
            for (int g = 0; g < 4; ++g, words = _mm512_srli_epi32(words, 4)) {
                // The look-up uses the lowest four bits of each index.
                _mm512_storeu_si512(panel + g * group + b * 64, _mm512_permutexvar_epi32(words, look_up));
            }
        }
    }
}

// A look-up for each 6, 5 and 5 bits gives the sums of 16 products: eight instructions for 512 of them, where multiplying takes sixteen. A sum of 16
// steps fits in 16 bits (16 * 16 * 128 = 2^15).
template <int units>
void look_up(const std::uint8_t* w, std::ptrdiff_t step_stride, const std::uint8_t* tables, std::int64_t steps, std::int32_t* out) {
    // Bytes that stand ahead of those that are read: far enough for memory to answer, near enough to stay in the cache.
    constexpr std::ptrdiff_t ahead = 4096;
    __m512i totals[units][2];
    for (int u = 0; u < units; ++u) totals[u][0] = totals[u][1] = _mm512_setzero_si512();
    for (std::int64_t first = 0; first < steps; first += 16) {
        const std::int64_t end = first + 16 < steps ? first + 16 : steps;
        __m512i sums[units];
        for (int u = 0; u < units; ++u) sums[u] = _mm512_setzero_si512();
        for (std::int64_t s = first; s < end; ++s, w += step_stride, tables += tables_of_step * 2) {
            const __m512i six_low = _mm512_loadu_si512(tables), six_high = _mm512_loadu_si512(tables + 64);
            const __m512i five = _mm512_loadu_si512(tables + 128), last = _mm512_loadu_si512(tables + 192);
#pragma GCC unroll 8
            for (int u = 0; u < units; ++u) {
                const __m512i bits = _mm512_loadu_si512(w + u * unit_step_bytes);
                _mm_prefetch(reinterpret_cast<const char*>(w + u * unit_step_bytes + ahead), _MM_HINT_T0);
                // The look-ups use the lowest bits of each index and ignore the others.
                const __m512i a = _mm512_permutex2var_epi16(six_low, bits, six_high);
                const __m512i b = _mm512_permutexvar_epi16(_mm512_srli_epi16(bits, 6), five);
                const __m512i c = _mm512_permutexvar_epi16(_mm512_srli_epi16(bits, 11), last);
                sums[u] = _mm512_add_epi16(sums[u], _mm512_add_epi16(a, _mm512_add_epi16(b, c)));
            }
        }
#pragma GCC unroll 8
        for (int u = 0; u < units; ++u) {
            totals[u][0] = _mm512_add_epi32(totals[u][0], _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sums[u])));
            totals[u][1] = _mm512_add_epi32(totals[u][1], _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sums[u], 1)));
        }
    }
    for (int u = 0; u < units; ++u) {
        _mm512_storeu_si512(out + u * 32, totals[u][0]);
        _mm512_storeu_si512(out + u * 32 + 16, totals[u][1]);
    }
}

void product_bits(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps,
                  std::int32_t* out) {
    switch (count) {
        case 1: return look_up<1>(units, step_stride, prepared, steps, out);
        case 2: return look_up<2>(units, step_stride, prepared, steps, out);
        case 3: return look_up<3>(units, step_stride, prepared, steps, out);
        case 4: return look_up<4>(units, step_stride, prepared, steps, out);
        case 5: return look_up<5>(units, step_stride, prepared, steps, out);
        case 6: return look_up<6>(units, step_stride, prepared, steps, out);
        case 7: return look_up<7>(units, step_stride, prepared, steps, out);
        default: return look_up<8>(units, step_stride, prepared, steps, out);
    }
}

// Attention to int8 keys and values by products of bytes. Queries and weights are rounded to 16 bits of the largest and taken apart into two digits
// to the base 256, so that two sums of products, both exact, hold what one of 16 bits would.
constexpr std::int64_t most_digit_features = 512;  // up to which the sums are exact as floats too

// A query's digits, -128 to 127 both, four features' in 32 bits.
struct QueryDigits {
    std::uint32_t digits[2][most_digit_features / 4];
    float scale;         // of the lower digit
    float taken_off[2];  // what making keys unsigned adds to a sum, in each digit

    void take(const float* q, std::int64_t features) {
        constexpr float levels = 127 * 256 + 127;
        const std::int64_t whole = (features + 15) / 16 * 16;
        const auto load = [&](std::int64_t i) {
            const std::int64_t left = features - i;
            return _mm512_maskz_loadu_ps(static_cast<__mmask16>(left >= 16 ? 0xFFFFu : (1u << left) - 1u), q + i);
        };
        // As integers, magnitudes are in the order of numbers, and NaN is the largest.
        __m512i most = _mm512_setzero_si512();
        for (std::int64_t i = 0; i < whole; i += 16) {
            most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(load(i)), _mm512_set1_epi32(0x7FFFFFFF)));
        }
        const auto largest = std::bit_cast<float>(_mm512_reduce_max_epu32(most));
        scale = largest / levels;
        const __m512 inverse = _mm512_set1_ps(scale > 0 && 1.0f / scale < INFINITY ? 1.0f / scale : 0.0f);
        __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        for (std::int64_t i = 0; i < whole; i += 16) {
            const __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(load(i), inverse));
            const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(number, _mm512_set1_epi32(128)), 8);
            const __m512i lower = _mm512_sub_epi32(number, _mm512_slli_epi32(upper, 8));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(digits[0] + i / 4), _mm512_cvtepi32_epi8(upper));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(digits[1] + i / 4), _mm512_cvtepi32_epi8(lower));
            sums[0] = _mm512_add_epi32(sums[0], upper);
            sums[1] = _mm512_add_epi32(sums[1], lower);
        }
        for (int d = 0; d < 2; ++d) taken_off[d] = 128.0f * static_cast<float>(_mm512_reduce_add_epi32(sums[d]));
        if (!(largest < INFINITY)) scale = NAN;
    }
};

// As score_tile in attention.h, times the scales of the tokens.
template <int rows, int parts>
void score_digits(const QueryDigits* q, const std::int8_t* keys, const float* scales, const Attended& a, float* scores) {
    const __m512i sign = _mm512_set1_epi8(-128);
    __m512i sums[rows][parts][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) sums[r][p][0] = sums[r][p][1] = _mm512_setzero_si512();
    }
    const std::int64_t groups = (a.features + 3) / 4;
    for (std::int64_t g = 0; g < groups; ++g, keys += 4 * token_block) {
        __m512i key[parts];
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) key[p] = _mm512_xor_si512(_mm512_loadu_si512(keys + p * 64), sign);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
            for (int d = 0; d < 2; ++d) {
                const __m512i digits = _mm512_set1_epi32(static_cast<int>(q[r].digits[d][g]));
#pragma GCC unroll 4
                for (int p = 0; p < parts; ++p) sums[r][p][d] = _mm512_dpbusd_epi32(sums[r][p][d], key[p], digits);
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            const __m512 upper = _mm512_sub_ps(_mm512_cvtepi32_ps(sums[r][p][0]), _mm512_set1_ps(q[r].taken_off[0]));
            const __m512 lower = _mm512_sub_ps(_mm512_cvtepi32_ps(sums[r][p][1]), _mm512_set1_ps(q[r].taken_off[1]));
            const __m512 both = _mm512_mul_ps(_mm512_fmadd_ps(upper, _mm512_set1_ps(256), lower), _mm512_set1_ps(q[r].scale));
            _mm512_storeu_ps(scores + r * a.score_stride + p * 16, _mm512_mul_ps(both, _mm512_loadu_ps(scales + p * 16)));
        }
    }
}

// The weights of n tokens times the scales of their values, in place of themselves: for each 16 tokens 16 bytes of the upper digit, 0 to 255 both,
// and 16 of the lower. Returns the scale of the lower digit.
float weight_digits(float* x, const std::int8_t* values, const Attended& a, std::int64_t n) {
    apply_scales(x, values, a, n);
    const std::int64_t whole = (n + 15) / 16 * 16;
    for (std::int64_t t = n; t < whole; ++t) x[t] = 0;
    __m512i most = _mm512_setzero_si512();
    for (std::int64_t t = 0; t < whole; t += 16) {
        most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_loadu_si512(x + t), _mm512_set1_epi32(0x7FFFFFFF)));
    }
    const auto largest = std::bit_cast<float>(_mm512_reduce_max_epu32(most));
    const float scale = largest / 65535.0f;
    const __m512 inverse = _mm512_set1_ps(scale > 0 && 1.0f / scale < INFINITY ? 1.0f / scale : 0.0f);
    auto* to = reinterpret_cast<std::uint8_t*>(x);
    for (std::int64_t t = 0; t < whole; t += 16, to += 32) {
        const __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + t), inverse));
        // Of a number beyond the largest level, as rounding may make one, the level.
        const __m512i level = _mm512_min_epu32(number, _mm512_set1_epi32(65535));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(_mm512_srli_epi32(level, 8)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16), _mm512_cvtepi32_epi8(level));
    }
    // A row that sees fewer tokens than the one beside it has weights of 0 for the others.
    std::memset(to, 0, 32);
    return largest < INFINITY ? scale : NAN;
}

// As weigh_tile in attention.h.
template <int rows, int parts>
void weigh_digits(const std::int8_t* values, const Attended& a, const float* weights, const float* shares, std::int64_t features, float* y) {
    const std::int64_t width = stored_features(a.features), seen = a.tokens + rows - 1;
    __m512i sums[rows][parts][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) sums[r][p][0] = sums[r][p][1] = _mm512_setzero_si512();
    }
    for (std::int64_t first = 0; first < seen; first += token_block, values += a.block_stride) {
        const std::int64_t end = first + token_block < seen ? first + token_block : seen;
        const std::int8_t* from = values;
        for (std::int64_t t = first; t < end; t += 4, from += 4 * width) {
            const auto* row = reinterpret_cast<const std::uint8_t*>(weights) + t / 16 * 32 + t % 16;
            __m512i value[parts];
#pragma GCC unroll 4
            for (int p = 0; p < parts; ++p) value[p] = _mm512_loadu_si512(from + p * 64);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
                for (int d = 0; d < 2; ++d) {
                    std::int32_t four;
                    std::memcpy(&four, row + r * a.score_stride * 4 + d * 16, 4);
                    const __m512i digits = _mm512_set1_epi32(four);
#pragma GCC unroll 4
                    for (int p = 0; p < parts; ++p) sums[r][p][d] = _mm512_dpbusd_epi32(sums[r][p][d], digits, value[p]);
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int p = 0; p < parts; ++p) {
            const __m512 both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][p][0]), _mm512_set1_ps(256), _mm512_cvtepi32_ps(sums[r][p][1]));
            const std::int64_t left = features - p * 16;
            const auto used = static_cast<__mmask16>(left >= 16 ? 0xFFFFu : left > 0 ? (1u << left) - 1u : 0u);
            _mm512_mask_storeu_ps(y + r * a.row_stride + p * 16, used, _mm512_mul_ps(both, _mm512_set1_ps(shares[r])));
        }
    }
}

// Four sums of digits for each row stay in registers twice; one row takes all of a block.
template <int rows>
void attend_digits(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    constexpr int parts = rows <= 2 ? 4 : 2;
    QueryDigits digits[rows];
    for (int r = 0; r < rows; ++r) digits[r].take(q + r * a.row_stride, a.features);
    const std::int64_t seen = a.tokens + rows - 1;
    for (std::int64_t first = 0; first < seen; first += token_block) {
        const std::int8_t* block = keys + first / token_block * a.block_stride;
        const float* scales = block_scales(block, a);
        for (std::int64_t t = 0; t < token_block && first + t < seen; t += 16 * parts) {
            score_digits<rows, parts>(digits, block + t * 4, scales + t, a, scores + first + t);
        }
    }
    float shares[rows];
    for (int r = 0; r < rows; ++r) {
        float* row = scores + r * a.score_stride;
        shares[r] = soft_weights(row, a.tokens + r, a.scale);
        shares[r] *= weight_digits(row, values, a, a.tokens + r);
    }
    std::int64_t i = 0;
    for (; i + 16 * parts <= stored_features(a.features); i += 16 * parts) {
        weigh_digits<rows, parts>(values + i * 4, a, scores, shares, a.features - i, y + i);
    }
    for (; i < a.features; i += 16) weigh_digits<rows, 1>(values + i * 4, a, scores, shares, a.features - i, y + i);
}

void attend_int8(const float* q, const std::int8_t* keys, const std::int8_t* values, const Attended& a, float* scores, float* y) {
    if (a.features > most_digit_features) return attend_head(q, keys, values, a, scores, y);
    switch (a.rows) {
        case 1: return attend_digits<1>(q, keys, values, a, scores, y);
        case 2: return attend_digits<2>(q, keys, values, a, scores, y);
        case 3: return attend_digits<3>(q, keys, values, a, scores, y);
        default: return attend_digits<4>(q, keys, values, a, scores, y);
    }
}

}  // namespace

constexpr Kernels avx512_kernels = {
    "avx512",
    "AVX-512 with VNNI: 64 8-bit products an instruction",
    feature_avx2 | feature_fma | feature_avx512f | feature_avx512bw | feature_avx512dq | feature_avx512vl | feature_avx512vnni,
    24,
    expand_int8,
    product_int8,
    product_float,
    {"16 inputs of each output side by side, tables of sums", Layout::unit_outputs, Layout::step_inputs, 8, tables_of_step * 2, std::int64_t{1} << 24,
     std::int64_t{1} << 30},
    Layout::lay_out,
    prepare_bits,
    product_bits,
    expand_bits_panel,
    expand_bits_float<Layout>,
    finish_int8,
    row_finish_float,
    row_range,
    row_quantize,
    row_normalize,
    rows_scale_shift,
    row_scale,
    row_relu,
    row_gelu,
    row_softmax,
    row_add,
    row_maximum,
    attend_head<float>,
    attend_head<std::uint16_t>,
    attend_int8,
};

namespace {

constexpr Kernels with_tiles(Kernels k) {
    k.name = "amx";
    k.text = "AMX: 16,384 8-bit products an instruction; else AVX-512 with VNNI";
    k.needs |= feature_amx_tile | feature_amx_int8;
    k.rows_at_once = 32;
    k.layout.most_rows = 8;  // with more, expanding bits costs less than looking up does
    k.product_int8 = amx_product_int8;
    return k;
}

}  // namespace

// Made by the compiler: code that ran before main would run on every CPU, with instructions that this file may use and most lack.
constinit const Kernels amx_kernels = with_tiles(avx512_kernels);

}  // namespace onebit
