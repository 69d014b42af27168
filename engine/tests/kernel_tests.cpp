// Every instruction set against the scalar one, which is the specification.
#include "kernel_tests.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "bit_matrix.h"
#include "check.h"
#include "cpu.h"
#include "emulated_tiles.h"
#include "program.h"

namespace {

// Weights and 8-bit products of any number of rows, blocks and inputs.
void test_products(const onebit::Kernels& fast) {
    const onebit::Kernels& plain = onebit::scalar_kernels;
    for (int round = 0; round < 300; ++round) {
        const int segments = pick(1, 3), raw = pick(1, 70), blocks = pick(1, 4), rows = pick(1, blocks * 16), count = pick(1, onebit::max_rows);
        const int length = (raw + 3) / 4 * 4, width = blocks * 16;
        const auto row_bytes = static_cast<std::ptrdiff_t>(onebit::row_bytes(segments * raw));
        std::vector<std::uint8_t> bits(static_cast<std::size_t>(row_bytes * rows + onebit::slack_bytes));
        for (auto& byte : bits) byte = static_cast<std::uint8_t>(pick(0, 255));
        const std::size_t weights = static_cast<std::size_t>(segments * length * width);
        std::vector<std::int8_t> panel(weights, 99), expected_panel(weights, 99);
        const bool plus_minus = pick(0, 1) == 1;
        const onebit::ExpandArgs to_expand{bits.data(), row_bytes, rows, blocks, segments, raw, length, plus_minus};
        plain.gemm.expand_int8(to_expand, expected_panel.data());
        fast.gemm.expand_int8(to_expand, panel.data());
        CHECK(panel == expected_panel);

        std::vector<std::ptrdiff_t> offsets;
        for (int s = 0; s < segments; ++s) offsets.push_back(s * raw);
        std::vector<std::uint8_t> inputs(static_cast<std::size_t>(count * segments * raw + onebit::slack_bytes));
        for (auto& byte : inputs) byte = static_cast<std::uint8_t>(pick(0, 255));
        std::vector<const std::uint8_t*> pointers;
        for (int r = 0; r < count; ++r) pointers.push_back(inputs.data() + r * segments * raw);
        const onebit::Segments layout{offsets.data(), segments, length};
        std::vector<std::int32_t> sums(static_cast<std::size_t>(count * width)), expected(sums.size());
        plain.gemm.product_int8(pointers.data(), count, layout, panel.data(), blocks, expected.data(), width);
        fast.gemm.product_int8(pointers.data(), count, layout, panel.data(), blocks, sums.data(), width);
        CHECK(sums == expected);
    }
}

// Float products: one rounding per input, in the order of the inputs, whatever the neighbouring rows.
void test_float_products(const onebit::Kernels& fast) {
    for (int round = 0; round < 60; ++round) {
        const int segments = pick(1, 3), length = pick(1, 70), blocks = pick(1, 4), count = pick(1, onebit::max_rows), width = blocks * 16;
        const int inputs = segments * length;
        std::vector<std::ptrdiff_t> offsets;
        for (int s = 0; s < segments; ++s) offsets.push_back(s * length);
        std::vector<float> x(static_cast<std::size_t>(count * inputs)), w(static_cast<std::size_t>(inputs * width));
        for (auto& v : x) v = std::ldexp(pick_float(), pick(-30, 30));
        for (auto& v : w) v = pick_float();
        if (round % 10 == 9) x[0] = 3e38f, x.back() = std::nanf("");
        std::vector<const float*> rows;
        for (int r = 0; r < count; ++r) rows.push_back(x.data() + r * inputs);
        std::vector<float> y(static_cast<std::size_t>(count * width));
        fast.gemm.product_float(rows.data(), count, {offsets.data(), segments, length}, w.data(), blocks, y.data(), width);
        for (int r = 0; r < count; ++r) {
            for (int o = 0; o < width; ++o) {
                float sum = 0;
                for (int k = 0; k < inputs; ++k)
                    sum = std::fma(rows[static_cast<std::size_t>(r)][k], w[static_cast<std::size_t>(k * width + o)], sum);
                CHECK(identical(y[static_cast<std::size_t>(r * width + o)], sum));
            }
        }
    }
}

// Segments as convolutions have them, and rows that lie as the positions of an image do: evenly but where a line ends, or nowhere near each
// other. All memory has its exact size, so that the sanitizer sees what is read beyond the slack.
void test_rows_of_images(const onebit::Kernels& fast) {
    const onebit::Kernels& plain = onebit::scalar_kernels;
    for (const int raw : {3, 9, 27, 28, 48, 64, 68, 96, 192, 288, 576}) {
        for (int round = 0; round < 16; ++round) {
            const int segments = pick(0, 1) == 0 ? 1 : 3, blocks = round % 4 + 1, width = blocks * 16, stride = width + pick(0, 20);
            const int counts[] = {1, 2, 15, 16, 17, 18, 31, 32}, count = counts[pick(0, 7)];
            const int length = (raw + 3) / 4 * 4, line = pick(1, 40), channels = pick(1, raw);
            const auto row_bytes = static_cast<std::ptrdiff_t>(onebit::row_bytes(segments * raw));
            std::vector<std::uint8_t> bits(static_cast<std::size_t>(row_bytes * width + onebit::slack_bytes));
            for (auto& byte : bits) byte = static_cast<std::uint8_t>(pick(0, 255));
            std::vector<std::int8_t> panel(static_cast<std::size_t>(segments * length * width));
            plain.gemm.expand_int8({bits.data(), row_bytes, width, blocks, segments, raw, length, pick(0, 1) == 1}, panel.data());

            // A position's inputs end `reach` bytes after its first.
            const int line_bytes = (line - 1) * channels + raw, first_position = pick(0, line - 1);
            std::vector<std::ptrdiff_t> offsets;
            for (int s = 0; s < segments; ++s) offsets.push_back(s * line_bytes);
            const auto reach = static_cast<std::size_t>(offsets.back() + raw);
            std::vector<std::vector<std::uint8_t>> memory;
            std::vector<const std::uint8_t*> rows;
            const auto take = [&](std::size_t bytes) {
                memory.emplace_back(bytes + onebit::slack_bytes);
                for (auto& byte : memory.back()) byte = static_cast<std::uint8_t>(pick(0, 255));
            };
            if (round < 8) {
                const auto start = [&](int r) { return (first_position + r) / line * line_bytes + (first_position + r) % line * channels; };
                take(static_cast<std::size_t>(start(count - 1)) + reach);
                for (int r = 0; r < count; ++r) rows.push_back(memory[0].data() + start(r));
            } else {
                for (int r = 0; r < count; ++r) take(reach);
                for (int r = 0; r < count; ++r) rows.push_back(memory[static_cast<std::size_t>(count - 1 - r)].data());
            }
            const onebit::Segments layout{offsets.data(), segments, length};
            // Between the rows of sums there is space that must not be touched.
            std::vector<std::int32_t> sums(static_cast<std::size_t>((count - 1) * stride + width), 77), expected(sums);
            plain.gemm.product_int8(rows.data(), count, layout, panel.data(), blocks, expected.data(), stride);
            fast.gemm.product_int8(rows.data(), count, layout, panel.data(), blocks, sums.data(), stride);
            CHECK(sums == expected);
        }
    }
}

// Products that read bits, of any number of inputs and outputs and with every level, against sums over the rows of bits as a file holds them; and the
// same bits expanded to panels.
void test_bits(const onebit::Kernels& fast) {
    const onebit::BitLayout& layout = fast.gemv.layout;
    CHECK(layout.unit_outputs * layout.step_inputs == 8 * onebit::unit_step_bytes);
    for (int round = 0; round < 150; ++round) {
        const int inputs = round < 100 ? round + 1 : pick(100, 1500), count = pick(1, layout.tile_units), first = pick(0, count - 1);
        const int outputs = count * layout.unit_outputs, steps = (inputs + layout.step_inputs - 1) / layout.step_inputs;
        const auto row_bytes = onebit::row_bytes(inputs);
        const auto whole = static_cast<std::size_t>(steps * layout.step_inputs);
        std::vector<std::uint8_t> rows(static_cast<std::size_t>(row_bytes * outputs), 0);
        const auto bit = [&](int o, int i) { return rows[static_cast<std::size_t>(o * row_bytes + i / 8)] >> (i % 8) & 1; };
        for (int o = 0; o < outputs; ++o) {
            for (int i = 0; i < inputs; ++i) {
                if (round % 9 == 0 || pick(0, 1) == 1)
                    rows[static_cast<std::size_t>(o * row_bytes + i / 8)] |= static_cast<std::uint8_t>(1 << (i % 8));
            }
        }
        // If all outputs of a unit have rows, the layout fills it.
        std::vector<std::uint8_t> tile(static_cast<std::size_t>(count * steps * onebit::unit_step_bytes), 99);
        const std::ptrdiff_t stride = std::ptrdiff_t{count} * onebit::unit_step_bytes;
        for (int u = 0; u < count; ++u) {
            fast.gemv.lay_out(rows.data() + u * layout.unit_outputs * row_bytes, row_bytes, layout.unit_outputs, inputs,
                              tile.data() + u * onebit::unit_step_bytes, stride);
        }
        std::vector<std::int8_t> x(whole, 0);
        for (int i = 0; i < inputs; ++i)
            x[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(round % 7 == 0 ? -128 : round % 5 == 0 ? 127 : pick(-128, 127));
        std::vector<std::int32_t> expected(static_cast<std::size_t>(outputs), 0);
        std::int32_t total = 0;
        for (int i = 0; i < inputs; ++i) total += x[static_cast<std::size_t>(i)];
        for (int o = 0; o < outputs; ++o) {
            for (int i = 0; i < inputs; ++i) expected[static_cast<std::size_t>(o)] += bit(o, i) != 0 ? x[static_cast<std::size_t>(i)] : 0;
        }
        std::vector<std::uint8_t> prepared(static_cast<std::size_t>(steps * layout.prepared_bytes));
        fast.gemv.prepare(x.data(), steps, prepared.data());
        // All units of the tile, and some of them as a thread takes them.
        std::vector<std::int32_t> sums(static_cast<std::size_t>(outputs)), some(static_cast<std::size_t>((count - first) * layout.unit_outputs));
        fast.gemv.product(tile.data(), stride, count, prepared.data(), steps, false, sums.data());
        CHECK(sums == expected);
        fast.gemv.product(tile.data(), stride, count, prepared.data(), steps, true, sums.data());
        for (std::size_t o = 0; o < sums.size(); ++o) CHECK(sums[o] == 2 * expected[o]);
        fast.gemv.product(tile.data() + first * onebit::unit_step_bytes, stride, count - first, prepared.data(), steps, false, some.data());
        CHECK(std::equal(some.begin(), some.end(), expected.begin() + first * layout.unit_outputs));
        // The panel is what the products with many rows take: its sums must be the same.
        const int all_blocks = outputs / onebit::block_outputs;
        const int blocks = pick(1, std::min(onebit::max_blocks, all_blocks)), first_block = pick(0, all_blocks - blocks), width = 16 * blocks;
        std::vector<std::int8_t> panel(whole * static_cast<std::size_t>(width));
        fast.gemm.expand_bits_int8(tile.data(), stride, steps, first_block, blocks, panel.data());
        std::vector<float> floats(panel.size());
        fast.gemm.expand_bits_float(tile.data(), stride, steps, first_block, blocks, round % 2 == 0, floats.data());
        for (int o = 0; o < width; ++o) {
            std::int32_t sum = 0, float_sum = 0;
            for (int k = 0; k < inputs; ++k) {
                const auto input = static_cast<std::int32_t>(x[static_cast<std::size_t>(k)]);
                sum += panel[static_cast<std::size_t>((k / 4 * width + o) * 4 + k % 4)] * input;
                float_sum += static_cast<std::int32_t>(floats[static_cast<std::size_t>(k * width + o)]) * input;
            }
            const std::int32_t wanted = expected[static_cast<std::size_t>(16 * first_block + o)];
            CHECK(sum == wanted);
            CHECK(float_sum == (round % 2 == 0 ? 2 * wanted - total : wanted));
        }
    }
}

// Products of images with bits: any number of positions, units and steps, overlapping as taps of a kernel do, with every level, against plain sums.
void test_image_products(const onebit::Kernels& fast) {
    if (fast.conv.product == nullptr) return;
    const onebit::BitLayout& layout = fast.gemv.layout;
    for (int round = 0; round < 400; ++round) {
        const int positions = round % fast.conv.most_positions + 1, units = pick(1, onebit::image_units), steps = pick(1, onebit::image_steps);
        const int stride = pick(1, 2), pixels = pick(20, 40) + positions * stride, outputs = units * layout.unit_outputs, gap = pick(0, 20),
                  channels = 16 * pick(1, 3);
        const int inputs = steps * layout.step_inputs, group = pick(0, channels / 16 - 1);
        const auto row_bytes = onebit::row_bytes(inputs);
        std::vector<std::uint8_t> rows(static_cast<std::size_t>(row_bytes * outputs), 0);
        for (int o = 0; o < outputs; ++o) {
            for (int i = 0; i < inputs; ++i) {
                if (round % 9 == 0 || pick(0, 1) == 1)
                    rows[static_cast<std::size_t>(o * row_bytes + i / 8)] |= static_cast<std::uint8_t>(1 << (i % 8));
            }
        }
        std::vector<std::uint8_t> tile(static_cast<std::size_t>(units * steps * onebit::unit_step_bytes), 0);
        for (int u = 0; u < units; ++u) {
            fast.gemv.lay_out(rows.data() + u * layout.unit_outputs * row_bytes, row_bytes, layout.unit_outputs, inputs,
                              tile.data() + u * onebit::unit_step_bytes, std::ptrdiff_t{units} * onebit::unit_step_bytes);
        }
        std::vector<std::int8_t> x(static_cast<std::size_t>(pixels * channels));
        for (auto& v : x) v = static_cast<std::int8_t>(round % 7 == 0 ? -128 : round % 5 == 0 ? 127 : pick(-128, 127));
        // Only what the channels of these pixels have may be read.
        const std::vector<std::int8_t> exact(x.begin() + group * 16, x.begin() + (pixels - 1) * channels + group * 16 + 16);
        std::vector<std::uint8_t> prepared(static_cast<std::size_t>(pixels * layout.prepared_bytes));
        fast.conv.prepare(exact.data(), channels, pixels, prepared.data());
        std::vector<int> pixel_of_step;
        std::vector<std::int32_t> offsets;
        for (int s = 0; s < steps; ++s) {
            pixel_of_step.push_back(pick(0, pixels - 1 - (positions - 1) * stride));
            offsets.push_back(pixel_of_step.back() * layout.prepared_bytes);
        }
        const int out_stride = outputs + gap;
        std::vector<std::int32_t> sums(static_cast<std::size_t>((positions - 1) * out_stride + outputs), 1000), expected(sums);
        const bool first = pick(0, 1) == 1;
        for (int p = 0; p < positions; ++p) {
            for (int o = 0; o < outputs; ++o) {
                std::int32_t& sum = expected[static_cast<std::size_t>(p * out_stride + o)];
                if (first) sum = 0;
                for (int i = 0; i < inputs; ++i) {
                    const bool set = (rows[static_cast<std::size_t>(o * row_bytes + i / 8)] >> (i % 8) & 1) != 0;
                    const int pixel = pixel_of_step[static_cast<std::size_t>(i / 16)] + p * stride;
                    if (set) sum += x[static_cast<std::size_t>(pixel * channels + group * 16 + i % 16)];
                }
            }
        }
        fast.conv.product({tile.data(), std::ptrdiff_t{units} * onebit::unit_step_bytes, units, prepared.data(),
                           std::ptrdiff_t{stride} * layout.prepared_bytes, positions, offsets.data(), steps, first, sums.data(), out_stride});
        CHECK(sums == expected);
    }
}

// The largest sums of either sign, over so many inputs that a set which adds in 16 bits must empty them on its way, at times amid a segment.
void test_long_sums(const onebit::Kernels& fast) {
    const onebit::Kernels& plain = onebit::scalar_kernels;
    for (const int length : {4, 476, 480, 484, 508, 512, 1016, 1020, 1024, 1028, 3000}) {
        for (const int segments : {1, 3}) {
            const auto inputs_of_row = static_cast<std::size_t>(segments * length);
            std::vector<std::ptrdiff_t> offsets;
            for (int s = 0; s < segments; ++s) offsets.push_back(s * length);
            const onebit::Segments layout{offsets.data(), segments, length};
            for (const int weight : {-1, 0, 1}) {
                const std::vector<std::int8_t> panel(inputs_of_row * 16, static_cast<std::int8_t>(weight));
                std::vector<std::uint8_t> inputs(7 * inputs_of_row + onebit::slack_bytes, 255);
                std::fill_n(inputs.begin(), 4 * inputs_of_row, std::uint8_t{0});
                std::vector<const std::uint8_t*> rows;
                for (std::size_t r = 0; r < 7; ++r) rows.push_back(inputs.data() + r * inputs_of_row);
                std::vector<std::int32_t> sums(7 * 16), expected(sums.size());
                plain.gemm.product_int8(rows.data(), 7, layout, panel.data(), 1, expected.data(), 16);
                fast.gemm.product_int8(rows.data(), 7, layout, panel.data(), 1, sums.data(), 16);
                CHECK(sums == expected);
            }
        }
        const onebit::BitLayout& bits = fast.gemv.layout;
        const int steps = (length + bits.step_inputs - 1) / bits.step_inputs;
        for (const int level : {-128, 127}) {
            const std::vector<std::uint8_t> unit(static_cast<std::size_t>(steps * onebit::unit_step_bytes), 255);
            std::vector<std::int8_t> x(static_cast<std::size_t>(steps * bits.step_inputs), 0);
            std::fill_n(x.begin(), length, static_cast<std::int8_t>(level));
            std::vector<std::uint8_t> prepared(static_cast<std::size_t>(steps * bits.prepared_bytes));
            fast.gemv.prepare(x.data(), steps, prepared.data());
            std::vector<std::int32_t> sums(static_cast<std::size_t>(bits.unit_outputs));
            fast.gemv.product(unit.data(), onebit::unit_step_bytes, 1, prepared.data(), steps, false, sums.data());
            for (const std::int32_t sum : sums) CHECK(sum == level * length);
        }
    }
}

// A whole layer's bits, of several chunks and tiles, multiplied and expanded in parts.
void test_bit_matrix(const onebit::Kernels& fast) {
    for (int round = 0; round < 12; ++round) {
        const int inputs = pick(1, 2000), outputs = pick(1, 700), rows = pick(1, 14);
        const auto row_bytes = onebit::row_bytes(inputs);
        std::vector<std::uint8_t> stored(static_cast<std::size_t>(row_bytes * outputs), 0);
        for (int o = 0; o < outputs; ++o) {
            for (int i = 0; i < inputs; ++i) {
                if (pick(0, 1) == 1) stored[static_cast<std::size_t>(o * row_bytes + i / 8)] |= static_cast<std::uint8_t>(1 << (i % 8));
            }
        }
        std::vector<std::uint8_t> memory(onebit::BitMatrix::bytes(inputs, outputs, fast), 99);
        const onebit::BitMatrix matrix(fast, stored.data(), inputs, outputs, memory.data());
        std::vector<std::uint8_t> row_of_bits(static_cast<std::size_t>(std::max(matrix.padded_inputs() / 8, row_bytes)), 0);
        for (int o = 0; o < outputs; ++o) {
            matrix.read_row(o, row_of_bits.data());
            CHECK(std::equal(row_of_bits.begin(), row_of_bits.begin() + row_bytes, stored.begin() + o * row_bytes));
        }
        const auto padded = static_cast<std::size_t>(matrix.padded_inputs()), all = static_cast<std::size_t>(matrix.padded_outputs());
        std::vector<std::int8_t> x(padded * static_cast<std::size_t>(rows), 0);
        std::vector<std::uint8_t> prepared(static_cast<std::size_t>(matrix.prepared_bytes() * rows));
        std::vector<std::int32_t> expected(all * static_cast<std::size_t>(rows), 0), sums(expected.size(), -1);
        for (int r = 0; r < rows; ++r) {
            std::int8_t* row = x.data() + static_cast<std::size_t>(r) * padded;
            for (int i = 0; i < inputs; ++i) row[i] = static_cast<std::int8_t>(pick(-128, 127));
            fast.gemv.prepare(row, matrix.steps(), prepared.data() + r * matrix.prepared_bytes());
            for (int o = 0; o < outputs; ++o) {
                for (int i = 0; i < inputs; ++i) {
                    const bool set = (stored[static_cast<std::size_t>(o * row_bytes + i / 8)] >> (i % 8) & 1) != 0;
                    expected[static_cast<std::size_t>(r) * all + static_cast<std::size_t>(o)] += set ? row[i] : 0;
                }
            }
        }
        const std::int64_t middle = pick(0, static_cast<int>(matrix.units()));
        if (fast.gemv.product_float != nullptr) {
            // Small integers: sums of floats are exact too.
            std::vector<float> y(x.begin(), x.begin() + inputs), float_sums(all, -1.0f);
            matrix.multiply(0, middle, y.data(), false, float_sums.data());
            matrix.multiply(middle, matrix.units(), y.data(), false, float_sums.data());
            for (std::size_t o = 0; o < all; ++o) CHECK(float_sums[o] == static_cast<float>(expected[o]));
            matrix.multiply(0, matrix.units(), y.data(), true, float_sums.data());
            float total = 0;
            for (const float v : y) total += v;
            for (std::size_t o = 0; o < all; ++o) CHECK(float_sums[o] == 2 * static_cast<float>(expected[o]) - total);
        }
        matrix.multiply(0, middle, prepared.data(), rows, sums.data(), matrix.padded_outputs());
        matrix.multiply(middle, matrix.units(), prepared.data(), rows, sums.data(), matrix.padded_outputs());
        CHECK(sums == expected);
        const int all_blocks = static_cast<int>(all) / onebit::block_outputs, first = pick(0, (all_blocks - 1) / 4) * 4;
        const int blocks = std::min(all_blocks - first, onebit::max_blocks), width = 16 * blocks;
        std::vector<std::int8_t> panel(padded * static_cast<std::size_t>(width));
        std::vector<float> floats(panel.size());
        matrix.expand(first, blocks, panel.data());
        matrix.expand(first, blocks, false, floats.data());
        for (int o = 0; o < width; ++o) {
            std::int32_t sum = 0, float_sum = 0;
            for (int k = 0; k < inputs; ++k) {
                sum += panel[static_cast<std::size_t>((k / 4 * width + o) * 4 + k % 4)] * x[static_cast<std::size_t>(k)];
                float_sum += static_cast<std::int32_t>(floats[static_cast<std::size_t>(k * width + o)]) * x[static_cast<std::size_t>(k)];
            }
            CHECK(sum == expected[static_cast<std::size_t>(16 * first + o)] && float_sum == sum);
        }
    }
}

// Keys or values of one head as kernels.h lays them out, with the numbers of other heads around them. What is not a token's must not be read into a
// result, so it is NaN where there is one; a scale that is not given is 1.
template <class Stored>
struct Laid {
    std::vector<Stored> numbers;
    std::int64_t block_stride;

    Laid(const std::vector<float>& x, int tokens, int features, bool keys, const std::vector<float>& scales, int heads) {
        constexpr int g = 4 / sizeof(Stored);
        const std::int64_t width = onebit::stored_features(features), block = onebit::token_block;
        const std::int64_t head = width * block + (g == 4 ? 4 * block : 0);
        block_stride = head * heads;
        const std::int64_t blocks = (tokens + block - 1) / block;
        numbers.assign(static_cast<std::size_t>((blocks - 1) * block_stride + head), g == 4 ? Stored(77) : from_float(std::nanf("")));
        for (std::int64_t t = 0; t < blocks * block; ++t) {
            Stored* part = numbers.data() + t / block * block_stride;
            const float scale = t < tokens ? scales[static_cast<std::size_t>(t)] : std::nanf("");
            if (g == 4) std::memcpy(part + width * block + t % block * 4, &scale, 4);
            for (std::int64_t i = 0; t < tokens && i < (keys ? (features + g - 1) / g * g : features); ++i) {
                const float v = i < features ? x[static_cast<std::size_t>(t * features + i)] : 0;
                part[keys ? (i / g * block + t % block) * g + i % g : (t % block / g * width + i) * g + t % g] = from_float(v);
            }
        }
    }
    static Stored from_float(float v) {
        if constexpr (sizeof(Stored) == 2) return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(v) >> 16);
        return static_cast<Stored>(v);
    }
};

template <class Stored>
using Attend = void (*)(const float*, const Stored*, const Stored*, const onebit::Attended&, float*, float*);

// `plain`: a kernel with the same bits, or null.
template <class Stored>
void test_attention(Attend<Stored> attend, Attend<Stored> plain) {
    constexpr bool whole = sizeof(Stored) == 1;
    for (int round = 0; round < 150; ++round) {
        // Neighbouring tokens, or heads that share keys and values; a window hides some tokens.
        const int rows = pick(1, onebit::most_queries), tokens = pick(1, 300), step = pick(0, 1), seen = tokens + step * (rows - 1);
        const int hidden = round % 4 == 1 ? pick(-3, std::min(tokens - 1, 63)) : -onebit::most_queries;
        const int features = round % 3 == 0 ? 64 : round % 50 == 1 ? 600 : pick(1, 100), stride = features + pick(0, 20);
        const int room = (seen + onebit::token_block - 1) / onebit::token_block * onebit::token_block;
        std::vector<float> k(static_cast<std::size_t>(seen * features)), v(k.size()), q(static_cast<std::size_t>(rows * stride)), y(q.size());
        std::vector<float> key_scales(static_cast<std::size_t>(seen), 1.0f), value_scales(key_scales), scores(static_cast<std::size_t>(rows * room));
        const auto number = [&] {
            if (whole) return static_cast<float>(pick(-127, 127));
            return std::bit_cast<float>(std::bit_cast<std::uint32_t>(pick_float()) & 0xFFFF0000u);
        };
        for (auto& x : k) x = number();
        for (auto& x : v) x = number();
        if (whole) {
            for (auto& x : key_scales) x = 0.02f * std::fabs(pick_float());
            for (auto& x : value_scales) x = 0.02f * std::fabs(pick_float());
        }
        for (auto& x : q) x = pick_float();
        if (round % 10 == 9) std::fill(q.begin(), q.end(), 0.0f);
        const int heads = pick(1, 3);
        const Laid<Stored> keys(k, seen, features, true, key_scales, heads), values(v, seen, features, false, value_scales, heads);
        onebit::Attended a{rows, tokens, features, keys.block_stride, stride, room, 2.0f / std::sqrt(static_cast<float>(features)), step, hidden};
        attend(q.data(), keys.numbers.data(), values.numbers.data(), a, scores.data(), y.data());
        for (int r = 0; r < rows; ++r) {
            const int first = std::max(0, hidden + step * r), end = tokens + step * r;
            std::vector<double> weights(static_cast<std::size_t>(first), -INFINITY);
            double sum = 0;
            for (int t = first; t < end; ++t) {
                double score = 0;
                for (int i = 0; i < features; ++i) {
                    score += static_cast<double>(k[static_cast<std::size_t>(t * features + i)]) * q[static_cast<std::size_t>(r * stride + i)];
                }
                weights.push_back(a.scale * score * key_scales[static_cast<std::size_t>(t)]);
            }
            const double largest = *std::max_element(weights.begin(), weights.end());
            for (double& weight : weights) sum += weight = std::exp(weight - largest);
            for (int i = 0; i < features; ++i) {
                double expected = 0;
                for (int t = first; t < end; ++t) {
                    const auto token = static_cast<std::size_t>(t);
                    expected +=
                        weights[token] / sum * value_scales[token] * v[token * static_cast<std::size_t>(features) + static_cast<std::size_t>(i)];
                }
                const double error = std::fabs(y[static_cast<std::size_t>(r * stride + i)] - expected);
                CHECK(error < (whole ? 1e-3 : 1e-5));
            }
        }
        std::vector<float> alone(y.size());
        plain(q.data(), keys.numbers.data(), values.numbers.data(), a, scores.data(), alone.data());
        for (int r = 0; r < rows; ++r) {
            for (int i = 0; i < features; ++i) {
                CHECK(identical(y[static_cast<std::size_t>(r * stride + i)], alone[static_cast<std::size_t>(r * stride + i)]));
            }
        }
        // A query's result does not depend on the neighbouring queries.
        a.rows = 1;
        for (int r = 0; r < rows; ++r, a.tokens += step, a.hidden += step) {
            attend(q.data() + r * stride, keys.numbers.data(), values.numbers.data(), a, scores.data(), alone.data() + r * stride);
            for (int i = 0; i < features; ++i) CHECK(alone[static_cast<std::size_t>(r * stride + i)] == y[static_cast<std::size_t>(r * stride + i)]);
        }
    }
}

}  // namespace

void add_kernel_tests(Tests& tests) {
    add_for_each_set(tests, "products", test_products);
    add_for_each_set(tests, "float products", test_float_products);
    add_for_each_set(tests, "rows of images", test_rows_of_images);
    add_for_each_set(tests, "bits", test_bits);
    add_for_each_set(tests, "bit matrix", test_bit_matrix);
    add_for_each_set(tests, "image products", test_image_products);
    add_for_each_set(tests, "long sums", test_long_sums);
    add_for_each_set(tests, "attention",
                     [](const onebit::Kernels& fast) { test_attention(fast.attention.float32, onebit::scalar_kernels.attention.float32); });
    add_for_each_set(tests, "attention to bfloat16",
                     [](const onebit::Kernels& fast) { test_attention(fast.attention.bf16, onebit::scalar_kernels.attention.bf16); });
    add_for_each_set(tests, "attention to int8",
                     [](const onebit::Kernels& fast) { test_attention(fast.attention.int8, onebit::scalar_kernels.attention.int8); });
    tests.add("amx_emulated: products", [] { test_products(emulated_amx()); });
    tests.add("amx_emulated: rows of images", [] { test_rows_of_images(emulated_amx()); });
}
