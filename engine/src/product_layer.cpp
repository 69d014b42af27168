#include "product_layer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace onebit {
namespace {

// The sums of a chunk of positions: few enough to stay in the second-level cache next to the weights.
constexpr std::int64_t chunk_sums = 48 * 1024;

int round_up(std::int64_t n, int to) {
    return static_cast<int>((n + to - 1) / to * to);
}

}  // namespace

WorkingBytes Scratch::working_bytes() const {
    WorkingBytes sum;
    for (const Buffer<std::uint8_t>* buffer : {&levels, &upper}) sum += buffer->working_bytes();
    for (const Buffer<float>* buffer : {&padded, &panels}) sum += buffer->working_bytes();
    sum += panels8.working_bytes();
    for (const Thread& thread : threads) {
        for (const Buffer<std::int32_t>* buffer : {&thread.sums8, &thread.upper}) sum += buffer->working_bytes();
        for (const Buffer<float>* buffer : {&thread.sums, &thread.finished}) sum += buffer->working_bytes();
        sum += thread.rows.working_bytes();
    }
    return sum;
}

bool ProductLayer::reads_bits(const ops::Layer& layer, const Shape& input, const Shape& output, bool quantize, const Kernels& kernels) {
    const bool sign = layer.bits.input.quantizer == InputLevels::Quantizer::sign;
    return quantize && layer.convolution && !layer.depth && !sign && digits_of(layer.bits.input) == 1 &&
           BitConvolution::suits(layer.window, input.back(), layer.bits.plane_count() * output.back(), kernels);
}

std::uint64_t ProductLayer::weight_bytes(const ops::Layer& layer, const Shape& input, const Shape& output, bool quantize, const Kernels& kernels) {
    const auto planes = layer.bits.plane_count();
    const std::int64_t outputs = planes * output.back(),
                       taps = (layer.depth ? layer.depth->kernel : 1) * layer.window.kernel[0] * layer.window.kernel[1];
    const std::int64_t row = taps * (input.back() / layer.window.groups);
    // Offsets of outputs, twice, and a bias.
    const std::int64_t of_outputs = (2 * outputs + output.back()) * std::int64_t{sizeof(float)};
    if (reads_bits(layer, input, output, quantize, kernels)) {
        return BitConvolution::weight_bytes(layer.window, input.back(), outputs, kernels) + static_cast<std::uint64_t>(of_outputs);
    }
    const std::int64_t weights = layer.binary() ? outputs * row_bytes(row) + slack_bytes : outputs * row * std::int64_t{sizeof(float)};
    const std::int64_t group_outputs = output.back() / layer.window.groups, panel = block_outputs * max_blocks;
    const std::int64_t parts = planes * layer.window.groups * ((group_outputs + panel - 1) / panel);
    return static_cast<std::uint64_t>(weights + of_outputs + parts * std::int64_t{sizeof(Part)} + taps * std::int64_t{sizeof(std::ptrdiff_t)});
}

