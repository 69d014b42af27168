#include "epilogue.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace onebit {

Epilogue::Epilogue(const Step& step, std::int64_t outputs) : planes_(step.planes), outputs_(outputs) {
    bias_.assign(static_cast<std::size_t>(outputs), 0.0f);
    if (step.bias_bits != nullptr) {
        for (std::int64_t o = 0; o < outputs; ++o) {
            const bool set = step.bias_bits[o / 8] >> (o % 8) & 1;
            bias_[static_cast<std::size_t>(o)] = set ? 1.0f : (step.plus_minus ? -1.0f : 0.0f);
        }
    } else if (step.bits == nullptr && step.bias != nullptr) {
        bias_.assign(step.bias, step.bias + outputs);
    }
    for (const Step& after : step.after) take(after);
}

void Epilogue::take(const Step& after) {
    if (after.op == Op::normalize) {
        norm_ = EpilogueArgs::Norm::channel;
        eps_ = after.eps;
    } else if (after.op == Op::scale_shift) {
        norm_ = EpilogueArgs::Norm::affine;
        scale_.assign(after.weight, after.weight + outputs_);
        shift_.assign(after.bias, after.bias + outputs_);
    } else if (after.op == Op::relu) {
        relu_ = true;
    } else if (after.op == Op::max_pool2d) {
        pool_height_ = after.window.kernel[0];
        pool_width_ = after.window.kernel[1];
    } else {
        throw std::logic_error(std::string("an epilogue does not compute ") + op_name(after.op));
    }
}

EpilogueArgs Epilogue::args() const {
    EpilogueArgs e;
    e.norm = norm_;
    e.relu = relu_;
    e.eps = eps_;
    e.bias = bias_.data();
    e.scale = scale_.data();
    e.shift = shift_.data();
    return e;
}

template <class Sum>
Range Epilogue::run(const Kernels& kernels, Sum* sums, std::int64_t sum_stride, std::int64_t width, float scale, const EpilogueArgs& e,
                    float* waiting, float* y) const {
    const auto positions = [&](Sum* from, std::int64_t n, float* to) {
        for (std::int64_t p = 0; p < n && !one_plane(planes_); ++p) combine_planes(planes_, outputs_, from + p * sum_stride);
        if constexpr (std::is_same_v<Sum, float>) {
            for (std::int64_t p = 0; p < n; ++p) kernels.rows.epilogue_float(from + p * sum_stride, static_cast<int>(outputs_), e, to + p * outputs_);
        } else {
            kernels.rows.epilogue_rows_int8(from, sum_stride, n, scale, static_cast<int>(outputs_), e, to);
        }
    };
    const std::int64_t pooled_width = width / pool_width_;
    if (pool_height_ * pool_width_ == 1) {
        positions(sums, width, y);
    } else {
        // So few columns at a time that they stay in the first-level cache until they are pooled.
        const std::int64_t some = columns_at_once(), row = some * pool_width_ * outputs_;
        for (std::int64_t c = 0; c < pooled_width; c += some) {
            const std::int64_t columns = std::min(some, pooled_width - c);
            for (std::int64_t r = 0; r < pool_height_; ++r) {
                positions(sums + (r * width + c * pool_width_) * sum_stride, columns * pool_width_, waiting + r * row);
            }
            kernels.rows.pool(waiting, row, static_cast<int>(pool_height_), static_cast<int>(pool_width_), columns, static_cast<int>(outputs_),
                              y + c * outputs_);
        }
    }
    Range range;
    kernels.rows.range(y, pooled_width * outputs_, &range.largest_bits, &range.negative);
    return range;
}

template Range Epilogue::run(const Kernels&, std::int32_t*, std::int64_t, std::int64_t, float, const EpilogueArgs&, float*, float*) const;
template Range Epilogue::run(const Kernels&, float*, std::int64_t, std::int64_t, float, const EpilogueArgs&, float*, float*) const;

}  // namespace onebit
