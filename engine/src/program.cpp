#include "program.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "json.h"

namespace onebit {
namespace {

constexpr std::int64_t max_axis = std::int64_t{1} << 24;
constexpr std::int64_t max_elements = std::int64_t{1} << 31;

const std::map<std::string, Op>& op_names() {
    static const std::map<std::string, Op> names = {
        {"add", Op::add},
        {"attention", Op::attention},
        {"avg_pool2d", Op::avg_pool2d},
        {"bit_conv2d", Op::bit_conv2d},
        {"bit_embedding", Op::bit_embedding},
        {"bit_gru", Op::bit_gru},
        {"bit_linear", Op::bit_linear},
        {"bit_lstm", Op::bit_lstm},
        {"clip", Op::clip},
        {"conv2d", Op::conv2d},
        {"embedding", Op::embedding},
        {"flatten", Op::flatten},
        {"gelu", Op::gelu},
        {"group_normalize", Op::group_normalize},
        {"gru", Op::gru},
        {"last", Op::last},
        {"linear", Op::linear},
        {"lstm", Op::lstm},
        {"max_pool2d", Op::max_pool2d},
        {"mean_magnitude", Op::mean_magnitude},
        {"mean_pool", Op::mean_pool},
        {"multiply", Op::multiply},
        {"normalize", Op::normalize},
        {"prelu", Op::prelu},
        {"relu", Op::relu},
        {"rows", Op::rows},
        {"scale", Op::scale},
        {"scale_shift", Op::scale_shift},
        {"sigmoid", Op::sigmoid},
        {"silu", Op::silu},
        {"softmax", Op::softmax},
        {"tanh", Op::tanh},
    };
    return names;
}

std::size_t input_count(Op op) {
    switch (op) {
        case Op::attention: return 3;
        case Op::add:
        case Op::multiply: return 2;
        default: return 1;
    }
}

// Reads one step, every attribute and tensor checked against the shapes of its inputs.
class StepReader {
  public:
    StepReader(std::string where, const Json& json, const Tensors& tensors) : where_(std::move(where)), json_(json), tensors_(tensors) {}

    [[noreturn]] void fail(const std::string& message) const { throw std::invalid_argument("[" + where_ + "] " + message); }

    // `x`, `y`, `z` are the shapes of its inputs, `tokens` says that the program is one over tokens.
    Shape read(Step& step, const Shape& x, const Shape* y, const Shape* z, bool tokens) {
        check_kind(step, x, tokens);
        switch (step.op) {
            case Op::add:
                if (y == nullptr || x != *y) fail("its inputs have different shapes");
                return x;
            case Op::attention:
                if (y == nullptr || z == nullptr || x != *y || x != *z) fail("its inputs have different shapes");
                step.heads = size("heads");
                if (x.back() % step.heads != 0) fail("heads does not divide its features");
                return x;
            case Op::bit_embedding:
            case Op::embedding: return embedding(step, x);
            case Op::bit_linear:
            case Op::linear: return dense(step, x);
            case Op::bit_conv2d:
            case Op::conv2d: return convolution(step, x);
            case Op::flatten:
                step.channels_first = choice("order", "chw", "hwc");
                if (step.channels_first) image(x);
                return {elements(x)};
            case Op::clip:
                step.low = finite("low");
                step.high = finite("high");
                if (!(step.low < step.high)) fail("low is not below high");
                return x;
            case Op::group_normalize:
                step.groups = size("groups");
                step.eps = above_zero("eps");
                if (x.size() > 3) fail("its input is no image of (height, width, channels), and no rows of features");
                if (x.back() % step.groups != 0) fail("groups=" + std::to_string(step.groups) + " does not divide its channels");
                return x;
            case Op::bit_gru:
            case Op::bit_lstm:
            case Op::gru:
            case Op::lstm: return recurrence(step, x, tokens);
            case Op::last:
                if (x.size() != 2) fail("its input is not of (time, channels)");
                return {x[1]};
            case Op::mean_magnitude: return mean_magnitude(step, x);
            case Op::multiply: {
                Shape one = x;
                one.back() = 1;
                if (y == nullptr || (*y != x && *y != one))
                    fail("its inputs have different shapes: needs equal ones, or 1 as the second's last axis");
                return x;
            }
            case Op::prelu: step.weight = floats("slope", {x.back()}, false); return x;
            case Op::rows: image(x); return {x[0], x[1] * x[2]};
            case Op::avg_pool2d:
            case Op::max_pool2d: {
                image(x);
                if (step.op == Op::avg_pool2d) step.counts_padding = boolean("count_include_pad");
                window(step.window, x, false);
                const Window& w = step.window;
                if (std::max(w.padding[0], w.padding[1]) >= w.kernel[0] || std::max(w.padding[2], w.padding[3]) >= w.kernel[1]) {
                    fail("padding must be smaller than kernel_size");
                }
                return {side(w, x, 0), side(w, x, 1), x[2]};
            }
            case Op::mean_pool:
                if (x.size() != 2 && x.size() != 3) fail("its input is no image of (height, width, channels), and not of (time, channels)");
                return {x.back()};
            case Op::normalize: {
                step.over_channel = choice("over", "channel", "example");
                if (tokens && !step.over_channel) fail("over='example' would mix tokens: use 'channel'");
                step.eps = above_zero("eps");
                return x;
            }
            case Op::scale: step.factor = above_zero("factor"); return x;
            case Op::scale_shift:
                step.weight = floats("scale", {x.back()}, false);
                step.bias = floats("shift", {x.back()}, false);
                return x;
            case Op::gelu:
            case Op::relu:
            case Op::sigmoid:
            case Op::silu:
            case Op::softmax:
            case Op::tanh: return x;
        }
        fail("unknown op");
    }