ProductLayer::ProductLayer(const ops::Layer& layer, const Shape& input, const Shape& output, bool quantize, const Kernels& kernels,
                           std::size_t& budget)
    : kernels_(kernels),
      quantize_(quantize),
      plus_minus_(layer.bits.plus_minus),
      planes_(layer.bits.planes),
      levels_(layer.bits.input),
      window_(layer.window),
      depth_(layer.depth.value_or(Depth{})),
      epilogue_(layer, output.back(), kernels) {
    channels_ = input.back();
    outputs_ = output.back();
    const auto planes = static_cast<std::int64_t>(planes_.size());
    plane_outputs_ = planes * outputs_;
    if (layer.convolution) {
        const std::size_t first = layer.depth ? 1 : 0;
        slices_ = layer.depth ? input[0] : 1;
        height_ = input[first];
        width_ = input[first + 1];
        out_slice_height_ = output[first];
        out_height_ = (layer.depth ? output[0] : 1) * out_slice_height_;
        out_width_ = output[first + 1];
    } else {
        images_ = elements(input) / channels_;
    }
    out_height_ -= out_height_ % epilogue_.pool_height();  // rows outside all pooling windows are not computed
    padded_slices_ = slices_ + depth_.padding[0] + depth_.padding[1];
    padded_height_ = height_ + window_.padding[0] + window_.padding[1];
    padded_width_ = width_ + window_.padding[2] + window_.padding[3];

    const std::int64_t group_channels = channels_ / window_.groups;
    const bool whole_rows = window_.groups == 1 && window_.dilation[1] == 1;  // a kernel's row is one run of inputs
    for (std::int64_t r = 0; r < depth_.kernel * window_.kernel[0]; ++r) {
        const std::int64_t slice = r / window_.kernel[0] * depth_.dilation, line = r % window_.kernel[0] * window_.dilation[0];
        for (std::int64_t c = 0; c < (whole_rows ? 1 : window_.kernel[1]); ++c) {
            offsets_.push_back(((slice * padded_height_ + line) * padded_width_ + c * window_.dilation[1]) * channels_);
        }
    }
    raw_length_ = static_cast<int>(whole_rows ? window_.kernel[1] * channels_ : group_channels);
    segments_ = {offsets_.data(), static_cast<int>(offsets_.size()), quantize ? round_up(raw_length_, int8_group) : raw_length_};
    cut_into_parts();
    take_weights(layer, reads_bits(layer, input, output, quantize, kernels));
    if (!by_bits_) keep_panels(budget);
}

void ProductLayer::cut_into_parts() {
    const auto planes = static_cast<std::int64_t>(planes_.size());
    const std::int64_t group_channels = channels_ / window_.groups;
    const auto padded_weights = static_cast<std::size_t>(segments_.segments) * static_cast<std::size_t>(segments_.length);
    if (depthwise()) {
        // A part for each plane: [tap][channel].
        for (std::int64_t plane = 0; plane < planes; ++plane) {
            parts_.push_back({static_cast<int>(plane * outputs_), static_cast<int>(outputs_), 0, 0, panel_weights_});
            panel_weights_ += static_cast<std::size_t>(segments_.segments * outputs_);
        }
        return;
    }
    const std::int64_t group_outputs = outputs_ / window_.groups;
    for (std::int64_t g = 0; g < planes * window_.groups; ++g) {
        for (std::int64_t o = 0; o < group_outputs; o += block_outputs * max_blocks) {
            const auto here = static_cast<int>(std::min<std::int64_t>(group_outputs - o, block_outputs * max_blocks));
            const int blocks = (here + block_outputs - 1) / block_outputs;
            const auto input_offset = static_cast<std::ptrdiff_t>(g % window_.groups * group_channels);
            parts_.push_back({static_cast<int>(g * group_outputs + o), here, blocks, input_offset, panel_weights_});
            panel_weights_ += padded_weights * static_cast<std::size_t>(blocks * block_outputs);
        }
    }
}

void ProductLayer::take_weights(const ops::Layer& layer, bool by_bits) {
    const std::int64_t row_weights = static_cast<std::int64_t>(segments_.segments) * raw_length_, stored = row_bytes(row_weights);
    if (by_bits) {
        by_bits_ = std::make_unique<BitConvolution>(layer.bits.rows, plus_minus_, window_, channels_, plane_outputs_, out_width_, kernels_);
        output_offsets_.assign(by_bits_->offset_sums(), by_bits_->offset_sums() + plane_outputs_);
        combine_planes(planes_, outputs_, output_offsets_.data());
        return;
    }
    if (layer.binary()) {
        // Kernels read 4 bytes at once, so the last row must not end at the end of the memory.
        bits_.assign(layer.bits.rows, layer.bits.rows + plane_outputs_ * stored);
        bits_.resize(bits_.size() + slack_bytes);
        for (std::int64_t o = 0; o < plane_outputs_ && quantize_; ++o) {
            std::int64_t ones = 0;
            for (std::int64_t i = 0; i < stored; ++i) ones += std::popcount(bits_[static_cast<std::size_t>(o * stored + i)]);
            offset_sums_.push_back(static_cast<std::int32_t>(signed_shift * (plus_minus_ ? 2 * ones - row_weights : ones)));
        }
        output_offsets_ = offset_sums_;
        if (quantize_) combine_planes(planes_, outputs_, output_offsets_.data());
    } else {
        weights_.assign(layer.weight, layer.weight + outputs_ * row_weights);
    }
}

