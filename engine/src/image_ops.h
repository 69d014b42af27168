// Ops that look at several positions of an image (height, width, channels) and cost little beside the convolutions around them.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "program.h"

namespace onebit {

// The mean of each window to y (height', width', channels): over the whole window if the padding counts, else over what lies in the image.
void average_pool(const Kernels& kernels, const Window& window, bool counts_padding, const float* x, const Shape& shape, float* y, const Shape& out);

// The mean over the channels of |x|, then the mean over each window, to y (height', width', 1). Padding counts, as zeros.
void mean_magnitude(const Kernels& kernels, const Window& window, const float* x, const Shape& shape, float* y, const Shape& out);

// (x - mean) / sqrt(variance + eps) over each group of channels and all positions.
void group_normalize(std::int64_t groups, float eps, const float* x, std::int64_t positions, std::int64_t channels, float* y);

}  // namespace onebit
