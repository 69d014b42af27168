// AVX-512 with VNNI; scalar.cpp has the definitions.
#include <immintrin.h>

#include <bit>

#include "avx512_attention.h"
#include "avx512_epilogue.h"
#include "avx512_expand.h"
#include "avx512_grouped.h"
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

using Layout = Columns<16>;

// Sums of all subsets of 6, 5 and 5 inputs: 64 + 32 + 32 numbers of 16 bits.
constexpr int tables_of_step = 128;
// Tables of 8 KB.
constexpr std::int64_t chunk_steps = 32;

// For each entry of a table, in pairs of bytes: which of two inputs it contains, by bit `first` of its index and the bit above it, if any.
constexpr struct SubsetMasks {
    std::uint8_t low[64], middle[64], fifth[64], fifth_and_sixth[64], fifth_second[64];
} subset_masks = [] {
    SubsetMasks m{};
    for (int i = 0; i < 32; ++i) {
        const auto bit = [i](int b) { return static_cast<std::uint8_t>(i >> b & 1); };
        m.low[2 * i] = bit(0), m.low[2 * i + 1] = bit(1);
        m.middle[2 * i] = bit(2), m.middle[2 * i + 1] = bit(3);
        m.fifth[2 * i] = bit(4);
        m.fifth_and_sixth[2 * i] = bit(4), m.fifth_and_sixth[2 * i + 1] = 1;
        m.fifth_second[2 * i + 1] = bit(4);
    }
    return m;
}();

// The prepared data of a step: the sums of all subsets of inputs 0 to 5, 6 to 10 and 11 to 15. Two inputs at a time are multiplied by 1 or 0,
// depending on whether they are in the subset.
void prepare_pixels(const std::int8_t* x, std::ptrdiff_t stride, std::int64_t pixels, std::uint8_t* prepared) {
    const __m512i low = _mm512_loadu_si512(subset_masks.low), middle = _mm512_loadu_si512(subset_masks.middle);
    const __m512i fifth = _mm512_loadu_si512(subset_masks.fifth), second = _mm512_loadu_si512(subset_masks.fifth_second);
    const __m512i both = _mm512_loadu_si512(subset_masks.fifth_and_sixth);
    for (std::int64_t i = 0; i < pixels; ++i, x += stride, prepared += tables_of_step * 2) {
        const auto pair = [x](int first) {
            std::int16_t two;
            std::memcpy(&two, x + first, 2);
            return _mm512_set1_epi16(two);
        };
        const __m512i four = _mm512_add_epi16(_mm512_maddubs_epi16(low, pair(0)), _mm512_maddubs_epi16(middle, pair(2)));
        const __m512i last = pair(4);
        _mm512_storeu_si512(prepared, _mm512_add_epi16(four, _mm512_maddubs_epi16(fifth, last)));
        _mm512_storeu_si512(prepared + 64, _mm512_add_epi16(four, _mm512_maddubs_epi16(both, last)));
        const auto five = [&](int a, int b, int c, const __m512i& mask) {
            const __m512i sums = _mm512_add_epi16(_mm512_maddubs_epi16(low, pair(a)), _mm512_maddubs_epi16(middle, pair(b)));
            return _mm512_add_epi16(sums, _mm512_maddubs_epi16(mask, pair(c)));
        };
        _mm512_storeu_si512(prepared + 128, five(6, 8, 10, fifth));
        _mm512_storeu_si512(prepared + 192, five(11, 13, 14, second));
    }
}