void ProductLayer::keep_panels(std::size_t& budget) {
    const std::size_t bytes = panel_weights_ * (quantize_ ? 1 : sizeof(float));
    if (bytes <= budget) {
        budget -= bytes;
        if (quantize_) {
            kept8_.resize(panel_weights_);
            for (const Part& part : parts_) expand(part, kept8_.data() + part.panel);
        } else {
            kept_.resize(panel_weights_);
            for (const Part& part : parts_) expand(part, kept_.data() + part.panel);
        }
    }
}

bool ProductLayer::can_pool(const Window& window, std::int64_t width, std::int64_t outputs) {
    return window.kernel[0] * width * outputs <= 4 * chunk_sums;
}

float ProductLayer::weight(std::int64_t output, std::int64_t input) const {
    const std::int64_t row = static_cast<std::int64_t>(segments_.segments) * raw_length_;
    if (bits_.empty()) return weights_[static_cast<std::size_t>(output * row + input)];
    const bool set = bits_[static_cast<std::size_t>(output * row_bytes(row) + input / 8)] >> (input % 8) & 1;
    return set ? 1.0f : (plus_minus_ ? -1.0f : 0.0f);
}

template <class Weight>
void ProductLayer::expand_depthwise(const Part& part, Weight* panel) const {
    for (std::int64_t t = 0; t < segments_.segments; ++t) {
        for (std::int64_t c = 0; c < outputs_; ++c) panel[t * outputs_ + c] = static_cast<Weight>(weight(part.first + c, t));
    }
}

void ProductLayer::expand(const Part& part, std::int8_t* panel) const {
    if (depthwise()) return expand_depthwise(part, panel);
    const std::int64_t stored = row_bytes(static_cast<std::int64_t>(segments_.segments) * raw_length_);
    kernels_.gemm.expand_int8({.bits = bits_.data() + part.first * stored,
                               .row_bytes = static_cast<std::ptrdiff_t>(stored),
                               .rows = part.outputs,
                               .blocks = part.blocks,
                               .segments = segments_.segments,
                               .raw_length = raw_length_,
                               .length = segments_.length,
                               .plus_minus = plus_minus_},
                              panel);
}

void ProductLayer::expand(const Part& part, float* panel) const {
    if (depthwise()) return expand_depthwise(part, panel);
    const int width = part.blocks * block_outputs;
    const std::int64_t row = static_cast<std::int64_t>(segments_.segments) * raw_length_;
    for (int o = 0; o < width; ++o) {
        for (std::int64_t k = 0; k < row; ++k) panel[k * width + o] = o < part.outputs ? weight(part.first + o, k) : 0.0f;
    }
}

template <class Weight>
const Weight* ProductLayer::panels(const std::vector<Weight>& kept, Buffer<Weight>& scratch, ThreadPool& pool) const {
    if (!kept.empty()) return kept.data();
    Weight* all = scratch.data();
    parallel(pool, static_cast<std::int64_t>(panel_weights_), static_cast<std::int64_t>(parts_.size()), [&](std::int64_t i, int) {
        const Part& part = parts_[static_cast<std::size_t>(i)];
        expand(part, all + part.panel);
    });
    return all;
}

