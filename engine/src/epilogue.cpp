#include "epilogue.h"

#include <algorithm>
#include <type_traits>

#include "unary.h"

namespace onebit {

Epilogue::Epilogue(const ops::Layer& layer, std::int64_t outputs, const Kernels& kernels) : planes_(layer.bits.planes), outputs_(outputs) {
    bias_.assign(static_cast<std::size_t>(outputs), 0.0f);
    if (layer.bias_bits != nullptr) {
        for (std::int64_t o = 0; o < outputs; ++o) {
            const bool set = layer.bias_bits[o / 8] >> (o % 8) & 1;
            bias_[static_cast<std::size_t>(o)] = set ? 1.0f : (layer.bits.plus_minus ? -1.0f : 0.0f);
        }
    } else if (layer.bias != nullptr) {
        bias_.assign(layer.bias, layer.bias + outputs);
    }
    take(layer.after, kernels);
}

void Epilogue::take(const ops::Fused& after, const Kernels& kernels) {
    if (after.normalize) {
        norm_ = EpilogueArgs::Norm::channel;
        eps_ = after.normalize->eps;
    }
    if (after.scale_shift) {
        norm_ = EpilogueArgs::Norm::affine;
        scale_ = after.scale_shift->scales(outputs_);
        shift_ = after.scale_shift->shifts(outputs_);
    }
    relu_ = after.relu;
    if (after.activation) activation_ = unary_kernel(*after.activation, kernels);
    if (after.max_pool) {
        pool_height_ = after.max_pool->kernel[0];
        pool_width_ = after.max_pool->kernel[1];
    }
}

EpilogueArgs Epilogue::args() const {
    EpilogueArgs e;
    e.norm = norm_;
    e.relu = relu_;
    e.activation = activation_;
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
        activate(e, n * outputs_, to);
    };
    const std::int64_t pooled_width = width / pool_width_;
    if (pool_height_ * pool_width_ == 1) {
        positions(sums, width, y);
    } else {
        // Few columns at a time, so that they stay in the first-level cache until they are pooled.
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
