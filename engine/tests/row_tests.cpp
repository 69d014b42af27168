// Rows of floats: every instruction set gives the same bits as the scalar one, and those are right, also at the ends of a float's range.
#include <algorithm>
#include <cmath>
#include <limits>
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
        plain.rows.range(x.data(), n, &expected_largest, &expected_negative);
        fast.rows.range(x.data(), n, &largest, &negative);
        CHECK(largest == expected_largest && negative == expected_negative);
        const auto same = [&] {
            for (std::size_t i = 0; i < size; ++i) CHECK(identical(a[i], b[i]));
        };
        plain.rows.normalize(x.data(), n, 1e-5f, b.data()), fast.rows.normalize(x.data(), n, 1e-5f, a.data()), same();
        plain.rows.rms_normalize(x.data(), n, 1e-5f, b.data()), fast.rows.rms_normalize(x.data(), n, 1e-5f, a.data()), same();
        if (n % 2 == 0) {
            plain.rows.rotate(x.data(), n / 2, other.data(), other.data() + n / 2, b.data());
            fast.rows.rotate(x.data(), n / 2, other.data(), other.data() + n / 2, a.data()), same();
        }
#define UNARY(name, formula) plain.rows.name(x.data(), n, b.data()), fast.rows.name(x.data(), n, a.data()), same();
#include "kernels/unary.def"
#undef UNARY
        plain.rows.add(x.data(), other.data(), n, b.data()), fast.rows.add(x.data(), other.data(), n, a.data()), same();
        plain.rows.multiply(x.data(), other.data(), n, b.data()), fast.rows.multiply(x.data(), other.data(), n, a.data()), same();
        plain.rows.clip(x.data(), n, -1, 2, b.data()), fast.rows.clip(x.data(), n, -1, 2, a.data()), same();
        plain.rows.prelu(x.data(), 1, n, other.data(), b.data()), fast.rows.prelu(x.data(), 1, n, other.data(), a.data()), same();
        plain.rows.softmax(x.data(), n, b.data()), fast.rows.softmax(x.data(), n, a.data()), same();
        CHECK(identical(fast.rows.mean_magnitude(x.data(), n), plain.rows.mean_magnitude(x.data(), n)));
        plain.rows.scale_shift(x.data(), 1, n, scale.data(), shift.data(), b.data()),
            fast.rows.scale_shift(x.data(), 1, n, scale.data(), shift.data(), a.data()), same();
        a = b = other;
        plain.rows.maximum(x.data(), n, b.data()), fast.rows.maximum(x.data(), n, a.data()), same();
        std::vector<std::uint8_t> q(size), expected_q(size);
        plain.rows.quantize(x.data(), n, 20.0f, -127, 127, 128, expected_q.data());
        fast.rows.quantize(x.data(), n, 20.0f, -127, 127, 128, q.data());
        CHECK(q == expected_q);
        std::vector<std::int32_t> sums(size), offset(size);
        for (auto& v : sums) v = pick(-100000, 100000);
        for (auto& v : offset) v = pick(-1000, 1000);
        for (const auto norm : {onebit::EpilogueArgs::Norm::none, onebit::EpilogueArgs::Norm::channel, onebit::EpilogueArgs::Norm::affine}) {
            onebit::EpilogueArgs e;
            e.norm = norm;
            e.relu = n % 2 == 0;
            e.eps = 1e-5f;
            e.bias = bias.data(), e.scale = scale.data(), e.shift = shift.data();
            e.offset = n % 3 == 0 ? offset.data() : nullptr;
            plain.rows.epilogue_int8(sums.data(), 0.01f, n, e, b.data()), fast.rows.epilogue_int8(sums.data(), 0.01f, n, e, a.data()), same();
            plain.rows.epilogue_float(other.data(), n, e, b.data()), fast.rows.epilogue_float(other.data(), n, e, a.data()), same();
        }
    }
}

