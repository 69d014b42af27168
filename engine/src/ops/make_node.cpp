#include "ops/make_node.h"

#include <stdexcept>

#include "ops/families.h"

namespace onebit {

std::unique_ptr<Node> make_node(const NodeSource& source) {
    switch (source.step.op) {
#define UNARY(name, formula) \
    case Op::name: return make_unary(source, source.kernels.rows.name);
#include "kernels/unary.def"
#undef UNARY
        case Op::add: return make_add(source);
        case Op::add_constant: return make_add_constant(source);
        case Op::argmax: return make_argmax(source);
        case Op::attention: return make_attention(source);
        case Op::avg_pool2d: return make_average_pool(source);
        case Op::bit_conv2d:
        case Op::bit_conv3d:
        case Op::bit_linear:
        case Op::conv2d:
        case Op::conv3d:
        case Op::int8_linear:
        case Op::linear: return make_layer(source);
        case Op::bit_conv_transpose2d:
        case Op::conv_transpose2d: return make_transposed_convolution(source);
        case Op::bit_embedding:
        case Op::int8_embedding:
        case Op::embedding: return make_embedding(source);
        case Op::bit_gru:
        case Op::bit_lstm:
        case Op::gru:
        case Op::lstm: return make_recurrence(source);
        case Op::clip: return make_clip(source);
        case Op::concatenate: return make_concatenate(source);
        case Op::exit: return make_exit(source);
        case Op::flatten: return make_flatten(source);
        case Op::full_attention: return make_full_attention(source);
        case Op::group_normalize: return make_group_normalize(source);
        case Op::last: return make_last(source);
        case Op::max_pool2d: return make_max_pool(source);
        case Op::mean_magnitude: return make_mean_magnitude(source);
        case Op::mean_pool: return make_mean_pool(source);
        case Op::multiply: return make_multiply(source);
        case Op::normalize: return make_normalize(source);
        case Op::prelu: return make_prelu(source);
        case Op::prepend: return make_prepend(source);
        case Op::reshape: return make_reshape(source);
        case Op::resize: return make_resize(source);
        case Op::rms_normalize: return make_rms_normalize(source);
        case Op::rotary: return make_rotary(source);
        case Op::rows: return make_rows(source);
        case Op::scale: return make_scale(source);
        case Op::scale_shift: return make_scale_shift(source);
        case Op::slice: return make_slice(source);
        case Op::softmax: return make_softmax(source);
        case Op::sparse_linear: return make_sparse(source);
        case Op::transpose: return make_transpose(source);
    }
    throw std::logic_error("make_node: an op without a node");
}

}  // namespace onebit
