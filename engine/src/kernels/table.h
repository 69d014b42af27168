// What an instruction set's table holds where it has nothing better of its own: the plain loops, compiled with the set's flags. Tables are made by
// the compiler: code that ran before main would run on every CPU, with instructions that these files may use and most lack.
#pragma once

#include "attention.h"
#include "bits.h"
#include "kernels.h"
#include "rows.h"

namespace onebit {
namespace {

// Without name, text, needs, layout and products.
template <class Layout>
constexpr Kernels shared_kernels() {
    Kernels k{};
    k.rows_at_once = 24;
    k.expand_int8 = expand_rows;
    k.lay_out = Layout::lay_out;
    k.expand_bits_int8 = expand_bits_int8<Layout>;
    k.expand_bits_float = expand_bits_float<Layout>;
    k.least_image_gain = k.least_run_gain = never;
    k.most_image_positions = image_positions;
    k.least_divided = 320'000;
    k.finish_int8 = row_finish_int8;
    k.finish_float = row_finish_float;
    k.finish_rows_int8 = rows_finish_int8;
    k.pool = rows_pool;
    k.range = row_range;
    k.quantize = row_quantize;
    k.normalize = row_normalize;
    k.scale_shift = rows_scale_shift;
    k.scale = row_scale;
#define UNARY(name, formula) k.name = row_##name;
#include "unary.def"
#undef UNARY
    k.clip = row_clip;
    k.prelu = rows_prelu;
    k.mean_magnitude = row_mean_magnitude;
    k.softmax = row_softmax;
    k.multiply = row_multiply;
    k.add = row_add;
    k.maximum = row_maximum;
    k.attend = attend_head<float>;
    k.attend_bf16 = attend_head<std::uint16_t>;
    k.attend_int8 = attend_head<std::int8_t>;
    return k;
}

}  // namespace
}  // namespace onebit
