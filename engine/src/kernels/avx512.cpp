// AVX-512 with VNNI; scalar.cpp explains what is computed.
#include <immintrin.h>

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

// A bit in place b is worth 2^b until its sum is shifted at the end, which saves moving it: two instructions for 64 products.
void product_bits(const std::uint8_t* tile, const std::int8_t* x, std::int64_t groups, std::int32_t* out) {
    __m512i sums[tile_blocks];
    for (int b = 0; b < tile_blocks; ++b) sums[b] = _mm512_setzero_si512();
    for (std::int64_t g = 0; g < groups; ++g) {
        const __m512i bits = _mm512_loadu_si512(tile + g * tile_group_bytes);
        std::int32_t four;
        std::memcpy(&four, x + g * 4, 4);
        const __m512i inputs = _mm512_set1_epi32(four);
#pragma GCC unroll 8
        for (int b = 0; b < tile_blocks; ++b) {
            const __m512i chosen = _mm512_and_si512(bits, _mm512_set1_epi8(static_cast<char>(1 << b)));
            sums[b] = _mm512_dpbusd_epi32(sums[b], chosen, inputs);
        }
    }
#pragma GCC unroll 8
    for (int b = 0; b < tile_blocks; ++b) {
        _mm512_storeu_si512(out + b * block_outputs, _mm512_srai_epi32(sums[b], static_cast<unsigned>(b)));
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
    product_bits,
    expand_tile_int8_rows,
    expand_tile_float_rows,
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
};

namespace {

constexpr Kernels with_tiles(Kernels k) {
    k.name = "amx";
    k.text = "AMX: 16,384 8-bit products an instruction; else AVX-512 with VNNI";
    k.needs |= feature_amx_tile | feature_amx_int8;
    k.rows_at_once = 32;
    k.product_int8 = amx_product_int8;
    return k;
}

}  // namespace

// Made by the compiler: code that ran before main would run on every CPU, with instructions that this file may use and most lack.
constinit const Kernels amx_kernels = with_tiles(avx512_kernels);

}  // namespace onebit
