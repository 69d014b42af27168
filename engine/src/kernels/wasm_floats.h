// Sums of products of floats in WebAssembly, a part of wasm.cpp: products with panels, and attention. scalar.cpp and attention.h explain what is
// computed.
//
// There is no fused multiply-add. In double a product of floats is exact, and its sum with a float is rounded twice: to double, then to float. That
// differs from one rounding only where the double lost digits and lies in the middle between two floats, about once in 2^29 such sums. So unlike all
// other sets this one may differ in a last bit; rounding as `fused` does would take three times as long.
#pragma once

#include <wasm_simd128.h>

#include "attention.h"

namespace onebit {
namespace {

// Four sums, which are floats in doubles.
struct WideSums {
    v128_t low = wasm_f64x2_const_splat(0), high = wasm_f64x2_const_splat(0);

    // Adds four numbers times x, which is in both lanes of a vector of doubles.
    [[gnu::always_inline]] void add(const v128_t (&numbers)[2], v128_t x) {
        low = rounded(wasm_f64x2_add(wasm_f64x2_mul(numbers[0], x), low));
        high = rounded(wasm_f64x2_add(wasm_f64x2_mul(numbers[1], x), high));
    }
    [[gnu::always_inline]] void store(float* to) const {
        wasm_v128_store(to, wasm_i32x4_shuffle(wasm_f32x4_demote_f64x2_zero(low), wasm_f32x4_demote_f64x2_zero(high), 0, 1, 4, 5));
    }

