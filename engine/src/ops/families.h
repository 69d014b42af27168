// The families of nodes, a file each.
#pragma once

#include "ops/make_node.h"

namespace onebit {

// layers.cpp: products with weights, by whichever layer computes them fastest.
std::unique_ptr<Node> make_layer(const NodeSource& source);
// sparse.cpp: dense layers of floats with few weights that are not 0.
std::unique_ptr<Node> make_sparse(const NodeSource& source);
// recurrence.cpp: LSTM and GRU, float and binary.
std::unique_ptr<Node> make_recurrence(const NodeSource& source);
// grouped_signs.cpp: convolutions in groups whose inputs are counted as bits.
bool counts_in_groups(const ops::Layer& layer, std::int64_t channels, std::int64_t outputs);
std::unique_ptr<Node> make_grouped_signs(const NodeSource& source);
// transposed.cpp: transposed convolutions, as one convolution for each phase of the stride.
std::unique_ptr<Node> make_transposed_convolution(const NodeSource& source);
// transposed_tiles.cpp: those whose kernel is their stride, as one layer of single pixels.
bool are_tiles(const ops::TransposedConvolution& of);
std::unique_ptr<Node> make_transposed_tiles(const NodeSource& source);
// attention.cpp
std::unique_ptr<Node> make_attention(const NodeSource& source);
// full_attention.cpp
std::unique_ptr<Node> make_full_attention(const NodeSource& source);
// resize.cpp
std::unique_ptr<Node> make_resize(const NodeSource& source);
// rotary.cpp
std::unique_ptr<Node> make_rotary(const NodeSource& source);
// embedding.cpp: of tokens or of their positions, by floats or by bits.
std::unique_ptr<Node> make_embedding(const NodeSource& source);

// elementwise.cpp: each number for itself, with constants or with another value.
std::unique_ptr<Node> make_unary(const NodeSource& source, UnaryKernel kernel);
std::unique_ptr<Node> make_scale(const NodeSource& source);
std::unique_ptr<Node> make_clip(const NodeSource& source);
std::unique_ptr<Node> make_prelu(const NodeSource& source);
std::unique_ptr<Node> make_scale_shift(const NodeSource& source);
std::unique_ptr<Node> make_add(const NodeSource& source);
std::unique_ptr<Node> make_add_constant(const NodeSource& source);
std::unique_ptr<Node> make_multiply(const NodeSource& source);

// normalize.cpp: over rows, groups of channels, or a whole example.
std::unique_ptr<Node> make_normalize(const NodeSource& source);
std::unique_ptr<Node> make_group_normalize(const NodeSource& source);
std::unique_ptr<Node> make_rms_normalize(const NodeSource& source);
std::unique_ptr<Node> make_softmax(const NodeSource& source);

// pooling.cpp: windows of an image, and means.
std::unique_ptr<Node> make_max_pool(const NodeSource& source);
std::unique_ptr<Node> make_average_pool(const NodeSource& source);
std::unique_ptr<Node> make_mean_pool(const NodeSource& source);
std::unique_ptr<Node> make_mean_magnitude(const NodeSource& source);
std::unique_ptr<Node> make_argmax(const NodeSource& source);

// reshape.cpp: the same numbers in another shape or order.
std::unique_ptr<Node> make_flatten(const NodeSource& source);
std::unique_ptr<Node> make_rows(const NodeSource& source);
std::unique_ptr<Node> make_last(const NodeSource& source);
std::unique_ptr<Node> make_reshape(const NodeSource& source);
std::unique_ptr<Node> make_transpose(const NodeSource& source);
// exit.cpp: where a program may end early.
std::unique_ptr<Node> make_exit(const NodeSource& source);
// joining.cpp: parts of values, and values put together.
std::unique_ptr<Node> make_concatenate(const NodeSource& source);
std::unique_ptr<Node> make_slice(const NodeSource& source);
std::unique_ptr<Node> make_prepend(const NodeSource& source);

}  // namespace onebit
