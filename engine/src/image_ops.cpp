#include "image_ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "levels.h"

namespace onebit {
namespace {

// Call body(position) for each position of the image that lies in the window of the output at (oy, ox); returns how many there are.
template <class Body>
std::int64_t for_window(const Window& w, const Shape& shape, std::int64_t oy, std::int64_t ox, const Body& body) {
    std::int64_t count = 0;
    for (std::int64_t ky = 0; ky < w.kernel[0]; ++ky) {
        const std::int64_t iy = oy * w.stride[0] + ky * w.dilation[0] - w.padding[0];
        if (iy < 0 || iy >= shape[0]) continue;
        for (std::int64_t kx = 0; kx < w.kernel[1]; ++kx) {
            const std::int64_t ix = ox * w.stride[1] + kx * w.dilation[1] - w.padding[2];
            if (ix < 0 || ix >= shape[1]) continue;
            body(iy * shape[1] + ix);
            ++count;
        }
    }
    return count;
}

}  // namespace

void average_pool(const Kernels& kernels, const Window& w, bool counts_padding, const float* x, const Shape& shape, float* y, const Shape& out) {
    const std::int64_t channels = shape[2];
    for (std::int64_t oy = 0; oy < out[0]; ++oy) {
        for (std::int64_t ox = 0; ox < out[1]; ++ox, y += channels) {
            std::fill(y, y + channels, 0.0f);
            const std::int64_t inside =
                for_window(w, shape, oy, ox, [&](std::int64_t position) { kernels.add(y, x + position * channels, channels, y); });
            const std::int64_t count = counts_padding ? w.kernel[0] * w.kernel[1] : inside;
            kernels.scale(y, channels, 1.0f / static_cast<float>(count), y);
            Range range;
            kernels.range(y, channels, &range.largest_bits, &range.negative);
            if (std::isfinite(std::bit_cast<float>(range.largest_bits))) continue;
            // Sums of floats may be infinite where the mean is not.
            for (std::int64_t c = 0; c < channels; ++c) {
                double sum = 0;
                for_window(w, shape, oy, ox, [&](std::int64_t position) { sum += x[position * channels + c]; });
                y[c] = static_cast<float>(sum / static_cast<double>(count));
            }
        }
    }
}

void mean_magnitude(const Kernels& kernels, const Window& w, const float* x, const Shape& shape, float* y, const Shape& out) {
    std::vector<float> means(static_cast<std::size_t>(shape[0] * shape[1]));
    for (std::size_t i = 0; i < means.size(); ++i) means[i] = kernels.mean_magnitude(x + static_cast<std::int64_t>(i) * shape[2], shape[2]);
    for (std::int64_t oy = 0; oy < out[0]; ++oy) {
        for (std::int64_t ox = 0; ox < out[1]; ++ox) {
            double sum = 0;
            for_window(w, shape, oy, ox, [&](std::int64_t position) { sum += means[static_cast<std::size_t>(position)]; });
            *y++ = static_cast<float>(sum / static_cast<double>(w.kernel[0] * w.kernel[1]));
        }
    }
}

void group_normalize(std::int64_t groups, float eps, const float* x, std::int64_t positions, std::int64_t channels, float* y) {
    const auto at = [](std::int64_t index) { return static_cast<std::size_t>(index); };
    const std::int64_t group = channels / groups, size = positions * channels;
    const auto count = static_cast<double>(positions * group);
    // For each channel first, one position after the other as they lie, and then over its group, to which all its channels' numbers are set.
    std::vector<double> sums(at(channels), 0.0), squares(at(channels), 0.0);
    const auto gather = [&](std::vector<double>& of) {
        for (std::int64_t c = 0; c < channels; c += group) {
            double sum = 0;
            for (std::int64_t i = c; i < c + group; ++i) sum += of[at(i)];
            std::fill_n(of.begin() + c, group, sum / count);
        }
    };
    for (std::int64_t i = 0; i < size; i += channels) {
        for (std::int64_t c = 0; c < channels; ++c) sums[at(c)] += x[i + c];
    }
    gather(sums);
    std::vector<float> mean(sums.begin(), sums.end()), factor(at(channels));
    for (std::int64_t i = 0; i < size; i += channels) {
        for (std::int64_t c = 0; c < channels; ++c) {
            const double d = x[i + c] - mean[at(c)];
            squares[at(c)] += d * d;
        }
    }
    gather(squares);
    // As row_normalize in kernels/rows.h: where squares are no floats, all of it in double.
    const auto ordinary = [eps](double variance) {
        const float v = static_cast<float>(variance) + eps;
        return v >= 1e-30f && v <= std::numeric_limits<float>::max();
    };
    if (!std::all_of(squares.begin(), squares.end(), ordinary)) {
        std::fill(squares.begin(), squares.end(), 0.0);
        for (std::int64_t i = 0; i < size; i += channels) {
            for (std::int64_t c = 0; c < channels; ++c) squares[at(c)] += (x[i + c] - sums[at(c)]) * (x[i + c] - sums[at(c)]);
        }
        gather(squares);
        for (double& v : squares) v = 1.0 / std::sqrt(v + static_cast<double>(eps));
        for (std::int64_t i = 0; i < size; i += channels) {
            for (std::int64_t c = 0; c < channels; ++c) y[i + c] = static_cast<float>((x[i + c] - sums[at(c)]) * squares[at(c)]);
        }
        return;
    }
    for (std::int64_t c = 0; c < channels; ++c) factor[at(c)] = 1.0f / std::sqrt(static_cast<float>(squares[at(c)]) + eps);
    for (std::int64_t i = 0; i < size; i += channels) {
        for (std::int64_t c = 0; c < channels; ++c) y[i + c] = (x[i + c] - mean[at(c)]) * factor[at(c)];
    }
}

}  // namespace onebit
