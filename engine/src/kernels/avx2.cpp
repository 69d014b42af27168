// AVX2, FMA and F16C; scalar.cpp has the definitions. The weights are -1, 0 or 1 and the inputs at most 255, so the 16-bit sums of
// vpmaddubsw are exact.
#include <immintrin.h>

#include "avx2_attention.h"
#include "avx2_epilogue.h"
#include "avx2_grouped_look_ups.h"
#include "table.h"

namespace onebit {
namespace {

// One block of 16 outputs, with two registers per row.
template <int count>
void block_int8(const std::uint8_t* const* rows, const Segments& s, const std::int8_t* panel, int width, std::int32_t* out,
                std::ptrdiff_t out_stride) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sums[count][2];
    for (int r = 0; r < count; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    const std::int8_t* w = panel;
    for (int segment = 0; segment < s.segments; ++segment) {
        const std::ptrdiff_t offset = s.offsets[segment];
        for (int k = 0; k < s.length; k += 4, w += width * 4) {
            const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
            const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 32));
#pragma GCC unroll 4
            for (int r = 0; r < count; ++r) {
                std::int32_t four;
                std::memcpy(&four, rows[r] + offset + k, 4);
                const __m256i x = _mm256_set1_epi32(four);
                sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(_mm256_maddubs_epi16(x, low), ones));
                sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(_mm256_maddubs_epi16(x, high), ones));
            }
        }
    }
    for (int r = 0; r < count; ++r) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * out_stride), sums[r][0]);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + r * out_stride + 8), sums[r][1]);
    }
}

template <int count>
void block_float(const float* const* rows, const Segments& s, const float* panel, int width, float* out, std::ptrdiff_t out_stride) {
    __m256 sums[count][2];
    for (int r = 0; r < count; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
    const float* w = panel;
    for (int segment = 0; segment < s.segments; ++segment) {
        const std::ptrdiff_t offset = s.offsets[segment];
        for (int k = 0; k < s.length; ++k, w += width) {
            const __m256 low = _mm256_loadu_ps(w), high = _mm256_loadu_ps(w + 8);
#pragma GCC unroll 4
            for (int r = 0; r < count; ++r) {
                const __m256 x = _mm256_broadcast_ss(rows[r] + offset + k);
                sums[r][0] = _mm256_fmadd_ps(x, low, sums[r][0]);
                sums[r][1] = _mm256_fmadd_ps(x, high, sums[r][1]);
            }
        }
    }
    for (int r = 0; r < count; ++r) {
        _mm256_storeu_ps(out + r * out_stride, sums[r][0]);
        _mm256_storeu_ps(out + r * out_stride + 8, sums[r][1]);
    }
}

void product_int8(const std::uint8_t* const* rows, int count, const Segments& s, const std::int8_t* panel, int blocks, std::int32_t* out,
                  std::ptrdiff_t out_stride) {
    for (int b = 0; b < blocks; ++b) {
        const std::int8_t* w = panel + b * block_outputs * 4;
        std::int32_t* y = out + b * block_outputs;
        int r = 0;
        for (; r + 4 <= count; r += 4) block_int8<4>(rows + r, s, w, blocks * block_outputs, y + r * out_stride, out_stride);
        for (; r < count; ++r) block_int8<1>(rows + r, s, w, blocks * block_outputs, y + r * out_stride, out_stride);
    }
}

void product_float(const float* const* rows, int count, const Segments& s, const float* panel, int blocks, float* out, std::ptrdiff_t out_stride) {
    for (int b = 0; b < blocks; ++b) {
        const float* w = panel + b * block_outputs;
        float* y = out + b * block_outputs;
        int r = 0;
        for (; r + 4 <= count; r += 4) block_float<4>(rows + r, s, w, blocks * block_outputs, y + r * out_stride, out_stride);
        for (; r < count; ++r) block_float<1>(rows + r, s, w, blocks * block_outputs, y + r * out_stride, out_stride);
    }
}

constexpr Kernels table() {
    Kernels k = shared_kernels<Layout>();
    k.gemv.layout = look_ups_layout<Layout>(4, tables_of_step);
    k.gemm.product_int8 = product_int8;
    k.gemm.product_float = product_float;
    k.gemv.prepare = prepare_bits;
    k.gemv.product = product_bits;
    k.conv.least_gain = k.conv.least_run_gain = 2;
    k.conv.most_positions = 4 * image_positions;
    k.conv.prepare = prepare_pixels;
    k.conv.product = product_image;
    k.rows.epilogue_rows_int8 = finish_rows_int8;
    k.grouped.product_bits = look_up_groups;
    k.grouped.product_bytes = multiply_bytes;
    k.attention.int8 = attend_int8;
    return k;
}

}  // namespace

constinit const Kernels avx2_kernels = named_avx2(table());

}  // namespace onebit
