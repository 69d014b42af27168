// Products of weights with scales for groups of inputs: the same bits in every instruction set.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "check.h"
#include "half.h"
#include "kernel_tests.h"

namespace {

std::uint16_t random_half() {
    return static_cast<std::uint16_t>(pick(0, 0x7BFF) | pick(0, 1) << 15);
}

// Products of bytes: the same bits as the plain loops and as the formula, at the ends of the levels and scales of every size.
void test_bytes(const onebit::Kernels& fast) {
    const onebit::Kernels& plain = onebit::scalar_kernels;
    for (int round = 0; round < 60; ++round) {
        const int groups = pick(1, 5), group = round % 3 == 0 ? 32 : 4 * pick(1, 40);
        constexpr int outputs = onebit::byte_panel_outputs;
        const auto rows = static_cast<std::size_t>(pick(1, 9)), inputs = static_cast<std::size_t>(groups * group);
        const std::size_t stride = static_cast<std::size_t>(outputs + pick(0, 5));
        std::vector<std::uint8_t> weights(inputs * outputs + 16384);
        std::vector<std::uint16_t> scales(static_cast<std::size_t>(groups * outputs));
        std::vector<std::int8_t> x(inputs * rows);
        std::vector<float> x_scales(static_cast<std::size_t>(groups) * rows), y(stride * rows, 7.0f), expected(y);
        std::vector<std::int32_t> totals(x_scales.size());
        for (auto& w : weights) w = static_cast<std::uint8_t>(round == 1 ? 255 : pick(0, 255));
        for (auto& s : scales) s = random_half();
        for (auto& s : x_scales) s = std::fabs(pick_float());
        for (std::size_t i = 0; i < x.size(); ++i) {
            x[i] = static_cast<std::int8_t>(round == 1 ? 127 : pick(-127, 127));
            totals[i / static_cast<std::size_t>(group)] += x[i];
        }
        onebit::ByteProduct product{weights.data(), scales.data(), x.data(), x_scales.data(), totals.data(), groups, group, expected.data()};
        product.rows = static_cast<std::int64_t>(rows), product.out_stride = static_cast<std::ptrdiff_t>(stride);
        plain.grouped.product_bytes(product);
        product.out = y.data();
        fast.grouped.product_bytes(product);
        for (std::size_t i = 0; i < y.size(); ++i) {
            const std::size_t r = i / stride, o = i % stride;
            CHECK(identical(y[i], expected[i]));
            float exact = 7.0f;  // what lies between rows stays
            for (std::size_t g = 0; o < outputs && g < static_cast<std::size_t>(groups); ++g) {
                std::int32_t sum = 0;
                for (std::size_t k = 0; k < static_cast<std::size_t>(group); ++k) {
                    const std::size_t place = g * static_cast<std::size_t>(group) + k;
                    sum += (weights[(place / 4 * outputs + o) * 4 + place % 4] - 128) * x[r * inputs + place];
                }
                const float number = static_cast<float>(sum) * x_scales[r * static_cast<std::size_t>(groups) + g];
                exact = std::fma(onebit::from_half(scales[g * outputs + o]), number, g == 0 ? 0.0f : exact);
            }
            CHECK(identical(y[i], exact));
        }
    }
}

// Sums of groups, of one plane or two, become numbers.
void test_sums(const onebit::Kernels& fast) {
    for (int round = 0; round < 60; ++round) {
        const int planes[] = {1, 2}, count = pick(1, 2), units = pick(1, 8), unit = fast.gemv.layout.unit_outputs, width = units * unit;
        std::vector<std::int32_t> sums(static_cast<std::size_t>(2 * width));
        for (auto& s : sums) s = pick(-20000, 20000);
        std::vector<std::uint16_t> factors(static_cast<std::size_t>(width));
        for (auto& s : factors) s = random_half();
        std::vector<float> out(static_cast<std::size_t>(width)), wanted;
        for (float& v : out) v = pick_float();
        wanted = out;
        onebit::GroupSums of{sums.data(),    width, planes, count, pick(1, 2),     pick(-99, 99), 0.3f,
                             factors.data(), unit,  units,  unit,  round % 4 == 0, out.data()};
        fast.grouped.accumulate(of);
        for (std::size_t o = 0; o < out.size(); ++o) {
            const std::int32_t sum = sums[o] + (count == 2 ? 2 * sums[o + static_cast<std::size_t>(width)] : 0);
            const float number = static_cast<float>(sum * of.times - of.taken_off) * of.scale;
            CHECK(identical(out[o], std::fma(onebit::from_half(factors[o]), number, of.first ? 0.0f : wanted[o])));
        }
    }
}

// What the bits of a layer mean, and the largest group whose sums fit in 16 bits.
struct Meaning {
    std::vector<int> planes;
    bool plus_minus;
    int zero, largest_group;

