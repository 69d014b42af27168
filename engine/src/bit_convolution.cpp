#include "bit_convolution.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace onebit {
namespace {

// The most bytes of prepared rows for an image in one strip, and for each strip if there are several: most of a second-level cache, next to the
// weights.
constexpr std::int64_t most_prepared = 1 << 20;
constexpr std::int64_t strip_prepared = 640 << 10;
// Pixels around a strip are prepared twice, so a strip must not be too narrow.
constexpr std::int64_t least_strip = 16;
constexpr std::int64_t line_floats = 16;
// The most prepared bytes that one call of a product reads: they leave space in a first-level cache for bits and sums.
constexpr std::int64_t call_prepared = 16 << 10;

std::int64_t divide_up(std::int64_t n, std::int64_t by) {
    return (n + by - 1) / by;
}

}  // namespace

BitConvolution::Inputs::Inputs(const Window& window, std::int64_t channels, const BitLayout& layout)
    : runs(channels % layout.step_inputs != 0), taps(runs ? 1 : window.kernel[1]), length(runs ? window.kernel[1] * channels : channels) {
    groups = divide_up(length, layout.step_inputs);
}

bool BitConvolution::suits(const Window& window, std::int64_t channels, std::int64_t outputs, const Kernels& kernels) {
    if (kernels.conv.least_gain == never || window.groups != 1) return false;
    const BitLayout& layout = kernels.gemv.layout;
    const Inputs inputs(window, channels, layout);
    const std::int64_t taps = window.kernel[0] * window.kernel[1];
    // Kernels that reach far across an image would need more prepared rows than a cache holds.
    const std::int64_t rows = (window.kernel[0] - 1) * window.dilation[0] + 1;
    const std::int64_t pixels = inputs.runs ? least_strip : (least_strip - 1) * window.stride[1] + (window.kernel[1] - 1) * window.dilation[1] + 1;
    if (rows * pixels > 4 * most_prepared / (inputs.groups * layout.prepared_bytes)) return false;
    if (window.kernel[0] * inputs.taps * inputs.groups * layout.step_inputs > layout.most_inputs) return false;
    const std::int64_t blocks = divide_up(outputs, block_outputs), units = divide_up(outputs, layout.unit_outputs);
    if (!inputs.runs) return taps * (blocks - units) >= kernels.conv.least_gain * window.stride[0] * window.stride[1];
    // Panels pad to groups of 4, steps pad to more, and a run serves one position of each output row that needs it.
    if (kernels.conv.least_run_gain == never || window.dilation[1] != 1) return false;
    const std::int64_t panel = divide_up(inputs.length, int8_group) * int8_group, padded = inputs.groups * layout.step_inputs;
    return window.kernel[0] * (panel * blocks - padded * units) >= kernels.conv.least_run_gain * window.stride[0] * padded;
}

BitConvolution::BitConvolution(const std::uint8_t* bits, bool plus_minus, const Window& window, std::int64_t channels, std::int64_t outputs,
                               std::int64_t out_width, const Kernels& kernels)
    : kernels_(kernels),
      window_(window),
      inputs_(window, channels, kernels.gemv.layout),
      plus_minus_(plus_minus),
      channels_(channels),
      outputs_(outputs) {
    const BitLayout& layout = kernels.gemv.layout;
    const std::int64_t taps = window.kernel[0] * window.kernel[1];
    steps_ = window.kernel[0] * inputs_.taps * inputs_.groups;
    units_ = divide_up(outputs, layout.unit_outputs);
    blocks_ = divide_up(steps_, image_steps);

    const std::int64_t prepared = reach(0) * inputs_.groups * layout.prepared_bytes;  // of a column
    strip_width_ = out_width;
    if (prepared * columns_of(out_width) > most_prepared) {
        const std::int64_t most = strip_prepared / prepared, fit = inputs_.runs ? most : (most - reach(1)) / window.stride[1] + 1;
        const std::int64_t strips = divide_up(out_width, std::max(fit, least_strip));
        strip_width_ = divide_up(out_width, strips);
    }

    // The prepared data of a call should leave space in a first-level cache for the rest.
    const std::int64_t call_groups = divide_up(std::min<std::int64_t>(steps_, image_steps), inputs_.taps);
    while (positions_ + image_positions <= kernels.conv.most_positions &&
           call_groups * columns_of(positions_ + image_positions) * layout.prepared_bytes <= call_prepared) {
        positions_ += image_positions;
    }

    // The rows of bits with their steps in the order of the products.
    const std::int64_t stored = row_bytes(taps * channels), step_bytes = layout.step_inputs / 8, row = steps_ * step_bytes;
    std::vector<std::uint8_t> ordered(static_cast<std::size_t>(outputs * row));
    for (std::int64_t o = 0; o < outputs; ++o) {
        std::uint8_t* to = ordered.data() + o * row;
        order_row(bits + o * stored, to);
        std::int64_t ones = 0;
        for (std::int64_t i = 0; i < row; ++i) ones += std::popcount(to[i]);
        offset_sums_.push_back(static_cast<std::int32_t>(-signed_shift * (plus_minus ? 2 * ones - taps * channels : ones)));
    }
    const std::size_t size = weight_bytes(window, channels, outputs, kernels);
    std::uint8_t* tile = bits_.reserve(size);
    std::memset(tile, 0, size);
    for (std::int64_t block = 0; block < blocks_; ++block) {
        const std::int64_t step = first_step(block), steps = first_step(block + 1) - step;
        for (std::int64_t unit = 0; unit < units_; unit += image_units) {
            const std::int64_t units = std::min<std::int64_t>(image_units, units_ - unit);
            for (std::int64_t u = 0; u < units; ++u) {
                const std::int64_t first = (unit + u) * layout.unit_outputs;
                const auto rows = static_cast<int>(std::min<std::int64_t>(layout.unit_outputs, outputs - first));
                kernels.gemv.lay_out(ordered.data() + first * row + step * step_bytes, row, rows, steps * layout.step_inputs,
                                     tile + u * unit_step_bytes, units * unit_step_bytes);
            }
            tile += units * steps * unit_step_bytes;
        }
    }
}