// Scores of tokens: the same bits in all sets, and powers within two units in the last place of the library's.
void test_powers(const onebit::Kernels& fast) {
    const onebit::Kernels& plain = onebit::scalar_kernels;
    constexpr double nothing = -std::numeric_limits<double>::infinity();
    for (int n = 1; n <= 100; ++n) {
        std::vector<double> x(static_cast<std::size_t>(n));
        for (auto& v : x) v = 20 * static_cast<double>(pick_float());
        if (n % 5 == 0) x[x.size() / 2] = std::nan("");
        if (n % 7 == 0) x[0] = nothing;
        if (n % 3 == 0) x[x.size() - 1] = -1000;
        double largest = nothing;
        for (const double v : x) largest = v > largest ? v : largest;
        CHECK(fast.rows.largest(x.data(), n) == largest && plain.rows.largest(x.data(), n) == largest);
        if (largest == nothing) continue;
        for (const double temperature : {0.7, 3.0, 1e-300}) {
            std::vector<double> a = x, b = x;
            const double sum = fast.rows.powers(a.data(), n, largest, temperature);
            CHECK(sum == plain.rows.powers(b.data(), n, largest, temperature) && a == b);
            for (std::size_t i = 0; i < x.size(); ++i) {
                const double argument = (x[i] - largest) / temperature, expected = argument > -708 ? std::exp(argument) : 0;
                CHECK(std::fabs(a[i] - expected) <= 4.5e-16 * expected);
            }
        }
    }
}

// Rows of positions finished together equal those finished one by one, and so do their maxima.
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
            onebit::EpilogueArgs e;
            e.norm = round % 3 == 0   ? onebit::EpilogueArgs::Norm::none
                     : round % 3 == 1 ? onebit::EpilogueArgs::Norm::channel
                                      : onebit::EpilogueArgs::Norm::affine;
            e.relu = pick(0, 1) == 1;
            e.eps = 1e-5f;
            e.bias = bias.data(), e.scale = scale.data(), e.shift = shift.data();
            e.offset = pick(0, 1) == 1 ? offset.data() : nullptr;
            fast.rows.epilogue_rows_int8(sums.data(), stride, rows, 0.01f, outputs, e, y.data());
            for (int r = 0; r < rows; ++r) plain.rows.epilogue_int8(sums.data() + r * stride, 0.01f, outputs, e, expected.data() + r * outputs);
            for (std::size_t i = 0; i < all; ++i) CHECK(identical(y[i], expected[i]));

            const int height = pick(1, 3), width = pick(1, 3), columns = pick(1, 9), line = columns * width * outputs + pick(0, 30);
            std::vector<float> x(static_cast<std::size_t>((height - 1) * line + columns * width * outputs));
            for (auto& v : x) v = pick(0, 20) == 0 ? std::nanf("") : pick_float();
            std::vector<float> most(static_cast<std::size_t>(columns * outputs));
            fast.rows.pool(x.data(), line, height, width, columns, outputs, most.data());
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

// Rows of unit mean square, at the ends of a float's range too; and pairs that turn.
void test_rms_normalize_and_rotate(const onebit::Kernels& fast) {
    for (const int n : {1, 2, 15, 16, 70, 130, 5000}) {
        const auto size = static_cast<std::size_t>(n);
        for (const float magnitude : {1.0f, 1e-25f, 1e25f}) {
            std::vector<float> x(size), y(size);
            for (float& v : x) v = magnitude * pick_float();
            double squares = 0;
            for (const float v : x) squares += static_cast<double>(v) * v;
            const float eps = magnitude < 1 ? 1e-45f : 1e-5f;
            fast.rows.rms_normalize(x.data(), n, eps, y.data());
            for (std::size_t i = 0; i < size; ++i) {
                const double wanted = x[i] / std::sqrt(squares / n + static_cast<double>(eps));
                CHECK(std::fabs(y[i] - wanted) <= 1e-5 * (1e-3 + std::fabs(wanted)));
            }
            x[size / 2] = INFINITY;
            fast.rows.rms_normalize(x.data(), n, eps, y.data());
            for (const float v : y) CHECK(std::isnan(v));
        }
        std::vector<float> pairs(2 * size), cosine(size), sine(size), turned(2 * size);
        for (float& v : pairs) v = pick_float();
        for (std::size_t i = 0; i < size; ++i) {
            const float angle = 10 * pick_float();
            cosine[i] = std::cos(angle), sine[i] = std::sin(angle);
        }
        fast.rows.rotate(pairs.data(), n, cosine.data(), sine.data(), turned.data());
        for (std::size_t i = 0; i < size; ++i) {
            CHECK(turned[i] == pairs[i] * cosine[i] - pairs[size + i] * sine[i]);
            CHECK(turned[size + i] == pairs[size + i] * cosine[i] + pairs[i] * sine[i]);
        }
    }
}