  private:
    const Json& attributes() const { return json_.at("attributes"); }

    std::int64_t integer(const Json& value, const char* name, std::int64_t least) const {
        if (value.kind != Json::Kind::number || !value.is_integer || value.number < static_cast<double>(least) ||
            value.number > static_cast<double>(max_axis)) {
            fail(std::string(name) + " needs integers from " + std::to_string(least) + " to " + std::to_string(max_axis));
        }
        return static_cast<std::int64_t>(value.number);
    }

    float above_zero(const char* name) const {
        const Json& json = attributes().at(name);
        const auto value = static_cast<float>(json.number);
        if (json.kind != Json::Kind::number || !(value > 0) || !std::isfinite(value)) fail(std::string(name) + " needs a finite number above 0");
        return value;
    }

    float finite(const char* name) const {
        const Json& json = attributes().at(name);
        const auto value = static_cast<float>(json.number);
        if (json.kind != Json::Kind::number || !std::isfinite(value)) fail(std::string(name) + " needs a finite number");
        return value;
    }

    bool boolean(const char* name) const {
        const Json& json = attributes().at(name);
        if (json.kind != Json::Kind::boolean) fail(std::string(name) + " needs true or false");
        return json.boolean;
    }

    // Only what treats each token by itself, attention and what runs forwards in time have a place in a program over tokens; only there is a token to
    // embed.
    void check_kind(const Step& step, const Shape& x, bool tokens) const {
        switch (step.op) {
            case Op::bit_embedding:
            case Op::embedding:
                if (!tokens || x.size() != 1) fail("its input is not the program's tokens");
                return;
            case Op::attention:
                if (!tokens) fail("the program's input is not tokens");
                break;
            case Op::add:
            case Op::bit_gru:
            case Op::bit_linear:
            case Op::bit_lstm:
            case Op::clip:
            case Op::gelu:
            case Op::group_normalize:
            case Op::gru:
            case Op::linear:
            case Op::lstm:
            case Op::mean_magnitude:
            case Op::multiply:
            case Op::normalize:
            case Op::prelu:
            case Op::relu:
            case Op::scale:
            case Op::scale_shift:
            case Op::sigmoid:
            case Op::silu:
            case Op::softmax:
            case Op::tanh: break;
            default:
                if (tokens) fail("has no meaning for tokens");
        }
        if (tokens && x.size() != 2) fail("its input is tokens: embed them first");
    }

    std::int64_t size(const char* name) const { return integer(attributes().at(name), name, 1); }

    void sizes(const char* name, std::int64_t* out, std::size_t count, std::int64_t least) const {
        const auto& items = attributes().at(name).items(name);
        if (items.size() != count) fail(std::string(name) + " needs " + std::to_string(count) + " integers");
        for (std::size_t i = 0; i < count; ++i) out[i] = integer(items[i], name, least);
    }

    // Whether the attribute is `yes`; it must be one of the two.
    bool choice(const char* name, const char* yes, const char* no) const {
        const std::string& value = attributes().at(name).string(name);
        if (value != yes && value != no) fail(std::string(name) + "='" + value.substr(0, 20) + "': use '" + yes + "' or '" + no + "'");
        return value == yes;
    }

