#include "step_checks.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "decimal.h"
#include "step_reader.h"

namespace onebit {
namespace {

// The checks of ops. A function per family reads the attributes and tensors and returns the shape of the output. ops.def names them.
using Check = Shape (*)(StepReader&, Step&, const Inputs&);

// Element by element.

Shape same_shape(StepReader&, Step&, const Inputs& in) {
    return in.x;
}

Shape add(StepReader& reader, Step&, const Inputs& in) {
    if (in.x != *in.y) reader.fail("its inputs have shapes " + spelled(in.x) + " and " + spelled(*in.y) + ": needs equal ones");
    return in.x;
}

Shape add_constant(StepReader& reader, Step& step, const Inputs& in) {
    const std::int64_t rows = elements(in.x) / in.x.back();
    step.attributes = ops::Constant{reader.floats("constant", {rows, in.x.back()}, false), rows};
    return in.x;
}

Shape multiply(StepReader& reader, Step&, const Inputs& in) {
    Shape one = in.x;
    one.back() = 1;
    if (*in.y != in.x && *in.y != one && *in.y != Shape{in.x.back()}) {
        reader.fail("its inputs have shapes " + spelled(in.x) + " and " + spelled(*in.y) +
                    ": needs equal ones, 1 as the second's last axis, or that axis alone");
    }
    return in.x;
}

Shape clip(StepReader& reader, Step& step, const Inputs& in) {
    const float low = reader.finite("low"), high = reader.finite("high");
    if (!(low < high)) reader.fail("low=" + to_decimal(low) + " is not below high=" + to_decimal(high));
    step.attributes = ops::Clip{low, high};
    return in.x;
}

Shape scale(StepReader& reader, Step& step, const Inputs& in) {
    step.attributes = ops::Scale{reader.above_zero("factor")};
    return in.x;
}

Shape prelu(StepReader& reader, Step& step, const Inputs& in) {
    step.attributes = ops::Prelu{reader.floats("slope", {in.x.back()}, false)};
    return in.x;
}

Shape scale_shift(StepReader& reader, Step& step, const Inputs& in) {
    ops::ScaleShift made;
    made.scale = reader.floats("scale", {in.x.back()}, false);
    made.shift = reader.floats("shift", {in.x.back()}, true);
    step.attributes = made;
    return in.x;
}

// Normalisations.

void divides_channels(const StepReader& reader, std::int64_t groups, const Shape& x) {
    if (x.back() % groups != 0) {
        reader.fail("groups=" + std::to_string(groups) + " does not divide its " + std::to_string(x.back()) + " channels");
    }
}

Shape rms_normalize(StepReader& reader, Step& step, const Inputs& in) {
    ops::RmsNormalize made;
    made.eps = reader.above_zero("eps");
    if (reader.has("groups")) made.groups = reader.size("groups");
    divides_channels(reader, made.groups, in.x);
    step.attributes = made;
    return in.x;
}

Shape normalize(StepReader& reader, Step& step, const Inputs& in) {
    ops::Normalize made;
    made.over_channel = reader.choice("over", "channel", "example") == "channel";
    if (in.tokens && !made.over_channel) reader.fail("over='example' would mix tokens: use 'channel'");
    made.eps = reader.above_zero("eps");
    step.attributes = made;
    return in.x;
}

Shape group_normalize(StepReader& reader, Step& step, const Inputs& in) {
    const Shape& x = in.x;
    ops::GroupNormalize made;
    made.groups = reader.size("groups");
    made.eps = reader.above_zero("eps");
    if (x.size() > 3) reader.wrong_input(x, "(height, width, channels), (rows, features) or (features)");
    divides_channels(reader, made.groups, x);
    step.attributes = made;
    return x;
}

// Shapes.

Shape flatten(StepReader& reader, Step& step, const Inputs& in) {
    const bool channels_first = reader.choice("order", "hwc", "chw") == "chw";
    if (channels_first && in.x.size() != 3) {
        reader.fail("order='chw' but its input has shape " + spelled(in.x) + ": needs (height, width, channels)");
    }
    step.attributes = ops::Flatten{channels_first};
    return {elements(in.x)};
}

Shape rows(StepReader& reader, Step&, const Inputs& in) {
    reader.image(in.x);
    return {in.x[0], in.x[1] * in.x[2]};
}

Shape last(StepReader& reader, Step&, const Inputs& in) {
    if (in.x.size() != 2) reader.wrong_input(in.x, "(time, channels)");
    return {in.x[1]};
}

Shape reshape(StepReader& reader, Step&, const Inputs& in) {
    const Shape shape = reader.per_axis("shape", 1, max_axis);
    double wanted = 1;
    for (const std::int64_t axis : shape) wanted *= static_cast<double>(axis);
    // Exact: an input has at most 2^31 elements.
    if (wanted != static_cast<double>(elements(in.x))) {
        reader.fail("its input has shape " + spelled(in.x) + ": needs as many elements as " + spelled(shape));
    }
    return shape;
}

Shape transpose(StepReader& reader, Step& step, const Inputs& in) {
    ops::Transpose made{reader.per_axis("axes", 0, max_axes - 1)};
    Shape sorted = made.axes, shape;
    std::sort(sorted.begin(), sorted.end());
    bool fits = sorted.size() == in.x.size();
    for (std::size_t i = 0; fits && i < sorted.size(); ++i) fits = sorted[i] == static_cast<std::int64_t>(i);
    if (!fits) reader.fail("axes do not fit its input of shape " + spelled(in.x) + ": needs each of its axes once, counted from 0");
    for (const std::int64_t axis : made.axes) shape.push_back(in.x[static_cast<std::size_t>(axis)]);
    step.attributes = std::move(made);
    return shape;
}

std::int64_t axis_of(StepReader& reader, const Inputs& in) {
    const std::int64_t axis = reader.index("axis", max_axes - 1);
    if (in.tokens && axis == 0) reader.fail("axis=0 would mix tokens: use 1");
    if (axis >= static_cast<std::int64_t>(in.x.size())) {
        reader.fail("axis=" + std::to_string(axis) + " but its input has shape " + spelled(in.x) + ": needs one of its axes, counted from 0");
    }
    return axis;
}

Shape concatenate(StepReader& reader, Step& step, const Inputs& in) {
    const std::int64_t axis = axis_of(reader, in);
    const auto along = static_cast<std::size_t>(axis);
    Shape joined = in.x;
    bool fits = in.y->size() == joined.size();
    if (fits) {
        joined[along] = (*in.y)[along];
        fits = joined == *in.y;
    }
    if (!fits) {
        reader.fail("its inputs have shapes " + spelled(in.x) + " and " + spelled(*in.y) + ": needs equal ones but for axis " + std::to_string(axis));
    }
    joined[along] += in.x[along];
    step.attributes = ops::Concatenate{axis};
    return joined;
}

Shape slice(StepReader& reader, Step& step, const Inputs& in) {
    const std::int64_t axis = axis_of(reader, in), start = reader.index("start"), stop = reader.size("stop");
    Shape shape = in.x;
    std::int64_t& side = shape[static_cast<std::size_t>(axis)];
    if (start >= stop || stop > side) {
        reader.fail("start=" + std::to_string(start) + " and stop=" + std::to_string(stop) + " do not fit an axis of " + std::to_string(side));
    }
    side = stop - start;
    step.attributes = ops::Slice{axis, start, stop};
    return shape;
}

Shape prepend(StepReader& reader, Step& step, const Inputs& in) {
    if (in.x.size() != 2) reader.wrong_input(in.x, "(time, channels)");
    const std::int64_t rows = reader.size("rows");
    step.attributes = ops::Constant{reader.floats("constant", {rows, in.x[1]}, false), rows};
    return {in.x[0] + rows, in.x[1]};
}

Shape resize(StepReader& reader, Step& step, const Inputs& in) {
    reader.image(in.x);
    std::int64_t size[2];
    reader.sizes("size", size, 2, 1);
    ops::Resize made;
    made.bilinear = reader.choice("mode", "nearest", "bilinear") == "bilinear";
    if (reader.has("align_corners")) {
        made.align_corners = reader.boolean("align_corners");
        if (!made.bilinear) reader.fail("takes align_corners with mode='bilinear' only");
    }
    step.attributes = made;
    return {size[0], size[1], in.x[2]};
}

// Pooling.

Shape pool(StepReader& reader, Step& step, const Inputs& in) {
    const Shape& x = in.x;
    reader.image(x);
    ops::Pool made;
    if (step.op == Op::avg_pool2d) made.counts_padding = reader.boolean("count_include_pad");
    made.window = reader.window(x, false);
    const Window& w = made.window;
    if (std::max(w.padding[0], w.padding[1]) >= w.kernel[0] || std::max(w.padding[2], w.padding[3]) >= w.kernel[1]) {
        reader.fail("padding must be smaller than kernel_size");
    }
    step.attributes = made;
    return {reader.side(w, x, 0), reader.side(w, x, 1), x[2]};
}

Shape mean_pool(StepReader& reader, Step&, const Inputs& in) {
    if (in.x.size() != 2 && in.x.size() != 3) reader.wrong_input(in.x, "(height, width, channels) or (time, channels)");
    return {in.x.back()};
}

Shape mean_magnitude(StepReader& reader, Step& step, const Inputs& in) {
    const Shape& x = in.x;
    ops::MeanMagnitude made;
    bool windowed = false;
    for (const char* name : {"kernel_size", "stride", "padding", "dilation"}) windowed |= reader.has(name);
    Shape y = x;
    y.back() = 1;
    if (windowed) {
        reader.image(x);
        made.window = reader.window(x, true);
        y = {reader.side(*made.window, x, 0), reader.side(*made.window, x, 1), 1};
    }
    step.attributes = made;
    return y;
}

// Layers with weights.

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

Shape convolution(StepReader& reader, Step& step, const Inputs& inputs) {
    const Shape& x = inputs.x;
    const std::int64_t in = reader.size("in_channels"), out = reader.size("out_channels"), groups = reader.size("groups");
    if (x.size() != 3 || x[2] != in) {
        reader.fail("in_channels=" + std::to_string(in) + " but its input has shape " + spelled(x) + ": needs (height, width, " + std::to_string(in) +
                    ")");
    }
    if (in % groups != 0 || out % groups != 0) {
        reader.fail("groups=" + std::to_string(groups) + " does not divide in_channels=" + std::to_string(in) +
                    " and out_channels=" + std::to_string(out));
    }
    ops::Layer made;
    made.convolution = true;
    made.window = reader.window(x, true);
    made.window.groups = groups;
    const Window& w = made.window;
    const Shape y = {reader.side(w, x, 0), reader.side(w, x, 1), out};
    if (step.op == Op::bit_conv2d) {
        // The kernel is at most 2^26 high and wide, like its padded input. The product of two of these is far from 64 bits, but that of all three is
        // not.
        const std::int64_t taps = w.kernel[0] * w.kernel[1];
        made.bits = reader.weights(out, taps > max_binary_row ? taps : taps * (in / groups));
        made.bias_bits = reader.bits("bias", 1, out, true);
    } else {
        made.weight = reader.floats("weight", {out, w.kernel[0], w.kernel[1], in / groups}, false);
        made.bias = reader.floats("bias", {out}, true);
    }
    step.attributes = made;
    return y;
}

Shape transposed_convolution(StepReader& reader, Step& step, const Inputs& inputs) {
    const Shape& x = inputs.x;
    const std::int64_t in = reader.size("in_channels"), out = reader.size("out_channels"), groups = reader.size("groups");
    if (x.size() != 3 || x[2] != in) {
        reader.fail("in_channels=" + std::to_string(in) + " but its input has shape " + spelled(x) + ": needs (height, width, " + std::to_string(in) +
                    ")");
    }
    if (in % groups != 0 || out % groups != 0) {
        reader.fail("groups=" + std::to_string(groups) + " does not divide in_channels=" + std::to_string(in) +
                    " and out_channels=" + std::to_string(out));
    }
    ops::TransposedConvolution made;
    made.layer.convolution = true;
    Window& w = made.layer.window;
    w.groups = groups;
    reader.sizes("kernel_size", w.kernel, 2, 1);
    reader.sizes("stride", w.stride, 2, 1);
    reader.sizes("padding", w.padding, 4, 0);
    reader.sizes("output_padding", made.output_padding, 2, 0);
    if (std::max(w.stride[0], w.stride[1]) > max_transposed_stride) {
        reader.fail("stride is too large for a transposed convolution: needs at most " + std::to_string(max_transposed_stride));
    }
    Shape y = {0, 0, out};
    double padded = static_cast<double>(x[2]);
    for (std::size_t axis = 0; axis < 2; ++axis) {
        if (made.output_padding[axis] >= w.stride[axis]) reader.fail("output_padding must be smaller than stride");
        padded *= static_cast<double>(x[axis] + 2 * (w.kernel[axis] - 1));
        y[axis] = (x[axis] - 1) * w.stride[axis] + w.kernel[axis] + made.output_padding[axis] - w.padding[2 * axis] - w.padding[2 * axis + 1];
    }
    if (padded > static_cast<double>(max_elements)) reader.fail("its padded input has more than " + std::to_string(max_elements) + " elements");
    if (y[0] < 1 || y[1] < 1) reader.fail("padding leaves nothing of its output: use less");
    const std::int64_t taps = w.kernel[0] * w.kernel[1];
    if (step.op == Op::bit_conv_transpose2d) {
        // As of convolutions: the product of all three factors might not fit 64 bits.
        made.layer.bits = reader.weights(out, taps > max_binary_row ? taps : taps * (in / groups));
        made.layer.bias_bits = reader.bits("bias", 1, out, true);
    } else {
        made.layer.weight = reader.floats("weight", {out, w.kernel[0], w.kernel[1], in / groups}, false);
        made.layer.bias = reader.floats("bias", {out}, true);
    }
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

Shape full_attention(StepReader& reader, Step& step, const Inputs& in) {
    if (in.x.size() != 2) reader.wrong_input(in.x, "(time, features)");
    ops::FullAttention made;
    made.heads = heads_of(reader, in.x);
    made.kv_heads = kv_heads_of(reader, made.heads);
    const std::int64_t width = in.x[1] / made.heads * made.kv_heads;
    if (*in.y != *in.z || in.y->size() != 2 || (*in.y)[1] != width) {
        reader.fail("its inputs have shapes " + spelled(in.x) + ", " + spelled(*in.y) + " and " + spelled(*in.z) + ": needs (source, " +
                    std::to_string(width) + ") of the last two");
    }
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

Check check_of(Op op) {
#define OP(name, inputs, programs, check) &check,
    static constexpr Check checks[] = {
#include "ops.def"
    };
#undef OP
    return checks[static_cast<std::size_t>(op)];
}

void check_place(const StepReader& reader, PlacedIn place, const Inputs& in) {
    if (place == PlacedIn::tokens_themselves) {
        if (!in.tokens || in.x.size() != 1) reader.fail("its input is not the program's tokens");
        return;
    }
    if (place == PlacedIn::tokens && !in.tokens) reader.fail("the program's input is not tokens");
    if (place == PlacedIn::arrays && in.tokens) reader.fail("has no meaning for tokens");
    if (in.tokens && in.x.size() != 2) reader.fail("its input is tokens: embed them first");
}

}  // namespace

Shape check_step(Step& step, const StepSource& source, const Inputs& inputs) {
    StepReader reader(source);
    check_place(reader, placed_in(step.op), inputs);
    Shape shape = check_of(step.op)(reader, step, inputs);
    reader.finish();
    return shape;
}

void check_shape(const Shape& shape, const std::string& where) {
    double product = 1;
    for (const std::int64_t axis : shape) product *= static_cast<double>(axis);
    if (product > static_cast<double>(max_elements)) {
        throw std::invalid_argument("[" + where + "] a value of shape " + spelled(shape) + " has more than " + std::to_string(max_elements) +
                                    " elements");
    }
}

}  // namespace onebit