template <class Input, class Convert>
void ProductLayer::prepare(const float* x, Input* padded, Input zero, const Convert& convert, ThreadPool& pool) const {
    const std::int64_t row = width_ * channels_, padded_row = padded_width_ * channels_;
    const std::int64_t left = window_.padding[2] * channels_, right = window_.padding[3] * channels_;
    const std::int64_t lines = padded_slices_ * padded_height_;
    parallel(pool, lines * padded_row * 8, lines, [&](std::int64_t i, int) {
        Input* to = padded + i * padded_row;
        const std::int64_t slice = i / padded_height_ - depth_.padding[0], line = i % padded_height_ - window_.padding[0];
        const std::int64_t from = slice * height_ + line;
        if (slice < 0 || slice >= slices_ || line < 0 || line >= height_) {
            std::fill(to, to + padded_row, zero);
            return;
        }
        std::fill(to, to + left, zero);
        convert(x + from * row, row, to + left);
        std::fill(to + left + row, to + left + row + right, zero);
    });
}

std::int64_t ProductLayer::units_at_once(std::int64_t most, std::size_t threads) const {
    const std::int64_t units = out_height_ / epilogue_.pool_height();
    if (threads > 1) most = std::min(most, units / (2 * static_cast<std::int64_t>(threads)));
    return std::max<std::int64_t>(1, most);
}

std::int64_t ProductLayer::units_of_chunk(std::size_t threads) const {
    return units_at_once(chunk_sums / (unit_positions() * sum_stride()), threads);
}

std::int64_t ProductLayer::sum_stride() const {
    // The last block of a group or plane may overwrite the next one's sums, which are written later. After the very last it needs space.
    return round_up(plane_outputs_, block_outputs) + (planes_.size() > 1 || window_.groups > 1 ? block_outputs * max_blocks : 0);
}

std::int64_t ProductLayer::strip() const {
    // Pooling windows are not divided between strips.
    return std::min<std::int64_t>(out_width_, round_up(by_bits_->strip_width(), static_cast<int>(epilogue_.pool_width())));
}

template <class Function>
void ProductLayer::each_buffer(Scratch& scratch, const Function& f) const {
    const bool two_digits = quantize_ && digits_of(levels_) == 2;
    if (!by_bits_) {
        const std::int64_t room = padded_size() + slack_bytes;
        if (quantize_) {
            if (kept8_.empty()) f(scratch.panels8, panel_weights_);
            f(scratch.levels, room);
            if (two_digits) f(scratch.upper, room);
        } else {
            if (kept_.empty()) f(scratch.panels, panel_weights_);
            if (padded_size() != size()) f(scratch.padded, room);
        }
    }
    for (Scratch::Thread& own : scratch.threads) {
        f(own.finished, epilogue_.waiting());
        if (by_bits_) {
            by_bits_->each_buffer(strip(), own.rows, f);
            f(own.sums8, epilogue_.pool_height() * strip() * by_bits_->sum_stride());
            continue;
        }
        const std::int64_t sums = units_of_chunk(scratch.threads.size()) * unit_positions() * sum_stride();
        if (quantize_) {
            f(own.sums8, sums);
            if (two_digits) f(own.upper, sums);
        } else {
            f(own.sums, sums);
        }
    }
}

template <class Sum>
void ProductLayer::finish(Sum* sums, std::int64_t sum_stride, float scale, const EpilogueArgs& e, std::int64_t unit, std::int64_t first,
                          std::int64_t end, float* y, Scratch::Thread& own) const {
    const std::int64_t pool_width = epilogue_.pool_width();
    float* out = y + (unit * (out_width_ / pool_width) + first / pool_width) * outputs_;
    own.range.include(epilogue_.run(kernels_, sums, sum_stride, end - first, scale, e, own.finished.data(), out));
}

void ProductLayer::expect(Scratch& scratch) const {
    each_buffer(scratch, expect_buffer);
}

