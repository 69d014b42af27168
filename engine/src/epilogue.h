// The operations on a layer's sums before they are stored: adding planes, bias, and the steps that were fused into the layer (normalisation, an
// activation, max-pooling).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "program.h"
#include "quantizer.h"

namespace onebit {

// The operation that a layer's kernels do not do: an activation other than ReLU.
inline void activate(const EpilogueArgs& e, std::int64_t n, float* y) {
    if (e.activation != nullptr) e.activation(y, n, y);
}

class Epilogue {
  public:
    // Copies the layer's bias and the tensors of the fused steps.
    Epilogue(const ops::Layer& layer, std::int64_t outputs, const Kernels& kernels);

    std::int64_t pool_height() const { return pool_height_; }
    std::int64_t pool_width() const { return pool_width_; }
    EpilogueArgs args() const;
    // Floats that wait to be pooled: working memory of `run`.
    std::int64_t waiting() const { return pool_height_ * pool_width_ > 1 ? pool_height_ * columns_at_once() * pool_width_ * outputs_ : 0; }
    // Pools rows of sums, each of `width` positions, to one row of y. Sums are scaled and changed in place. Returns the range of
    // y.
    template <class Sum>
    Range run(const Kernels& kernels, Sum* sums, std::int64_t sum_stride, std::int64_t width, float scale, const EpilogueArgs& epilogue,
              float* waiting, float* y) const;
    std::size_t bytes() const { return sizeof(float) * (bias_.size() + scale_.size() + shift_.size()); }

  private:
    void take(const ops::Fused& after, const Kernels& kernels);
    std::int64_t columns_at_once() const { return (15 + pool_width_) / pool_width_; }  // of windows: 16 positions or more

    std::vector<int> planes_;
    std::int64_t outputs_;
    EpilogueArgs::Norm norm_ = EpilogueArgs::Norm::none;
    bool relu_ = false;
    UnaryKernel activation_ = nullptr;
    float eps_ = 0;
    std::vector<float> bias_, scale_, shift_;
    std::int64_t pool_height_ = 1, pool_width_ = 1;
};

}  // namespace onebit
