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

// Weights, 8-bit and float products of any number of rows, blocks and inputs.
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
        plain.expand_int8(bits.data(), row_bytes, rows, blocks, segments, raw, length, plus_minus, expected_panel.data());
        fast.expand_int8(bits.data(), row_bytes, rows, blocks, segments, raw, length, plus_minus, panel.data());
        CHECK(panel == expected_panel);

        std::vector<std::ptrdiff_t> offsets;
        for (int s = 0; s < segments; ++s) offsets.push_back(s * raw);
        std::vector<std::uint8_t> inputs(static_cast<std::size_t>(count * segments * raw + onebit::slack_bytes));
        for (auto& byte : inputs) byte = static_cast<std::uint8_t>(pick(0, 255));
        std::vector<const std::uint8_t*> pointers;
        for (int r = 0; r < count; ++r) pointers.push_back(inputs.data() + r * segments * raw);
        const onebit::Segments layout{offsets.data(), segments, length};
        std::vector<std::int32_t> sums(static_cast<std::size_t>(count * width)), expected(sums.size());
        plain.product_int8(pointers.data(), count, layout, panel.data(), blocks, expected.data(), width);
        fast.product_int8(pointers.data(), count, layout, panel.data(), blocks, sums.data(), width);
        CHECK(sums == expected);

        std::vector<float> x(static_cast<std::size_t>(count * segments * raw)), w(static_cast<std::size_t>(segments * raw * width));
        for (auto& v : x) v = pick_float();
        for (auto& v : w) v = pick_float();
        std::vector<const float*> rows_of_x;
        for (int r = 0; r < count; ++r) rows_of_x.push_back(x.data() + r * segments * raw);
        std::vector<float> y(static_cast<std::size_t>(count * width)), expected_y(y.size());
        const onebit::Segments floats{offsets.data(), segments, raw};
        plain.product_float(rows_of_x.data(), count, floats, w.data(), blocks, expected_y.data(), width);
        fast.product_float(rows_of_x.data(), count, floats, w.data(), blocks, y.data(), width);
        for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::fabs(y[i] - expected_y[i]) < 1e-3f);
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
            plain.expand_int8(bits.data(), row_bytes, width, blocks, segments, raw, length, pick(0, 1) == 1, panel.data());

            // A position's inputs end `reach` bytes behind its first.
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
            // Between the rows of sums there is room, which is not to be touched.
            std::vector<std::int32_t> sums(static_cast<std::size_t>((count - 1) * stride + width), 77), expected(sums);
            plain.product_int8(rows.data(), count, layout, panel.data(), blocks, expected.data(), stride);
            fast.product_int8(rows.data(), count, layout, panel.data(), blocks, sums.data(), stride);
            CHECK(sums == expected);
        }
    }
}

