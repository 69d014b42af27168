#include "xnor_layer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu.h"
#include "parallel.h"

namespace onebit {
namespace {

// With more bits per level, counting plane by plane takes longer than multiplying bytes.
constexpr int most_level_bits = 2;
// A pixel's last word is padded with zeros. With fewer than this many of 64 inputs, for each number of bits, bytes are faster.
constexpr std::int64_t least_inputs[] = {32, 48};
// The most numbers for sums of weights over parts of a kernel.
constexpr std::int64_t most_ones = std::int64_t{1} << 22;
// With fewer rows than this per thread, threads divide the outputs instead.
constexpr std::int64_t least_rows_of_a_thread = 8;
// The number of rows of sums that a thread keeps at once.
constexpr std::int64_t rows_at_once = 4 * xnor_positions;

std::int64_t divide_up(std::int64_t n, std::int64_t by) {
    return (n + by - 1) / by;
}

// Maps floats to integers in the same order: the integers of negative numbers are reversed.
float number_at(std::int64_t key) {
    const auto bits = static_cast<std::uint32_t>(key < 0 ? 0x80000000u - static_cast<std::uint32_t>(key) : static_cast<std::uint32_t>(key));
    return std::bit_cast<float>(bits);
}

// The least x, including infinities, for which x * scale + shift, rounded twice, is not below 0; NaN if there is none. It is monotonic in x.
float least_with_sign(float scale, float shift) {
    constexpr std::int64_t infinity = 0x7F800000;
    const auto reaches = [&](std::int64_t key) {
        volatile float product = number_at(key) * scale;  // otherwise a compiler may round only once
        return product + shift >= 0;
    };
    if (!reaches(infinity)) return std::numeric_limits<float>::quiet_NaN();
    std::int64_t below = -infinity - 1, least = infinity;
    while (least - below > 1) {
        const std::int64_t middle = below + (least - below) / 2;
        (reaches(middle) ? least : below) = middle;
    }
    return number_at(least);
}

bool padded(const Window& window) {
    return std::any_of(window.padding, window.padding + 4, [](std::int64_t p) { return p > 0; });
}

}  // namespace

WorkingBytes XnorScratch::working_bytes() const {
    WorkingBytes sum = bits.working_bytes();
    sum += totals.working_bytes();
    sum += sums.working_bytes();
    for (const Thread& thread : threads) {
        sum += thread.levels.working_bytes();
        sum += thread.sums.working_bytes();
        sum += thread.waiting.working_bytes();
    }
    return sum;
}

std::uint64_t XnorLayer::weight_bytes(const ops::Layer& layer, std::int64_t channels, std::int64_t outputs) {
    const std::int64_t* kernel = layer.window.kernel;
    const std::int64_t steps = kernel[0] * kernel[1] * divide_up(channels, xnor_inputs);
    const std::int64_t stride = divide_up(layer.bits.plane_count() * outputs, xnor_outputs) * xnor_outputs;
    const bool tells_ones = layer.bits.input.quantizer == InputLevels::Quantizer::sign && padded(layer.window);
    const std::int64_t ones = tells_ones ? (kernel[0] + 1) * (kernel[1] + 1) * stride : 0;
    const std::int64_t words = steps * stride, numbers = steps + stride + ones + outputs;
    return static_cast<std::uint64_t>(words) * sizeof(std::uint64_t) + static_cast<std::uint64_t>(numbers) * sizeof(std::int32_t);
}

bool XnorLayer::suits(const ops::Layer& layer, std::int64_t channels, std::int64_t outputs) {
    const InputLevels& input = layer.bits.input;
    const bool sign = input.quantizer == InputLevels::Quantizer::sign;
    if (!layer.binary() || layer.window.groups != 1 || layer.depth) return false;
    if (!sign && (input.quantizer != InputLevels::Quantizer::unit || input.bits > most_level_bits)) return false;
    if (padded(layer.window)) {
        const std::int64_t rectangles = (layer.window.kernel[0] + 1) * (layer.window.kernel[1] + 1);
        if (rectangles * outputs * layer.bits.plane_count() > most_ones) return false;
    }
    return channels >= least_inputs[input.bits - 1] * divide_up(channels, xnor_inputs);
}

XnorLayer::XnorLayer(const ops::Layer& layer, const Shape& input, const Shape& output, const Kernels& kernels)
    : kernels_(kernels),
      xnor_(choose_xnor(kernels)),
      plus_minus_(layer.bits.plus_minus),
      signs_(layer.bits.input.quantizer == InputLevels::Quantizer::sign),
      dense_(!layer.convolution),
      levels_(layer.bits.input),
      window_(layer.window),
      channels_(input.back()),
      outputs_(output.back()),
      plane_outputs_(layer.bits.plane_count() * output.back()),
      level_bits_(layer.bits.input.bits),
      plane_words_(divide_up(input.back(), xnor_inputs)),
      steps_(window_.kernel[0] * window_.kernel[1] * plane_words_),
      units_(divide_up(plane_outputs_, xnor_outputs)),
      epilogue_(layer, output.back(), kernels) {
    if (!dense_) {
        height_ = input[0];
        width_ = input[1];
        out_height_ = output[0] - output[0] % epilogue_.pool_height();  // rows outside all pooling windows are not computed
        out_width_ = output[1];
        padded_height_ = height_ + window_.padding[0] + window_.padding[1];
        padded_width_ = width_ + window_.padding[2] + window_.padding[3];
    }
    for (std::int64_t r = 0; r < window_.kernel[0]; ++r) {
        for (std::int64_t c = 0; c < window_.kernel[1]; ++c) {
            const std::int64_t pixel = r * window_.dilation[0] * padded_width_ + c * window_.dilation[1];
            for (std::int64_t w = 0; w < plane_words_; ++w) offsets_.push_back(static_cast<std::int32_t>(pixel * level_bits_ * plane_words_ + w));
        }
    }
    // The positions where the kernel lies inside the image from left to right.
    const std::int64_t reach = (window_.kernel[1] - 1) * window_.dilation[1] + 1, last = width_ + window_.padding[2] - reach;
    inner_first_ = divide_up(window_.padding[2], window_.stride[1]);
    inner_end_ = last < 0 ? 0 : std::min(out_width_, last / window_.stride[1] + 1);
    lay_out(layer.bits.rows);
    if (layer.before) take_thresholds(*layer.before);
}

void XnorLayer::lay_out(const std::uint8_t* bits) {
    const std::int64_t taps = window_.kernel[0] * window_.kernel[1], columns = window_.kernel[1] + 1;
    const std::int64_t stored = row_bytes(taps * channels_), stride = sum_stride();
    const auto size = static_cast<std::size_t>(steps_ * stride);
    std::uint64_t* to = weights_.reserve(size);
    std::memset(to, 0, size * sizeof(std::uint64_t));
    base_.assign(static_cast<std::size_t>(stride), 0);
    if (signs_ && padded(window_)) ones_.assign(static_cast<std::size_t>((window_.kernel[0] + 1) * columns * stride), 0);
    const auto ones = [&](std::int64_t r, std::int64_t c, std::int64_t o) -> std::int32_t& {
        return ones_[static_cast<std::size_t>((r * columns + c) * stride + o)];
    };
    for (std::int64_t o = 0; o < plane_outputs_; ++o) {
        const std::uint8_t* row = bits + o * stored;
        const std::int64_t tile = o / (xnor_units * xnor_outputs), first = tile * xnor_units * xnor_outputs;
        const std::int64_t width = std::min<std::int64_t>(xnor_units * xnor_outputs, stride - first);
        std::uint64_t* lane = to + first * steps_ + (o - first);
        std::int32_t all = 0;
        for (std::int64_t tap = 0; tap < taps; ++tap) {
            std::int32_t of_tap = 0;
            for (std::int64_t w = 0; w < plane_words_; ++w) {
                // Sixty-four inputs from any bit of the row on.
                const std::int64_t bit = tap * channels_ + w * xnor_inputs, here = std::min<std::int64_t>(xnor_inputs, channels_ - w * xnor_inputs);
                std::uint8_t nine[9] = {};
                std::memcpy(nine, row + bit / 8, static_cast<std::size_t>(std::min<std::int64_t>(9, stored - bit / 8)));
                std::uint64_t word;
                std::memcpy(&word, nine, 8);
                if (bit % 8 != 0) word = word >> (bit % 8) | static_cast<std::uint64_t>(nine[8]) << (64 - bit % 8);
                if (here < xnor_inputs) word &= (std::uint64_t{1} << here) - 1;
                lane[(tap * plane_words_ + w) * width] = word;
                of_tap += std::popcount(word);
            }
            all += of_tap;
            if (!ones_.empty()) {
                const std::int64_t r = tap / window_.kernel[1], c = tap % window_.kernel[1];
                ones(r + 1, c + 1, o) = of_tap + ones(r, c + 1, o) + ones(r + 1, c, o) - ones(r, c, o);
            }
        }
        if (signs_) base_[static_cast<std::size_t>(o)] = plus_minus_ ? static_cast<std::int32_t>(taps * channels_) : -all;
    }
}

bool XnorLayer::folds(const ops::Layer& layer, const ops::ScaleShift& scale_shift, std::int64_t channels) {
    const float* scale = scale_shift.scale;
    // Infinity times 0 is NaN, so there is no threshold.
    return layer.bits.input.quantizer == InputLevels::Quantizer::sign &&
           std::all_of(scale, scale + channels, [](float s) { return s != 0 && std::isfinite(s); });
}

void XnorLayer::take_thresholds(const ops::ScaleShift& scale_shift) {
    const float* scale = scale_shift.scale;
    const std::vector<float> shift = scale_shift.shifts(channels_);
    for (std::int64_t c = 0; c < channels_; ++c) {
        flips_.push_back(scale[c] < 0 ? 0x80000000u : 0);
        least_.push_back(least_with_sign(std::fabs(scale[c]), shift[static_cast<std::size_t>(c)]));
    }
}

std::int64_t XnorLayer::rows_of_piece(std::int64_t rows, std::size_t threads) {
    const auto count = static_cast<std::int64_t>(threads);
    return rows < least_rows_of_a_thread * count ? 0 : std::clamp<std::int64_t>(divide_up(rows, count), 1, rows_at_once);
}

template <class Function>
void XnorLayer::each_buffer(std::int64_t rows, XnorScratch& scratch, const Function& f) const {
    const std::int64_t words = level_bits_ * plane_words_, piece = dense_ ? rows_of_piece(rows, scratch.threads.size()) : 0;
    const std::int64_t pixels = dense_ ? rows : padded_height_ * padded_width_;
    f(scratch.bits, pixels * words);
    if (!signs_ && plus_minus_) f(scratch.totals, pixels);
    if (dense_ && piece == 0) f(scratch.sums, rows * sum_stride());
    for (XnorScratch::Thread& own : scratch.threads) {
        if (!signs_) f(own.levels, (dense_ ? 1 : width_) * channels_ + slack_bytes);
        if (!dense_) {
            f(own.sums, epilogue_.pool_height() * out_width_ * sum_stride());
            f(own.waiting, epilogue_.waiting());
        } else if (piece > 0) {
            f(own.sums, piece * sum_stride());
        }
    }
}

void XnorLayer::expect(std::int64_t rows, XnorScratch& scratch) const {
    each_buffer(rows, scratch, expect_buffer);
}

Range XnorLayer::run(const float* x, std::int64_t rows, float* y, ThreadPool& pool, XnorScratch& scratch) const {
    each_buffer(rows, scratch, reserve_buffer);
    for (XnorScratch::Thread& own : scratch.threads) own.range = Range();
    return dense_ ? run_rows(x, rows, y, pool, scratch) : run_image(x, y, pool, scratch);
}

void XnorLayer::pack(const float* x, std::int64_t pixels, std::uint64_t* words, std::int32_t* totals, XnorScratch::Thread& own) const {
    const std::int64_t pixel_words = level_bits_ * plane_words_;
    if (signs_) {
        // Whole words of neighbouring pixels form one row.
        if (channels_ % xnor_inputs == 0 && least_.empty()) return xnor_.pack_signs(x, pixels * channels_, nullptr, nullptr, words);
        const float* least = least_.empty() ? nullptr : least_.data();
        for (std::int64_t p = 0; p < pixels; ++p) xnor_.pack_signs(x + p * channels_, channels_, least, flips_.data(), words + p * pixel_words);
        return;
    }
    const Quantizer q(levels_, Range());
    std::uint8_t* levels = own.levels.data();
    q.bytes(kernels_, x, pixels * channels_, 0, levels);
    for (std::int64_t p = 0; p < pixels; ++p, levels += channels_) {
        xnor_.pack_levels(levels, channels_, static_cast<int>(level_bits_), plane_words_, words + p * pixel_words);
        if (totals == nullptr) continue;
        totals[p] = 0;
        for (std::int64_t c = 0; c < channels_; ++c) totals[p] += levels[c];
    }
}

void XnorLayer::multiply(const std::uint64_t* words, std::ptrdiff_t position_stride, std::int64_t positions, std::int64_t first_tile,
                         std::int64_t end_tile, std::int32_t* sums, ThreadPool& pool, int thread) const {
    const auto product = signs_ && plus_minus_ ? xnor_.product_xor : xnor_.product_and;
    const std::int64_t stride = sum_stride(), calls = divide_up(positions, xnor_positions);
    for (std::int64_t tile = first_tile; tile < end_tile; ++tile) {
        const std::int64_t first = tile * xnor_units * xnor_outputs;
        const auto units = static_cast<int>(std::min<std::int64_t>(xnor_units, units_ - tile * xnor_units));
        const std::uint64_t* weights = weights_.data() + first * steps_;
        for (std::int64_t call = 0; call < calls; ++call) {
            if (call % calls_of_check == 0) pool.check(thread);
            const std::int64_t from = positions * call / calls;
            const auto count = static_cast<int>(positions * (call + 1) / calls - from);
            XnorSums to{base_.data() + first, 0, 0, sums + from * stride + first, static_cast<std::ptrdiff_t>(stride)};
            // Products of -1 and 1 are 1 where bits are equal. Otherwise count twice the bits set in both, or once if a bit is 0 or 1.
            to.factor = signs_ ? (plus_minus_ ? -2 : 2) : (plus_minus_ ? 2 : 1);
            for (std::int64_t plane = 0; plane < level_bits_; ++plane) {
                product(weights, units * xnor_outputs, units, words + from * position_stride + plane * plane_words_, position_stride, count,
                        offsets_.data(), static_cast<int>(steps_), to);
                to.base = to.out;
                to.base_stride = stride;
                to.factor *= 2;
            }
        }
    }
}

XnorLayer::Taps XnorLayer::taps(std::int64_t row, std::int64_t column) const {
    Taps t{};
    const std::int64_t place[2] = {row * window_.stride[0] - window_.padding[0], column * window_.stride[1] - window_.padding[2]};
    const std::int64_t side[2] = {height_, width_};
    for (int axis = 0; axis < 2; ++axis) {
        const std::int64_t step = window_.dilation[axis], most = window_.kernel[axis];
        t.first[axis] = std::clamp<std::int64_t>(place[axis] < 0 ? divide_up(-place[axis], step) : 0, 0, most);
        t.end[axis] = std::clamp<std::int64_t>(place[axis] < side[axis] ? divide_up(side[axis] - place[axis], step) : 0, t.first[axis], most);
    }
    return t;
}

void XnorLayer::correct(std::int64_t row, const std::int32_t* totals, std::int32_t* sums) const {
    const std::int64_t stride = sum_stride(), kernel_taps = window_.kernel[0] * window_.kernel[1];
    if (signs_ && ones_.empty()) return;
    if (!signs_ && !plus_minus_) return;
    const Taps of_row = taps(row, 0);
    const bool whole_rows = signs_ && of_row.end[0] - of_row.first[0] == window_.kernel[0];
    for (std::int64_t column = 0; column < out_width_; ++column, sums += stride) {
        if (whole_rows && column == inner_first_ && inner_end_ > inner_first_) {
            column = inner_end_;
            sums += (inner_end_ - inner_first_) * stride;
            if (column == out_width_) return;
        }
        if (!signs_) {
            // sum (2b - 1) q
            std::int32_t total = 0;
            const std::int64_t pixel = row * window_.stride[0] * padded_width_ + column * window_.stride[1];
            for (std::int64_t r = 0; r < window_.kernel[0]; ++r) {
                const std::int32_t* from = totals + pixel + r * window_.dilation[0] * padded_width_;
                for (std::int64_t c = 0; c < window_.kernel[1]; ++c) total += from[c * window_.dilation[1]];
            }
            for (std::int64_t o = 0; o < plane_outputs_; ++o) sums[o] -= total;
            continue;
        }
        const Taps t = taps(row, column);
        const std::int64_t inside = (t.end[0] - t.first[0]) * (t.end[1] - t.first[1]);
        if (inside == kernel_taps) continue;
        // A padded place has the bits of -1. With weights of -1 and 1 it was counted as a product, with weights of 0 and 1 as -1 for a set
        // bit.
        const std::int64_t columns = window_.kernel[1] + 1;
        const auto ones = [&](std::int64_t r, std::int64_t c) { return ones_.data() + (r * columns + c) * stride; };
        const std::int32_t* all = ones(window_.kernel[0], window_.kernel[1]);
        const std::int32_t* a = ones(t.end[0], t.end[1]);
        const std::int32_t* b = ones(t.first[0], t.end[1]);
        const std::int32_t* c = ones(t.end[0], t.first[1]);
        const std::int32_t* d = ones(t.first[0], t.first[1]);
        const int factor = plus_minus_ ? 2 : 1;
        const auto outside = static_cast<std::int32_t>(plus_minus_ ? (kernel_taps - inside) * channels_ : 0);
        for (std::int64_t o = 0; o < plane_outputs_; ++o) sums[o] += factor * (all[o] - (a[o] - b[o] - c[o] + d[o])) - outside;
    }
}

Range XnorLayer::run_rows(const float* x, std::int64_t rows, float* y, ThreadPool& pool, XnorScratch& scratch) const {
    const std::int64_t words = level_bits_ * plane_words_, stride = sum_stride();
    const bool totals = !signs_ && plus_minus_;
    std::uint64_t* bits = scratch.bits.data();
    std::int32_t* total = totals ? scratch.totals.data() : nullptr;
    const EpilogueArgs e = epilogue_.args();
    const auto finish = [&](std::int64_t r, std::int32_t* sums, XnorScratch::Thread& own) {
        for (std::int64_t o = 0; o < plane_outputs_ && totals; ++o) sums[o] -= total[r];
        const Quantizer q(levels_, Range());
        own.range.include(epilogue_.run(kernels_, sums, stride, 1, q.scale, e, nullptr, y + r * outputs_));
    };
    const auto pack_row = [&](std::int64_t r, XnorScratch::Thread& own) {
        pack(x + r * channels_, 1, bits + r * words, totals ? total + r : nullptr, own);
    };
    const std::int64_t work = rows * plane_outputs_ * channels_ * level_bits_ / 8;
    if (const std::int64_t some = rows_of_piece(rows, scratch.threads.size()); some > 0) {
        parallel(pool, work, divide_up(rows, some), [&](std::int64_t piece, int thread) {
            XnorScratch::Thread& own = scratch.threads[static_cast<std::size_t>(thread)];
            const std::int64_t first = piece * some, end = std::min(rows, first + some);
            for (std::int64_t r = first; r < end; ++r) pack_row(r, own);
            multiply(bits + first * words, words, end - first, 0, tiles(), own.sums.data(), pool, thread);
            for (std::int64_t r = first; r < end; ++r) finish(r, own.sums.data() + (r - first) * stride, own);
        });
    } else {
        std::int32_t* sums = scratch.sums.data();
        for (std::int64_t r = 0; r < rows; ++r) pack_row(r, scratch.threads[0]);
        const std::int64_t pieces = std::min<std::int64_t>(tiles(), pool.threads());
        parallel(pool, work, pieces, [&](std::int64_t piece, int thread) {
            multiply(bits, words, rows, tiles() * piece / pieces, tiles() * (piece + 1) / pieces, sums, pool, thread);
        });
        for (std::int64_t r = 0; r < rows; ++r) finish(r, sums + r * stride, scratch.threads[0]);
    }
    Range made;
    for (const XnorScratch::Thread& own : scratch.threads) made.include(own.range);
    return made;
}

Range XnorLayer::run_image(const float* x, float* y, ThreadPool& pool, XnorScratch& scratch) const {
    const std::int64_t pixel_words = level_bits_ * plane_words_, row_words = padded_width_ * pixel_words, stride = sum_stride();
    const std::int64_t pool_height = epilogue_.pool_height(), units = out_height_ / pool_height;
    const bool totals = !signs_ && plus_minus_;
    std::uint64_t* bits = scratch.bits.data();
    std::int32_t* total = totals ? scratch.totals.data() : nullptr;
    parallel(pool, padded_height_ * padded_width_ * channels_ * 2, padded_height_, [&](std::int64_t i, int thread) {
        std::uint64_t* to = bits + i * row_words;
        const std::int64_t from = i - window_.padding[0], left = window_.padding[2];
        if (from < 0 || from >= height_) {
            std::fill_n(to, row_words, std::uint64_t{0});
            if (totals) std::fill_n(total + i * padded_width_, padded_width_, 0);
            return;
        }
        std::fill_n(to, left * pixel_words, std::uint64_t{0});
        std::fill_n(to + (left + width_) * pixel_words, window_.padding[3] * pixel_words, std::uint64_t{0});
        std::int32_t* of_row = totals ? total + i * padded_width_ : nullptr;
        if (totals) {
            std::fill_n(of_row, left, 0);
            std::fill_n(of_row + left + width_, window_.padding[3], 0);
            of_row += left;
        }
        pack(x + from * width_ * channels_, width_, to + left * pixel_words, of_row, scratch.threads[static_cast<std::size_t>(thread)]);
    });
    const EpilogueArgs e = epilogue_.args();
    const Quantizer q(levels_, Range());
    const std::int64_t per_piece = pool.threads() > 1 ? std::max<std::int64_t>(1, units / (2 * pool.threads())) : units;
    const std::int64_t work = out_height_ * out_width_ * plane_outputs_ * steps_ * xnor_inputs * level_bits_ / 8;
    parallel(pool, work, divide_up(units, per_piece), [&](std::int64_t piece, int thread) {
        XnorScratch::Thread& own = scratch.threads[static_cast<std::size_t>(thread)];
        for (std::int64_t unit = piece * per_piece; unit < std::min(units, (piece + 1) * per_piece); ++unit) {
            for (std::int64_t r = 0; r < pool_height; ++r) {
                const std::int64_t row = unit * pool_height + r;
                std::int32_t* sums = own.sums.data() + r * out_width_ * stride;
                multiply(bits + row * window_.stride[0] * row_words, window_.stride[1] * pixel_words, out_width_, 0, tiles(), sums, pool, thread);
                correct(row, total, sums);
            }
            float* out = y + unit * (out_width_ / epilogue_.pool_width()) * outputs_;
            own.range.include(epilogue_.run(kernels_, own.sums.data(), stride, out_width_, q.scale, e, own.waiting.data(), out));
        }
    });
    Range made;
    for (const XnorScratch::Thread& own : scratch.threads) made.include(own.range);
    return made;
}

std::size_t XnorLayer::bytes() const {
    return weights_.bytes() + sizeof(std::int32_t) * (offsets_.size() + base_.size() + ones_.size() + least_.size() + flips_.size()) +
           epilogue_.bytes();
}

std::string XnorLayer::kernel() const {
    return std::string(signs_ ? "signs" : "bits of levels") + " and weights counted as bits: " + xnor_.name;
}

}  // namespace onebit
