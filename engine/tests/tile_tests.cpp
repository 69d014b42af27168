// Dense layers of many rows: each instruction set's against the scalar one's, to the last bit, and the product by tiles on an emulation of them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "cpu.h"
#include "dense_layer.h"
#include "emulated_tiles.h"
#include "kernel_tests.h"
#include "product_layer.h"
#include "tile_layer.h"

namespace {

using onebit::DenseLayer;
using onebit::InputLevels;

// A layer with the data that it points to.
struct RandomLayer {
    onebit::ops::Layer layer;
    onebit::ops::Fused norm;
    std::int64_t inputs, outputs;
    std::vector<std::uint8_t> bits, bias;
    std::vector<float> scale, shift;

    RandomLayer(std::int64_t layer_inputs, std::int64_t layer_outputs) : inputs(layer_inputs), outputs(layer_outputs) {
        const std::vector<int> planes[] = {{1}, {1}, {1, 2}, {4, 2, 1}, {3}};
        const InputLevels levels[] = {{},
                                      {},
                                      {InputLevels::Quantizer::sign, 1},
                                      {InputLevels::Quantizer::unit, 8},
                                      {InputLevels::Quantizer::absmax, 8},
                                      {InputLevels::Quantizer::absmax, 16},
                                      {InputLevels::Quantizer::unit, 2}};
        layer.bits.planes = planes[pick(0, 4)];
        layer.bits.input = levels[pick(0, 6)];
        layer.bits.plus_minus = pick(0, 1) == 1;
        const auto row_bytes = onebit::row_bytes(inputs), plane_outputs = layer.bits.plane_count() * outputs;
        bits.assign(static_cast<std::size_t>(row_bytes * plane_outputs + onebit::slack_bytes), 0);
        for (std::int64_t i = 0; i < plane_outputs * inputs; ++i) {
            if (pick(0, 1) == 1)
                bits[static_cast<std::size_t>(i / inputs * row_bytes + i % inputs / 8)] |= static_cast<std::uint8_t>(1 << i % inputs % 8);
        }
        bias.resize(static_cast<std::size_t>(outputs / 8 + 1));
        for (auto& byte : bias) byte = static_cast<std::uint8_t>(pick(0, 255));
        layer.bits.rows = bits.data();
        layer.bias_bits = pick(0, 1) == 1 ? bias.data() : nullptr;
        for (std::int64_t o = 0; o < outputs; ++o) scale.push_back(pick_float()), shift.push_back(pick_float());
        if (pick(0, 1) == 1) {
            norm.normalize = {true, 1e-5f};
        } else {
            norm.scale_shift = {scale.data(), shift.data()};
        }
    }

    // With nothing fused, with a normalisation, or with that and ReLU.
    onebit::ops::Layer with(int fused) const {
        onebit::ops::Layer all = layer;
        if (fused > 0) all.after = norm;
        all.after.relu = fused > 1;
        return all;
    }

    // Rows with and without negative numbers, and sometimes a row without a finite scale.
    std::vector<float> rows(std::int64_t count) const {
        std::vector<float> x(static_cast<std::size_t>(count * inputs));
        for (std::int64_t r = 0; r < count; ++r) {
            const bool positive = pick(0, 1) == 1;
            for (std::int64_t i = 0; i < inputs; ++i) {
                const float v = pick_float();
                x[static_cast<std::size_t>(r * inputs + i)] = positive ? std::fabs(v) : v;
            }
            if (pick(0, 20) == 0) x[static_cast<std::size_t>(r * inputs)] = std::nanf("");
        }
        return x;
    }
};

// One layer with its working memory.
class Runner {
  public:
    Runner(const RandomLayer& from, const onebit::Kernels& kernels, int threads, int fused)
        : memory_(onebit::BitMatrix::bytes(from.inputs, from.layer.bits.plane_count() * from.outputs, kernels)),
          layer_(from.with(fused), from.inputs, from.outputs, true, kernels, memory_.data()),
          outputs_(from.outputs),
          pool_(threads) {
        scratch_.threads.resize(static_cast<std::size_t>(threads));
    }
    // After the results are numbers that must not be written.
    std::vector<float> run(const std::vector<float>& x, std::int64_t rows, bool again) {
        std::vector<float> y(static_cast<std::size_t>(rows * outputs_ + 40), 7.0f);
        layer_.expect(rows, scratch_);
        layer_.run(x.data(), rows, again, y.data(), pool_, scratch_);
        const onebit::WorkingBytes working = scratch_.working_bytes();
        CHECK(again || working.now <= working.most);
        for (std::size_t i = y.size() - 40; i < y.size(); ++i) CHECK(y[i] == 7.0f);
        return y;
    }