template <class Input, class Weight, class Sum>
void ProductLayer::multiply_depthwise(const Input* from, const Weight* panels, std::int64_t first, std::int64_t end, Sum* to, ThreadPool& pool,
                                      int thread) const {
    DepthwiseArgs args{static_cast<std::ptrdiff_t>(window_.stride[1] * channels_),
                       0,
                       offsets_.data(),
                       segments_.segments,
                       static_cast<int>(channels_),
                       static_cast<std::ptrdiff_t>(sum_stride())};
    for (std::int64_t p = first; p < end; p += args.positions) {
        pool.check(thread);
        const std::int64_t oy = p / out_width_, ox = p % out_width_;
        args.positions = std::min(out_width_ - ox, end - p);
        const Input* x = from + (line_start(oy) + ox * window_.stride[1]) * channels_;
        for (const Part& part : parts_) {
            Sum* out = to + (p - first) * sum_stride() + part.first;
            if constexpr (std::is_same_v<Sum, float>) {
                kernels_.rows.depthwise_float(x, args, panels + part.panel, out);
            } else {
                kernels_.rows.depthwise_int8(x, args, panels + part.panel, out);
            }
        }
    }
}

template <class Input, class Weight, class Sum>
void ProductLayer::convolve(const Input* padded, const Input* upper, const Weight* panels, float scale, float* y, ThreadPool& pool,
                            Scratch& scratch) const {
    const std::int64_t unit_positions = this->unit_positions(), units = out_height_ / epilogue_.pool_height(), sum_stride = this->sum_stride();
    const std::int64_t per_chunk = units_of_chunk(scratch.threads.size());
    const std::int64_t chunks = (units + per_chunk - 1) / per_chunk;
    const std::int64_t work = out_height_ * out_width_ * static_cast<std::int64_t>(panel_weights_);
    EpilogueArgs e = epilogue_.args();
    // Divide lines into equal parts.
    const bool by_lines = kernels_.tiles != nullptr && out_width_ >= tile_least_line;
    const std::int64_t parts = by_lines ? (out_width_ + kernels_.gemm.rows_at_once - 1) / kernels_.gemm.rows_at_once : 0;
    const std::int64_t at_once = by_lines ? (out_width_ + parts - 1) / parts : kernels_.gemm.rows_at_once;
    // A negative scale means that the levels were shifted (see run).
    if (std::signbit(scale) && upper == nullptr) e.offset = output_offsets_.data();

    parallel(pool, work, chunks, [&](std::int64_t chunk, int thread) {
        const TilesInUse in_use(kernels_.tiles);
        Scratch::Thread& own = scratch.threads[static_cast<std::size_t>(thread)];
        const std::int64_t first_unit = chunk * per_chunk, end_unit = std::min(units, first_unit + per_chunk);
        const std::int64_t first = first_unit * unit_positions, end = end_unit * unit_positions;
        Sum* sums = nullptr;
        if constexpr (std::is_same_v<Sum, float>) {
            sums = own.sums.data();
        } else {
            sums = own.sums8.data();
        }
        const auto multiply = [&](const Input* from, Sum* to) {
            if (depthwise()) return multiply_depthwise(from, panels, first, end, to, pool, thread);
            for (const Part& part : parts_) {
                std::int64_t calls = 0;
                for (std::int64_t p = first; p < end;) {
                    if (calls++ % calls_of_check == 0) pool.check(thread);
                    const Input* rows[max_rows];
                    int count = 0;
                    std::int64_t oy = p / out_width_, ox = p % out_width_, start = line_start(oy);
                    bool ends = false;
                    for (; count < at_once && p + count < end && !ends; ++count) {
                        rows[count] = from + (start + ox * window_.stride[1]) * channels_ + part.input_offset;
                        if (++ox == out_width_) ox = 0, start = line_start(++oy), ends = by_lines;
                    }
                    Sum* out = to + (p - first) * sum_stride + part.first;
                    if constexpr (std::is_same_v<Sum, float>) {
                        kernels_.gemm.product_float(rows, count, segments_, panels + part.panel, part.blocks, out, sum_stride);
                    } else {
                        kernels_.gemm.product_int8(rows, count, segments_, panels + part.panel, part.blocks, out, sum_stride);
                    }
                    p += count;
                }
            }
        };
        multiply(padded, sums);
        if constexpr (std::is_same_v<Sum, std::int32_t>) {
            if (upper != nullptr) {
                // Only the final sum is certain to fit in 32 bits, so intermediate sums are unsigned.
                multiply(upper, own.upper.data());
                for (std::int64_t p = 0; p < end - first; ++p) {
                    std::int32_t* lower = sums + p * sum_stride;
                    const std::int32_t* high = own.upper.data() + p * sum_stride;
                    for (std::int64_t o = 0; o < plane_outputs_; ++o) {
                        const auto digits = static_cast<std::uint32_t>(high[o] - offset_sums_[static_cast<std::size_t>(o)]) * 256u;
                        lower[o] = static_cast<std::int32_t>(static_cast<std::uint32_t>(lower[o]) + digits);
                    }
                }
            }
        }
        for (std::int64_t unit = first_unit; unit < end_unit; ++unit) {
            finish(sums + (unit - first_unit) * unit_positions * sum_stride, sum_stride, std::fabs(scale), e, unit, 0, out_width_, y, own);
        }
    });
}

