#include "step_checks.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <set>
#include <stdexcept>
#include <vector>

namespace onebit {
namespace {

constexpr std::int64_t max_elements = std::int64_t{1} << 31;
// An int32 holds the sum of 2^23 products of 8 bits; 2^22 leaves room for the shift of signed activations.
constexpr std::int64_t max_binary_row = std::int64_t{1} << 22;

// As Python writes a tuple, so that both sides say the same.
std::string spelled(const Shape& shape) {
    std::string text = "(";
    for (const std::int64_t axis : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(axis);
    return text + (shape.size() == 1 ? ",)" : ")");
}

// Reads one step, every attribute and tensor checked against the shapes of its inputs, and knows at the end whether any was left unread.
class StepReader {
  public:
    explicit StepReader(const StepSource& source)
        : where_(source.where), attributes_(source.attributes), roles_(source.roles), tensors_(source.tensors) {}

    [[noreturn]] void fail(const std::string& message) const { throw std::invalid_argument("[" + where_ + "] " + message); }

    // Throws where the step has what its op does not take: a later version may mean something by it.
    void finish() const {
        std::string extra;
        const auto list = [&](const Json& given, const std::set<std::string>& read, const char* what) {
            for (const auto& [name, value] : given.object) {
                if (!read.contains(name)) extra += (extra.empty() ? "" : ", ") + excerpt(what + name);
            }
        };
        list(attributes_, read_attributes_, "");
        list(roles_, read_roles_, "tensor ");
        if (!extra.empty()) fail("has what this op does not take: " + extra);
    }

    Shape read(Step& step, const Inputs& inputs) {
        check_place(placed_in(step.op), inputs);
        return (this->*check_of(step.op))(step, inputs);
    }

  private:
    using Check = Shape (StepReader::*)(Step&, const Inputs&);
    static Check check_of(Op op) {
#define OP(name, inputs, programs, check) &StepReader::check,
        static constexpr Check checks[] = {
#include "ops.def"
        };
#undef OP
        return checks[static_cast<std::size_t>(op)];
    }

    Shape same_shape(Step&, const Inputs& in) { return in.x; }

    Shape add(Step&, const Inputs& in) {
        if (in.x != *in.y) fail("its inputs have shapes " + spelled(in.x) + " and " + spelled(*in.y) + ": needs equal ones");
        return in.x;
    }

    Shape attention(Step& step, const Inputs& in) {
        const Shape& x = in.x;
        if (x != *in.y || x != *in.z) {
            fail("its inputs have shapes " + spelled(x) + ", " + spelled(*in.y) + " and " + spelled(*in.z) + ": needs equal ones");
        }
        step.heads = size("heads");
        if (x.back() % step.heads != 0) {
            fail("heads=" + std::to_string(step.heads) + " does not divide its " + std::to_string(x.back()) + " features");
        }
        return x;
    }

    Shape flatten(Step& step, const Inputs& in) {
        step.channels_first = choice("order", "hwc", "chw") == "chw";
        if (step.channels_first && in.x.size() != 3) {
            fail("order='chw' but its input has shape " + spelled(in.x) + ": needs (height, width, channels)");
        }
        return {elements(in.x)};
    }

    Shape clip(Step& step, const Inputs& in) {
        step.low = finite("low");
        step.high = finite("high");
        if (!(step.low < step.high)) fail("low=" + std::to_string(step.low) + " is not below high=" + std::to_string(step.high));
        return in.x;
    }

    Shape group_normalize(Step& step, const Inputs& in) {
        const Shape& x = in.x;
        step.groups = size("groups");
        step.eps = above_zero("eps");
        if (x.size() > 3) wrong_input(x, "(height, width, channels), (rows, features) or (features)");
        if (x.back() % step.groups != 0) {
            fail("groups=" + std::to_string(step.groups) + " does not divide its " + std::to_string(x.back()) + " channels");
        }
        return x;
    }

    Shape last(Step&, const Inputs& in) {
        if (in.x.size() != 2) wrong_input(in.x, "(time, channels)");
        return {in.x[1]};
    }

    Shape multiply(Step&, const Inputs& in) {
        Shape one = in.x;
        one.back() = 1;
        if (*in.y != in.x && *in.y != one) {
            fail("its inputs have shapes " + spelled(in.x) + " and " + spelled(*in.y) + ": needs equal ones, or 1 as the second's last axis");
        }
        return in.x;
    }

    Shape prelu(Step& step, const Inputs& in) {
        step.weight = floats("slope", {in.x.back()}, false);
        return in.x;
    }

    Shape rows(Step&, const Inputs& in) {
        image(in.x);
        return {in.x[0], in.x[1] * in.x[2]};
    }

    Shape pool(Step& step, const Inputs& in) {
        const Shape& x = in.x;
        image(x);
        if (step.op == Op::avg_pool2d) step.counts_padding = boolean("count_include_pad");
        window(step.window, x, false);
        const Window& w = step.window;
        if (std::max(w.padding[0], w.padding[1]) >= w.kernel[0] || std::max(w.padding[2], w.padding[3]) >= w.kernel[1]) {
            fail("padding must be smaller than kernel_size");
        }
        return {side(w, x, 0), side(w, x, 1), x[2]};
    }

    Shape mean_pool(Step&, const Inputs& in) {
        if (in.x.size() != 2 && in.x.size() != 3) wrong_input(in.x, "(height, width, channels) or (time, channels)");
        return {in.x.back()};
    }

    Shape normalize(Step& step, const Inputs& in) {
        step.over_channel = choice("over", "channel", "example") == "channel";
        if (in.tokens && !step.over_channel) fail("over='example' would mix tokens: use 'channel'");
        step.eps = above_zero("eps");
        return in.x;
    }

    Shape scale(Step& step, const Inputs& in) {
        step.factor = above_zero("factor");
        return in.x;
    }

    Shape scale_shift(Step& step, const Inputs& in) {
        step.weight = floats("scale", {in.x.back()}, false);
        step.bias = floats("shift", {in.x.back()}, false);
        return in.x;
    }

    bool has(const std::string& name) const { return attributes_.object.contains(name); }

    const Json& attribute(const std::string& name) {
        const auto found = attributes_.object.find(name);
        if (found == attributes_.object.end()) fail("lacks the attribute " + excerpt(name));
        read_attributes_.insert(name);
        return found->second;
    }

    [[noreturn]] void wrong_input(const Shape& x, const char* needed) const { fail("its input has shape " + spelled(x) + ": needs " + needed); }

    static bool is_integer(const Json& value, std::int64_t least, std::int64_t most) {
        return value.kind == Json::Kind::number && value.is_integer && value.number >= static_cast<double>(least) &&
               value.number <= static_cast<double>(most);
    }

    std::int64_t size(const char* name) {
        const Json& value = attribute(name);
        if (!is_integer(value, 1, max_axis)) fail(std::string(name) + ": needs an integer from 1 to " + std::to_string(max_axis));
        return static_cast<std::int64_t>(value.number);
    }

    void sizes(const char* name, std::int64_t* out, std::size_t count, std::int64_t least) {
        const Json& value = attribute(name);
        bool fits = value.kind == Json::Kind::list && value.list.size() == count;
        for (std::size_t i = 0; fits && i < count; ++i) {
            fits = is_integer(value.list[i], least, max_axis);
            if (fits) out[i] = static_cast<std::int64_t>(value.list[i].number);
        }
        if (!fits) {
            fail(std::string(name) + ": needs a list of " + std::to_string(count) + " integers from " + std::to_string(least) + " to " +
                 std::to_string(max_axis));
        }
    }

    // Compared before it is rounded: a number just above float32's largest would round down to it.
    static bool fits_float32(const Json& value) {
        return value.kind == Json::Kind::number && std::fabs(value.number) <= static_cast<double>(std::numeric_limits<float>::max());
    }

    float above_zero(const char* name) {
        const Json& value = attribute(name);
        // In float32 a number that is too small is 0.
        if (!fits_float32(value) || !(static_cast<float>(value.number) > 0)) fail(std::string(name) + ": needs a finite number above 0");
        return static_cast<float>(value.number);
    }

    float finite(const char* name) {
        const Json& value = attribute(name);
        if (!fits_float32(value)) fail(std::string(name) + ": needs a finite number");
        return static_cast<float>(value.number);
    }

    bool boolean(const char* name) {
        const Json& value = attribute(name);
        if (value.kind != Json::Kind::boolean) fail(std::string(name) + ": use true or false");
        return value.boolean;
    }

    // The attribute, which must be one of the two.
    const std::string& choice(const char* name, const std::string& first, const std::string& second) {
        const Json& value = attribute(name);
        if (value.kind != Json::Kind::text || (value.text != first && value.text != second)) {
            fail(std::string(name) + ": use '" + first + "' or '" + second + "'");
        }
        return value.text;
    }

    void check_place(PlacedIn place, const Inputs& in) const {
        if (place == PlacedIn::tokens_themselves) {
            if (!in.tokens || in.x.size() != 1) fail("its input is not the program's tokens");
            return;
        }
        if (place == PlacedIn::tokens && !in.tokens) fail("the program's input is not tokens");
        if (place == PlacedIn::arrays && in.tokens) fail("has no meaning for tokens");
        if (in.tokens && in.x.size() != 2) fail("its input is tokens: embed them first");
    }

    const TensorView* tensor(const char* role, bool is_float, const Shape& shape, bool optional) {
        read_roles_.insert(role);
        const Json* name = roles_.find(role);
        if (name == nullptr) {
            if (optional) return nullptr;
            fail(std::string("lacks its tensor '") + role + "'");
        }
        const auto found = tensors_.find(name->text);
        if (found == tensors_.end()) fail("its tensor " + excerpt(name->text) + " is not in the file");
        const TensorView& view = found->second;
        if (view.is_float != is_float) {
            fail("tensor " + excerpt(name->text) + (is_float ? " is uint8: needs float32" : " is float32: needs uint8"));
        }
        if (view.shape != shape) fail("tensor " + excerpt(name->text) + " has shape " + spelled(view.shape) + ": needs " + spelled(shape));
        return &view;
    }

    const float* floats(const char* role, const Shape& shape, bool optional) {
        const TensorView* view = tensor(role, true, shape, optional);
        return view == nullptr ? nullptr : static_cast<const float*>(view->data);
    }

    const std::uint8_t* bits(const char* role, std::int64_t rows, std::int64_t n, bool optional) {
        const TensorView* view = tensor(role, false, {rows, row_bytes(n)}, optional);
        if (view == nullptr) return nullptr;
        const auto* data = static_cast<const std::uint8_t*>(view->data);
        for (std::int64_t row = 0; row < rows; ++row, data += row_bytes(n)) {
            // Kernels read whole words: a stray bit beyond a row's end would count as a weight.
            bool stray = n % 8 != 0 && (data[n / 8] >> (n % 8)) != 0;
            for (std::int64_t i = (n + 7) / 8; i < row_bytes(n); ++i) stray |= data[i] != 0;
            if (stray) {
                fail("tensor " + excerpt(roles_.at(role).text) + " has bits set beyond its " + std::to_string(n) + " columns; the file is damaged");
            }
        }
        return static_cast<const std::uint8_t*>(view->data);
    }

    void image(const Shape& x) const {
        if (x.size() != 3) wrong_input(x, "(height, width, channels)");
    }

    void window(Window& w, const Shape& x, bool dilated) {
        sizes("kernel_size", w.kernel, 2, 1);
        sizes("stride", w.stride, 2, 1);
        sizes("padding", w.padding, 4, 0);
        if (dilated) sizes("dilation", w.dilation, 2, 1);
        const double height = static_cast<double>(x[0] + w.padding[0] + w.padding[1]),
                     width = static_cast<double>(x[1] + w.padding[2] + w.padding[3]);
        if (height * width * static_cast<double>(x[2]) > static_cast<double>(max_elements)) {
            fail("its padded input has more than " + std::to_string(max_elements) + " elements");
        }
    }

    std::int64_t side(const Window& w, const Shape& x, int axis) const {
        const std::int64_t free = x[axis] + w.padding[2 * axis] + w.padding[2 * axis + 1] - w.dilation[axis] * (w.kernel[axis] - 1) - 1;
        if (free < 0) fail("a kernel_size does not fit its padded input of shape " + spelled(x));
        return free / w.stride[axis] + 1;
    }

    Shape dense(Step& step, const Inputs& inputs) {
        const Shape& x = inputs.x;
        const std::int64_t in = size("in_features"), out = size("out_features");
        if (x.back() != in) fail("in_features=" + std::to_string(in) + " but its input has shape " + spelled(x));
        if (step.op == Op::bit_linear) {
            binary(step, out, in);
        } else {
            step.weight = floats("weight", {out, in}, false);
            step.bias = floats("bias", {out}, true);
        }
        Shape y = x;
        y.back() = out;
        return y;
    }

    Shape mean_magnitude(Step& step, const Inputs& inputs) {
        const Shape& x = inputs.x;
        for (const char* name : {"kernel_size", "stride", "padding", "dilation"}) step.windowed |= has(name);
        Shape y = x;
        y.back() = 1;
        if (!step.windowed) return y;
        image(x);
        window(step.window, x, true);
        return {side(step.window, x, 0), side(step.window, x, 1), 1};
    }

    Shape recurrence(Step& step, const Inputs& inputs) {
        const Shape& x = inputs.x;
        step.hidden = size("hidden");
        const std::int64_t outputs = gates_of(step.op) * step.hidden;
        if (x.size() != 2 || x[1] != outputs) {
            fail("hidden=" + std::to_string(step.hidden) + " but its input has shape " + spelled(x) + ": needs (time, " + std::to_string(outputs) +
                 ")");
        }
        if (has("reverse")) step.reverse = boolean("reverse");
        if (step.reverse && inputs.tokens) fail("reverse=true would read tokens that are still to come: leave it out");
        if (step.op == Op::bit_gru || step.op == Op::bit_lstm) {
            if (has("eps")) step.eps = above_zero("eps");
            binary(step, outputs, step.hidden);
            step.weight = floats("scale", {outputs}, false);
            step.bias = floats("shift", {outputs}, false);
        } else {
            step.weight = floats("weight", {outputs, step.hidden}, false);
            if (step.op == Op::gru) step.bias = floats("shift", {outputs}, false);
        }
        return {x[0], step.hidden};
    }

    Shape embedding(Step& step, const Inputs& inputs) {
        const Shape& x = inputs.x;
        step.rows = size("rows");
        const std::int64_t features = size("features");
        step.of_position = choice("of", "token", "position") == "position";
        if (step.of_position && step.rows < x[0]) {
            fail("has " + std::to_string(step.rows) + " rows for " + std::to_string(x[0]) + " positions: needs one for each");
        }
        if (step.op == Op::bit_embedding) {
            step.plus_minus = choice("values", "01", "pm1") == "pm1";
            step.bits = bits("weight", step.rows, features, false);
            step.bias_bits = bits("bias", 1, features, true);
        } else {
            step.weight = floats("weight", {step.rows, features}, false);
        }
        return {x[0], features};
    }

    Shape convolution(Step& step, const Inputs& inputs) {
        const Shape& x = inputs.x;
        const std::int64_t in = size("in_channels"), out = size("out_channels"), groups = size("groups");
        if (x.size() != 3 || x[2] != in) {
            fail("in_channels=" + std::to_string(in) + " but its input has shape " + spelled(x) + ": needs (height, width, " + std::to_string(in) +
                 ")");
        }
        if (in % groups != 0 || out % groups != 0) {
            fail("groups=" + std::to_string(groups) + " does not divide in_channels=" + std::to_string(in) +
                 " and out_channels=" + std::to_string(out));
        }
        Window& w = step.window;
        window(w, x, true);
        w.groups = groups;
        const Shape y = {side(w, x, 0), side(w, x, 1), out};
        if (step.op == Op::bit_conv2d) {
            // The kernel is at most 2^26 high and wide, as its padded input: the product of the two is far from 64 bits, that of all three is not.
            const std::int64_t taps = w.kernel[0] * w.kernel[1];
            binary(step, out, taps > max_binary_row ? taps : taps * (in / groups));
        } else {
            step.weight = floats("weight", {out, w.kernel[0], w.kernel[1], in / groups}, false);
            step.bias = floats("bias", {out}, true);
        }
        return y;
    }

    void binary(Step& step, std::int64_t out, std::int64_t in) {
        if (in > max_binary_row) fail("has rows of " + std::to_string(in) + " weights: needs at most " + std::to_string(max_binary_row));
        step.plus_minus = choice("values", "01", "pm1") == "pm1";
        if (has("planes")) step.planes = plane_counts(attribute("planes"));
        if (has("input")) step.input = input_levels(attribute("input"));
        const std::int64_t sum = std::accumulate(step.planes.begin(), step.planes.end(), std::int64_t{0});
        // 2^22 * 255 * 32767 is far from 64 bits.
        if ((has("planes") || has("input")) && in * sum * step.input.largest() >= (std::int64_t{1} << 31)) {
            fail("its sums over " + std::to_string(in) + " inputs do not fit 32 bits: use fewer bits or smaller planes");
        }
        step.bits = bits("weight", static_cast<std::int64_t>(step.planes.size()) * out, in, false);
        if (gates_of(step.op) == 0) step.bias_bits = bits("bias", 1, out, true);
    }

    std::vector<int> plane_counts(const Json& json) const {
        constexpr std::int64_t most = 8, most_together = 255;
        std::vector<int> counts;
        const bool whole = json.kind == Json::Kind::list && !json.list.empty() && json.list.size() <= most &&
                           std::all_of(json.list.begin(), json.list.end(), [&](const Json& c) { return is_integer(c, 1, most_together); });
        if (whole)
            std::transform(json.list.begin(), json.list.end(), std::back_inserter(counts), [](const Json& c) { return static_cast<int>(c.number); });
        if (!whole || std::accumulate(counts.begin(), counts.end(), 0) > most_together) {
            fail("planes: needs 1 to " + std::to_string(most) + " integers from 1 whose sum is at most " + std::to_string(most_together));
        }
        return counts;
    }

    InputLevels input_levels(const Json& json) const {
        using Quantizer = InputLevels::Quantizer;
        const Json* name = json.find("quantizer");
        const std::string quantizer = name == nullptr || name->kind != Json::Kind::text ? "" : name->text;
        InputLevels levels;
        if (quantizer == "sign") levels.quantizer = Quantizer::sign;
        if (quantizer == "unit") levels.quantizer = Quantizer::unit;
        if (quantizer == "absmax") levels.quantizer = Quantizer::absmax;
        if (!levels.given()) fail("input: needs a quantizer, one of 'sign', 'unit', 'absmax'");
        const Json* bits = json.find("bits");
        if (levels.quantizer == Quantizer::sign) {
            if (json.object.size() != 1) fail("input: 'sign' takes quantizer");
            levels.bits = 1;
            return levels;
        }
        if (json.object.size() != 2 || bits == nullptr) fail("input: '" + quantizer + "' takes bits and quantizer");
        const bool unit = levels.quantizer == Quantizer::unit;
        if (!is_integer(*bits, 1, 16) || (unit ? bits->number > 8 : bits->number != 8 && bits->number != 16)) {
            fail(std::string("input: its bits are one of ") + (unit ? "1, 2, 3, 4, 5, 6, 7, 8" : "8, 16"));
        }
        levels.bits = static_cast<int>(bits->number);
        return levels;
    }

    const std::string& where_;
    const Json& attributes_;
    const Json& roles_;
    const Tensors& tensors_;
    std::set<std::string> read_attributes_, read_roles_;
};

}  // namespace

Shape check_step(Step& step, const StepSource& source, const Inputs& inputs) {
    StepReader reader(source);
    Shape shape = reader.read(step, inputs);
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