void prepare_bits(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared) {
    prepare_pixels(x, Layout::step_inputs, steps, prepared);
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

// The distance of prefetches into the second-level cache, in bytes. With less, memory answers too late. With more, or into the first level,
// the prefetched data evict needed data.
constexpr std::ptrdiff_t ahead = 12288;

// One step of some units. Look-ups of 6, 5 and 5 bits give the sums of 16 products: eight instructions for 512 products, compared with sixteen for
// multiplying. A sum of 16 steps fits in 16 bits (16 * 16 * 128 = 2^15).
template <int units>
[[gnu::always_inline]] inline void look_up_step(const std::uint8_t* w, const std::uint8_t* tables, __m512i (&sums)[units]) {
    const __m512i six_low = _mm512_loadu_si512(tables), six_high = _mm512_loadu_si512(tables + 64);
    const __m512i five = _mm512_loadu_si512(tables + 128), last = _mm512_loadu_si512(tables + 192);
#pragma GCC unroll 8
    for (int u = 0; u < units; ++u) {
        const __m512i bits = _mm512_loadu_si512(w + u * unit_step_bytes);
        _mm_prefetch(reinterpret_cast<const char*>(w + u * unit_step_bytes + ahead), _MM_HINT_T1);
        // The look-ups use the lowest bits of each index and ignore the others.
        const __m512i a = _mm512_permutex2var_epi16(six_low, bits, six_high);
        const __m512i b = _mm512_permutexvar_epi16(_mm512_srli_epi16(bits, 6), five);
        const __m512i c = _mm512_permutexvar_epi16(_mm512_srli_epi16(bits, 11), last);
        sums[u] = _mm512_add_epi16(sums[u], _mm512_add_epi16(a, _mm512_add_epi16(b, c)));
    }
}

template <int units>
void look_up(const std::uint8_t* w, std::ptrdiff_t step_stride, const std::uint8_t* tables, std::int64_t steps, bool add, std::int32_t* out) {
    __m512i totals[units][2];
    for (int u = 0; u < units; ++u) {
        totals[u][0] = add ? _mm512_loadu_si512(out + u * 32) : _mm512_setzero_si512();
        totals[u][1] = add ? _mm512_loadu_si512(out + u * 32 + 16) : _mm512_setzero_si512();
    }
    for (std::int64_t first = 0; first < steps; first += 16) {
        const std::int64_t end = first + 16 < steps ? first + 16 : steps;
        __m512i sums[units];
        for (int u = 0; u < units; ++u) sums[u] = _mm512_setzero_si512();
        for (std::int64_t s = first; s < end; ++s, w += step_stride, tables += tables_of_step * 2) {
            look_up_step<units>(w, tables, sums);
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

void product_bits(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps, bool add,
                  std::int32_t* out) {
    switch (count) {
        case 1: return look_up<1>(units, step_stride, prepared, steps, add, out);
        case 2: return look_up<2>(units, step_stride, prepared, steps, add, out);
        case 3: return look_up<3>(units, step_stride, prepared, steps, add, out);
        case 4: return look_up<4>(units, step_stride, prepared, steps, add, out);
        case 5: return look_up<5>(units, step_stride, prepared, steps, add, out);
        case 6: return look_up<6>(units, step_stride, prepared, steps, add, out);
        case 7: return look_up<7>(units, step_stride, prepared, steps, add, out);
        default: return look_up<8>(units, step_stride, prepared, steps, add, out);
    }
}

// The same for groups of steps, each with scales of its own: their sums, which fit in 16 bits, become floats and stay in registers.
template <int units>
void look_up_groups(const GroupedBits& bits) {
    const std::uint8_t *w = bits.units, *tables = bits.prepared;
    const __m128i doubled = _mm_cvtsi32_si128(bits.plus_minus ? 1 : 0);
    __m512 totals[units][2];
    for (int u = 0; u < units; ++u) {
        for (int h = 0; h < 2; ++h) totals[u][h] = bits.first ? _mm512_setzero_ps() : _mm512_loadu_ps(bits.out + u * 32 + h * 16);
    }
    for (std::int64_t g = 0; g < bits.groups; ++g) {
        __m512i sums[units];
#pragma GCC unroll 8
        for (int u = 0; u < units; ++u) sums[u] = _mm512_setzero_si512();
        for (int s = 0; s < bits.group_steps; ++s, w += bits.step_stride, tables += tables_of_step * 2) {
            look_up_step<units>(w, tables, sums);
        }
        const __m512i taken_off = _mm512_set1_epi32(bits.x_totals[g] * bits.taken_off);
        const __m512 scale = _mm512_set1_ps(bits.x_scales[g]);
        const std::uint16_t* scales = bits.scales + g * Layout::unit_outputs;
#pragma GCC unroll 8
        for (int u = 0; u < units; ++u, scales += bits.scale_stride) {
            const auto add = [&](__m512& total, const __m256i& half, const std::uint16_t* of_half) __attribute__((always_inline)) {
                const __m512i sum = _mm512_sub_epi32(_mm512_sll_epi32(_mm512_cvtepi16_epi32(half), doubled), taken_off);
                total = _mm512_fmadd_ps(sixteen_halves(of_half), _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), total);
            };
            add(totals[u][0], _mm512_castsi512_si256(sums[u]), scales);
            add(totals[u][1], _mm512_extracti64x4_epi64(sums[u], 1), scales + 16);
        }
    }
#pragma GCC unroll 8
    for (int u = 0; u < units; ++u) {
        _mm512_storeu_ps(bits.out + u * 32, totals[u][0]);
        _mm512_storeu_ps(bits.out + u * 32 + 16, totals[u][1]);
    }
}

void look_up_groups(const GroupedBits& bits) {
    switch (bits.count) {
        case 1: return look_up_groups<1>(bits);
        case 2: return look_up_groups<2>(bits);
        case 3: return look_up_groups<3>(bits);
        case 4: return look_up_groups<4>(bits);
        case 5: return look_up_groups<5>(bits);
        case 6: return look_up_groups<6>(bits);
        case 7: return look_up_groups<7>(bits);
        default: return look_up_groups<8>(bits);
    }
}

// Tables of some positions times some units: all positions share the shifted bits, and all units share the loaded tables.
template <int positions, int units>
void look_up_image(const std::uint8_t* tile, std::ptrdiff_t step_stride, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                   const std::int32_t* offsets, int steps, bool first, std::int32_t* out, std::ptrdiff_t out_stride) {
    __m512i sums[positions][units];
    for (int p = 0; p < positions; ++p) {
        for (int u = 0; u < units; ++u) sums[p][u] = _mm512_setzero_si512();
    }
    for (int s = 0; s < steps; ++s, tile += step_stride) {
        const std::uint8_t* tables = prepared + offsets[s];
        __m512i bits[units], seventh[units], twelfth[units];
#pragma GCC unroll 2
        for (int u = 0; u < units; ++u) {
            bits[u] = _mm512_loadu_si512(tile + u * unit_step_bytes);
            seventh[u] = _mm512_srli_epi16(bits[u], 6);
            twelfth[u] = _mm512_srli_epi16(bits[u], 11);
        }
#pragma GCC unroll 6
        for (int p = 0; p < positions; ++p, tables += position_stride) {
            __m512i six_low = _mm512_loadu_si512(tables), six_high = _mm512_loadu_si512(tables + 64);
            __m512i five = _mm512_loadu_si512(tables + 128), last = _mm512_loadu_si512(tables + 192);
            // The compiler would load them again for each unit, and loads would take longer than look-ups.
            if constexpr (units > 1) asm("" : "+v"(six_low), "+v"(six_high), "+v"(five), "+v"(last));
#pragma GCC unroll 2
            for (int u = 0; u < units; ++u) {
                const __m512i a = _mm512_permutex2var_epi16(six_low, bits[u], six_high);
                const __m512i b = _mm512_permutexvar_epi16(seventh[u], five);
                const __m512i c = _mm512_permutexvar_epi16(twelfth[u], last);
                sums[p][u] = _mm512_add_epi16(sums[p][u], _mm512_add_epi16(a, _mm512_add_epi16(b, c)));
            }
        }
    }
#pragma GCC unroll 6
    for (int p = 0; p < positions; ++p) {
#pragma GCC unroll 2
        for (int u = 0; u < units; ++u) {
            std::int32_t* to = out + p * out_stride + u * 32;
            __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sums[p][u]));
            __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sums[p][u], 1));
            if (!first) {
                low = _mm512_add_epi32(low, _mm512_loadu_si512(to));
                high = _mm512_add_epi32(high, _mm512_loadu_si512(to + 16));
            }
            _mm512_storeu_si512(to, low);
            _mm512_storeu_si512(to + 16, high);
        }
    }
}

template <int units>
void look_up_positions(const std::uint8_t* tile, std::ptrdiff_t step_stride, const std::uint8_t* prepared, std::ptrdiff_t position_stride,
                       int positions, const std::int32_t* offsets, int steps, bool first, std::int32_t* out, std::ptrdiff_t out_stride) {
    switch (positions) {
        case 1: return look_up_image<1, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        case 2: return look_up_image<2, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        case 3: return look_up_image<3, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        case 4: return look_up_image<4, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        case 5: return look_up_image<5, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
        default: return look_up_image<6, units>(tile, step_stride, prepared, position_stride, offsets, steps, first, out, out_stride);
    }
}

void product_image(const ConvArgs& args) {
    const auto& [tile, step_stride, units, prepared, position_stride, positions, offsets, steps, first, out, out_stride] = args;
    static_assert(image_units == 2 && image_positions == 6 && image_steps * 16 * 128 <= 32768);
    if (units == 1) return look_up_positions<1>(tile, step_stride, prepared, position_stride, positions, offsets, steps, first, out, out_stride);
    look_up_positions<2>(tile, step_stride, prepared, position_stride, positions, offsets, steps, first, out, out_stride);
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
