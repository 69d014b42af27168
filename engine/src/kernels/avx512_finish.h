// What happens to sums before they are stored, with AVX-512: scaling, bias, normalisation, ReLU. A part of avx512.cpp; rows.h has the plain loops.
#pragma once

#include <immintrin.h>

#include <cmath>

#include "rows.h"

namespace onebit {
namespace {

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

// The same of longer rows, in three passes over y; four sums at a time, so that no addition waits for the one before.
void finish_passes(const std::int32_t* sums, float scale, int outputs, const Epilogue& e, float* y) {
    constexpr int chains = 4;
    const __m512 factor = _mm512_set1_ps(scale), zero = _mm512_setzero_ps();
    // The sum of f(i) over all i that begin a register of outputs.
    const auto total = [&](const auto& f) {
        __m512 part[chains] = {zero, zero, zero, zero};
        int i = 0;
        for (; i + 16 * chains <= outputs; i += 16 * chains) {
#pragma GCC unroll 4
            for (int c = 0; c < chains; ++c) part[c] = _mm512_add_ps(part[c], f(i + 16 * c));
        }
        for (; i < outputs; i += 16) part[0] = _mm512_add_ps(part[0], f(i));
        return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(part[0], part[1]), _mm512_add_ps(part[2], part[3])));
    };
    const float sum = total([&](int i) {
        __m512i own = _mm512_loadu_si512(sums + i);
        if (e.offset != nullptr) own = _mm512_sub_epi32(own, _mm512_loadu_si512(e.offset + i));
        const __m512 v = _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(own), _mm512_loadu_ps(e.bias + i));
        _mm512_storeu_ps(y + i, v);
        return v;
    });
    if (e.norm == Epilogue::Norm::none && !e.relu) return;
    __m512 mean = zero, inverse = _mm512_set1_ps(1);
    if (e.norm == Epilogue::Norm::channel) {
        mean = _mm512_set1_ps(sum / static_cast<float>(outputs));
        const float squares = total([&](int i) {
            const __m512 v = _mm512_sub_ps(_mm512_loadu_ps(y + i), mean);
            return _mm512_mul_ps(v, v);
        });
        inverse = _mm512_set1_ps(1.0f / std::sqrt(squares / static_cast<float>(outputs) + e.eps));
    }
    for (int i = 0; i < outputs; i += 16) {
        __m512 v = _mm512_loadu_ps(y + i);
        if (e.norm == Epilogue::Norm::affine) {
            v = _mm512_fmadd_ps(v, _mm512_loadu_ps(e.scale + i), _mm512_loadu_ps(e.shift + i));
        } else {
            v = _mm512_mul_ps(_mm512_sub_ps(v, mean), inverse);
        }
        if (e.relu) v = _mm512_max_ps(zero, v);
        _mm512_storeu_ps(y + i, v);
    }
}

void finish_int8(const std::int32_t* sums, float scale, int outputs, const Epilogue& e, float* y) {
    // Beyond, sums of floats lose digits that the plain loops keep.
    constexpr int longest = 4096;
    switch (outputs) {
        case 16: return finish_registers<1>(sums, scale, e, y);
        case 32: return finish_registers<2>(sums, scale, e, y);
        case 48: return finish_registers<3>(sums, scale, e, y);
        case 64: return finish_registers<4>(sums, scale, e, y);
        case 96: return finish_registers<6>(sums, scale, e, y);
        case 128: return finish_registers<8>(sums, scale, e, y);
        case 192: return finish_registers<12>(sums, scale, e, y);
        case 256: return finish_registers<16>(sums, scale, e, y);
        default: break;
    }
    if (outputs % 16 == 0 && outputs <= longest) return finish_passes(sums, scale, outputs, e, y);
    row_finish_int8(sums, scale, outputs, e, y);
}