// The functions of transformers apart from products, compared with exact functions of the standard library.
void test_transformer_rows(const onebit::Kernels& fast) {
    for (int n = 1; n <= 130; ++n) {
        const auto size = static_cast<std::size_t>(n);
        std::vector<float> x(size), y(size);
        for (auto& v : x) v = 4 * pick_float();
        if (n % 11 == 0) x[0] = 1e30f, x[size - 1] = -1e30f;
        fast.rows.gelu(x.data(), n, y.data());
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
        measure(fast.rows.sigmoid, [](double v) { return 1 / (1 + std::exp(-v)); });
        measure(fast.rows.tanh, [](double v) { return std::tanh(v); });
        measure(fast.rows.silu, [](double v) { return v / (1 + std::exp(-v)); });
        float magnitudes = 0;
        for (std::size_t i = 0; i < size; ++i) y[i] = static_cast<float>(i) - 7, magnitudes += std::fabs(y[i]);
        CHECK(fast.rows.mean_magnitude(y.data(), n) == magnitudes / static_cast<float>(n));
        std::vector<float> limited(size), bent(size), slope(size);
        for (std::size_t i = 0; i < size; ++i) slope[i] = static_cast<float>(i % 5) - 2;
        fast.rows.clip(y.data(), n, -3, 20, limited.data());
        fast.rows.prelu(y.data(), 1, n, slope.data(), bent.data());
        for (std::size_t i = 0; i < size; ++i) {
            CHECK(limited[i] == std::min(std::max(y[i], -3.0f), 20.0f));
            CHECK(bent[i] == (y[i] > 0 ? y[i] : slope[i] * y[i]));
        }
        fast.rows.multiply(y.data(), slope.data(), n, bent.data());
        for (std::size_t i = 0; i < size; ++i) CHECK(bent[i] == y[i] * slope[i]);
        fast.rows.scale(x.data(), n, 0.35f, y.data());
        for (std::size_t i = 0; i < size; ++i) CHECK(y[i] == 0.35f * x[i]);
        for (auto& v : x) v = 10 * pick_float();
        fast.rows.softmax(x.data(), n, y.data());
        double sum = 0;
        for (const float v : x) sum += std::exp(static_cast<double>(v));
        for (std::size_t i = 0; i < size; ++i) CHECK(std::fabs(y[i] - std::exp(static_cast<double>(x[i])) / sum) <= 2e-6);
    }
}

