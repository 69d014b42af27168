#include "step_checks.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "decimal.h"
#include "op_checks.h"

namespace onebit {
namespace op_checks {

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

Shape exit(StepReader& reader, Step& step, const Inputs& in) {
    if (in.x.size() != 1) reader.wrong_input(in.x, "(classes,)");
    step.attributes = ops::Exit{reader.above_zero("threshold")};
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

namespace {

void divides_channels(const StepReader& reader, std::int64_t groups, const Shape& x) {
    if (x.back() % groups != 0) {
        reader.fail("groups=" + std::to_string(groups) + " does not divide its " + std::to_string(x.back()) + " channels");
    }
}

}  // namespace

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

namespace {

std::int64_t axis_of(StepReader& reader, const Inputs& in) {
    const std::int64_t axis = reader.index("axis", max_axes - 1);
    if (in.tokens && axis == 0) reader.fail("axis=0 would mix tokens: use 1");
    if (axis >= static_cast<std::int64_t>(in.x.size())) {
        reader.fail("axis=" + std::to_string(axis) + " but its input has shape " + spelled(in.x) + ": needs one of its axes, counted from 0");
    }
    return axis;
}

}  // namespace

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

Shape argmax(StepReader&, Step&, const Inputs& in) {
    Shape y = in.x;
    y.back() = 1;
    return y;
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

}  // namespace op_checks

namespace {

using Check = Shape (*)(StepReader&, Step&, const Inputs&);

Check check_of(Op op) {
#define OP(name, inputs, programs, check) &op_checks::check,
    static constexpr Check checks[] = {
#include "ops.def"
    };
#undef OP
    return checks[static_cast<std::size_t>(op)];
}

void check_place(const StepReader& reader, PlacedIn place, const Inputs& in) {
    if (place == PlacedIn::tokens_themselves) {
        if (!in.integers && (!in.tokens || in.x.size() != 1)) reader.fail("its input is not the program's tokens or integers");
        return;
    }
    if (in.integers) reader.fail("its input is integers: embed them first");
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