  private:
    std::vector<std::uint8_t> memory_;
    DenseLayer layer_;
    std::int64_t outputs_;
    onebit::ThreadPool pool_;
    onebit::DenseScratch scratch_;
};

void test_dense_rows(const onebit::Kernels& fast) {
    // All numbers of rows up to 40, and some beyond; inputs that fill no tile, one and several chunks; outputs that fill no unit.
    for (int round = 0; round < 60; ++round) {
        const std::int64_t rows = round < 40 ? round + 1 : pick(41, 200);
        const std::int64_t inputs = round % 10 == 9 ? pick(1025, 2300) : pick(1, 200), outputs = inputs > 1000 ? pick(1, 40) : pick(1, 140);
        const RandomLayer step(inputs, outputs);
        const int fused = pick(0, 2), threads = pick(1, 3);
        Runner plain(step, onebit::scalar_kernels, 1, fused), tested(step, fast, threads, fused);
        const std::vector<float> x = step.rows(rows), expected = plain.run(x, rows, false);
        for (const bool again : {false, true}) {
            const std::vector<float> y = tested.run(x, rows, again);
            CHECK(std::equal(y.begin(), y.end(), expected.begin(), identical));
        }
        CHECK(EmulatedTiles::released());
    }
}

// With any chunks of inputs and blocks of rows, a product's sums equal those of plain loops.
void test_plans(const onebit::Kernels& kernels) {
    for (int round = 0; round < 40; ++round) {
        const std::int64_t inputs = pick(1, 900), outputs = pick(1, 100), rows = pick(1, 150);
        RandomLayer step(inputs, outputs);
        step.layer.bits.planes = {1};
        step.layer.bits.input = {InputLevels::Quantizer::unit, 8};
        const auto row_bytes = onebit::row_bytes(inputs);
        std::vector<std::uint8_t> memory(onebit::BitMatrix::bytes(inputs, outputs, kernels));
        const onebit::BitMatrix bits(kernels, step.bits.data(), inputs, outputs, memory.data());
        const auto weight = [&](std::int64_t o, std::int64_t i) {
            const bool set = (step.bits[static_cast<std::size_t>(o * row_bytes + i / 8)] >> (i % 8) & 1) != 0;
            return set ? 1 : step.layer.bits.plus_minus ? -1 : 0;
        };
        std::vector<std::int32_t> offsets(static_cast<std::size_t>(bits.padded_outputs()), 0);
        for (std::int64_t o = 0; o < outputs; ++o) {
            for (std::int64_t i = 0; i < inputs; ++i) offsets[static_cast<std::size_t>(o)] += weight(o, i) == 1 ? onebit::signed_shift : 0;
        }
        const onebit::TilePlan plan{pick(1, 5), pick(0, 1) == 1, pick(1, 60) * 1024, 32 * pick(1, 3)};
        const onebit::TileLayer layer(kernels, bits, step.layer, inputs, outputs, offsets.data(), plan);
        // Levels from 0 to 255 are their own numbers.
        std::vector<float> x(static_cast<std::size_t>(rows * inputs)), y(static_cast<std::size_t>(rows * outputs)),
            bias(static_cast<std::size_t>(outputs));
        for (auto& v : x) v = static_cast<float>(pick(0, 255)) / 255.0f;
        onebit::EpilogueArgs e;
        e.bias = bias.data();
        const int threads = pick(1, 3);
        onebit::ThreadPool pool(threads);
        onebit::TileScratch scratch;
        layer.each_buffer(rows, false, threads, scratch, onebit::reserve_buffer);
        layer.run(x.data(), rows, false, e, y.data(), pool, scratch);
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t o = 0; o < outputs; ++o) {
                std::int32_t sum = 0;
                for (std::int64_t i = 0; i < inputs; ++i) {
                    sum += weight(o, i) * static_cast<std::int32_t>(std::nearbyint(x[static_cast<std::size_t>(r * inputs + i)] * 255.0f));
                }
                CHECK(y[static_cast<std::size_t>(r * outputs + o)] == 1.0f / 255.0f * static_cast<float>(sum));
            }
        }
    }
}

