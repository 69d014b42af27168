#include "grouped_layer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "half.h"
#include "index.h"
#include "quantizer.h"
#include "trace.h"

namespace onebit {
namespace {

constexpr int panel_outputs = max_blocks * block_outputs;
static_assert(panel_outputs == byte_panel_outputs);
// The bytes of prepared inputs at a time: they stay in the second-level cache.
constexpr std::int64_t prepared_at_once = std::int64_t{400} << 10;
// With fewer rows than this per thread, threads divide the outputs instead.
constexpr std::int64_t least_rows_of_a_thread = 8;
// The levels of a group.
constexpr InputLevels levels_of_group{InputLevels::Quantizer::absmax, 8};

}  // namespace

WorkingBytes GroupedScratch::working_bytes() const {
    WorkingBytes sum = sums.working_bytes();
    const auto add = [&](const Input& some) {
        sum += some.levels.working_bytes();
        sum += some.prepared.working_bytes();
        sum += some.scales.working_bytes();
        sum += some.totals.working_bytes();
    };
    add(input);
    for (const Thread& thread : threads) {
        add(thread.input);
        sum += thread.sums.working_bytes();
        sum += thread.panel.working_bytes();
        sum += thread.plane.working_bytes();
        sum += thread.outputs.working_bytes();
    }
    return sum;
}

std::string GroupedLayer::kernel() const {
    const std::string scales = groups_ == 1 ? "a scale for each output" : "a scale for " + std::to_string(group_) + " inputs";
    if (!quantize_) return "panels of floats, " + scales;
    return (of_bytes() ? "bytes of 64 outputs side by side" : std::string(kernels_.gemv.layout.name)) + ", " + scales;
}

std::int64_t GroupedLayer::rows_at_once(std::int64_t rows, std::size_t threads) const {
    if (!quantize_ || rows < least_rows_of_a_thread * static_cast<std::int64_t>(threads)) return 0;
    return std::clamp<std::int64_t>(prepared_at_once / prepared_bytes() / image_positions, 1, 10) * image_positions;
}

template <class Function>
void GroupedLayer::each_input_buffer(std::int64_t rows, GroupedScratch::Input& input, const Function& f) const {
    f(input.levels, rows * padded_inputs() + slack_bytes);
    if (!of_bytes()) f(input.prepared, rows * prepared_bytes());
    f(input.scales, rows * groups_);
    f(input.totals, rows * groups_);
}

template <class Function>
void GroupedLayer::each_buffer(std::int64_t rows, GroupedScratch& scratch, const Function& f) const {
    f(scratch.sums, rows * padded_outputs_);
    const std::int64_t at_once = rows_at_once(rows, scratch.threads.size());
    if (quantize_ && at_once == 0) each_input_buffer(rows, scratch.input, f);
    for (GroupedScratch::Thread& own : scratch.threads) {
        if (!quantize_) {
            f(own.panel, inputs_ * panel_outputs);
            if (counts_.size() > 1) f(own.plane, inputs_ * panel_outputs);
            f(own.outputs, std::int64_t{kernels_.gemm.rows_at_once} * panel_outputs);
            continue;
        }
        if (at_once > 0) each_input_buffer(at_once, own.input, f);
        if (!of_bytes() && !in_words_) {
            const std::int64_t outputs = kernels_.gemv.layout.tile_units * unit_outputs();
            f(own.sums, outputs * static_cast<std::int64_t>(counts_.size()) * kernels_.conv.most_positions);
        }
    }
}

void GroupedLayer::expect(std::int64_t rows, GroupedScratch& scratch) const {
    each_buffer(rows, scratch, expect_buffer);
}

void GroupedLayer::quantize(const float* x, std::int64_t r, std::int64_t to, GroupedScratch::Input& input) const {
    std::uint8_t* levels = input.levels.data() + to * padded_inputs();
    for (std::int64_t g = 0; g < groups_; ++g) {
        const float* from = x + r * inputs_ + g * group_;
        Range range;
        kernels_.rows.range(from, group_, &range.largest_bits, &range.negative);
        const Quantizer q(levels_of_group, range);
        std::uint8_t* own = levels + g * padded_group_;
        std::fill(q.finite ? own + group_ : own, own + padded_group_, std::uint8_t{0});
        std::int32_t total = 0;
        if (q.finite) {
            q.bytes(kernels_, from, group_, 0, own);
            for (std::int64_t i = 0; i < group_; ++i) total += static_cast<std::int8_t>(own[i]);
        }
        input.scales.data()[to * groups_ + g] = q.finite ? q.scale : std::numeric_limits<float>::quiet_NaN();
        input.totals.data()[to * groups_ + g] = total;
    }
    if (of_bytes()) return;
    kernels_.gemv.prepare(reinterpret_cast<const std::int8_t*>(levels), planes_[0].steps(), input.prepared.data() + to * prepared_bytes());
}

void GroupedLayer::run(const float* x, std::int64_t rows, float* y, ThreadPool& pool, GroupedScratch& scratch) const {
    // Allocate memory here, before threads begin.
    each_buffer(rows, scratch, reserve_buffer);
    if (const std::int64_t at_once = rows_at_once(rows, scratch.threads.size()); at_once > 0) return run_rows(x, rows, at_once, y, pool, scratch);
    if (quantize_) {
        run_outputs(x, rows, pool, scratch);
    } else {
        parallel(pool, rows * outputs_ * inputs_, (padded_outputs_ + panel_outputs - 1) / panel_outputs,
                 [&](std::int64_t panel, int thread) { multiply_floats(x, rows, panel, thread, pool, scratch); });
    }
    parallel(pool, rows * outputs_ * 8, rows, [&](std::int64_t r, int) { finish(r, scratch.sums.data(), y); });
}

void GroupedLayer::run_rows(const float* x, std::int64_t rows, std::int64_t at_once, float* y, ThreadPool& pool, GroupedScratch& scratch) const {
    float* sums = scratch.sums.data();
    // Equally many pieces for each thread.
    const auto threads = static_cast<std::int64_t>(scratch.threads.size());
    const std::int64_t pieces = ((rows + at_once - 1) / at_once + threads - 1) / threads * threads;
    parallel(pool, rows * outputs_ * inputs_, pieces, [&](std::int64_t piece, int thread) {
        GroupedScratch::Thread& own = scratch.threads[at(thread)];
        const std::int64_t first = rows * piece / pieces, end = rows * (piece + 1) / pieces;
        pool.check(thread);
        for (std::int64_t r = first; r < end; ++r) quantize(x, r, r - first, own.input);
        multiply(own.input, end - first, 0, units(), own, sums + first * padded_outputs_);
        for (std::int64_t r = first; r < end; ++r) finish(r, sums, y);
    });
}

void GroupedLayer::run_outputs(const float* x, std::int64_t rows, ThreadPool& pool, GroupedScratch& scratch) const {
    for (std::int64_t r = 0; r < rows; ++r) quantize(x, r, r, scratch.input);
    const bool divided = rows * outputs_ * inputs_ >= kernels_.gemv.least_divided, by_parts = divided && !of_bytes() && planes_[0].parts() > 1;
    const std::int64_t pieces = !divided ? 1 : by_parts ? planes_[0].parts() : std::min<std::int64_t>(units(), pool.threads());
    const auto multiply_piece = [&](std::int64_t piece, int thread) {
        const std::int64_t first = by_parts ? planes_[0].first_unit(piece) : units() * piece / pieces;
        const std::int64_t end = by_parts ? planes_[0].first_unit(piece + 1) : units() * (piece + 1) / pieces;
        multiply(scratch.input, rows, first, end, scratch.threads[at(thread)], scratch.sums.data());
    };
    if (pieces == 1) return multiply_piece(0, 0);
    pool.parallel_for(pieces, multiply_piece);
}

void GroupedLayer::finish(std::int64_t r, const float* sums, float* y) const {
    const EpilogueArgs e = epilogue_.args();
    kernels_.rows.epilogue_float(sums + r * padded_outputs_, static_cast<int>(outputs_), e, y + r * outputs_);
    activate(e, outputs_, y + r * outputs_);
}

void GroupedLayer::multiply(const GroupedScratch::Input& input, std::int64_t rows, std::int64_t first_unit, std::int64_t end_unit,
                            GroupedScratch::Thread& own, float* sums) const {
    const trace::Span span("product");
    if (of_bytes()) return multiply_bytes(input, rows, first_unit, end_unit, sums);
    const std::int64_t steps = planes_[0].steps();
    for (std::int64_t step = 0; step < steps; step += std::min(steps, kernels_.gemv.layout.chunk_steps)) {
        for (std::int64_t unit = first_unit; unit < end_unit;) {
            const std::int64_t end = std::min(planes_[0].tile_end(unit), end_unit);
            multiply_tile(input, rows, unit, end, step, own, sums);
            unit = end;
        }
    }
}

void GroupedLayer::multiply_tile(const GroupedScratch::Input& input, std::int64_t rows, std::int64_t unit, std::int64_t end, std::int64_t step,
                                 GroupedScratch::Thread& own, float* sums) const {
    const BitLayout& layout = kernels_.gemv.layout;
    const std::int64_t group_steps = group_ / layout.step_inputs, first_group = step / group_steps, first_output = unit * layout.unit_outputs;
    const std::int64_t end_group = std::min(groups_, first_group + chunk_groups()), outputs = (end - unit) * layout.unit_outputs;
    if (in_words_) {
        const std::uint8_t* planes[most_group_planes];
        for (std::size_t p = 0; p < planes_.size(); ++p) planes[p] = planes_[p].stream(unit, step).bits;
        return kernels_.grouped.product_bits({.planes = planes,
                                              .plane_count = static_cast<int>(planes_.size()),
                                              .doubled = counts_.back() > 1,
                                              .step_stride = planes_[0].stream(unit, step).step_stride,
                                              .units = static_cast<int>(end - unit),
                                              .prepared = input.prepared.data() + step * layout.prepared_bytes,
                                              .prepared_stride = static_cast<std::ptrdiff_t>(prepared_bytes()),
                                              .rows = static_cast<int>(rows),
                                              .group_steps = static_cast<int>(group_steps),
                                              .groups = end_group - first_group,
                                              .plus_minus = plus_minus_,
                                              .taken_off = taken_off_,
                                              .x_scales = input.scales.data() + first_group,
                                              .x_totals = input.totals.data() + first_group,
                                              .x_stride = static_cast<std::ptrdiff_t>(groups_),
                                              .scales = scales_ + scale_at(first_output, first_group),
                                              .scale_stride = static_cast<std::ptrdiff_t>((end_group - first_group) * layout.unit_outputs),
                                              .first = first_group == 0,
                                              .out = sums + first_output,
                                              .out_stride = static_cast<std::ptrdiff_t>(padded_outputs_)});
    }
    const std::int64_t at_once = kernels_.conv.product == nullptr ? 1 : std::min<std::int64_t>(rows, kernels_.conv.most_positions);
    GroupSums group{};
    group.plane_stride = at_once * outputs;
    group.planes = counts_.data(), group.plane_count = static_cast<int>(counts_.size());
    group.times = plus_minus_ ? 2 : 1;
    group.scale_stride = (end_group - first_group) * layout.unit_outputs;
    group.units = static_cast<int>(end - unit), group.unit_outputs = layout.unit_outputs;
    for (std::int64_t g = first_group; g < end_group; ++g) {
        group.scales = scales_ + scale_at(first_output, g);
        group.first = g == 0;
        for (std::int64_t r = 0; r < rows; r += at_once) {
            const auto count = static_cast<int>(std::min(at_once, rows - r));
            const std::uint8_t* prepared = input.prepared.data() + r * prepared_bytes() + g * group_steps * layout.prepared_bytes;
            for (std::size_t p = 0; p < planes_.size(); ++p) {
                std::int32_t* to = own.sums.data() + static_cast<std::ptrdiff_t>(p) * group.plane_stride;
                multiply_group(planes_[p].stream(unit, g * group_steps), group.units, prepared, count, to);
            }
            for (int i = 0; i < count; ++i) {
                const std::int64_t row = r + i;
                group.sums = own.sums.data() + i * outputs;
                group.taken_off = input.totals.data()[row * groups_ + g] * taken_off_;
                group.scale = input.scales.data()[row * groups_ + g];
                group.out = sums + row * padded_outputs_ + first_output;
                kernels_.grouped.accumulate(group);
            }
        }
    }
}

void GroupedLayer::multiply_group(const BitMatrix::Stream& bits, int units, const std::uint8_t* prepared, int rows, std::int32_t* sums) const {
    const BitLayout& layout = kernels_.gemv.layout;
    const std::int64_t steps = group_ / layout.step_inputs;
    if (rows == 1) return kernels_.gemv.product(bits.bits, bits.step_stride, units, prepared, steps, false, sums);
    // Several rows share the loaded bits.
    std::int32_t offsets[image_steps];
    for (int s = 0; s < image_steps; ++s) offsets[s] = s * layout.prepared_bytes;
    for (int u = 0; u < units; u += image_units) {
        kernels_.conv.product({.tile = bits.bits + u * unit_step_bytes,
                               .step_stride = bits.step_stride,
                               .units = std::min(image_units, units - u),
                               .prepared = prepared,
                               .position_stride = static_cast<std::ptrdiff_t>(prepared_bytes()),
                               .positions = rows,
                               .offsets = offsets,
                               .steps = static_cast<int>(steps),
                               .first = true,
                               .out = sums + u * layout.unit_outputs,
                               .out_stride = static_cast<std::ptrdiff_t>(units) * layout.unit_outputs});
    }
}

void GroupedLayer::multiply_bytes(const GroupedScratch::Input& input, std::int64_t rows, std::int64_t first_unit, std::int64_t end_unit,
                                  float* sums) const {
    for (std::int64_t panel = first_unit; panel < end_unit; ++panel) {
        kernels_.grouped.product_bytes({.weights = weights_ + panel * padded_inputs() * byte_panel_outputs,
                                        .scales = scales_ + scale_at(panel * byte_panel_outputs, 0),
                                        .x = reinterpret_cast<const std::int8_t*>(input.levels.data()),
                                        .x_scales = input.scales.data(),
                                        .x_totals = input.totals.data(),
                                        .groups = groups_,
                                        .group = padded_group_,
                                        .out = sums + panel * byte_panel_outputs,
                                        .rows = rows,
                                        .out_stride = static_cast<std::ptrdiff_t>(padded_outputs_)});
    }
}

void GroupedLayer::fill_panel(std::int64_t first_output, int blocks, GroupedScratch::Thread& own) const {
    const std::int64_t width = std::int64_t{blocks} * block_outputs;
    float* panel = own.panel.data();
    if (of_bytes()) {
        const std::uint8_t* from = weights_ + first_output * padded_inputs();
        for (std::int64_t i = 0; i < inputs_; ++i) {
            const std::int64_t place = i / group_ * padded_group_ + i % group_;
            for (std::int64_t o = 0; o < width; ++o) panel[i * width + o] = static_cast<float>(from[(place / 4 * width + o) * 4 + place % 4] - 128);
        }
        return;
    }
    for (std::size_t p = 0; p < planes_.size(); ++p) {
        float* plane = p == 0 ? panel : own.plane.data();
        planes_[p].expand(first_output / block_outputs, blocks, plus_minus_, plane);
        const auto count = static_cast<float>(counts_[p]), taken_off = static_cast<float>(p == 0 ? zero_ : 0);
        for (std::int64_t i = 0; i < inputs_ * width; ++i) panel[i] = (p == 0 ? 0.0f : panel[i]) + (count * plane[i] - taken_off);
    }
}

void GroupedLayer::multiply_floats(const float* x, std::int64_t rows, std::int64_t panel, int thread, ThreadPool& pool,
                                   GroupedScratch& scratch) const {
    GroupedScratch::Thread& own = scratch.threads[at(thread)];
    const std::int64_t first = panel * panel_outputs, width = std::min<std::int64_t>(panel_outputs, padded_outputs_ - first);
    const int blocks = static_cast<int>(width / block_outputs);
    fill_panel(first, blocks, own);
    const std::ptrdiff_t start = 0;
    const Segments segments{&start, 1, static_cast<int>(group_)};
    for (std::int64_t r = 0; r < rows; r += kernels_.gemm.rows_at_once) {
        pool.check(thread);
        const auto count = static_cast<int>(std::min<std::int64_t>(kernels_.gemm.rows_at_once, rows - r));
        for (std::int64_t g = 0; g < groups_; ++g) {
            const float* from[max_rows];
            for (int i = 0; i < count; ++i) from[i] = x + (r + i) * inputs_ + g * group_;
            kernels_.gemm.product_float(from, count, segments, own.panel.data() + g * group_ * width, blocks, own.outputs.data(), width);
            for (std::int64_t o = 0; o < width; ++o) {
                const float scale = from_half(scales_[scale_at(first + o, g)]);
                for (int i = 0; i < count; ++i) {
                    float& sum = scratch.sums.data()[(r + i) * padded_outputs_ + first + o];
                    sum = std::fma(scale, own.outputs.data()[i * width + o], g == 0 ? 0.0f : sum);
                }
            }
        }
    }
}

}  // namespace onebit
