// AVX-512 with VNNI; scalar.cpp has the definitions.
#include <immintrin.h>

#include <bit>

#include "avx512_attention.h"
#include "avx512_depthwise.h"
#include "avx512_epilogue.h"
#include "avx512_expand.h"
#include "avx512_grouped_look_ups.h"
#include "table.h"

namespace onebit {
namespace {

// `count` rows times `blocks` registers of 16 outputs: at most 24 sums, so that they fit in registers with the weights and one broadcast.
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

// Rows in tiles as large as the registers allow, then the rest one by one.
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

// Sixteen rows at once: 32 bits of each in a register's lanes, and a look-up that turns four bits into four bytes.
void expand_int8(const ExpandArgs& args, std::int8_t* panel) {
    const auto& [bits, row_bytes, rows, blocks, segments, raw_length, length, plus_minus] = args;
    if (raw_length != length) return expand_rows(args, panel);
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

// NaN does not count for the smallest number, and is the largest magnitude.
void range(const float* x, std::ptrdiff_t n, std::uint32_t* largest_bits, bool* negative) {
    constexpr int chains = 4;
    __m512i largest[chains];
    __m512 smallest[chains];
    for (int c = 0; c < chains; ++c) largest[c] = _mm512_setzero_si512(), smallest[c] = _mm512_setzero_ps();
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    const auto include = [&](int c, const __m512& v) {
        largest[c] = _mm512_max_epu32(largest[c], _mm512_and_si512(_mm512_castps_si512(v), magnitude));
        smallest[c] = _mm512_min_ps(v, smallest[c]);  // the second operand if the first is NaN
    };
    std::ptrdiff_t i = 0;
    for (; i + 16 * chains <= n; i += 16 * chains) {
#pragma GCC unroll 4
        for (int c = 0; c < chains; ++c) include(c, _mm512_loadu_ps(x + i + 16 * c));
    }
    for (; i < n; i += 16) {
        const auto here = static_cast<__mmask16>(n - i < 16 ? (1u << (n - i)) - 1u : 0xFFFFu);
        include(0, _mm512_maskz_loadu_ps(here, x + i));
    }
    for (int c = 1; c < chains; ++c) largest[0] = _mm512_max_epu32(largest[0], largest[c]), smallest[0] = _mm512_min_ps(smallest[0], smallest[c]);
    *largest_bits = _mm512_reduce_max_epu32(largest[0]);
    *negative = _mm512_cmp_ps_mask(smallest[0], _mm512_setzero_ps(), _CMP_LT_OQ) != 0;
}

// Clipping to integers and rounding may be exchanged.
void quantize(const float* x, std::ptrdiff_t n, float inverse, float low, float high, int shift, std::uint8_t* q) {
    const __m512 factor = _mm512_set1_ps(inverse), least = _mm512_set1_ps(low), most = _mm512_set1_ps(high);
    const __m512i up = _mm512_set1_epi32(shift);
    std::ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 v = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), factor), least), most);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(v), up)));
    }
    row_quantize(x + i, n - i, inverse, low, high, shift, q + i);
}

// As the template in bits.h, for sixteen outputs at once.
void expand_bits_panel(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks, std::int8_t* panel) {
    const FourWeights weights(false);
    const std::ptrdiff_t group = std::ptrdiff_t{64} * blocks;
    // A block's bits are half a unit's step.
    tile += first_block * 32;
    for (std::int64_t s = 0; s < steps; ++s, tile += step_stride, panel += 4 * group) {
        for (int b = 0; b < blocks; ++b) weights.expand(tile + b * 32, panel + b * 64, group);
    }
}

// The outputs, of a step's 32, with the bit of input i set.
inline __mmask32 outputs_with(const __m512i& words, int i) {
    return _mm512_movepi16_mask(_mm512_sll_epi16(words, _mm_cvtsi32_si128(15 - i)));
}

void expand_bits_floats(const std::uint8_t* tile, std::ptrdiff_t step_stride, std::int64_t steps, int first_block, int blocks, bool plus_minus,
                        float* panel) {
    const __m512 set = _mm512_set1_ps(1), clear = _mm512_set1_ps(plus_minus ? -1.0f : 0.0f);
    tile += first_block * 32;
    for (std::int64_t s = 0; s < steps; ++s, tile += step_stride) {
        for (int b = 0; b < blocks; ++b) {
            const __m512i words = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + b * 32)));
            float* to = panel + (s * Layout::step_inputs * blocks + b) * block_outputs;
            for (int i = 0; i < Layout::step_inputs; ++i, to += blocks * block_outputs) {
                _mm512_storeu_ps(to, _mm512_mask_blend_ps(static_cast<__mmask16>(outputs_with(words, i)), clear, set));
            }
        }
    }
}