void BitConvolution::order_row(const std::uint8_t* bits, std::uint8_t* to) const {
    const std::int64_t step_bytes = kernels_.gemv.layout.step_inputs / 8;
    for (std::int64_t r = 0; r < window_.kernel[0]; ++r) {
        if (inputs_.runs) {
            for (std::int64_t i = 0, bit = r * inputs_.length; i < inputs_.length; ++i, ++bit) {
                to[i / 8] = static_cast<std::uint8_t>(to[i / 8] | (bits[bit / 8] >> (bit % 8) & 1) << (i % 8));
            }
            to += inputs_.groups * step_bytes;
            continue;
        }
        for (std::int64_t g = 0; g < inputs_.groups; ++g) {
            for (std::int64_t c = 0; c < inputs_.taps; ++c, to += step_bytes) {
                std::memcpy(to, bits + ((r * inputs_.taps + c) * inputs_.groups + g) * step_bytes, static_cast<std::size_t>(step_bytes));
            }
        }
    }
}

WorkingBytes BitConvolution::Rows::working_bytes() const {
    WorkingBytes sum = levels.working_bytes();
    sum += prepared.working_bytes();
    sum += totals.working_bytes();
    sum += offsets.working_bytes();
    return sum;
}

std::uint64_t BitConvolution::weight_bytes(const Window& window, std::int64_t channels, std::int64_t outputs, const Kernels& kernels) {
    const Inputs inputs(window, channels, kernels.gemv.layout);
    const std::int64_t steps = window.kernel[0] * inputs.taps * inputs.groups;
    return static_cast<std::uint64_t>(divide_up(outputs, kernels.gemv.layout.unit_outputs) * steps * unit_step_bytes);
}

void BitConvolution::prepare_row(const QuantizedImage& image, std::int64_t row, std::int64_t first_pixel, std::int64_t positions, Rows& rows) const {
    const std::int64_t pixels = pixels_of(positions), columns = columns_of(positions);
    std::uint8_t* levels = rows.levels.data();
    const std::int64_t y = row - window_.padding[0], left = first_pixel - window_.padding[2];
    // The part of the row inside the image.
    std::int64_t begin = std::clamp<std::int64_t>(-left, 0, pixels), end = std::clamp<std::int64_t>(image.width - left, begin, pixels);
    if (y < 0 || y >= image.height) begin = end = pixels;
    std::memset(levels, image.shift, static_cast<std::size_t>(begin * channels_));
    if (begin < end) {
        kernels_.rows.quantize(image.x + (y * image.width + left + begin) * channels_, (end - begin) * channels_, image.inverse, image.low,
                               image.high, image.shift, levels + begin * channels_);
    }
    // The last step of a run reads beyond the run; the bits there are 0.
    std::memset(levels + end * channels_, image.shift, static_cast<std::size_t>((pixels - end) * channels_ + slack_bytes));

    const std::int64_t slot = row % reach(0), stride = inputs_.runs ? window_.stride[1] * channels_ : channels_;
    std::uint8_t* prepared = rows.prepared.data() + slot * inputs_.groups * columns * kernels_.gemv.layout.prepared_bytes;
    const auto* x = reinterpret_cast<const std::int8_t*>(levels);
    // The same channels of neighbouring pixels are adjacent: a step of several positions is a few contiguous kilobytes.
    for (std::int64_t g = 0; g < inputs_.groups; ++g, prepared += columns * kernels_.gemv.layout.prepared_bytes) {
        kernels_.conv.prepare(x + g * kernels_.gemv.layout.step_inputs, stride, columns, prepared);
    }
    if (plus_minus_) {
        std::int32_t* totals = rows.totals.data() + slot * columns;
        for (std::int64_t p = 0; p < columns; ++p, x += stride) {
            totals[p] = 0;
            for (std::int64_t c = 0; c < inputs_.length; ++c) totals[p] += x[c];
        }
    }
}

