// How the weights of a layer with scales for groups lie in memory, and the way in and out.
#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "bit_expansion.h"
#include "grouped_layer.h"
#include "half.h"
#include "index.h"

namespace onebit {
namespace {

// Of the levels of a group.
constexpr int largest_level = 127;

std::int64_t round_up(std::int64_t n, std::int64_t to) {
    return (n + to - 1) / to * to;
}

std::int64_t padded_outputs_of(const ops::Layer& layer, std::int64_t outputs, const Kernels& kernels) {
    return round_up(outputs, layer.bytes != nullptr ? byte_panel_outputs : kernels.gemv.layout.unit_outputs);
}

std::int64_t padded_group_of(const ops::Layer& layer) {
    return layer.bytes != nullptr ? round_up(layer.groups.group, int8_group) : layer.groups.group;
}

// Bytes of weights; scales follow them.
std::int64_t bytes_of_weights(const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs, const Kernels& kernels) {
    if (layer.bytes == nullptr) return layer.bits.plane_count() * static_cast<std::int64_t>(BitMatrix::bytes(inputs, outputs, kernels));
    return inputs / layer.groups.group * padded_group_of(layer) * padded_outputs_of(layer, outputs, kernels);
}

// Whether each plane counts once, or twice the one before it.
bool once_or_doubled(const std::vector<int>& planes) {
    const bool once = std::count(planes.begin(), planes.end(), 1) == static_cast<std::ptrdiff_t>(planes.size());
    for (std::size_t p = 0; p < planes.size(); ++p) {
        if (!once && planes[p] != 1 << p) return false;
    }
    return planes.size() <= most_group_planes;
}

}  // namespace

std::uint64_t GroupedLayer::weight_bytes(const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs, const Kernels& kernels) {
    const std::int64_t scales = inputs / layer.groups.group * padded_outputs_of(layer, outputs, kernels) * std::int64_t{sizeof(std::uint16_t)};
    return static_cast<std::uint64_t>(bytes_of_weights(layer, inputs, outputs, kernels) + round_up(scales, unit_step_bytes));
}

GroupedLayer::GroupedLayer(const ops::Layer& layer, std::int64_t inputs, std::int64_t outputs, bool quantize, const Kernels& kernels,
                           std::uint8_t* memory, int threads, ThreadPool& pool)
    : kernels_(kernels),
      quantize_(quantize),
      plus_minus_(layer.bits.plus_minus),
      counts_(layer.bits.planes),
      zero_(layer.groups.zero),
      inputs_(inputs),
      outputs_(outputs),
      padded_outputs_(padded_outputs_of(layer, outputs, kernels)),
      group_(layer.groups.group),
      padded_group_(padded_group_of(layer)),
      groups_(inputs / layer.groups.group),
      bytes_(weight_bytes(layer, inputs, outputs, kernels)),
      epilogue_(layer, outputs, kernels) {
    scales_ = reinterpret_cast<std::uint16_t*>(memory + bytes_of_weights(layer, inputs, outputs, kernels));
    if (layer.bytes != nullptr) {
        weights_ = memory;
        parallel(pool, inputs * outputs, units(), [&](std::int64_t panel, int) { lay_out_bytes(layer.bytes, panel); });
    } else {
        const BitLayout& layout = kernels.gemv.layout;
        if (group_ % layout.step_inputs != 0 || layout.chunk_steps % (group_ / layout.step_inputs) != 0) {
            throw std::logic_error("GroupedLayer: groups do not fill the steps of this instruction set");
        }
        const int parts = outputs * inputs >= kernels.gemv.least_divided ? threads : 1;
        for (std::int64_t p = 0; p < layer.bits.plane_count(); ++p) {
            planes_.emplace_back(kernels, layer.bits.rows + p * outputs * row_bytes(inputs), inputs, outputs, memory, parts, &pool);
            memory += planes_.back().bytes();
        }
        const int count = std::accumulate(counts_.begin(), counts_.end(), 0), largest = plus_minus_ ? count : std::max(zero_, count - zero_);
        taken_off_ = plus_minus_ ? count : zero_;
        in_words_ = kernels.grouped.product_bits != nullptr && once_or_doubled(counts_) && group_ / layout.step_inputs <= most_group_steps &&
                    largest * largest_level * group_ <= std::numeric_limits<std::int16_t>::max();
    }
    parallel(pool, groups_ * outputs, units(), [&](std::int64_t unit, int) { lay_out_scales(layer.groups.scales, unit); });
}

std::int64_t GroupedLayer::unit_outputs() const {
    return of_bytes() ? byte_panel_outputs : kernels_.gemv.layout.unit_outputs;
}

std::int64_t GroupedLayer::chunk_groups() const {
    if (of_bytes()) return groups_;
    const BitLayout& layout = kernels_.gemv.layout;
    return std::min(groups_, layout.chunk_steps / (group_ / layout.step_inputs));
}

std::size_t GroupedLayer::scale_at(std::int64_t output, std::int64_t group) const {
    const std::int64_t passed = group / chunk_groups() * chunk_groups(), here = std::min(chunk_groups(), groups_ - passed);
    const std::int64_t unit = output / unit_outputs();
    return at(passed * padded_outputs_ + (unit * here + group - passed) * unit_outputs() + output % unit_outputs());
}

void GroupedLayer::lay_out_scales(const std::uint16_t* scales, std::int64_t unit) {
    const std::int64_t width = unit_outputs(), first = unit * width, count = std::min(width, outputs_ - first);
    for (std::int64_t passed = 0; passed < groups_; passed += chunk_groups()) {
        const std::int64_t here = std::min(chunk_groups(), groups_ - passed);
        std::uint16_t* to = scales_ + scale_at(first, passed);
        if (count < width) std::fill_n(to, at(here * width), std::uint16_t{0});
        for (std::int64_t o = 0; o < count; ++o) {
            const std::uint16_t* from = scales + (first + o) * groups_ + passed;
            for (std::int64_t g = 0; g < here; ++g) to[g * width + o] = from[g];
        }
    }
}

void GroupedLayer::lay_out_bytes(const std::int8_t* weight, std::int64_t panel) {
    constexpr std::uint32_t shift = 0x80808080;  // 128 more in each of four bytes
    constexpr std::int64_t some = 256;           // inputs whose lines stay in the cache until they are complete
    const std::int64_t first = panel * byte_panel_outputs, count = std::min<std::int64_t>(byte_panel_outputs, outputs_ - first);
    std::uint8_t* to = weights_ + panel * padded_inputs() * byte_panel_outputs;
    if (count < byte_panel_outputs) std::fill_n(to, at(padded_inputs() * byte_panel_outputs), std::uint8_t{128});
    // Groups other than the whole row fill their place, so that inputs lie one after the other.
    for (std::int64_t begin = 0; begin < inputs_; begin += some) {
        for (std::int64_t o = 0; o < count; ++o) {
            const std::int8_t* row = weight + (first + o) * inputs_;
            for (std::int64_t i = begin; i < std::min(begin + some, inputs_); i += int8_group) {
                std::uint32_t four = 0;
                std::memcpy(&four, row + i, at(std::min<std::int64_t>(int8_group, inputs_ - i)));
                four ^= shift;
                std::memcpy(to + (i * byte_panel_outputs + o * int8_group), &four, sizeof four);
            }
        }
    }
}

void GroupedLayer::write_row(std::int64_t output, std::uint8_t* bits, float* y) const {
    if (of_bytes()) {
        const std::uint8_t* from = weights_ + output / byte_panel_outputs * padded_inputs() * byte_panel_outputs;
        from += output % byte_panel_outputs * int8_group;
        for (std::int64_t i = 0; i < inputs_; ++i)
            y[i] = static_cast<float>(from[i / int8_group * int8_group * byte_panel_outputs + i % int8_group] - 128);
    } else {
        std::fill_n(y, inputs_, static_cast<float>(-zero_));
        for (std::size_t p = 0; p < planes_.size(); ++p) {
            planes_[p].read_row(output, bits);
            add_bits(bits, inputs_, plus_minus_, static_cast<float>(counts_[p]), y);
        }
    }
    for (std::int64_t g = 0; g < groups_; ++g, y += group_) {
        const float scale = from_half(scales_[scale_at(output, g)]);
        for (std::int64_t i = 0; i < group_; ++i) y[i] *= scale;
    }
}

}  // namespace onebit