  private:
    [[gnu::always_inline]] static v128_t rounded(v128_t sum) { return wasm_f64x2_promote_low_f32x4(wasm_f32x4_demote_f64x2_zero(sum)); }
};

[[gnu::always_inline]] inline void widen(v128_t floats, v128_t (&to)[2]) {
    to[0] = wasm_f64x2_promote_low_f32x4(floats);
    to[1] = wasm_f64x2_promote_low_f32x4(wasm_i32x4_shuffle(floats, floats, 2, 3, 2, 3));
}

[[gnu::always_inline]] inline v128_t broadcast_wide(const float* x) {
    return wasm_f64x2_splat(static_cast<double>(*x));
}

// Number j of each lane's group, as `number` of attention.h gives it.
template <class Stored>
[[gnu::always_inline]] inline v128_t number_of(v128_t words, int j) {
    if constexpr (sizeof(Stored) == 4) return words;
    return j == 0 ? wasm_i32x4_shl(words, 16) : wasm_v128_and(words, wasm_i32x4_const_splat(static_cast<std::int32_t>(0xFFFF0000u)));
}

// Four outputs of `count` rows.
template <int count>
void tile_float(const float* const* rows, const Segments& s, const float* panel, int width, float* out, std::ptrdiff_t out_stride) {
    WideSums sums[count];
    const float* w = panel;
    for (int segment = 0; segment < s.segments; ++segment) {
        for (int k = 0; k < s.length; ++k, w += width) {
            v128_t weights[2];
            widen(wasm_v128_load(w), weights);
#pragma GCC unroll 4
            for (int r = 0; r < count; ++r) sums[r].add(weights, broadcast_wide(rows[r] + s.offsets[segment] + k));
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < count; ++r) sums[r].store(out + r * out_stride);
}

void product_float(const float* const* rows, int count, const Segments& s, const float* panel, int blocks, float* out, std::ptrdiff_t out_stride) {
    const int width = blocks * block_outputs;
    for (int o = 0; o < width; o += register_lanes, panel += register_lanes, out += register_lanes) {
        int r = 0;
        for (; r + 4 <= count; r += 4) tile_float<4>(rows + r, s, panel, width, out + r * out_stride, out_stride);
        for (; r < count; ++r) tile_float<1>(rows + r, s, panel, width, out + r * out_stride, out_stride);
    }
}

// One query's products with 16 tokens.
constexpr int score_parts = 4;
template <class Stored>
void score_tokens(const float* q, const Stored* keys, const Attended& a, float* scores) {
    constexpr int g = group<Stored>;
    WideSums sums[score_parts];
    for (std::int64_t i = 0; i < a.features; i += g, keys += token_block * g) {
#pragma GCC unroll 2
        for (int j = 0; j < g; ++j) {
            if (i + j >= a.features) break;
            const v128_t x = broadcast_wide(q + i + j);
#pragma GCC unroll 4
            for (int p = 0; p < score_parts; ++p) {
                v128_t numbers[2];
                widen(number_of<Stored>(wasm_v128_load(keys + p * register_lanes * g), j), numbers);
                sums[p].add(numbers, x);
            }
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < score_parts; ++p) sums[p].store(scores + p * register_lanes);
}

// Some features of one query's result: weighted sums over its tokens, those at even and those at odd places in two sums.
constexpr int weigh_parts = 2;
template <class Stored>
void weigh_some(const Stored* values, const Attended& a, const float* weights, float share, std::int64_t features, float* y) {
    constexpr int g = group<Stored>;
    const std::int64_t width = stored_features(a.features);
    WideSums sums[2][weigh_parts];
    for (std::int64_t t = 0; t < a.tokens; t += 2) {
        const Stored* from = values + t / token_block * a.block_stride + t % token_block * width;
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
            if (t + j >= a.tokens) break;
            const v128_t x = broadcast_wide(weights + t + j);
#pragma GCC unroll 2
            for (int p = 0; p < weigh_parts; ++p) {
                const v128_t words = wasm_v128_load(from + (g == 1 ? j * width : 0) + p * register_lanes * g);
                v128_t numbers[2];
                widen(number_of<Stored>(words, j), numbers);
                sums[j][p].add(numbers, x);
            }
        }
    }
    float totals[2][weigh_parts * register_lanes];
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
#pragma GCC unroll 2
        for (int p = 0; p < weigh_parts; ++p) sums[j][p].store(totals[j] + p * register_lanes);
    }
    for (int i = 0; i < weigh_parts * register_lanes; ++i) totals[0][i] = (totals[0][i] + totals[1][i]) * share;
    const std::int64_t count = features < weigh_parts * register_lanes ? features : weigh_parts * register_lanes;
    std::memcpy(y, totals[0], static_cast<std::size_t>(count) * sizeof(float));
}

// Queries one after the other: most of the work is rounding, which they could not share.
template <class Stored>
void attend_floats(const float* q, const Stored* keys, const Stored* values, const Attended& all, float* scores, float* y) {
    constexpr std::int64_t some = score_parts * register_lanes, features_at_once = weigh_parts * register_lanes;
    for (int r = 0; r < all.rows; ++r, q += all.row_stride, y += all.row_stride, scores += all.score_stride) {
        const Attended a = one_query(all, r);
        for (std::int64_t t = 0; t < a.tokens; t += some) {
            score_tokens(q, keys + t / token_block * a.block_stride + t % token_block * group<Stored>, a, scores + t);
        }
        float share = 0;
        soft_weights<1>(scores, a, &share);
        for (std::int64_t i = 0; i < a.features; i += features_at_once) {
            weigh_some(values + i * group<Stored>, a, scores, share, a.features - i, y + i);
        }
    }
}

// As integers, magnitudes are in the order of numbers, and NaN is the largest.
void range(const float* x, std::ptrdiff_t n, std::uint32_t* largest_bits, bool* negative) {
    v128_t largest = wasm_i32x4_const_splat(0), below = largest;
    std::ptrdiff_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const v128_t v = wasm_v128_load(x + i);
        largest = wasm_i32x4_max(largest, wasm_f32x4_abs(v));
        below = wasm_v128_or(below, wasm_f32x4_lt(v, wasm_f32x4_const_splat(0)));
    }
    row_range(x + i, n - i, largest_bits, negative);
    std::uint32_t most[4];
    wasm_v128_store(most, largest);
    for (const std::uint32_t bits : most) *largest_bits = bits > *largest_bits ? bits : *largest_bits;
    *negative |= wasm_v128_any_true(below);
}

// pmax and pmin give their first operand unless the second is larger or smaller: NaN becomes low.
void quantize(const float* x, std::ptrdiff_t n, float inverse, float low, float high, int shift, std::uint8_t* q) {
    const v128_t least = wasm_f32x4_splat(low), most = wasm_f32x4_splat(high), factor = wasm_f32x4_splat(inverse);
    const v128_t up = wasm_i8x16_splat(static_cast<std::int8_t>(shift)), bytes = wasm_i32x4_const_splat(255);
    std::ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) {
        v128_t level[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
            const v128_t v = wasm_f32x4_nearest(wasm_f32x4_mul(wasm_v128_load(x + i + 4 * k), factor));
            const v128_t clipped = wasm_f32x4_pmin(wasm_f32x4_pmax(least, v), most);
            level[k] = wasm_v128_and(wasm_i32x4_trunc_sat_f32x4(clipped), bytes);
        }
        const v128_t first = wasm_u16x8_narrow_i32x4(level[0], level[1]), last = wasm_u16x8_narrow_i32x4(level[2], level[3]);
        wasm_v128_store(q + i, wasm_i8x16_add(wasm_u8x16_narrow_i16x8(first, last), up));
    }
    row_quantize(x + i, n - i, inverse, low, high, shift, q + i);
}

}  // namespace
}  // namespace onebit