// e^x and functions of it at the end of the range of floats: they end like float32's own, in subnormals, 0 and infinity.
void test_ends_of_the_exponential(const onebit::Kernels& fast) {
    const onebit::Kernels& plain = onebit::scalar_kernels;
    std::vector<float> x = {0.0f, -0.0f, 1e38f, -1e38f, INFINITY, -INFINITY, std::nanf(""), -std::nanf("")};
    for (int i = -2000; i <= 2000; ++i) x.push_back(static_cast<float>(i) / 16.0f + 0.01f * pick_float());
    for (int i = 0; i < 200; ++i) x.push_back(-103.9721f + 0.005f * pick_float());
    const auto n = static_cast<std::ptrdiff_t>(x.size());
    std::vector<float> y(x.size()), expected(x.size());
    // Subnormal results may be rounded twice.
    const float least = std::numeric_limits<float>::denorm_min();
    const auto right = [&](float got, double wanted) {
        const auto rounded = static_cast<float>(wanted);
        if (std::isnan(rounded) || std::isinf(rounded)) return identical(got, rounded);
        return std::fabs(got - wanted) <= 1e-6 * std::fabs(wanted) + 1.01 * least;
    };
    fast.rows.sigmoid(x.data(), n, y.data()), plain.rows.sigmoid(x.data(), n, expected.data());
    for (std::size_t i = 0; i < x.size(); ++i) {
        CHECK(identical(y[i], expected[i]));
        const auto v = static_cast<double>(x[i]);
        CHECK(right(y[i], 1 / (1 + std::exp(-v))));
        if (v < -103.98) CHECK(y[i] == 0);
        if (v > -103.96) CHECK(y[i] != 0);
    }
    fast.rows.silu(x.data(), n, y.data()), plain.rows.silu(x.data(), n, expected.data());
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(identical(y[i], expected[i]));
    fast.rows.tanh(x.data(), n, y.data()), plain.rows.tanh(x.data(), n, expected.data());
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(identical(y[i], expected[i]) && (std::isnan(x[i]) || std::fabs(y[i] - std::tanh(x[i])) < 2e-7f));
    fast.rows.gelu(x.data(), n, y.data()), plain.rows.gelu(x.data(), n, expected.data());
    // If 1 + erf rounds to 0, the result is -0, and its sign is 1.
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(identical(y[i], expected[i]) && (!(x[i] < -5.7f && x[i] > -1e37f) || identical(y[i], -0.0f)));
    // The powers of a softmax, next to a largest number with the whole share.
    for (std::size_t i = 0; i < x.size(); ++i) {
        const float two[] = {0.0f, -std::fabs(x[i])};
        float shares[2], wanted[2];
        fast.rows.softmax(two, 2, shares), plain.rows.softmax(two, 2, wanted);
        CHECK(identical(shares[0], wanted[0]) && identical(shares[1], wanted[1]));
        if (std::isfinite(two[1]) && two[1] < -30) CHECK(right(shares[1], std::exp(static_cast<double>(two[1]))));
    }
}

// Numbers with squares or sums that do not fit floats: the means come from exact sums.
void test_normalize_of_large_numbers(const onebit::Kernels& fast) {
    for (const int n : {1, 4, 15, 16, 32, 48, 64, 200, 256, 272, 5000}) {
        for (const float size : {1e-30f, 1e-19f, 1.0f, 1e15f, 1e19f, 2e19f, 1e30f, 1e38f}) {
            for (const float eps : {1e-5f, 1e-44f}) {
                std::vector<float> x(static_cast<std::size_t>(n)), y(x.size()), finished(x.size()), bias(x.size(), 0.0f);
                std::vector<std::int32_t> sums(x.size());
                for (std::size_t i = 0; i < x.size(); ++i) {
                    sums[i] = pick(-3, 3);
                    x[i] = size * static_cast<float>(sums[i]);
                }
                double mean = 0, variance = 0, magnitude = 0;
                for (const float v : x) mean += v, magnitude += std::fabs(v);
                mean /= n, magnitude /= n;
                for (const float v : x) variance += (v - mean) * (v - mean) / n;
                fast.rows.normalize(x.data(), n, eps, y.data());
                const auto right = [&](const std::vector<float>& got) {
                    for (std::size_t i = 0; i < x.size(); ++i) {
                        const double wanted = (x[i] - mean) / std::sqrt(variance + static_cast<double>(eps));
                        CHECK(std::fabs(got[i] - wanted) <= 1e-5 * (1 + std::fabs(wanted)));
                    }
                };
                right(y);
                CHECK(std::fabs(fast.rows.mean_magnitude(x.data(), n) - magnitude) <= 1e-6 * magnitude);
                onebit::EpilogueArgs e;
                e.norm = onebit::EpilogueArgs::Norm::channel;
                e.eps = eps;
                e.bias = bias.data();
                fast.rows.epilogue_int8(sums.data(), size, n, e, finished.data());
                right(finished);
                std::fill(finished.begin(), finished.end(), 7.0f);
                fast.rows.epilogue_rows_int8(sums.data(), n, 1, size, n, e, finished.data());
                right(finished);
                for (std::size_t i = 0; i < x.size(); ++i) CHECK(identical(finished[i], y[i]));
                // With one infinity or one NaN, all results are NaN.
                x[0] = size > 1 ? INFINITY : std::nanf("");
                fast.rows.normalize(x.data(), n, eps, y.data());
                for (const float v : y) CHECK(std::isnan(v));
            }
        }
    }
}