// Lane i has the sum of the lanes of v[i].
[[gnu::always_inline]] inline __m512 lane_sums(const __m512* v) {
    __m512 t[8], u[4];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) t[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i + 8], 0x44), _mm512_shuffle_f32x4(v[i], v[i + 8], 0xEE));
    // In quarters: those of rows i and of i + 8, then of i, i + 8, i + 4 and i + 12.
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) u[i] = _mm512_add_ps(_mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), _mm512_shuffle_f32x4(t[i], t[i + 4], 0xDD));
    const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(u[0], u[1]), _mm512_unpackhi_ps(u[0], u[1]));
    const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(u[2], u[3]), _mm512_unpackhi_ps(u[2], u[3]));
    const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE));
    return _mm512_shuffle_f32x4(sums, sums, 0xD8);
}

// Sixteen rows at once: adding up lanes, roots and divisions cost as much for sixteen rows as for one. `blocks`: of 16 outputs, or 0 for any number.
template <int fixed_blocks>
void finish_sixteen(const std::int32_t* sums, std::ptrdiff_t sum_stride, int rows, float scale, int outputs, const Epilogue& e, float* y) {
    const int blocks = fixed_blocks != 0 ? fixed_blocks : outputs / 16;
    const __m512 share = _mm512_set1_ps(1.0f / static_cast<float>(outputs)), factor = _mm512_set1_ps(scale);
    __m512 totals[16];
    for (int r = 0; r < 16; ++r) totals[r] = _mm512_setzero_ps();
    for (int r = 0; r < rows; ++r) {
        __m512 total = _mm512_setzero_ps();
        for (int b = 0; b < blocks; ++b) {
            __m512i sum = _mm512_loadu_si512(sums + r * sum_stride + b * 16);
            if (e.offset != nullptr) sum = _mm512_sub_epi32(sum, _mm512_loadu_si512(e.offset + b * 16));
            const __m512 v = _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(sum), _mm512_loadu_ps(e.bias + b * 16));
            _mm512_storeu_ps(y + r * outputs + b * 16, v);
            total = _mm512_add_ps(total, v);
        }
        totals[r] = total;
    }
    alignas(64) float mean[16], inverse[16];
    _mm512_store_ps(mean, _mm512_mul_ps(lane_sums(totals), share));
    for (int r = 0; r < rows; ++r) {
        __m512 squares = _mm512_setzero_ps();
        for (int b = 0; b < blocks; ++b) {
            const __m512 v = _mm512_sub_ps(_mm512_loadu_ps(y + r * outputs + b * 16), _mm512_set1_ps(mean[r]));
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        totals[r] = squares;
    }
    const __m512 variance = _mm512_fmadd_ps(lane_sums(totals), share, _mm512_set1_ps(e.eps));
    _mm512_store_ps(inverse, _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(variance)));
    // The second operand is what the instruction returns for NaN.
    const __m512 least = e.relu ? _mm512_setzero_ps() : _mm512_set1_ps(-INFINITY);
    for (int r = 0; r < rows; ++r) {
        for (int b = 0; b < blocks; ++b) {
            float* to = y + r * outputs + b * 16;
            const __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(to), _mm512_set1_ps(mean[r])), _mm512_set1_ps(inverse[r]));
            _mm512_storeu_ps(to, _mm512_max_ps(least, v));
        }
    }
}

void finish_rows_int8(const std::int32_t* sums, std::ptrdiff_t sum_stride, std::int64_t rows, float scale, int outputs, const Epilogue& e, float* y) {
    const bool sixteen = e.norm == Epilogue::Norm::channel && outputs % 16 == 0;
    for (std::int64_t r = 0; r < rows && !sixteen; ++r) finish_int8(sums + r * sum_stride, scale, outputs, e, y + r * outputs);
    for (std::int64_t r = 0; r < rows && sixteen; r += 16) {
        const auto here = static_cast<int>(rows - r < 16 ? rows - r : 16);
        const std::int32_t* from = sums + r * sum_stride;
        float* to = y + r * outputs;
        switch (outputs) {
            case 32: finish_sixteen<2>(from, sum_stride, here, scale, outputs, e, to); break;
            case 64: finish_sixteen<4>(from, sum_stride, here, scale, outputs, e, to); break;
            default: finish_sixteen<0>(from, sum_stride, here, scale, outputs, e, to);
        }
    }
}

}  // namespace
}  // namespace onebit
