// The checks of layers with weights and of what tokens pass: a part of op_checks.h. The other ops are in step_checks.cpp.
#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "decimal.h"
#include "op_checks.h"

namespace onebit::op_checks {
namespace {

// What is needed for groups of bits, and only for them.
GroupScales groups_of_bits(StepReader& reader, std::int64_t rows, std::int64_t inputs, bool plus_minus) {
    GroupScales made;
    const bool grouped = reader.has("group");
    made.group = reader.group(inputs);
    if (grouped != reader.has_tensor("scale")) reader.fail("takes group and its tensor 'scale' together");
    if (reader.has("zero") && (!grouped || plus_minus)) reader.fail("takes zero with group and values='01' only");
    if (grouped && reader.has("input")) reader.fail("takes no input with group: each group has a scale of its own");
    if (!grouped) return {};
    if (reader.has("zero")) made.zero = static_cast<int>(reader.size("zero", 255));
    made.scales = reader.halves("scale", {rows, inputs / made.group});
    return made;
}

struct Channels {
    std::int64_t in, out, groups;
};

// Of a convolution of an image, or of a volume.
Channels channels_of(StepReader& reader, const Shape& x, bool volume = false) {
    const std::int64_t in = reader.size("in_channels"), out = reader.size("out_channels"), groups = reader.size("groups");
    if (x.size() != (volume ? 4 : 3) || x.back() != in) {
        reader.fail("in_channels=" + std::to_string(in) + " but its input has shape " + spelled(x) + ": needs (" + (volume ? "depth, " : "") +
                    "height, width, " + std::to_string(in) + ")");
    }
    if (in % groups != 0 || out % groups != 0) {
        reader.fail("groups=" + std::to_string(groups) + " does not divide in_channels=" + std::to_string(in) +
                    " and out_channels=" + std::to_string(out));
    }
    return {in, out, groups};
}

// The weights and the bias of a convolution whose window is known.
void read_window(StepReader& reader, bool bits, const Channels& channels, ops::Layer& made) {
    const Window& w = made.window;
    const std::int64_t of_group = channels.in / channels.groups, deep = made.depth ? made.depth->kernel : 1;
    if (bits) {
        // The kernel is at most 2^26 high and wide, like its padded input. The product of two of these is far from 64 bits, but that of all three is
        // not.
        const std::int64_t plane = w.kernel[0] * w.kernel[1];
        const std::int64_t taps = plane > max_binary_row ? plane : plane * deep;
        made.bits = reader.weights(channels.out, taps > max_binary_row ? taps : taps * of_group);
        made.bias_bits = reader.bits("bias", 1, channels.out, true);
    } else {
        made.weight = reader.floats("weight", {channels.out, deep * w.kernel[0], w.kernel[1], of_group}, false);
        made.bias = reader.floats("bias", {channels.out}, true);
    }
}

}  // namespace

Shape dense(StepReader& reader, Step& step, const Inputs& inputs) {
    const Shape& x = inputs.x;
    const std::int64_t in = reader.size("in_features"), out = reader.size("out_features");
    if (x.back() != in) reader.fail("in_features=" + std::to_string(in) + " but its input has shape " + spelled(x));
    ops::Layer made;
    if (step.op == Op::bit_linear) {
        made.bits = reader.weights(out, in);
        made.bias_bits = reader.bits("bias", 1, out, true);
        made.groups = groups_of_bits(reader, out, in, made.bits.plus_minus);
    } else if (step.op == Op::int8_linear) {
        made.groups.group = reader.group(in);
        if (in > max_int8_row) reader.fail("has rows of " + std::to_string(in) + " weights: needs at most " + std::to_string(max_int8_row));
        made.bytes = reader.bytes("weight", {out, in});
        made.groups.scales = reader.halves("scale", {out, in / made.groups.group});
    } else {
        made.weight = reader.floats("weight", {out, in}, false);
        made.bias = reader.floats("bias", {out}, true);
    }
    step.attributes = made;
    Shape y = x;
    y.back() = out;
    return y;
}

Shape sparse_dense(StepReader& reader, Step& step, const Inputs& inputs) {
    const Shape& x = inputs.x;
    const std::int64_t in = reader.size("in_features"), out = reader.size("out_features");
    if (x.back() != in) reader.fail("in_features=" + std::to_string(in) + " but its input has shape " + spelled(x));
    ops::SparseDense made;
    made.kept = reader.size("kept");
    made.mask = reader.bits("mask", out, in, false);
    made.weight = reader.floats("weight", {made.kept}, false);
    made.bias = reader.floats("bias", {out}, true);
    // What follows reads a weight for each one of the mask.
    const std::int64_t bytes = out * row_bytes(in);
    std::int64_t ones = 0;
    for (std::int64_t i = 0; i < bytes; ++i) ones += std::popcount(made.mask[i]);
    if (ones != made.kept) {
        reader.fail("its mask has " + std::to_string(ones) + " ones: needs kept=" + std::to_string(made.kept) + "; the file is damaged");
    }
    step.attributes = made;
    Shape y = x;
    y.back() = out;
    return y;
}

Shape convolution(StepReader& reader, Step& step, const Inputs& inputs) {
    const Shape& x = inputs.x;
    const Channels channels = channels_of(reader, x);
    ops::Layer made;
    made.convolution = true;
    made.window = reader.window(x, true);
    made.window.groups = channels.groups;
    const Window& w = made.window;
    const Shape y = {reader.side(w, x, 0), reader.side(w, x, 1), channels.out};
    read_window(reader, step.op == Op::bit_conv2d, channels, made);
    step.attributes = made;
    return y;
}

Shape volume_convolution(StepReader& reader, Step& step, const Inputs& inputs) {
    const Shape& x = inputs.x;
    const Channels channels = channels_of(reader, x, true);
    ops::Layer made;
    made.convolution = true;
    made.depth = reader.depth(x, made.window);
    made.window.groups = channels.groups;
    const Depth& d = *made.depth;
    const std::int64_t free = x[0] + d.padding[0] + d.padding[1] - d.dilation * (d.kernel - 1) - 1;
    if (free < 0) reader.fail("a kernel_size does not fit its padded input of shape " + spelled(x));
    const Shape slice(x.begin() + 1, x.end());
    const Window& w = made.window;
    const Shape y = {free / d.stride + 1, reader.side(w, slice, 0), reader.side(w, slice, 1), channels.out};
    read_window(reader, step.op == Op::bit_conv3d, channels, made);
    step.attributes = made;
    return y;
}

Shape transposed_convolution(StepReader& reader, Step& step, const Inputs& inputs) {
    const Shape& x = inputs.x;
    const Channels channels = channels_of(reader, x);
    ops::TransposedConvolution made;
    made.layer.convolution = true;
    Window& w = made.layer.window;
    w.groups = channels.groups;
    reader.sizes("kernel_size", w.kernel, 2, 1);
    reader.sizes("stride", w.stride, 2, 1);
    reader.sizes("padding", w.padding, 4, 0);
    reader.sizes("output_padding", made.output_padding, 2, 0);
    if (std::max(w.stride[0], w.stride[1]) > max_transposed_stride) {
        reader.fail("stride is too large for a transposed convolution: needs at most " + std::to_string(max_transposed_stride));
    }
    Shape y = {0, 0, channels.out};
    double padded = static_cast<double>(x[2]);
    for (std::size_t axis = 0; axis < 2; ++axis) {
        if (made.output_padding[axis] >= w.stride[axis]) reader.fail("output_padding must be smaller than stride");
        padded *= static_cast<double>(x[axis] + 2 * (w.kernel[axis] - 1));
        y[axis] = (x[axis] - 1) * w.stride[axis] + w.kernel[axis] + made.output_padding[axis] - w.padding[2 * axis] - w.padding[2 * axis + 1];
    }
    if (padded > static_cast<double>(max_elements)) reader.fail("its padded input has more than " + std::to_string(max_elements) + " elements");
    if (y[0] < 1 || y[1] < 1) reader.fail("padding leaves nothing of its output: use less");
    read_window(reader, step.op == Op::bit_conv_transpose2d, channels, made.layer);
    step.attributes = std::move(made);
    return y;
}

Shape recurrence(StepReader& reader, Step& step, const Inputs& inputs) {
    const Shape& x = inputs.x;
    ops::Recurrence made;
    made.gates = step.op == Op::bit_lstm || step.op == Op::lstm ? 4 : 3;
    made.hidden = reader.size("hidden");
    const std::int64_t outputs = made.outputs();
    if (x.size() != 2 || x[1] != outputs) {
        reader.fail("hidden=" + std::to_string(made.hidden) + " but its input has shape " + spelled(x) + ": needs (time, " + std::to_string(outputs) +
                    ")");
    }
    if (reader.has("reverse")) made.reverse = reader.boolean("reverse");
    if (made.reverse && inputs.tokens) reader.fail("reverse=true would read tokens that are still to come: leave it out");
    if (step.op == Op::bit_gru || step.op == Op::bit_lstm) {
        if (reader.has("eps")) made.eps = reader.above_zero("eps");
        made.bits = reader.weights(outputs, made.hidden);
        made.scale = reader.floats("scale", {outputs}, false);
        made.shift = reader.floats("shift", {outputs}, false);
    } else {
        made.weight = reader.floats("weight", {outputs, made.hidden}, false);
        if (step.op == Op::gru) made.shift = reader.floats("shift", {outputs}, false);
    }
    const std::int64_t hidden = made.hidden;
    step.attributes = std::move(made);
    return {x[0], hidden};
}

// Of tokens.

namespace {

std::int64_t heads_of(StepReader& reader, const Shape& x) {
    const std::int64_t heads = reader.size("heads");
    if (x.back() % heads != 0) {
        reader.fail("heads=" + std::to_string(heads) + " does not divide its " + std::to_string(x.back()) + " features");
    }
    return heads;
}

std::int64_t kv_heads_of(StepReader& reader, std::int64_t heads) {
    const std::int64_t kv_heads = reader.has("kv_heads") ? reader.size("kv_heads") : heads;
    if (heads % kv_heads != 0) reader.fail("kv_heads=" + std::to_string(kv_heads) + " does not divide heads=" + std::to_string(heads));
    return kv_heads;
}

}  // namespace

Shape full_attention(StepReader& reader, Step& step, const Inputs& in) {
    if (in.x.size() != 2) reader.wrong_input(in.x, "(time, features)");
    ops::FullAttention made;
    made.heads = heads_of(reader, in.x);
    made.kv_heads = kv_heads_of(reader, made.heads);
    const std::int64_t width = in.x[1] / made.heads * made.kv_heads;
    if (*in.y != *in.z || in.y->size() != 2 || (*in.y)[1] != width) {
        reader.fail("its inputs have shapes " + spelled(in.x) + ", " + spelled(*in.y) + " and " + spelled(*in.z) + ": needs (source, " +
                    std::to_string(width) + ") of the second and third");
    }
    const std::int64_t queries = in.x[0], keys = (*in.y)[0];
    if (in.fourth != nullptr && *in.fourth != Shape{keys}) reader.fail("its mask has shape " + spelled(*in.fourth) + ": needs " + spelled({keys}));
    if (reader.has("causal")) made.causal = reader.boolean("causal");
    for (const auto& [name, given] : {std::pair{"causal", made.causal}, std::pair{"a bias", reader.has_tensor("bias")}}) {
        if (given && keys != queries) {
            reader.fail("takes " + std::string(name) + " with as many keys as queries: it has " + std::to_string(keys) + " and " +
                        std::to_string(queries));
        }
    }
    made.bias = reader.floats("bias", {made.heads, queries, queries}, true);
    step.attributes = made;
    return in.x;
}

Shape attention(StepReader& reader, Step& step, const Inputs& in) {
    ops::Attention made;
    made.heads = heads_of(reader, in.x);
    made.kv_heads = kv_heads_of(reader, made.heads);
    Shape kept = in.x;
    kept.back() = in.x.back() / made.heads * made.kv_heads;
    if (kept != *in.y || kept != *in.z) {
        reader.fail("its inputs have shapes " + spelled(in.x) + ", " + spelled(*in.y) + " and " + spelled(*in.z) + ": needs " +
                    (made.kv_heads == made.heads ? "equal ones" : spelled(kept) + " of the last two"));
    }
    if (reader.has("window")) made.window = reader.size("window");
    step.attributes = made;
    return in.x;
}

Shape rotary(StepReader& reader, Step& step, const Inputs& in) {
    ops::Rotary made;
    made.heads = heads_of(reader, in.x);
    made.base = reader.above_zero("base");
    if (!(made.base > 1)) reader.fail("base=" + to_decimal(made.base) + ": needs a number above 1");
    const std::int64_t features = in.x.back() / made.heads;
    made.rotated = reader.has("rotated") ? reader.size("rotated") : features;
    if (made.rotated % 2 != 0 || made.rotated > features) {
        reader.fail("rotated=" + std::to_string(made.rotated) + ": needs an even number of the " + std::to_string(features) + " features of a head");
    }
    if (reader.has("scaling")) made.scaling = reader.rotary_scaling();
    step.attributes = made;
    return in.x;
}

Shape embedding(StepReader& reader, Step& step, const Inputs& inputs) {
    const Shape& x = inputs.x;
    ops::Embedding made;
    made.rows = reader.size("rows");
    const std::int64_t features = reader.size("features");
    made.of_position = reader.choice("of", "token", "position") == "position";
    if (made.of_position && made.rows < x[0]) {
        reader.fail("has " + std::to_string(made.rows) + " rows for " + std::to_string(x[0]) + " positions: needs one for each");
    }
    if (step.op == Op::bit_embedding) {
        made.plus_minus = reader.choice("values", "01", "pm1") == "pm1";
        if (reader.has("planes")) made.planes = reader.planes();
        made.bits = reader.bits("weight", static_cast<std::int64_t>(made.planes.size()) * made.rows, features, false);
        made.bias = reader.bits("bias", 1, features, true);
        made.groups = groups_of_bits(reader, made.rows, features, made.plus_minus);
    } else if (step.op == Op::int8_embedding) {
        made.groups.group = reader.group(features);
        made.bytes = reader.bytes("weight", {made.rows, features});
        made.groups.scales = reader.halves("scale", {made.rows, features / made.groups.group});
    } else {
        made.table = reader.floats("weight", {made.rows, features}, false);
    }
    step.attributes = std::move(made);
    return {x[0], features};
}

}  // namespace onebit::op_checks