void ProductLayer::convolve_bits(const QuantizedImage& image, float scale, float* y, ThreadPool& pool, Scratch& scratch) const {
    const std::int64_t units = out_height_ / epilogue_.pool_height(), sum_stride = by_bits_->sum_stride();
    const std::int64_t strip = this->strip(), strips = (out_width_ + strip - 1) / strip;
    const std::int64_t per_chunk = units_at_once(units, scratch.threads.size()), chunks = (units + per_chunk - 1) / per_chunk;
    EpilogueArgs e = epilogue_.args();
    if (image.shift != 0) e.offset = output_offsets_.data();
    const std::int64_t work = out_height_ * out_width_ * plane_outputs_ * segments_.segments * raw_length_;
    parallel(pool, work, chunks * strips, [&](std::int64_t i, int thread) {
        Scratch::Thread& own = scratch.threads[static_cast<std::size_t>(thread)];
        const std::int64_t first_unit = i / strips * per_chunk, first = i % strips * strip, end = std::min(out_width_, first + strip);
        own.rows.next = 0;
        for (std::int64_t unit = first_unit; unit < std::min(units, first_unit + per_chunk); ++unit) {
            for (std::int64_t r = 0; r < epilogue_.pool_height(); ++r) {
                pool.check(thread);
                by_bits_->sums_of_row(image, unit * epilogue_.pool_height() + r, first, end, own.rows,
                                      own.sums8.data() + r * (end - first) * sum_stride);
            }
            finish(own.sums8.data(), sum_stride, scale, e, unit, first, end, y, own);
        }
    });
}

Range ProductLayer::range_of(const float* x, std::int64_t n, ThreadPool& pool) const {
    constexpr std::int64_t most = 64;
    Range ranges[most];
    const std::int64_t pieces = std::clamp<std::int64_t>(n / 16384, 1, most);
    parallel(pool, n * 8, pieces, [&](std::int64_t i, int) {
        const std::int64_t begin = n * i / pieces, end = n * (i + 1) / pieces;
        kernels_.rows.range(x + begin, end - begin, &ranges[i].largest_bits, &ranges[i].negative);
    });
    for (std::int64_t i = 1; i < pieces; ++i) ranges[0].include(ranges[i]);
    return ranges[0];
}

