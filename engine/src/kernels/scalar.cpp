// The specification of every kernel, in plain C++.
#include "table.h"
#include "whole_attention.h"

namespace onebit {
namespace {

void product_int8(const std::uint8_t* const* rows, int count, const Segments& s, const std::int8_t* panel, int blocks, std::int32_t* out,
                  std::ptrdiff_t out_stride) {
    const int width = block_outputs * blocks;
    for (int r = 0; r < count; ++r) {
        std::int32_t* sums = out + r * out_stride;
        for (int o = 0; o < width; ++o) sums[o] = 0;
        const std::int8_t* w = panel;
        for (int segment = 0; segment < s.segments; ++segment) {
            const std::uint8_t* x = rows[r] + s.offsets[segment];
            for (int k = 0; k < s.length; k += int8_group, w += width * int8_group) {
                for (int o = 0; o < width; ++o) {
                    for (int i = 0; i < int8_group; ++i) sums[o] += std::int32_t{x[k + i]} * w[o * int8_group + i];
                }
            }
        }
    }
}

// Add the product of one input after the other to the sums of all outputs.
void product_float(const float* const* rows, int count, const Segments& s, const float* panel, int blocks, float* out, std::ptrdiff_t out_stride) {
    const int width = block_outputs * blocks;
    for (int r = 0; r < count; ++r) {
        float* sums = out + r * out_stride;
        for (int o = 0; o < width; ++o) sums[o] = 0;
        const float* w = panel;
        for (int segment = 0; segment < s.segments; ++segment) {
            const float* x = rows[r] + s.offsets[segment];
            for (int k = 0; k < s.length; ++k, w += width) {
                for (int o = 0; o < width; o += register_lanes) store_lanes(fused(load_lanes(w + o), x[k], load_lanes(sums + o)), sums + o);
            }
        }
    }
}

using Layout = Columns<16>;

void prepare_bits(const std::int8_t* x, std::int64_t steps, std::uint8_t* prepared) {
    std::memcpy(prepared, x, static_cast<std::size_t>(steps) * Layout::step_inputs);
}

void product_bits(const std::uint8_t* units, std::ptrdiff_t step_stride, int count, const std::uint8_t* prepared, std::int64_t steps, bool add,
                  std::int32_t* out) {
    for (int o = 0; o < count * Layout::unit_outputs; ++o) {
        std::int32_t sum = add ? out[o] : 0;
        for (std::int64_t s = 0; s < steps; ++s) {
            std::uint16_t bits;
            std::memcpy(&bits, units + s * step_stride + o * 2, 2);
            for (int i = 0; i < 16; ++i) sum += (bits >> i & 1) != 0 ? static_cast<std::int8_t>(prepared[s * 16 + i]) : 0;
        }
        out[o] = sum;
    }
}

void prepare_pixels(const std::int8_t* x, std::ptrdiff_t stride, std::int64_t pixels, std::uint8_t* prepared) {
    for (std::int64_t i = 0; i < pixels; ++i) std::memcpy(prepared + i * Layout::step_inputs, x + i * stride, Layout::step_inputs);
}

void product_image(const ConvArgs& args) {
    const auto& [tile, step_stride, units, prepared, position_stride, positions, offsets, steps, first, out, out_stride] = args;
    for (int p = 0; p < positions; ++p) {
        for (int o = 0; o < units * Layout::unit_outputs; ++o) {
            std::int32_t sum = first ? 0 : out[p * out_stride + o];
            for (int s = 0; s < steps; ++s) {
                std::uint16_t bits;
                std::memcpy(&bits, tile + s * step_stride + o * 2, 2);
                const std::uint8_t* x = prepared + p * position_stride + offsets[s];
                for (int i = 0; i < 16; ++i) sum += (bits >> i & 1) != 0 ? static_cast<std::int8_t>(x[i]) : 0;
            }
            out[p * out_stride + o] = sum;
        }
    }
}

constexpr Kernels table() {
    Kernels k = shared_kernels<Layout>();
    k.gemv.layout = {.name = "16 inputs of each output side by side",
                     .unit_outputs = Layout::unit_outputs,
                     .step_inputs = Layout::step_inputs,
                     .tile_units = 8,
                     .chunk_steps = all_steps,
                     .prepared_bytes = Layout::step_inputs,
                     .most_inputs = std::int64_t{1} << 24,
                     .most_rows = 4};
    k.gemm.product_int8 = product_int8;
    k.gemm.product_float = product_float;
    k.gemv.prepare = prepare_bits;
    k.gemv.product = product_bits;
    k.conv.prepare = prepare_pixels;
    k.conv.product = product_image;
    k.attention.float32 = attend_one_by_one<float>;
    k.attention.bf16 = attend_one_by_one<std::uint16_t>;
    k.attention.int8 = attend_whole_plain;
    return k;
}

}  // namespace

constinit const Kernels scalar_kernels = named_scalar(table());

}  // namespace onebit
