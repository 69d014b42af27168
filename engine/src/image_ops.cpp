#include "image_ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "buffer.h"
#include "quantizer.h"

namespace onebit {
namespace {

// A window with more places is folded along each axis separately. Otherwise a window as large as the image would read all of it for each output.
constexpr std::int64_t most_direct_places = 256;
// The numbers or positions between two checks for an interrupt.
constexpr std::int64_t piece_numbers = std::int64_t{1} << 20;
constexpr std::int64_t piece_positions = 64;

bool direct(const Window& w) {
    return w.kernel[0] * w.kernel[1] <= most_direct_places;
}

// The places of the o-th window along an axis that lie inside the image of length `size`: from the first to before the last. Place k is at
// k * dilation from `origin`.
struct Places {
    std::int64_t origin, first, end;
};

Places places(const Window& w, int axis, std::int64_t size, std::int64_t o) {
    const std::int64_t step = w.dilation[axis], origin = o * w.stride[axis] - w.padding[2 * axis];
    const std::int64_t first = std::min(w.kernel[axis], origin < 0 ? (-origin + step - 1) / step : 0);
    const std::int64_t end = std::min(w.kernel[axis], origin < size ? (size - origin + step - 1) / step : 0);
    return {origin, first, std::max(first, end)};
}

// Calls body(position) for each position of the image in the window of the output at (oy, ox).
template <class Body>
void for_window(const Window& w, const Shape& shape, std::int64_t oy, std::int64_t ox, const Body& body) {
    const Places rows = places(w, 0, shape[0], oy), columns = places(w, 1, shape[1], ox);
    for (std::int64_t ky = rows.first; ky < rows.end; ++ky) {
        const std::int64_t row = (rows.origin + ky * w.dilation[0]) * shape[1];
        for (std::int64_t kx = columns.first; kx < columns.end; ++kx) body(row + columns.origin + kx * w.dilation[1]);
    }
}

// Of `size` vectors of `width` numbers, x, those of each window along an axis are folded to y, `count` vectors that hold the fold of nothing.
// Overwrites x: after j rounds each of its vectors is the fold of 2^j vectors from there on, and a window is such runs one after the other, one for
// each bit of its length. So the cost grows with the logarithm of the window.
template <class Fold>
void fold_axis(const Window& w, int axis, float* x, std::int64_t size, std::int64_t width, float* y, std::int64_t count, const Fold& fold,
               ThreadPool& pool) {
    for (std::int64_t run = 1; run <= w.kernel[axis]; run *= 2) {
        for (std::int64_t o = 0; o < count; ++o) {
            if (o % piece_positions == 0) pool.check(0);
            const Places p = places(w, axis, size, o);
            const std::int64_t length = p.end - p.first, done = length & (run - 1);
            if ((length & run) != 0) fold(x + (p.origin + (p.first + done) * w.dilation[axis]) * width, width, y + o * width);
        }
        const std::int64_t distance = run * w.dilation[axis], numbers = (size - distance) * width;
        for (std::int64_t i = 0; i < numbers; i += piece_numbers) {
            pool.check(0);
            fold(x + i + distance * width, std::min(piece_numbers, numbers - i), x + i);
        }
    }
}

// fold(from, n, to) of all vectors of channels in each window, beginning with `nothing`.
template <class Fold>
void fold_windows(const Window& w, const float* x, const Shape& shape, float* y, const Shape& out, float nothing, const Fold& fold,
                  ThreadPool& pool) {
    const std::int64_t channels = shape[2], row = shape[1] * channels, out_row = out[1] * channels;
    std::fill(y, y + out[0] * out_row, nothing);
    if (direct(w)) {
        for (std::int64_t o = 0; o < out[0] * out[1]; ++o, y += channels) {
            if (o % piece_positions == 0) pool.check(0);
            for_window(w, shape, o / out[1], o % out[1], [&](std::int64_t position) { fold(x + position * channels, channels, y); });
        }
        return;
    }
    Buffer<float> line, rows;
    line.reserve(static_cast<std::size_t>(row));
    rows.reserve(static_cast<std::size_t>(shape[0] * out_row));
    std::fill_n(rows.data(), shape[0] * out_row, nothing);
    for (std::int64_t i = 0; i < shape[0]; ++i) {
        std::copy_n(x + i * row, row, line.data());
        fold_axis(w, 1, line.data(), shape[1], channels, rows.data() + i * out_row, out[1], fold, pool);
    }
    fold_axis(w, 0, rows.data(), shape[0], out_row, y, out[0], fold, pool);
}

}  // namespace

std::uint64_t pool_bytes(const Window& w, const Shape& shape, const Shape& out) {
    return direct(w) ? 0 : sizeof(float) * static_cast<std::uint64_t>(shape[2] * (shape[1] + shape[0] * out[1]) + elements(shape));
}

void max_pool(const Kernels& kernels, const Window& w, const float* x, const Shape& shape, float* y, const Shape& out, ThreadPool& pool) {
    const auto fold = [&](const float* from, std::int64_t n, float* to) { kernels.rows.maximum(from, n, to); };
    fold_windows(w, x, shape, y, out, -std::numeric_limits<float>::infinity(), fold, pool);
}

void average_pool(const Kernels& kernels, const Window& w, bool counts_padding, const float* x, const Shape& shape, float* y, const Shape& out,
                  ThreadPool& pool) {
    const std::int64_t channels = shape[2], numbers = out[0] * out[1] * channels;
    const auto fold = [&](const float* from, std::int64_t n, float* to) { kernels.rows.add(to, from, n, to); };
    const auto count_of = [&](std::int64_t o) {
        if (counts_padding) return w.kernel[0] * w.kernel[1];
        const Places rows = places(w, 0, shape[0], o / out[1]), columns = places(w, 1, shape[1], o % out[1]);
        return (rows.end - rows.first) * (columns.end - columns.first);
    };
    const auto divide = [&](float by) {
        for (std::int64_t o = 0; o < out[0] * out[1]; ++o) {
            kernels.rows.scale(y + o * channels, channels, 1.0f / (static_cast<float>(count_of(o)) * by), y + o * channels);
        }
    };
    fold_windows(w, x, shape, y, out, 0.0f, fold, pool);
    divide(1.0f);
    Range range;
    kernels.rows.range(y, numbers, &range.largest_bits, &range.negative);
    if (std::isfinite(std::bit_cast<float>(range.largest_bits))) return;
    // A sum of floats may be infinite although the mean is finite.
    if (!direct(w)) {
        // A power of two is exact, and keeps every sum below the largest float.
        const float small = std::ldexp(1.0f, -static_cast<int>(std::bit_width(static_cast<std::uint64_t>(w.kernel[0] * w.kernel[1]))));
        Buffer<float> scaled;
        kernels.rows.scale(x, elements(shape), small, scaled.reserve(static_cast<std::size_t>(elements(shape))));
        fold_windows(w, scaled.data(), shape, y, out, 0.0f, fold, pool);
        divide(small);
        return;
    }
    for (std::int64_t o = 0; o < out[0] * out[1]; ++o, y += channels) {
        if (o % piece_positions == 0) pool.check(0);
        for (std::int64_t c = 0; c < channels; ++c) {
            if (std::isfinite(y[c])) continue;
            double sum = 0;
            for_window(w, shape, o / out[1], o % out[1], [&](std::int64_t position) { sum += x[position * channels + c]; });
            y[c] = static_cast<float>(sum / static_cast<double>(count_of(o)));
        }
    }
}

void mean_magnitude(const Kernels& kernels, const Window& w, const float* x, const Shape& shape, float* y, const Shape& out, ThreadPool& pool) {
    std::vector<float> means(static_cast<std::size_t>(shape[0] * shape[1]));
    for (std::size_t i = 0; i < means.size(); ++i) {
        if (i % piece_positions == 0) pool.check(0);
        means[i] = kernels.rows.mean_magnitude(x + static_cast<std::int64_t>(i) * shape[2], shape[2]);
    }
    if (!direct(w)) return average_pool(kernels, w, true, means.data(), {shape[0], shape[1], 1}, y, out, pool);
    for (std::int64_t o = 0; o < out[0] * out[1]; ++o) {
        if (o % piece_positions == 0) pool.check(0);
        double sum = 0;
        for_window(w, shape, o / out[1], o % out[1], [&](std::int64_t position) { sum += means[static_cast<std::size_t>(position)]; });
        y[o] = static_cast<float>(sum / static_cast<double>(w.kernel[0] * w.kernel[1]));
    }
}

void group_normalize(std::int64_t groups, float eps, const float* x, std::int64_t positions, std::int64_t channels, float* y, ThreadPool& pool) {
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
    const auto each_position = [&](const auto& body) {
        const std::int64_t piece = std::max<std::int64_t>(1, piece_numbers / channels) * channels;
        for (std::int64_t first = 0; first < size; first += piece) {
            pool.check(0);
            for (std::int64_t i = first; i < std::min(size, first + piece); i += channels) body(i);
        }
    };
    each_position([&](std::int64_t i) {
        for (std::int64_t c = 0; c < channels; ++c) sums[at(c)] += x[i + c];
    });
    gather(sums);
    std::vector<float> mean(sums.begin(), sums.end()), factor(at(channels));
    each_position([&](std::int64_t i) {
        for (std::int64_t c = 0; c < channels; ++c) {
            const double d = x[i + c] - mean[at(c)];
            squares[at(c)] += d * d;
        }
    });
    gather(squares);
    // As row_normalize in kernels/rows.h: if squares do not fit floats, everything is computed in double.
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
    each_position([&](std::int64_t i) {
        for (std::int64_t c = 0; c < channels; ++c) y[i + c] = (x[i + c] - mean[at(c)]) * factor[at(c)];
    });
}

}  // namespace onebit
