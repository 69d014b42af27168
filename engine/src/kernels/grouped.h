// Products of weights that have a scale for each group of inputs: plain loops, compiled once for each instruction set. Internal linkage, as in
// rows.h.
#pragma once

#include "rows.h"

namespace onebit {
namespace {

// Float16 numbers, which are finite, as floats: exact, numbers without a leading one too.
[[gnu::always_inline]] inline Lanes load_halves(const std::uint16_t* from) {
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__ARM_NEON)
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
#else
    typedef std::uint16_t HalfWords __attribute__((vector_size(2 * register_lanes)));
    HalfWords halves;
    std::memcpy(&halves, from, sizeof halves);
    const Words words = __builtin_convertvector(halves, Words);
    // The exponent of a float16 counts from 15, that of a float from 127.
    const Words magnitude = (words & 0x7FFFu) << 13, sign = (words & 0x8000u) << 16;
    const Lanes number = reinterpret_cast<Lanes>(magnitude) * 0x1p112f;
    return reinterpret_cast<Lanes>(reinterpret_cast<Words>(number) | sign);
#endif
}

[[gnu::always_inline]] inline Integers load_integers(const std::int32_t* from) {
    Integers to;
    std::memcpy(&to, from, sizeof to);
    return to;
}

// `sum_at(i)`: the sums over the planes of the outputs from i on.
template <class SumAt>
[[gnu::always_inline]] inline void accumulate_sums(const GroupSums& group, const SumAt& sum_at) {
    const Lanes scale = broadcast(group.scale);
    float* out = group.out;
    std::ptrdiff_t i = 0;
    for (int u = 0; u < group.units; ++u) {
        const std::uint16_t* scales = group.scales + u * group.scale_stride;
        for (int o = 0; o < group.unit_outputs; o += register_lanes, i += register_lanes) {
            const Integers sum = sum_at(i) * group.times - group.taken_off;
            const Lanes number = __builtin_convertvector(sum, Lanes) * scale;
            store_lanes(fused(load_halves(scales + o), number, group.first ? Lanes{} : load_lanes(out + i)), out + i);
        }
    }
}

void accumulate_group(const GroupSums& group) {
    const std::int32_t* sums = group.sums;
    if (group.plane_count == 1 && group.planes[0] == 1) {
        return accumulate_sums(group, [&](std::ptrdiff_t i) { return load_integers(sums + i); });
    }
    accumulate_sums(group, [&](std::ptrdiff_t i) {
        Integers all = load_integers(sums + i) * group.planes[0];
        for (int p = 1; p < group.plane_count; ++p) all += load_integers(sums + i + p * group.plane_stride) * group.planes[p];
        return all;
    });
}

// One of the rows of a product.
[[gnu::always_inline]] inline ByteProduct one_row(const ByteProduct& product, std::int64_t row) {
    ByteProduct one = product;
    one.x += row * product.groups * product.group;
    one.x_scales += row * product.groups;
    one.x_totals += row * product.groups;
    one.out += row * product.out_stride;
    one.rows = 1;
    return one;
}

void product_bytes_of_row(const ByteProduct& product) {
    float sums[byte_panel_outputs] = {};
    const std::uint8_t* w = product.weights;
    const std::int8_t* x = product.x;
    for (std::int64_t g = 0; g < product.groups; ++g) {
        std::int32_t of_group[byte_panel_outputs];
        for (std::int32_t& sum : of_group) sum = 0;
        for (std::int64_t i = 0; i < product.group; i += 4, x += 4, w += 4 * byte_panel_outputs) {
            for (int o = 0; o < byte_panel_outputs; ++o) {
                for (int j = 0; j < 4; ++j) of_group[o] += std::int32_t{w[4 * o + j]} * x[j];
            }
        }
        GroupSums group{};
        group.times = 1, group.taken_off = 128 * product.x_totals[g];
        group.scale = product.x_scales[g];
        group.scales = product.scales + g * byte_panel_outputs;
        group.units = 1, group.unit_outputs = byte_panel_outputs;
        group.first = g == 0;
        group.out = sums;
        accumulate_sums(group, [&](std::ptrdiff_t i) { return load_integers(of_group + i); });
    }
    std::memcpy(product.out, sums, sizeof sums);
}

void product_bytes(const ByteProduct& product) {
    for (std::int64_t r = 0; r < product.rows; ++r) product_bytes_of_row(one_row(product, r));
}

}  // namespace
}  // namespace onebit