Range ProductLayer::run(const float* x, const Range* known, float* y, ThreadPool& pool, Scratch& scratch) const {
    const std::int64_t size = this->size(), padded_size = this->padded_size();
    const std::int64_t out_size = out_height_ / epilogue_.pool_height() * (out_width_ / epilogue_.pool_width()) * outputs_;
    each_buffer(scratch, reserve_buffer);
    for (Scratch::Thread& thread : scratch.threads) thread.range = Range();
    const float* weights = quantize_ ? nullptr : panels(kept_, scratch.panels, pool);
    const std::int8_t* weights8 = quantize_ && !by_bits_ ? panels(kept8_, scratch.panels8, pool) : nullptr;
    for (std::int64_t image = 0; image < images_; ++image, x += size, y += out_size) {
        if (image % calls_of_check == 0) pool.check(0);
        if (!quantize_) {
            const float* from = x;
            if (padded_size != size) {
                float* padded = scratch.padded.data();
                prepare(x, padded, 0.0f, [](const float* row, std::int64_t n, float* to) { std::copy(row, row + n, to); }, pool);
                from = padded;
            }
            convolve<float, float, float>(from, nullptr, weights, 1.0f, y, pool, scratch);
            continue;
        }
        // Each row of a matrix has its own scale, so only a whole image can use the range that its producer gave.
        const Range range = !needs_range(levels_) ? Range() : known != nullptr && images_ == 1 ? *known : range_of(x, size, pool);
        const Quantizer q(levels_, range);
        if (!q.finite) {
            std::fill(y, y + out_size, std::numeric_limits<float>::quiet_NaN());
            scratch.threads[0].range.largest_bits = 0x7FC00000u;
            continue;
        }
        if (by_bits_) {
            convolve_bits({x, height_, width_, q.inverse, q.low, q.high, q.is_signed ? 0 : -signed_shift}, q.scale, y, pool, scratch);
            continue;
        }
        std::uint8_t* levels = scratch.levels.data();
        std::memset(levels + padded_size, 0, slack_bytes);
        const int shift = q.is_signed ? signed_shift : 0;
        if (digits_of(levels_) == 2) {
            std::uint8_t* upper = scratch.upper.data();
            std::memset(upper + padded_size, 0, slack_bytes);
            const auto both = [&](const float* row, std::int64_t n, std::uint8_t* to) { q.digits(row, n, shift, to, upper + (to - levels)); };
            std::memset(upper, shift, static_cast<std::size_t>(padded_size));
            prepare(x, levels, std::uint8_t{0}, both, pool);
            convolve<std::uint8_t, std::int8_t, std::int32_t>(levels, upper, weights8, q.scale, y, pool, scratch);
            continue;
        }
        const auto convert = [&](const float* row, std::int64_t n, std::uint8_t* to) { q.bytes(kernels_, row, n, shift, to); };
        prepare(x, levels, static_cast<std::uint8_t>(shift), convert, pool);
        convolve<std::uint8_t, std::int8_t, std::int32_t>(levels, nullptr, weights8, q.is_signed ? -q.scale : q.scale, y, pool, scratch);
    }
    Range made;
    for (const Scratch::Thread& thread : scratch.threads) made.include(thread.range);
    return made;
}

std::size_t ProductLayer::bytes() const {
    return (by_bits_ ? by_bits_->bytes() : 0) + bits_.size() + kept8_.size() + sizeof(float) * (weights_.size() + kept_.size()) + epilogue_.bytes() +
           sizeof(std::int32_t) * (offset_sums_.size() + output_offsets_.size());
}

std::string ProductLayer::kernel() const {
    if (by_bits_) return kernels_.gemv.layout.name;
    const std::string panels =
        std::to_string(parts_.size()) + (depthwise() ? " depthwise panels of " : " panels of ") + (quantize_ ? "bytes" : "floats");
    return panels + (kept_.empty() && kept8_.empty() ? ", expanded in each run" : "");
}

}  // namespace onebit