    const TensorView* tensor(const char* role, bool is_float, const Shape& shape, bool optional) const {
        const Json* names = json_.find("tensors");
        const Json* name = names == nullptr ? nullptr : names->find(role);
        if (name == nullptr) {
            if (optional) return nullptr;
            fail(std::string("lacks its tensor '") + role + "'");
        }
        const auto found = tensors_.find(name->string(role));
        if (found == tensors_.end()) fail("its tensor '" + name->text + "' is missing");
        if (found->second.is_float != is_float) fail("tensor '" + name->text + "' has the wrong type: needs " + (is_float ? "float32" : "uint8"));
        if (found->second.shape != shape) fail("tensor '" + name->text + "' has the wrong shape");
        return &found->second;
    }

    const float* floats(const char* role, const Shape& shape, bool optional) const {
        const TensorView* view = tensor(role, true, shape, optional);
        return view == nullptr ? nullptr : static_cast<const float*>(view->data);
    }

    const std::uint8_t* bits(const char* role, std::int64_t rows, std::int64_t n, bool optional) const {
        const TensorView* view = tensor(role, false, {rows, row_bytes(n)}, optional);
        if (view == nullptr) return nullptr;
        const auto* data = static_cast<const std::uint8_t*>(view->data);
        for (std::int64_t row = 0; row < rows; ++row, data += row_bytes(n)) {
            // Kernels read whole words: a stray bit beyond a row's end would count as a weight.
            bool stray = n % 8 != 0 && (data[n / 8] >> (n % 8)) != 0;
            for (std::int64_t i = (n + 7) / 8; i < row_bytes(n); ++i) stray |= data[i] != 0;
            if (stray) fail(std::string("tensor '") + role + "' has bits set beyond its " + std::to_string(n) + " columns");
        }
        return static_cast<const std::uint8_t*>(view->data);
    }

    void image(const Shape& x) const {
        if (x.size() != 3) fail("its input is no image of (height, width, channels)");
    }

    void window(Window& w, const Shape& x, bool dilated) const {
        sizes("kernel_size", w.kernel, 2, 1);
        sizes("stride", w.stride, 2, 1);
        sizes("padding", w.padding, 4, 0);
        if (dilated) sizes("dilation", w.dilation, 2, 1);
        const double height = static_cast<double>(x[0] + w.padding[0] + w.padding[1]),
                     width = static_cast<double>(x[1] + w.padding[2] + w.padding[3]);
        if (height * width * static_cast<double>(x[2]) > static_cast<double>(max_elements)) fail("its padded input has too many elements");
    }

    std::int64_t side(const Window& w, const Shape& x, int axis) const {
        const std::int64_t free = x[axis] + w.padding[2 * axis] + w.padding[2 * axis + 1] - w.dilation[axis] * (w.kernel[axis] - 1) - 1;
        if (free < 0) fail("its kernel does not fit its padded input");
        return free / w.stride[axis] + 1;
    }

