// Rows of floats: every instruction set gives the same bits as the scalar one, and those are right.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernel_tests.h"

namespace {

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
            for (std::size_t i = 0; i < size; ++i) CHECK(identical(a[i], b[i]));
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
        plain.gelu(x.data(), n, b.data()), fast.gelu(x.data(), n, a.data()), same();
        plain.softmax(x.data(), n, b.data()), fast.softmax(x.data(), n, a.data()), same();
        CHECK(identical(fast.mean_magnitude(x.data(), n), plain.mean_magnitude(x.data(), n)));
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
            for (std::size_t i = 0; i < all; ++i) CHECK(identical(y[i], expected[i]));

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

}  // namespace

void add_row_tests(Tests& tests) {
    add_for_each_set(tests, "rows", test_rows);
    add_for_each_set(tests, "positions", test_positions);
    add_for_each_set(tests, "transformer rows", test_transformer_rows);
}