void BitConvolution::sums_of_row(const QuantizedImage& image, std::int64_t row, std::int64_t first, std::int64_t end, Rows& rows,
                                 std::int32_t* sums) const {
    const std::int64_t positions = end - first, columns = columns_of(positions), position_bytes = column_step() * kernels_.gemv.layout.prepared_bytes;
    const std::int64_t top = row * window_.stride[0], bytes = kernels_.gemv.layout.prepared_bytes;
    for (std::int64_t y = std::max(rows.next, top); y < top + reach(0); ++y) prepare_row(image, y, first * window_.stride[1], positions, rows);
    rows.next = top + reach(0);

    std::int32_t* offset = rows.offsets.data();
    for (std::int64_t r = 0; r < window_.kernel[0]; ++r) {
        const std::int64_t slot = (top + r * window_.dilation[0]) % reach(0);
        for (std::int64_t g = 0; g < inputs_.groups; ++g) {
            for (std::int64_t c = 0; c < inputs_.taps; ++c) {
                *offset++ = static_cast<std::int32_t>(((slot * inputs_.groups + g) * columns + c * window_.dilation[1]) * bytes);
            }
        }
    }

    const std::int64_t calls = divide_up(positions, positions_), stride = sum_stride();
    // The part of the next row inside the image.
    const float* next = nullptr;
    std::int64_t coming = 0;
    if (const std::int64_t y = top + reach(0) - window_.padding[0]; y >= 0 && y < image.height) {
        const std::int64_t left = first * window_.stride[1] - window_.padding[2];
        const std::int64_t x = std::clamp<std::int64_t>(left, 0, image.width);
        next = image.x + (y * image.width + x) * channels_;
        coming = (std::clamp<std::int64_t>(left + pixels_of(positions), x, image.width) - x) * channels_;
    }
    for (std::int64_t call = 0; call < calls; ++call) {
        const std::int64_t from = positions * call / calls;
        const auto count = static_cast<int>(positions * (call + 1) / calls - from);
        // The next row's floats are far away in memory: prefetch them while this row is computed.
        for (std::int64_t i = coming * call / calls; i < coming * (call + 1) / calls; i += line_floats) __builtin_prefetch(next + i, 0, 2);
        const std::uint8_t* tile = bits_.data();
        const std::uint8_t* prepared = rows.prepared.data() + from * position_bytes;
        // All outputs of some steps, then the next steps: the prepared data of these positions pass the first-level cache once.
        for (std::int64_t block = 0; block < blocks_; ++block) {
            const std::int64_t step = first_step(block);
            const auto steps = static_cast<int>(first_step(block + 1) - step);
            for (std::int64_t unit = 0; unit < units_; unit += image_units) {
                const auto units = static_cast<int>(std::min<std::int64_t>(image_units, units_ - unit));
                kernels_.conv.product({.tile = tile,
                                       .step_stride = units * unit_step_bytes,
                                       .units = units,
                                       .prepared = prepared,
                                       .position_stride = static_cast<std::ptrdiff_t>(position_bytes),
                                       .positions = count,
                                       .offsets = rows.offsets.data() + step,
                                       .steps = steps,
                                       .first = block == 0,
                                       .out = sums + from * stride + unit * kernels_.gemv.layout.unit_outputs,
                                       .out_stride = static_cast<std::ptrdiff_t>(stride)});
                tile += std::int64_t{units} * steps * unit_step_bytes;
            }
        }
    }
    if (plus_minus_) subtract_totals(row, positions, rows, sums);
}

// sum (2b - 1) q
void BitConvolution::subtract_totals(std::int64_t row, std::int64_t positions, Rows& rows, std::int32_t* sums) const {
    const std::int64_t columns = columns_of(positions);
    for (std::int64_t p = 0; p < positions; ++p, sums += sum_stride()) {
        std::int32_t total = 0;
        for (std::int64_t r = 0; r < window_.kernel[0]; ++r) {
            const std::int64_t slot = (row * window_.stride[0] + r * window_.dilation[0]) % reach(0);
            const std::int32_t* totals = rows.totals.data() + slot * columns + p * column_step();
            for (std::int64_t c = 0; c < inputs_.taps; ++c) total += totals[c * window_.dilation[1]];
        }
        for (std::int64_t o = 0; o < outputs_; ++o) sums[o] = 2 * sums[o] - total;
    }
}

}  // namespace onebit