    Shape dense(Step& step, const Shape& x) {
        const std::int64_t in = size("in_features"), out = size("out_features");
        if (x.back() != in) fail("in_features=" + std::to_string(in) + " but its input has " + std::to_string(x.back()));
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

    Shape mean_magnitude(Step& step, const Shape& x) {
        for (const char* name : {"kernel_size", "stride", "padding", "dilation"}) {
            const Json* all = json_.find("attributes");
            step.windowed |= all != nullptr && all->find(name) != nullptr;
        }
        Shape y = x;
        y.back() = 1;
        if (!step.windowed) return y;
        image(x);
        window(step.window, x, true);
        return {side(step.window, x, 0), side(step.window, x, 1), 1};
    }

    Shape recurrence(Step& step, const Shape& x, bool tokens) {
        step.hidden = size("hidden");
        const std::int64_t outputs = gates_of(step.op) * step.hidden;
        if (x.size() != 2 || x[1] != outputs) {
            fail("hidden=" + std::to_string(step.hidden) + " but its input is not of (time, " + std::to_string(outputs) + ")");
        }
        if (attributes().find("reverse") != nullptr) step.reverse = boolean("reverse");
        if (step.reverse && tokens) fail("reverse=true would read tokens that are still to come: leave it out");
        if (step.op == Op::bit_gru || step.op == Op::bit_lstm) {
            if (attributes().find("eps") != nullptr) step.eps = above_zero("eps");
            binary(step, outputs, step.hidden);
            step.weight = floats("scale", {outputs}, false);
            step.bias = floats("shift", {outputs}, false);
        } else {
            step.weight = floats("weight", {outputs, step.hidden}, false);
            if (step.op == Op::gru) step.bias = floats("shift", {outputs}, false);
        }
        return {x[0], step.hidden};
    }

    Shape embedding(Step& step, const Shape& x) {
        step.rows = size("rows");
        const std::int64_t features = size("features");
        step.of_position = choice("of", "position", "token");
        if (step.of_position && step.rows < x[0]) fail("has fewer rows than there are positions");
        if (step.op == Op::bit_embedding) {
            step.plus_minus = choice("values", "pm1", "01");
            step.bits = bits("weight", step.rows, features, false);
            step.bias_bits = bits("bias", 1, features, true);
        } else {
            step.weight = floats("weight", {step.rows, features}, false);
        }
        return {x[0], features};
    }

    Shape convolution(Step& step, const Shape& x) {
        image(x);
        const std::int64_t in = size("in_channels"), out = size("out_channels"), groups = size("groups");
        if (x[2] != in) fail("in_channels=" + std::to_string(in) + " but its input has " + std::to_string(x[2]));
        if (in % groups != 0 || out % groups != 0) fail("groups=" + std::to_string(groups) + " does not divide the channels");
        Window& w = step.window;
        window(w, x, true);
        w.groups = groups;
        const Shape y = {side(w, x, 0), side(w, x, 1), out};
        if (step.op == Op::bit_conv2d) {
            binary(step, out, w.kernel[0] * w.kernel[1] * (in / groups));
        } else {
            step.weight = floats("weight", {out, w.kernel[0], w.kernel[1], in / groups}, false);
            step.bias = floats("bias", {out}, true);
        }
        return y;
    }

    void binary(Step& step, std::int64_t out, std::int64_t in) {
        // An int32 holds the sum of 2^23 products of 8 bits; 2^22 leaves room for the shift of signed activations.
        if (in > (std::int64_t{1} << 22)) fail("a row of more than 4194304 weights");
        step.plus_minus = choice("values", "pm1", "01");
        const Json* planes = attributes().find("planes");
        const Json* input = attributes().find("input");
        if (planes != nullptr) step.planes = plane_counts(*planes);
        if (input != nullptr) step.input = input_levels(*input);
        const std::int64_t sum = std::accumulate(step.planes.begin(), step.planes.end(), std::int64_t{0});
        // 2^22 * 255 * 32767 is far from 64 bits.
        if ((planes != nullptr || input != nullptr) && in * sum * step.input.largest() >= (std::int64_t{1} << 31)) {
            fail("its sums over " + std::to_string(in) + " inputs do not fit 32 bits: use fewer bits or smaller planes");
        }
        step.bits = bits("weight", static_cast<std::int64_t>(step.planes.size()) * out, in, false);
        if (gates_of(step.op) == 0) step.bias_bits = bits("bias", 1, out, true);
    }

    std::vector<int> plane_counts(const Json& json) const {
        constexpr std::size_t most = 8;
        constexpr std::int64_t most_together = 255;
        const auto& items = json.items("planes");
        std::vector<int> counts;
        std::int64_t sum = 0;
        for (std::size_t i = 0; i < std::min(items.size(), most); ++i) {
            sum += integer(items[i], "planes", 1);
            counts.push_back(static_cast<int>(integer(items[i], "planes", 1)));
        }
        if (items.empty() || items.size() > most || sum > most_together) fail("planes needs 1 to 8 integers whose sum is at most 255");
        return counts;
    }

    InputLevels input_levels(const Json& json) const {
        if (json.kind != Json::Kind::object) fail("input needs an object with a quantizer");
        const Json* name = json.find("quantizer");
        const std::string quantizer = name == nullptr ? "" : name->string("quantizer");
        InputLevels levels;
        if (quantizer == "sign") {
            levels.quantizer = InputLevels::Quantizer::sign;
            levels.bits = 1;
        } else if (quantizer == "unit" || quantizer == "absmax") {
            const Json* bits = json.find("bits");
            if (bits == nullptr) fail("input lacks 'bits'");
            const bool unit = quantizer == "unit";
            levels.quantizer = unit ? InputLevels::Quantizer::unit : InputLevels::Quantizer::absmax;
            levels.bits = static_cast<int>(integer(*bits, "input's bits", 1));
            if (unit ? levels.bits > 8 : levels.bits != 8 && levels.bits != 16) fail("input's bits: use 1 to 8 of 'unit', 8 or 16 of 'absmax'");
        } else {
            fail("input's quantizer='" + quantizer.substr(0, 20) + "': use 'sign', 'unit' or 'absmax'");
        }
        if (json.object.size() != (levels.quantizer == InputLevels::Quantizer::sign ? 1u : 2u)) fail("input has what its quantizer does not take");
        return levels;
    }

    std::string where_;
    const Json& json_;
    const Tensors& tensors_;
};

void check_shape(const Shape& shape, const std::string& where) {
    double product = 1;
    for (const std::int64_t axis : shape) product *= static_cast<double>(axis);
    if (product > static_cast<double>(max_elements)) throw std::invalid_argument("[" + where + "] a value has too many elements");
}

}  // namespace

const char* op_name(Op op) {
    for (const auto& [name, known] : op_names()) {
        if (known == op) return name.c_str();
    }
    return "";
}

std::int64_t gates_of(Op op) {
    switch (op) {
        case Op::bit_lstm:
        case Op::lstm: return 4;
        case Op::bit_gru:
        case Op::gru: return 3;
        default: return 0;
    }
}

std::int64_t elements(const Shape& shape) {
    std::int64_t product = 1;
    for (const std::int64_t axis : shape) product *= axis;
    return product;
}

std::int64_t InputLevels::largest() const {
    switch (quantizer) {
        case Quantizer::absent: return 255;
        case Quantizer::sign: return 1;
        case Quantizer::unit: return (std::int64_t{1} << bits) - 1;
        case Quantizer::absmax: return (std::int64_t{1} << (bits - 1)) - 1;
    }
    return 0;
}

std::int64_t row_bytes(std::int64_t bits) {
    return (bits + 63) / 64 * 8;
}

Program read_program(const std::string& text, const Tensors& tensors) {
    const Json json = parse_json(text);
    Program program;
    std::map<std::string, int> named;
    Shape input;
    for (const Json& axis : json.at("input").at("shape").items("input.shape")) {
        input.push_back(axis.integer("input.shape"));
        if (input.back() < 1 || input.back() > max_axis) throw std::invalid_argument("[program] input.shape is out of range");
    }
    if (input.empty() || input.size() > 4) throw std::invalid_argument("[program] input.shape needs 1 to 4 axes");
    check_shape(input, "input");
    if (const Json* kind = json.at("input").find("kind")) {
        if (kind->string("input.kind") != "tokens" || input.size() != 1) throw std::invalid_argument("[program] input.kind is unknown");
        program.tokens = true;
    }
    program.names.push_back(json.at("input").at("name").string("input.name"));
    named[program.names.back()] = 0;
    program.shapes.push_back(input);
    for (const Json& item : json.at("steps").items("steps")) {
        const std::string& name = item.at("op").string("op");
        const std::string where = "step " + std::to_string(program.steps.size()) + " (" + name.substr(0, 40) + ")";
        const auto op = op_names().find(name);
        if (op == op_names().end()) throw std::invalid_argument("[" + where + "] unknown op");
        Step step;
        step.op = op->second;
        const auto& inputs = item.at("inputs").items("inputs");
        if (inputs.size() != input_count(step.op)) throw std::invalid_argument("[" + where + "] has a wrong number of inputs");
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            const auto found = named.find(inputs[i].string("inputs"));
            if (found == named.end()) throw std::invalid_argument("[" + where + "] uses a value before any step makes it");
            step.inputs[i] = found->second;
        }
        StepReader reader(where, item, tensors);
        const auto shape_of = [&](int value) { return value < 0 ? nullptr : &program.shapes[static_cast<std::size_t>(value)]; };
        Shape shape = reader.read(step, *shape_of(step.inputs[0]), shape_of(step.inputs[1]), shape_of(step.inputs[2]), program.tokens);
        check_shape(shape, where);
        step.output = static_cast<int>(program.shapes.size());
        if (!named.emplace(item.at("output").string("output"), step.output).second) {
            throw std::invalid_argument("[" + where + "] makes a value a second time");
        }
        program.names.push_back(item.at("output").text);
        program.shapes.push_back(std::move(shape));
        program.steps.push_back(step);
    }
    const auto output = named.find(json.at("output").string("output"));
    if (output == named.end()) throw std::invalid_argument("[program] its output is made by no step");
    program.output = output->second;
    return program;
}

}  // namespace onebit