// Convolutions whose lines are shorter and longer than what a product takes, with groups, strides and dilations.
void test_convolutions(const onebit::Kernels& fast) {
    for (int round = 0; round < 40; ++round) {
        onebit::ops::Layer convolution;
        convolution.convolution = true;
        convolution.bits.plus_minus = pick(0, 1) == 1;
        convolution.window.groups = pick(1, 2);
        onebit::Window& w = convolution.window;
        const std::int64_t channels = w.groups * pick(1, 40), outputs = w.groups * pick(1, 70), out_height = pick(1, 4);
        const std::int64_t out_width = round % 3 == 0 ? pick(1, 11) : pick(12, 70);
        for (int axis = 0; axis < 2; ++axis) w.kernel[axis] = pick(1, 3), w.stride[axis] = pick(1, 2), w.dilation[axis] = pick(1, 2);
        std::int64_t size[2] = {out_height, out_width};
        for (int axis = 0; axis < 2; ++axis) {
            w.padding[2 * axis] = w.padding[2 * axis + 1] = w.kernel[axis] > 1 ? 1 : 0;
            size[axis] = (size[axis] - 1) * w.stride[axis] + (w.kernel[axis] - 1) * w.dilation[axis] + 1 - 2 * w.padding[2 * axis];
        }
        if (size[0] < 1 || size[1] < 1) continue;
        // What fills a row's last bytes is 0, as files have it.
        const std::int64_t inputs = w.kernel[0] * w.kernel[1] * channels / w.groups, row_bytes = onebit::row_bytes(inputs);
        std::vector<std::uint8_t> bits(static_cast<std::size_t>(row_bytes * outputs), 0);
        for (std::int64_t i = 0; i < outputs * inputs; ++i) {
            const auto byte = static_cast<std::size_t>(i / inputs * row_bytes + i % inputs / 8);
            bits[byte] = static_cast<std::uint8_t>(bits[byte] | pick(0, 1) << (i % inputs % 8));
        }
        convolution.bits.rows = bits.data();
        std::vector<float> x(static_cast<std::size_t>(size[0] * size[1] * channels));
        for (auto& v : x) v = round % 2 == 0 ? pick_float() : std::fabs(pick_float());
        const int threads = pick(1, 3);
        onebit::ThreadPool pool(threads);
        std::vector<float> results[2];
        for (const onebit::Kernels* kernels : {&onebit::scalar_kernels, &fast}) {
            std::size_t budget = round % 4 == 0 ? 0 : 1000000;
            const onebit::ProductLayer layer(convolution, {size[0], size[1], channels}, {out_height, out_width, outputs}, true, *kernels, budget);
            onebit::Scratch scratch;
            scratch.threads.resize(static_cast<std::size_t>(threads));
            std::vector<float>& y = results[kernels == &fast ? 1 : 0];
            y.resize(static_cast<std::size_t>(out_height * out_width * outputs));
            layer.run(x.data(), nullptr, y.data(), pool, scratch);
        }
        CHECK(std::equal(results[0].begin(), results[0].end(), results[1].begin(), identical));
        CHECK(EmulatedTiles::released());
    }
}

// Bits are expanded to bytes with AVX-512, which more machines have than tiles.
void test_expansion(const onebit::TileKernels& fast) {
    for (int round = 0; round < 200; ++round) {
        const int steps = pick(0, 9);
        const std::ptrdiff_t stride = 64 * pick(1, 3);
        std::vector<std::uint8_t> bits(static_cast<std::size_t>(10 * stride));
        for (auto& byte : bits) byte = static_cast<std::uint8_t>(pick(0, 255));
        std::vector<std::int8_t> panel(static_cast<std::size_t>(10 * onebit::tile_bit_panel_bytes), 99), expected(panel);
        onebit::TileExpansion e{bits.data(), stride, steps, round % 2 == 1, panel.data()};
        fast.expand(e);
        e.panel = expected.data();
        emulated_tile_kernels.expand(e);
        CHECK(panel == expected);
    }
}

}  // namespace

void add_tile_tests(Tests& tests) {
    add_for_each_set(tests, "dense rows", test_dense_rows);
    tests.add("amx_emulated: dense rows", [] { test_dense_rows(emulated_amx()); });
    add_for_each_set(tests, "convolutions", test_convolutions);
    tests.add("amx_emulated: convolutions", [] { test_convolutions(emulated_amx()); });
    tests.add("amx_emulated: plans", [] { test_plans(emulated_amx()); });
#if defined(ONEBIT_X86)
    if (onebit::supported(onebit::amx_kernels)) {
        tests.add("amx: plans", [] { test_plans(onebit::amx_kernels); });
    } else {
        tests.skip("amx: plans", "not supported by this CPU");
    }
    if (onebit::supported(onebit::avx512_kernels)) {
        tests.add("amx: expansion", [] { test_expansion(onebit::amx_tiles); });
    } else {
        tests.skip("amx: expansion", "not supported by this CPU");
    }
#endif
}
