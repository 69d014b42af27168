// The specification of every kernel, in plain C++.
#include "rows.h"

namespace onebit {
namespace {

template <class Input, class Weight, class Sum, int group>
void product(const Input* const* rows, int count, const Segments& s, const Weight* panel, int blocks, Sum* out, std::ptrdiff_t out_stride) {
    const int width = block_outputs * blocks;
    for (int r = 0; r < count; ++r) {
        Sum* sums = out + r * out_stride;
        for (int o = 0; o < width; ++o) sums[o] = 0;
        const Weight* w = panel;
        for (int segment = 0; segment < s.segments; ++segment) {
            const Input* x = rows[r] + s.offsets[segment];
            for (int k = 0; k < s.length; k += group, w += width * group) {
                for (int o = 0; o < width; ++o) {
                    for (int i = 0; i < group; ++i) sums[o] += static_cast<Sum>(x[k + i]) * static_cast<Sum>(w[o * group + i]);
                }
            }
        }
    }
}

void product_bits(const std::uint8_t* tile, const std::int8_t* x, std::int64_t groups, std::int32_t* out) {
    for (int o = 0; o < tile_outputs; ++o) {
        std::int32_t sum = 0;
        for (std::int64_t k = 0; k < groups * int8_group; ++k) {
            const std::uint8_t byte = tile[k / int8_group * tile_group_bytes + o % block_outputs * int8_group + k % int8_group];
            sum += (byte >> (o / block_outputs) & 1) != 0 ? x[k] : 0;
        }
        out[o] = sum;
    }
}

}  // namespace

const Kernels scalar_kernels = {
    "scalar",
    "plain C++, the specification of all others",
    0,
    24,
    expand_rows,
    product<std::uint8_t, std::int8_t, std::int32_t, int8_group>,
    product<float, float, float, 1>,
    product_bits,
    expand_tile_int8_rows,
    expand_tile_float_rows,
    row_finish_int8,
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

}  // namespace onebit
