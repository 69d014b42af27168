// Products of bits with bits: compare every method of an instruction set with the scalar one, and test layers of signs in threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "array_model.h"
#include "check.h"
#include "cpu.h"
#include "kernel_tests.h"

namespace {

std::uint64_t pick_word() {
    std::uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word = word << 8 | static_cast<std::uint64_t>(pick(0, 255));
    return word;
}

// Every number of units and positions, steps beyond what a byte can count, taps that lie anywhere, memory of the exact size.
void test_products(const onebit::XnorKernels& fast) {
    const onebit::XnorKernels& plain = onebit::scalar_xnor;
    for (int round = 0; round < 400; ++round) {
        const int units = round % onebit::xnor_units + 1, positions = round / onebit::xnor_units % onebit::xnor_positions + 1;
        const int steps = round % 3 == 0 ? pick(1, 9) : pick(10, 130), width = units * onebit::xnor_outputs;
        const int step_stride = width, position_stride = pick(1, 5), reach = pick(1, 40), gap = pick(0, 9);
        std::vector<std::uint64_t> tile(static_cast<std::size_t>(steps * step_stride)), x(static_cast<std::size_t>(reach + 5 * position_stride));
        // All bits set, where counts are largest.
        for (auto& word : tile) word = round % 7 == 0 ? ~std::uint64_t{0} : pick_word();
        for (auto& word : x) word = round % 7 == 0 ? ~std::uint64_t{0} : round % 7 == 1 ? 0 : pick_word();
        std::vector<std::int32_t> offsets;
        for (int s = 0; s < steps; ++s) offsets.push_back(pick(0, reach - 1));
        const int factors[] = {-2, 1, 2, 4, 1 << 30};
        const std::ptrdiff_t out_stride = width + gap;
        std::vector<std::int32_t> base(static_cast<std::size_t>(width)), sums(static_cast<std::size_t>((positions - 1) * out_stride + width), 77);
        for (auto& v : base) v = pick(-100000, 100000);
        std::vector<std::int32_t> expected(sums);
        onebit::XnorSums to{base.data(), 0, factors[pick(0, 4)], sums.data(), out_stride}, plain_to = to;
        plain_to.out = expected.data();
        const auto run = [&](bool both) {
            const auto product = both ? &onebit::XnorKernels::product_and : &onebit::XnorKernels::product_xor;
            (fast.*product)(tile.data(), step_stride, units, x.data(), position_stride, positions, offsets.data(), steps, to);
            (plain.*product)(tile.data(), step_stride, units, x.data(), position_stride, positions, offsets.data(), steps, plain_to);
            CHECK(sums == expected);
        };
        run(round % 2 == 0);
        // Added to the old values.
        to.base = to.out, to.base_stride = out_stride;
        plain_to.base = plain_to.out, plain_to.base_stride = out_stride;
        run(round % 2 != 0);
    }
}

// The scalar one against sums over single bits.
void test_the_scalar_product() {
    const onebit::XnorKernels& k = onebit::scalar_xnor;
    for (int steps = 1; steps < 5; ++steps) {
        std::vector<std::uint64_t> tile(static_cast<std::size_t>(steps * 8)), x(static_cast<std::size_t>(steps));
        for (auto& word : tile) word = pick_word();
        for (auto& word : x) word = pick_word();
        std::vector<std::int32_t> offsets, base(8, 5), sums(8), sums_and(8);
        for (int s = 0; s < steps; ++s) offsets.push_back(s);
        k.product_xor(tile.data(), 8, 1, x.data(), 0, 1, offsets.data(), steps, {base.data(), 0, -2, sums.data(), 8});
        k.product_and(tile.data(), 8, 1, x.data(), 0, 1, offsets.data(), steps, {base.data(), 0, 3, sums_and.data(), 8});
        for (int o = 0; o < 8; ++o) {
            int differ = 0, both = 0;
            for (int i = 0; i < 64 * steps; ++i) {
                const int w = static_cast<int>(tile[static_cast<std::size_t>(i / 64 * 8 + o)] >> (i % 64) & 1);
                const int v = static_cast<int>(x[static_cast<std::size_t>(i / 64)] >> (i % 64) & 1);
                differ += w != v, both += w & v;
            }
            CHECK(sums[static_cast<std::size_t>(o)] == 5 - 2 * differ && sums_and[static_cast<std::size_t>(o)] == 5 + 3 * both);
        }
    }
}

void test_packing(const onebit::XnorKernels& fast) {
    for (int n = 1; n <= 300; ++n) {
        const auto size = static_cast<std::size_t>(n), words = static_cast<std::size_t>((n + 63) / 64);
        std::vector<float> x(size), least(size);
        std::vector<std::uint32_t> flips(size);
        const float special[] = {0.0f, -0.0f, std::nanf(""), -std::nanf(""), INFINITY, -INFINITY};
        for (std::size_t i = 0; i < size; ++i) {
            x[i] = pick(0, 3) == 0 ? special[pick(0, 5)] : pick_float();
            least[i] = pick(0, 3) == 0 ? x[i] : pick_float();
            flips[i] = pick(0, 1) == 0 ? 0 : 0x80000000u;
        }
        std::vector<std::uint64_t> packed(words, 1), own(words, 1);
        fast.pack_signs(x.data(), n, nullptr, nullptr, packed.data());
        fast.pack_signs(x.data(), n, least.data(), flips.data(), own.data());
        for (std::size_t i = 0; i < 64 * words; ++i) {
            const bool in = i < size;
            CHECK((packed[i / 64] >> (i % 64) & 1) == static_cast<std::uint64_t>(in && x[i] >= 0));
            CHECK((own[i / 64] >> (i % 64) & 1) == static_cast<std::uint64_t>(in && (flips[i] == 0 ? x[i] : -x[i]) >= least[i]));
        }
        const int bits = n % 8 + 1, stride = static_cast<int>(words) + pick(0, 3);
        std::vector<std::uint8_t> levels(size);
        for (auto& v : levels) v = static_cast<std::uint8_t>(pick(0, 255));
        std::vector<std::uint64_t> planes(static_cast<std::size_t>((bits - 1) * stride) + words, 1);
        fast.pack_levels(levels.data(), n, bits, stride, planes.data());
        for (int j = 0; j < bits; ++j) {
            for (std::size_t i = 0; i < 64 * words; ++i) {
                const std::uint64_t bit = planes[static_cast<std::size_t>(j * stride) + i / 64] >> (i % 64) & 1;
                CHECK(bit == (i < size ? static_cast<std::uint64_t>(levels[i] >> j & 1) : 0u));
            }
        }
    }
}

void test_ways(const onebit::Kernels& kernels) {
    for (const onebit::XnorWay& way : onebit::xnor_ways()) {
        if (std::string(kernels.name) != way.set || !onebit::supported(way)) continue;
        test_products(*way.kernels);
        test_packing(*way.kernels);
    }
}

void test_count_layers() {
    for (int round = 0; round < 60; ++round) {
        const bool dense = round % 3 == 2;
        const int channels = pick(24, 150), outputs = pick(1, 140), pool = pick(1, 3), height = pick(6, 20), width = pick(6, 20);
        const int kernel = dense ? 1 : pick(1, 3), rows = pick(1, 30);
        const std::int64_t inputs = std::int64_t{kernel} * kernel * channels, row = onebit::row_bytes(inputs);
        std::vector<std::uint8_t> bits(static_cast<std::size_t>(row * outputs));
        for (int o = 0; o < outputs; ++o) {
            for (std::int64_t i = 0; i < inputs; ++i)
                bits[static_cast<std::size_t>(o * row + i / 8)] |= static_cast<std::uint8_t>(pick(0, 1) << (i % 8));
        }
        const onebit::Tensors tensors = {{"w", {bits.data(), onebit::TensorType::uint8, {outputs, row}}}};
        const auto n = [](int v) { return std::to_string(v); };
        const std::string values = round % 2 == 0 ? "pm1" : "01";
        const std::string input = round % 5 == 0 ? R"({"quantizer":"unit","bits":2})" : R"({"quantizer":"sign"})";
        std::string program;
        if (dense) {
            program = R"({"input":{"name":"x","shape":[)" + n(rows) + "," + n(channels) +
                      R"(]},"steps":[{"op":"bit_linear","inputs":["x"],"output":"y","attributes":{"in_features":)" + n(channels) +
                      R"(,"out_features":)" + n(outputs) + R"(,"values":")" + values + R"(","input":)" + input +
                      R"(},"tensors":{"weight":"w"}}],"output":"y"})";
        } else {
            const std::string side = n(pick(0, 2));
            program = R"({"input":{"name":"x","shape":[)" + n(height) + "," + n(width) + "," + n(channels) +
                      R"(]},"steps":[{"op":"bit_conv2d","inputs":["x"],"output":"a","attributes":{"in_channels":)" + n(channels) +
                      R"(,"out_channels":)" + n(outputs) + R"(,"kernel_size":[)" + n(kernel) + "," + n(kernel) + R"(],"stride":[)" + n(pick(1, 2)) +
                      ",1],\"padding\":[" + side + "," + n(pick(0, 2)) + "," + side + "," + n(pick(0, 2)) + R"(],"dilation":[1,)" + n(pick(1, 2)) +
                      R"(],"groups":1,"values":")" + values + R"(","input":)" + input +
                      R"(},"tensors":{"weight":"w"}},{"op":"max_pool2d","inputs":["a"],"output":"y","attributes":{"kernel_size":[1,)" + n(pool) +
                      R"(],"stride":[1,)" + n(pool) + R"(],"padding":[0,0,0,0]}}],"output":"y"})";
        }
        onebit::ArrayModel reference(program, tensors, {.isa = "scalar"});
        std::vector<float> x(static_cast<std::size_t>(onebit::elements(reference.input_shape())));
        for (auto& v : x) v = pick(0, 9) == 0 ? std::nanf("") : pick_float();
        std::vector<float> expected(static_cast<std::size_t>(onebit::elements(reference.output_shape()))), y(expected.size());
        reference.run(x.data(), 1, expected.data());
        for (const int threads : {1, 3}) {
            onebit::ArrayModel engine(program, tensors, {.threads = threads, .isa = ""});
            engine.run(x.data(), 1, y.data());
            CHECK(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0);
        }
    }
}

}  // namespace

void add_xnor_tests(Tests& tests) {
    add_for_each_set(tests, "counts", test_ways);
    tests.add("counts of the scalar product", test_the_scalar_product);
    tests.add("layers that count", test_count_layers);
}