// The plain loops, at every length up to several registers.
void test_rows(const onebit::Kernels& fast) {
    const onebit::Kernels& plain = onebit::scalar_kernels;
    for (int n = 1; n <= 200; ++n) {
        const auto size = static_cast<std::size_t>(n);
        std::vector<float> x(size), other(size), a(size), b(size), scale(size, 1.5f), shift(size, -0.25f), bias(size, 0.5f);
        for (auto& v : x) v = 3 * pick_float();
        for (auto& v : other) v = pick_float();
        if (n % 7 == 0) x[size / 2] = std::nanf("");
        std::uint32_t largest = 0, expected_largest = 0;
        bool negative = false, expected_negative = false;
        plain.range(x.data(), n, &expected_largest, &expected_negative);
        fast.range(x.data(), n, &largest, &negative);
        CHECK(largest == expected_largest && negative == expected_negative);
        const auto same = [&] {
            for (std::size_t i = 0; i < size; ++i) CHECK(near(a[i], b[i]));
        };
        plain.normalize(x.data(), n, 1e-5f, b.data()), fast.normalize(x.data(), n, 1e-5f, a.data()), same();
        plain.relu(x.data(), n, b.data()), fast.relu(x.data(), n, a.data()), same();
        plain.add(x.data(), other.data(), n, b.data()), fast.add(x.data(), other.data(), n, a.data()), same();
        plain.multiply(x.data(), other.data(), n, b.data()), fast.multiply(x.data(), other.data(), n, a.data()), same();
        plain.clip(x.data(), n, -1, 2, b.data()), fast.clip(x.data(), n, -1, 2, a.data()), same();
        plain.prelu(x.data(), 1, n, other.data(), b.data()), fast.prelu(x.data(), 1, n, other.data(), a.data()), same();
        plain.sigmoid(x.data(), n, b.data()), fast.sigmoid(x.data(), n, a.data()), same();
        plain.tanh(x.data(), n, b.data()), fast.tanh(x.data(), n, a.data()), same();
        plain.silu(x.data(), n, b.data()), fast.silu(x.data(), n, a.data()), same();
        CHECK(near(fast.mean_magnitude(x.data(), n), plain.mean_magnitude(x.data(), n)));
        plain.scale_shift(x.data(), 1, n, scale.data(), shift.data(), b.data()),
            fast.scale_shift(x.data(), 1, n, scale.data(), shift.data(), a.data()), same();
        a = b = other;
        plain.maximum(x.data(), n, b.data()), fast.maximum(x.data(), n, a.data()), same();
        std::vector<std::uint8_t> q(size), expected_q(size);
        plain.quantize(x.data(), n, 20.0f, -127, 127, 128, expected_q.data());
        fast.quantize(x.data(), n, 20.0f, -127, 127, 128, q.data());
        CHECK(q == expected_q);
        std::vector<std::int32_t> sums(size), offset(size);
        for (auto& v : sums) v = pick(-100000, 100000);
        for (auto& v : offset) v = pick(-1000, 1000);
        for (const auto norm : {onebit::Epilogue::Norm::none, onebit::Epilogue::Norm::channel, onebit::Epilogue::Norm::affine}) {
            onebit::Epilogue e;
            e.norm = norm;
            e.relu = n % 2 == 0;
            e.eps = 1e-5f;
            e.bias = bias.data(), e.scale = scale.data(), e.shift = shift.data();
            e.offset = n % 3 == 0 ? offset.data() : nullptr;
            plain.finish_int8(sums.data(), 0.01f, n, e, b.data()), fast.finish_int8(sums.data(), 0.01f, n, e, a.data()), same();
            plain.finish_float(other.data(), n, e, b.data()), fast.finish_float(other.data(), n, e, a.data()), same();
        }
    }
}