    int taken_off() const { return plus_minus ? std::accumulate(planes.begin(), planes.end(), 0) : zero; }
};

// Some units of bits and some rows of levels, at random or all at an end.
struct GroupedProduct {
    const onebit::Kernels& kernels;
    const Meaning& meaning;
    bool all_set;
    int group, groups, units, rows;
    int inputs = groups * group, outputs = units * kernels.gemv.layout.unit_outputs, steps = inputs / kernels.gemv.layout.step_inputs;
    std::ptrdiff_t row_bytes = (inputs + 63) / 64 * 8, step_stride = std::ptrdiff_t{units} * onebit::unit_step_bytes;
    std::vector<std::vector<std::uint8_t>> bits, tiles;
    std::vector<std::int8_t> x;
    std::vector<std::uint8_t> prepared;
    std::vector<float> x_scales;
    std::vector<std::int32_t> totals;
    std::vector<std::uint16_t> scales;  // [unit][group][output]

    void fill(int level) {
        const onebit::BitLayout& layout = kernels.gemv.layout;
        for (std::size_t p = 0; p < meaning.planes.size(); ++p) {
            bits.emplace_back(static_cast<std::size_t>(outputs * row_bytes));
            for (auto& b : bits[p]) b = static_cast<std::uint8_t>(all_set ? 255 : pick(0, 255));
            tiles.emplace_back(static_cast<std::size_t>(steps * step_stride));
            for (int u = 0; u < units; ++u) {
                kernels.gemv.lay_out(bits[p].data() + u * layout.unit_outputs * row_bytes, row_bytes, layout.unit_outputs, inputs,
                                     tiles[p].data() + u * onebit::unit_step_bytes, step_stride);
            }
        }
        x.resize(static_cast<std::size_t>(rows * inputs));
        for (auto& v : x) v = static_cast<std::int8_t>(level != 0 ? level : pick(-127, 127));
        prepared.resize(static_cast<std::size_t>(rows * steps * layout.prepared_bytes));
        x_scales.resize(static_cast<std::size_t>(rows * groups)), totals.resize(x_scales.size());
        for (float& s : x_scales) s = std::fabs(pick_float());
        for (int r = 0; r < rows; ++r) {
            kernels.gemv.prepare(x.data() + r * inputs, steps, prepared.data() + r * steps * layout.prepared_bytes);
            for (int i = 0; i < inputs; ++i) totals[static_cast<std::size_t>(r * groups + i / group)] += x[static_cast<std::size_t>(r * inputs + i)];
        }
        scales.resize(static_cast<std::size_t>(outputs * groups));
        for (auto& s : scales) s = random_half();
    }

    int weight(int output, int input) const {
        int sum = 0;
        for (std::size_t p = 0; p < bits.size(); ++p) {
            sum += meaning.planes[p] * (bits[p][static_cast<std::size_t>(output * row_bytes + input / 8)] >> (input % 8) & 1);
        }
        return meaning.plus_minus ? 2 * sum - meaning.taken_off() : sum - meaning.zero;
    }