// Depthwise sums at any number of channels, against sums written out; of more taps than 16 bits hold too.
void test_depthwise(const onebit::Kernels& fast) {
    for (const int taps : {1, 9, 25, 128, 129, 300}) {
        for (int channels = 1; channels <= (taps > 100 ? 40 : 100); ++channels) {
            const std::ptrdiff_t positions = pick(1, 5), step = channels * pick(1, 2), stride = channels + pick(0, 9), apart = channels + pick(0, 3);
            std::vector<std::ptrdiff_t> offsets;
            for (int t = 0; t < taps; ++t) offsets.push_back(t * apart);
            const auto size = static_cast<std::size_t>((positions - 1) * step + taps * apart + channels),
                       count = static_cast<std::size_t>(taps * channels);
            std::vector<std::uint8_t> x(size);
            std::vector<float> floats(size), weights(count);
            std::vector<std::int8_t> signs(count);
            for (auto& v : x) v = static_cast<std::uint8_t>(pick(0, 3) == 0 ? pick(0, 255) : 255);
            for (auto& v : signs) v = static_cast<std::int8_t>(pick(0, 9) == 0 ? pick(-1, 1) : 1);
            for (auto& v : floats) v = pick_float();
            for (auto& v : weights) v = pick_float();
            const auto made = static_cast<std::size_t>(positions * stride);
            std::vector<std::int32_t> sums(made);
            std::vector<float> y(made), expected(made);
            const onebit::DepthwiseArgs args{step, positions, offsets.data(), taps, channels, stride};
            fast.rows.depthwise_int8(x.data(), args, signs.data(), sums.data());
            fast.rows.depthwise_float(floats.data(), args, weights.data(), y.data());
            onebit::scalar_kernels.rows.depthwise_float(floats.data(), args, weights.data(), expected.data());
            for (std::ptrdiff_t p = 0; p < positions; ++p) {
                for (int c = 0; c < channels; ++c) {
                    std::int32_t wanted = 0;
                    double exact = 0;
                    for (int t = 0; t < taps; ++t) {
                        const auto from = static_cast<std::size_t>(p * step + offsets[static_cast<std::size_t>(t)] + c);
                        const auto by = static_cast<std::size_t>(t * channels + c);
                        wanted += x[from] * signs[by];
                        exact += static_cast<double>(floats[from]) * weights[by];
                    }
                    const auto at = static_cast<std::size_t>(p * stride + c);
                    CHECK(sums[at] == wanted);
                    CHECK(identical(y[at], expected[at]) && std::fabs(y[at] - exact) <= 1e-4 * taps);
                }
            }
        }
    }
}

}  // namespace

void add_row_tests(Tests& tests) {
    add_for_each_set(tests, "depthwise rows", test_depthwise);
    add_for_each_set(tests, "rows", test_rows);
    add_for_each_set(tests, "positions", test_positions);
    add_for_each_set(tests, "powers", test_powers);
    add_for_each_set(tests, "transformer rows", test_transformer_rows);
    add_for_each_set(tests, "rms_normalize and rotate", test_rms_normalize_and_rotate);
    add_for_each_set(tests, "ends of the exponential", test_ends_of_the_exponential);
    add_for_each_set(tests, "normalize of large numbers", test_normalize_of_large_numbers);
}