// Products that read bits, of any number of inputs and outputs and with every level, against sums over the rows of bits as a file holds them; and the
// same bits expanded to panels.
void test_bits(const onebit::Kernels& fast) {
    const onebit::BitLayout& layout = fast.layout;
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
        std::vector<std::uint8_t> tile(static_cast<std::size_t>(count * steps * onebit::unit_step_bytes), 0);
        const std::ptrdiff_t stride = std::ptrdiff_t{count} * onebit::unit_step_bytes;
        for (int u = 0; u < count; ++u) {
            fast.lay_out(rows.data() + u * layout.unit_outputs * row_bytes, row_bytes, layout.unit_outputs, inputs,
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
        fast.prepare_bits(x.data(), steps, prepared.data());
        // All units of the tile, and some of them as a thread takes them.
        std::vector<std::int32_t> sums(static_cast<std::size_t>(outputs)), some(static_cast<std::size_t>((count - first) * layout.unit_outputs));
        fast.product_bits(tile.data(), stride, count, prepared.data(), steps, false, sums.data());
        CHECK(sums == expected);
        fast.product_bits(tile.data(), stride, count, prepared.data(), steps, true, sums.data());
        for (std::size_t o = 0; o < sums.size(); ++o) CHECK(sums[o] == 2 * expected[o]);
        fast.product_bits(tile.data() + first * onebit::unit_step_bytes, stride, count - first, prepared.data(), steps, false, some.data());
        CHECK(std::equal(some.begin(), some.end(), expected.begin() + first * layout.unit_outputs));
        // The panel is what the products with many rows take: its sums must be the same.
        const int all_blocks = outputs / onebit::block_outputs;
        const int blocks = pick(1, std::min(onebit::max_blocks, all_blocks)), first_block = pick(0, all_blocks - blocks), width = 16 * blocks;
        std::vector<std::int8_t> panel(whole * static_cast<std::size_t>(width));
        fast.expand_bits_int8(tile.data(), stride, steps, first_block, blocks, panel.data());
        std::vector<float> floats(panel.size());
        fast.expand_bits_float(tile.data(), stride, steps, first_block, blocks, round % 2 == 0, floats.data());
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
    if (fast.product_image == nullptr) return;
    const onebit::BitLayout& layout = fast.layout;
    for (int round = 0; round < 400; ++round) {
        const int positions = round % onebit::image_positions + 1, units = pick(1, onebit::image_units), steps = pick(1, onebit::image_steps);
        const int pixels = pick(20, 40), stride = pick(1, 2), outputs = units * layout.unit_outputs, gap = pick(0, 20), channels = 16 * pick(1, 3);
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
            fast.lay_out(rows.data() + u * layout.unit_outputs * row_bytes, row_bytes, layout.unit_outputs, inputs,
                         tile.data() + u * onebit::unit_step_bytes, std::ptrdiff_t{units} * onebit::unit_step_bytes);
        }
        std::vector<std::int8_t> x(static_cast<std::size_t>(pixels * channels));
        for (auto& v : x) v = static_cast<std::int8_t>(round % 7 == 0 ? -128 : round % 5 == 0 ? 127 : pick(-128, 127));
        // Only what the channels of these pixels have may be read.
        const std::vector<std::int8_t> exact(x.begin() + group * 16, x.begin() + (pixels - 1) * channels + group * 16 + 16);
        std::vector<std::uint8_t> prepared(static_cast<std::size_t>(pixels * layout.prepared_bytes));
        fast.prepare_pixels(exact.data(), channels, pixels, prepared.data());
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
        fast.product_image(tile.data(), std::ptrdiff_t{units} * onebit::unit_step_bytes, units, prepared.data(),
                           std::ptrdiff_t{stride} * layout.prepared_bytes, positions, offsets.data(), steps, first, sums.data(), out_stride);
        CHECK(sums == expected);
    }
}

// Rows of positions finished together as they are one by one, and their maxima.
void test_positions(const onebit::Kernels& fast) {
    const onebit::Kernels& plain = onebit::scalar_kernels;
    for (const int outputs : {1, 7, 16, 20, 32, 33, 48, 64, 96, 128, 256, 272, 768, 1008}) {
        for (int round = 0; round < 12; ++round) {
            const int rows = round < 2 ? 16 * (round + 1) : pick(1, 40), stride = outputs + pick(0, 40);
            const auto size = static_cast<std::size_t>(outputs), all = size * static_cast<std::size_t>(rows);
            std::vector<std::int32_t> sums(static_cast<std::size_t>(rows * stride)), offset(size);
            for (auto& v : sums) v = round % 5 == 4 ? 3 : pick(-100000, 100000);
            for (auto& v : offset) v = pick(-1000, 1000);
            std::vector<float> bias(size), scale(size), shift(size), y(all), expected(all);
            for (std::size_t i = 0; i < size; ++i) bias[i] = pick_float(), scale[i] = pick_float(), shift[i] = pick_float();
            onebit::Epilogue e;
            e.norm = round % 3 == 0   ? onebit::Epilogue::Norm::none
                     : round % 3 == 1 ? onebit::Epilogue::Norm::channel
                                      : onebit::Epilogue::Norm::affine;
            e.relu = pick(0, 1) == 1;
            e.eps = 1e-5f;
            e.bias = bias.data(), e.scale = scale.data(), e.shift = shift.data();
            e.offset = pick(0, 1) == 1 ? offset.data() : nullptr;
            fast.finish_rows_int8(sums.data(), stride, rows, 0.01f, outputs, e, y.data());
            for (int r = 0; r < rows; ++r) plain.finish_int8(sums.data() + r * stride, 0.01f, outputs, e, expected.data() + r * outputs);
            for (std::size_t i = 0; i < all; ++i) CHECK(near(y[i], expected[i]));

            const int height = pick(1, 3), width = pick(1, 3), columns = pick(1, 9), line = columns * width * outputs + pick(0, 30);
            std::vector<float> x(static_cast<std::size_t>((height - 1) * line + columns * width * outputs));
            for (auto& v : x) v = pick(0, 20) == 0 ? std::nanf("") : pick_float();
            std::vector<float> most(static_cast<std::size_t>(columns * outputs));
            fast.pool(x.data(), line, height, width, columns, outputs, most.data());
            for (int c = 0; c < columns; ++c) {
                for (int o = 0; o < outputs; ++o) {
                    float wanted = -INFINITY;
                    for (int i = 0; i < height * width; ++i) {
                        const float v = x[static_cast<std::size_t>(i / width * line + (c * width + i % width) * outputs + o)];
                        wanted = std::isnan(v) || std::isnan(wanted) ? std::nanf("") : std::max(wanted, v);
                    }
                    const float got = most[static_cast<std::size_t>(c * outputs + o)];
                    CHECK(got == wanted || (std::isnan(got) && std::isnan(wanted)));
                }
            }
        }
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
                plain.product_int8(rows.data(), 7, layout, panel.data(), 1, expected.data(), 16);
                fast.product_int8(rows.data(), 7, layout, panel.data(), 1, sums.data(), 16);
                CHECK(sums == expected);
            }
        }
        const onebit::BitLayout& bits = fast.layout;
        const int steps = (length + bits.step_inputs - 1) / bits.step_inputs;
        for (const int level : {-128, 127}) {
            const std::vector<std::uint8_t> unit(static_cast<std::size_t>(steps * onebit::unit_step_bytes), 255);
            std::vector<std::int8_t> x(static_cast<std::size_t>(steps * bits.step_inputs), 0);
            std::fill_n(x.begin(), length, static_cast<std::int8_t>(level));
            std::vector<std::uint8_t> prepared(static_cast<std::size_t>(steps * bits.prepared_bytes));
            fast.prepare_bits(x.data(), steps, prepared.data());
            std::vector<std::int32_t> sums(static_cast<std::size_t>(bits.unit_outputs));
            fast.product_bits(unit.data(), onebit::unit_step_bytes, 1, prepared.data(), steps, false, sums.data());
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
        const auto padded = static_cast<std::size_t>(matrix.padded_inputs()), all = static_cast<std::size_t>(matrix.padded_outputs());
        std::vector<std::int8_t> x(padded * static_cast<std::size_t>(rows), 0);
        std::vector<std::uint8_t> prepared(static_cast<std::size_t>(matrix.prepared_bytes() * rows));
        std::vector<std::int32_t> expected(all * static_cast<std::size_t>(rows), 0), sums(expected.size(), -1);
        for (int r = 0; r < rows; ++r) {
            std::int8_t* row = x.data() + static_cast<std::size_t>(r) * padded;
            for (int i = 0; i < inputs; ++i) row[i] = static_cast<std::int8_t>(pick(-128, 127));
            fast.prepare_bits(row, matrix.steps(), prepared.data() + r * matrix.prepared_bytes());
            for (int o = 0; o < outputs; ++o) {
                for (int i = 0; i < inputs; ++i) {
                    const bool set = (stored[static_cast<std::size_t>(o * row_bytes + i / 8)] >> (i % 8) & 1) != 0;
                    expected[static_cast<std::size_t>(r) * all + static_cast<std::size_t>(o)] += set ? row[i] : 0;
                }
            }
        }
        const std::int64_t middle = pick(0, static_cast<int>(matrix.units()));
        if (fast.product_bits_float != nullptr) {
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

// What transformers need beside products; exact functions from the standard library are the measure.
void test_transformer_rows(const onebit::Kernels& fast) {
    for (int n = 1; n <= 130; ++n) {
        const auto size = static_cast<std::size_t>(n);
        std::vector<float> x(size), y(size);
        for (auto& v : x) v = 4 * pick_float();
        if (n % 11 == 0) x[0] = 1e30f, x[size - 1] = -1e30f;
        fast.gelu(x.data(), n, y.data());
        for (std::size_t i = 0; i < size; ++i) {
            const double exact = 0.5 * x[i] * std::erfc(-x[i] / std::sqrt(2.0));
            CHECK(std::fabs(y[i] - exact) <= 1e-6 * (1 + std::fabs(exact)));
        }
        const auto measure = [&](void (*function)(const float*, std::ptrdiff_t, float*), const auto& exact) {
            function(x.data(), n, y.data());
            for (std::size_t i = 0; i < size; ++i) {
                const double wanted = exact(static_cast<double>(x[i]));
                CHECK(std::fabs(y[i] - wanted) <= 1e-6 * std::fabs(wanted) + 1e-7);
            }
        };
        measure(fast.sigmoid, [](double v) { return 1 / (1 + std::exp(-v)); });
        measure(fast.tanh, [](double v) { return std::tanh(v); });
        measure(fast.silu, [](double v) { return v / (1 + std::exp(-v)); });
        float magnitudes = 0;
        for (std::size_t i = 0; i < size; ++i) y[i] = static_cast<float>(i) - 7, magnitudes += std::fabs(y[i]);
        CHECK(fast.mean_magnitude(y.data(), n) == magnitudes / static_cast<float>(n));
        std::vector<float> limited(size), bent(size), slope(size);
        for (std::size_t i = 0; i < size; ++i) slope[i] = static_cast<float>(i % 5) - 2;
        fast.clip(y.data(), n, -3, 20, limited.data());
        fast.prelu(y.data(), 1, n, slope.data(), bent.data());
        for (std::size_t i = 0; i < size; ++i) {
            CHECK(limited[i] == std::min(std::max(y[i], -3.0f), 20.0f));
            CHECK(bent[i] == (y[i] > 0 ? y[i] : slope[i] * y[i]));
        }
        fast.multiply(y.data(), slope.data(), n, bent.data());
        for (std::size_t i = 0; i < size; ++i) CHECK(bent[i] == y[i] * slope[i]);
        fast.scale(x.data(), n, 0.35f, y.data());
        for (std::size_t i = 0; i < size; ++i) CHECK(y[i] == 0.35f * x[i]);
        for (auto& v : x) v = 10 * pick_float();
        fast.softmax(x.data(), n, y.data());
        double sum = 0;
        for (const float v : x) sum += std::exp(static_cast<double>(v));
        for (std::size_t i = 0; i < size; ++i) CHECK(std::fabs(y[i] - std::exp(static_cast<double>(x[i])) / sum) <= 2e-6);
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
void test_attention(void (*attend)(const float*, const Stored*, const Stored*, const onebit::Attended&, float*, float*)) {
    constexpr bool whole = sizeof(Stored) == 1;
    for (int round = 0; round < 150; ++round) {
        const int rows = pick(1, onebit::most_queries), tokens = pick(1, 300), seen = tokens + rows - 1;
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
        onebit::Attended a{rows, tokens, features, keys.block_stride, stride, room, 2.0f / std::sqrt(static_cast<float>(features))};
        attend(q.data(), keys.numbers.data(), values.numbers.data(), a, scores.data(), y.data());
        for (int r = 0; r < rows; ++r) {
            std::vector<double> weights;
            double sum = 0;
            for (int t = 0; t < tokens + r; ++t) {
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
                for (int t = 0; t < tokens + r; ++t) {
                    const auto token = static_cast<std::size_t>(t);
                    expected +=
                        weights[token] / sum * value_scales[token] * v[token * static_cast<std::size_t>(features) + static_cast<std::size_t>(i)];
                }
                const double error = std::fabs(y[static_cast<std::size_t>(r * stride + i)] - expected);
                CHECK(error < (whole ? 1e-3 : 1e-5));
            }
        }
        // A query's result does not depend on the queries beside it.
        std::vector<float> alone(y.size());
        a.rows = 1;
        for (int r = 0; r < rows; ++r, ++a.tokens) {
            attend(q.data() + r * stride, keys.numbers.data(), values.numbers.data(), a, scores.data(), alone.data() + r * stride);
            for (int i = 0; i < features; ++i) CHECK(alone[static_cast<std::size_t>(r * stride + i)] == y[static_cast<std::size_t>(r * stride + i)]);
        }
    }
}

}  // namespace

void test_kernels(const onebit::Kernels& fast) {
    test_products(fast);
    test_rows_of_images(fast);
    test_rows(fast);
    test_bits(fast);
    test_bit_matrix(fast);
    test_image_products(fast);
    test_positions(fast);
    test_long_sums(fast);
    test_transformer_rows(fast);
    test_attention(fast.attend);
    test_attention(fast.attend_bf16);
    test_attention(fast.attend_int8);
}

void test_emulated_tiles() {
    const onebit::Kernels emulated = emulated_amx();
    test_products(emulated);
    test_rows_of_images(emulated);
    std::printf("%s equals scalar\n", emulated.name);
}