    // The output by the formula, from what stood there before.
    float expected(int row, int output, float before) const {
        const int unit_outputs = kernels.gemv.layout.unit_outputs;
        float sum = before;
        for (int g = 0; g < groups; ++g) {
            std::int32_t whole = 0;
            for (int i = g * group; i < (g + 1) * group; ++i) whole += weight(output, i) * x[static_cast<std::size_t>(row * inputs + i)];
            const int place = (output / unit_outputs * groups + g) * unit_outputs + output % unit_outputs;
            const float number = static_cast<float>(whole) * x_scales[static_cast<std::size_t>(row * groups + g)];
            sum = std::fma(onebit::from_half(scales[static_cast<std::size_t>(place)]), number, sum);
        }
        return sum;
    }

    void run(bool first, float* y) const {
        const onebit::BitLayout& layout = kernels.gemv.layout;
        std::vector<const std::uint8_t*> planes;
        for (const auto& tile : tiles) planes.push_back(tile.data());
        kernels.grouped.product_bits({.planes = planes.data(),
                                      .plane_count = static_cast<int>(planes.size()),
                                      .doubled = meaning.planes.back() > 1,
                                      .step_stride = step_stride,
                                      .units = units,
                                      .prepared = prepared.data(),
                                      .prepared_stride = std::ptrdiff_t{steps} * layout.prepared_bytes,
                                      .rows = rows,
                                      .group_steps = group / layout.step_inputs,
                                      .groups = groups,
                                      .plus_minus = meaning.plus_minus,
                                      .taken_off = meaning.taken_off(),
                                      .x_scales = x_scales.data(),
                                      .x_totals = totals.data(),
                                      .x_stride = groups,
                                      .scales = scales.data(),
                                      .scale_stride = std::ptrdiff_t{groups} * layout.unit_outputs,
                                      .first = first,
                                      .out = y,
                                      .out_stride = outputs});
    }
};

// Bits of one plane or of several, for one row and for many: the same bits as the formula, at the ends of the levels and of the sums in 16 bits.
void test_bits(const onebit::Kernels& fast) {
    if (fast.grouped.product_bits == nullptr) return;
    const Meaning meanings[] = {{{1}, true, 0, 128},     {{1}, false, 1, 128},  {{1, 1}, true, 0, 128},   {{1, 1}, false, 1, 128},
                                {{1, 2}, false, 1, 128}, {{1, 2}, true, 0, 64}, {{1, 2, 4}, false, 4, 64}};
    for (int round = 0; round < 70; ++round) {
        const Meaning& meaning = meanings[round % 7];
        const onebit::BitLayout& layout = fast.gemv.layout;
        const int group = std::min(meaning.largest_group, round < 14 ? 128 : 32 << pick(0, 2));
        const int most_groups = static_cast<int>(layout.chunk_steps) / (group / layout.step_inputs);
        GroupedProduct product{fast, meaning, round < 14, group, pick(1, most_groups), pick(1, layout.tile_units), round % 3 == 0 ? 1 : pick(2, 15)};
        product.fill(round < 7 ? 127 : round < 14 ? -127 : 0);
        std::vector<float> before(static_cast<std::size_t>(product.rows * product.outputs));
        for (float& v : before) v = pick_float();
        std::vector<float> y = before;
        const bool first = pick(0, 1) == 0;
        product.run(first, y.data());
        for (std::size_t i = 0; i < y.size(); ++i) {
            const int row = static_cast<int>(i) / product.outputs, output = static_cast<int>(i) % product.outputs;
            CHECK(identical(y[i], product.expected(row, output, first ? 0.0f : before[i])));
        }
    }
}

}  // namespace

void add_grouped_tests(Tests& tests) {
    add_for_each_set(tests, "grouped bytes", test_bytes);
    add_for_each_set(tests, "grouped sums", test_sums);
    add_for_each_set(tests, "grouped bits", test_bits);
}
