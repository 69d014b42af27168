// The default entries of an instruction set's table: the plain loops, compiled with the set's flags. The compiler makes the tables: code that runs
// before main would run on every CPU, with instructions that many CPUs lack.
#pragma once

#include "attention.h"
#include "bits.h"
#include "depthwise.h"
#include "grouped.h"
#include "kernels.h"
#include "powers.h"
#include "rows.h"

namespace onebit {
namespace {

// Of the sets that look up sums of four inputs. The tables of a chunk take 4 KB.
template <class Layout>
constexpr BitLayout look_ups_layout(int tile_units, int prepared_bytes) {
    return {.name = "8 inputs of each output side by side, tables of sums",
            .unit_outputs = Layout::unit_outputs,
            .step_inputs = Layout::step_inputs,
            .tile_units = tile_units,
            .chunk_steps = 32,
            .prepared_bytes = prepared_bytes,
            .most_inputs = std::int64_t{1} << 24,
            .most_rows = any_rows};
}

// Without name, text, needs, layout and products.
template <class Layout>
constexpr Kernels shared_kernels() {
    Kernels k{};
    k.gemm.rows_at_once = 24;
    k.gemm.expand_int8 = expand_rows;
    k.gemv.lay_out = Layout::lay_out;
    k.gemv.read_row = Layout::read_row;
    k.gemm.expand_bits_int8 = expand_bits_int8<Layout>;
    k.gemm.expand_bits_float = expand_bits_float<Layout>;
    k.conv.least_gain = k.conv.least_run_gain = never;
    k.conv.most_positions = image_positions;
    k.gemv.least_divided = 320'000;
    k.rows.epilogue_int8 = row_finish_int8;
    k.rows.epilogue_float = row_finish_float;
    k.rows.epilogue_rows_int8 = rows_finish_int8;
    k.rows.pool = rows_pool;
    k.rows.range = row_range;
    k.rows.quantize = row_quantize;
    k.rows.normalize = row_normalize;
    k.rows.rms_normalize = row_rms_normalize;
    k.rows.rotate = row_rotate;
    k.rows.sum = lane_sum;
    k.rows.squares = lane_squares;
    k.rows.inverse_deviation = inverse_deviation;
    k.rows.center = row_center;
    k.rows.scale_shift = rows_scale_shift;
    k.rows.scale = row_scale;
#define UNARY(name, formula) k.rows.name = row_##name;
#include "unary.def"
#undef UNARY
    k.rows.clip = row_clip;
    k.rows.prelu = rows_prelu;
    k.rows.mean_magnitude = row_mean_magnitude;
    k.rows.add_to_doubles = row_add_to_doubles;
    k.rows.softmax = row_softmax;
    k.rows.multiply = row_multiply;
    k.rows.add = row_add;
    k.rows.maximum = row_maximum;
    k.rows.depthwise_int8 = depthwise_int8;
    k.rows.depthwise_float = depthwise_float;
    k.rows.largest = row_largest;
    k.rows.powers = row_powers;
    k.grouped.accumulate = accumulate_group;
    k.grouped.product_bytes = product_bytes;
    k.attention.float32 = attend_head<float>;
    k.attention.bf16 = attend_head<std::uint16_t>;
    k.attention.int8 = attend_head<std::int8_t>;
    return k;
}

}  // namespace
}  // namespace onebit
