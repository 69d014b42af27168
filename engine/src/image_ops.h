// Ops that read several positions of an image (height, width, channels) and cost little compared with the convolutions around them.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"
#include "program.h"
#include "thread_pool.h"

namespace onebit {

// The working memory of pooling, in bytes.
std::uint64_t pool_bytes(const Window& window, const Shape& shape, const Shape& out);

// The maximum of each window, to y (height', width', channels). NaN wins.
void max_pool(const Kernels& kernels, const Window& window, const float* x, const Shape& shape, float* y, const Shape& out, ThreadPool& pool);

// The mean of each window, to y (height', width', channels): over the whole window if the padding counts, otherwise over the part in the image.
void average_pool(const Kernels& kernels, const Window& window, bool counts_padding, const float* x, const Shape& shape, float* y, const Shape& out,
                  ThreadPool& pool);

// The mean over the channels of |x|, then the mean over each window, to y (height', width', 1). Padding counts, as zeros.
void mean_magnitude(const Kernels& kernels, const Window& window, const float* x, const Shape& shape, float* y, const Shape& out, ThreadPool& pool);

// (x - mean) / sqrt(variance + eps) over each group of channels and all positions.
void group_normalize(std::int64_t groups, float eps, const float* x, std::int64_t positions, std::int64_t channels, float* y, ThreadPool& pool);

}  // namespace onebit