// Masked additions, two for an input of 32 outputs. For weights of -1 and 1, additions of the input with either sign.
template <int units, bool plus_minus>
void add_where_set(const std::uint8_t* w, std::ptrdiff_t step_stride, const float* x, std::int64_t inputs, bool add, float* out) {
    __m512 sums[units][2];
    for (int u = 0; u < units; ++u) {
        sums[u][0] = add ? _mm512_loadu_ps(out + u * 32) : _mm512_setzero_ps();
        sums[u][1] = add ? _mm512_loadu_ps(out + u * 32 + 16) : _mm512_setzero_ps();
    }
    for (std::int64_t first = 0; first < inputs; first += Layout::step_inputs, w += step_stride) {
        const auto here = static_cast<int>(inputs - first < Layout::step_inputs ? inputs - first : Layout::step_inputs);
        __m512i words[units];
#pragma GCC unroll 8
        for (int u = 0; u < units; ++u) words[u] = _mm512_loadu_si512(w + u * unit_step_bytes);
        for (int i = 0; i < here; ++i) {
            const __m512 input = _mm512_set1_ps(x[first + i]), opposite = _mm512_set1_ps(-x[first + i]);
#pragma GCC unroll 8
            for (int u = 0; u < units; ++u) {
                const __mmask32 chosen = outputs_with(words[u], i);
                const auto low = static_cast<__mmask16>(chosen), high = static_cast<__mmask16>(chosen >> 16);
                if constexpr (plus_minus) {
                    sums[u][0] = _mm512_add_ps(sums[u][0], _mm512_mask_blend_ps(low, opposite, input));
                    sums[u][1] = _mm512_add_ps(sums[u][1], _mm512_mask_blend_ps(high, opposite, input));
                } else {
                    sums[u][0] = _mm512_mask_add_ps(sums[u][0], low, sums[u][0], input);
                    sums[u][1] = _mm512_mask_add_ps(sums[u][1], high, sums[u][1], input);
                }
            }
        }
    }
    for (int u = 0; u < units; ++u) {
        _mm512_storeu_ps(out + u * 32, sums[u][0]);
        _mm512_storeu_ps(out + u * 32 + 16, sums[u][1]);
    }
}

void product_bits_float(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const float* x, std::int64_t inputs, bool plus_minus,
                        bool add, float* out) {
    const auto four = plus_minus ? add_where_set<4, true> : add_where_set<4, false>;
    const auto one = plus_minus ? add_where_set<1, true> : add_where_set<1, false>;
    for (; count >= 4; count -= 4, units += 4 * unit_step_bytes, out += 4 * 32) four(units, step_stride, x, inputs, add, out);
    for (; count > 0; --count, units += unit_step_bytes, out += 32) one(units, step_stride, x, inputs, add, out);
}

constexpr Kernels avx512_table() {
    Kernels k = shared_kernels<Layout>();
    k.gemv.layout = {.name = "16 inputs of each output side by side, tables of sums",
                     .unit_outputs = Layout::unit_outputs,
                     .step_inputs = Layout::step_inputs,
                     .tile_units = 8,
                     .chunk_steps = chunk_steps,
                     .prepared_bytes = tables_of_step * 2,
                     .most_inputs = std::int64_t{1} << 24,
                     .most_rows = any_rows};
    k.gemm.expand_int8 = expand_int8;
    k.gemm.product_int8 = product_int8;
    k.gemm.product_float = product_float;
    k.gemv.prepare = prepare_bits;
    k.gemv.product = product_bits;
    k.gemm.expand_bits_int8 = expand_bits_panel;
    k.gemm.expand_bits_float = expand_bits_floats;
    k.gemv.product_float = product_bits_float;
    k.conv.least_gain = 3;
    k.conv.prepare = prepare_pixels;
    k.conv.product = product_image;
    k.rows.epilogue_int8 = finish_int8;
    k.rows.epilogue_rows_int8 = finish_rows_int8;
    k.rows.depthwise_int8 = depthwise_pairs;
    k.rows.range = range;
    k.rows.quantize = quantize;
    k.grouped.product_bits = look_up_groups;
    k.grouped.product_bytes = multiply_bytes;
    k.attention.int8 = attend_int8;
    return k;
}

constexpr Kernels amx_table() {
    Kernels k = avx512_table();
    k.gemm.rows_at_once = 32;
    // With more rows, expanding bits costs less than look-ups: 1.3 cycles for 64 bytes of weights, the time of 2.7 rows of look-ups.
    k.gemv.layout.most_rows = 4;
    k.gemm.product_int8 = amx_product_int8;
    k.tiles = &amx_tiles;
    k.conv.least_gain = never;
    return k;
}

}  // namespace

constinit const Kernels avx512_kernels = named_avx512(avx512_table());
constinit const Kernels amx_kernels = named_amx(amx_table());

}  // namespace onebit
