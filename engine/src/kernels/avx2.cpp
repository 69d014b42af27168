// AVX2 and FMA; scalar.cpp explains what is computed. The weights are -1, 0 or 1 and the inputs at most 255, so the 16-bit sums of
// vpmaddubsw are exact.
#include <immintrin.h>

#include "table.h"

namespace onebit {
namespace {

// One block of 16 outputs, two registers for each row.
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

using Layout = Columns<8>;

// Sums of all subsets of 4 inputs lie between -512 and 508: as 32 * high + low - 512, two tables of 16 bytes.
constexpr int tables_of_step = 64;
// Tables of 4 KB.
constexpr std::int64_t chunk_steps = 64;
constexpr int low_bits = 5, bias = 512;

// Two tables of four inputs: a byte `low` and a byte `high` for each subset.
void four_sums(const std::int8_t* x, std::uint8_t* tables) {
    const auto chosen = [&](int i, long long even, long long odd) {
        return _mm256_and_si256(_mm256_set1_epi16(x[i]), _mm256_set_epi64x(odd, even, odd, even));
    };
    const __m256i first = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
    __m256i sums = _mm256_add_epi16(_mm256_set1_epi16(bias), _mm256_and_si256(_mm256_set1_epi16(x[0]), first));
    sums = _mm256_add_epi16(sums, chosen(1, static_cast<long long>(0xFFFFFFFF00000000u), static_cast<long long>(0xFFFFFFFF00000000u)));
    sums = _mm256_add_epi16(sums, chosen(2, 0, -1));
    sums = _mm256_add_epi16(sums, _mm256_and_si256(_mm256_set1_epi16(x[3]), _mm256_set_epi64x(-1, -1, 0, 0)));
    const __m256i low = _mm256_and_si256(sums, _mm256_set1_epi16((1 << low_bits) - 1)), high = _mm256_srli_epi16(sums, low_bits);
    // The bytes of low, then those of high, each in the order of the subsets.
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xD8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(tables), both);
}

void prepare_bits(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared) {
    for (std::int64_t g = 0; g < 2 * steps; ++g) four_sums(x + g * 4, prepared + g * 32);
}

__m256i both_lanes(const std::uint8_t* table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
}

// Look-ups of 32 bytes: those of 4 steps fit in bytes (8 * 31), those of 16 steps in 16 bits once low and high are joined. `registers` of 32 outputs.
template <int registers>
void look_up(const std::uint8_t* w, std::ptrdiff_t step_stride, const std::uint8_t* tables, std::int64_t steps, bool add, std::int32_t* out) {
    constexpr std::ptrdiff_t ahead = 2048;  // as in avx512.cpp
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i join = _mm256_set1_epi16(1 | (1 << low_bits) << 8);
    std::int32_t* totals = out;
    const auto taken = static_cast<std::int32_t>(2 * steps * bias);
    for (int o = 0; o < registers * 32; ++o) totals[o] = (add ? totals[o] : 0) - taken;
    for (std::int64_t first = 0; first < steps; first += 16) {
        const std::int64_t end = first + 16 < steps ? first + 16 : steps;
        __m256i words[registers][2];
        for (int r = 0; r < registers; ++r) words[r][0] = words[r][1] = _mm256_setzero_si256();
        for (std::int64_t s = first; s < end;) {
            __m256i low[registers], high[registers];
            for (int r = 0; r < registers; ++r) low[r] = high[r] = _mm256_setzero_si256();
            for (const std::int64_t stop = s + 4 < end ? s + 4 : end; s < stop; ++s, w += step_stride, tables += tables_of_step) {
                const __m256i low0 = both_lanes(tables), high0 = both_lanes(tables + 16);
                const __m256i low1 = both_lanes(tables + 32), high1 = both_lanes(tables + 48);
#pragma GCC unroll 4
                for (int r = 0; r < registers; ++r) {
                    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + r * 32));
                    if (r % 2 == 0) _mm_prefetch(reinterpret_cast<const char*>(w + r * 32 + ahead), _MM_HINT_T0);
                    const __m256i four = _mm256_and_si256(bits, nibble), next = _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble);
                    low[r] = _mm256_add_epi8(low[r], _mm256_add_epi8(_mm256_shuffle_epi8(low0, four), _mm256_shuffle_epi8(low1, next)));
                    high[r] = _mm256_add_epi8(high[r], _mm256_add_epi8(_mm256_shuffle_epi8(high0, four), _mm256_shuffle_epi8(high1, next)));
                }
            }
            for (int r = 0; r < registers; ++r) {
                words[r][0] = _mm256_add_epi16(words[r][0], _mm256_maddubs_epi16(_mm256_unpacklo_epi8(low[r], high[r]), join));
                words[r][1] = _mm256_add_epi16(words[r][1], _mm256_maddubs_epi16(_mm256_unpackhi_epi8(low[r], high[r]), join));
            }
        }
        // Unpacking works in halves of a register: outputs 0 to 7 and 16 to 23 lie in the first, 8 to 15 and 24 to 31 in the second.
        const auto put = [&](int o, __m128i eight) {
            auto* to = reinterpret_cast<__m256i*>(totals + o);
            _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), _mm256_cvtepu16_epi32(eight)));
        };
        for (int r = 0; r < registers; ++r) {
            put(r * 32, _mm256_castsi256_si128(words[r][0]));
            put(r * 32 + 8, _mm256_castsi256_si128(words[r][1]));
            put(r * 32 + 16, _mm256_extracti128_si256(words[r][0], 1));
            put(r * 32 + 24, _mm256_extracti128_si256(words[r][1], 1));
        }
    }
}

void product_bits(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps, bool add,
                  std::int32_t* out) {
    if (count == 1) return look_up<2>(units, step_stride, prepared, steps, add, out);
    look_up<4>(units, step_stride, prepared, steps, add, out);
}

constexpr Kernels table() {
    Kernels k = shared_kernels<Layout>();
    k.name = "avx2";
    k.text = "AVX2 and FMA: 32 8-bit products an instruction";
    k.needs = feature_avx2 | feature_fma;
    k.layout = {.name = "8 inputs of each output side by side, tables of sums",
                .unit_outputs = Layout::unit_outputs,
                .step_inputs = Layout::step_inputs,
                .tile_units = 2,
                .chunk_steps = chunk_steps,
                .prepared_bytes = tables_of_step,
                .most_inputs = std::int64_t{1} << 24,
                .most_rows = any_rows};
    k.counts[0] = &avx2_counts;
    k.product_int8 = product_int8;
    k.product_float = product_float;
    k.prepare_bits = prepare_bits;
    k.product_bits = product_bits;
    return k;
}

}  // namespace

constinit const Kernels avx2_kernels = table();

}  // namespace onebit
