#include "step_reader.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace onebit {
namespace {

bool is_integer(const Json& value, std::int64_t least, std::int64_t most) {
    return value.kind == Json::Kind::number && value.is_integer && value.number >= static_cast<double>(least) &&
           value.number <= static_cast<double>(most);
}

// Compare before rounding: a number just above float32's largest would round down to it.
bool fits_float32(const Json& value) {
    return value.kind == Json::Kind::number && std::fabs(value.number) <= static_cast<double>(std::numeric_limits<float>::max());
}

}  // namespace

std::string spelled(const Shape& shape) {
    std::string text = "(";
    for (const std::int64_t axis : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(axis);
    return text + (shape.size() == 1 ? ",)" : ")");
}

void StepReader::fail(const std::string& message) const {
    throw std::invalid_argument("[" + where_ + "] " + message);
}

void StepReader::finish() const {
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

const Json& StepReader::attribute(const std::string& name) {
    const auto found = attributes_.object.find(name);
    if (found == attributes_.object.end()) fail("lacks the attribute " + excerpt(name));
    read_attributes_.insert(name);
    return found->second;
}

void StepReader::wrong_input(const Shape& x, const char* needed) const {
    fail("its input has shape " + spelled(x) + ": needs " + needed);
}

std::int64_t StepReader::size(const char* name, std::int64_t most) {
    const Json& value = attribute(name);
    if (!is_integer(value, 1, most)) fail(std::string(name) + ": needs an integer from 1 to " + std::to_string(most));
    return static_cast<std::int64_t>(value.number);
}

std::int64_t StepReader::index(const char* name, std::int64_t most) {
    const Json& value = attribute(name);
    if (!is_integer(value, 0, most)) fail(std::string(name) + ": needs an integer from 0 to " + std::to_string(most));
    return static_cast<std::int64_t>(value.number);
}

std::vector<std::int64_t> StepReader::per_axis(const char* name, std::int64_t least, std::int64_t most) {
    const Json& value = attribute(name);
    std::vector<std::int64_t> numbers;
    bool fits = value.kind == Json::Kind::list && !value.list.empty() && value.list.size() <= max_axes;
    for (std::size_t i = 0; fits && i < value.list.size(); ++i) {
        fits = is_integer(value.list[i], least, most);
        if (fits) numbers.push_back(static_cast<std::int64_t>(value.list[i].number));
    }
    if (!fits) {
        fail(std::string(name) + ": needs a list of 1 to " + std::to_string(max_axes) + " integers from " + std::to_string(least) + " to " +
             std::to_string(most));
    }
    return numbers;
}

std::int64_t StepReader::group(std::int64_t inputs) {
    if (!has("group")) return inputs;
    const Json& value = attribute("group");
    const bool known = is_integer(value, 32, 128) && (value.number == 32 || value.number == 64 || value.number == 128);
    if (!known) fail("group: use 32, 64 or 128");
    const auto group = static_cast<std::int64_t>(value.number);
    if (inputs % group != 0) fail("group=" + std::to_string(group) + " does not divide its " + std::to_string(inputs) + " inputs");
    return group;
}

void StepReader::sizes(const char* name, std::int64_t* out, std::size_t count, std::int64_t least) {
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

float StepReader::above_zero(const char* name) {
    const Json& value = attribute(name);
    // In float32 a number that is too small becomes 0.
    if (!fits_float32(value) || !(static_cast<float>(value.number) > 0)) fail(std::string(name) + ": needs a finite number above 0");
    return static_cast<float>(value.number);
}

float StepReader::finite(const char* name) {
    const Json& value = attribute(name);
    if (!fits_float32(value)) fail(std::string(name) + ": needs a finite number");
    return static_cast<float>(value.number);
}

bool StepReader::boolean(const char* name) {
    const Json& value = attribute(name);
    if (value.kind != Json::Kind::boolean) fail(std::string(name) + ": use true or false");
    return value.boolean;
}

const std::string& StepReader::choice(const char* name, const std::string& first, const std::string& second) {
    const Json& value = attribute(name);
    if (value.kind != Json::Kind::text || (value.text != first && value.text != second)) {
        fail(std::string(name) + ": use '" + first + "' or '" + second + "'");
    }
    return value.text;
}

const TensorView* StepReader::tensor(const char* role, TensorType type, const Shape& shape, bool optional) {
    read_roles_.insert(role);
    const Json* name = roles_.find(role);
    if (name == nullptr) {
        if (optional) return nullptr;
        fail(std::string("lacks its tensor '") + role + "'");
    }
    const auto found = tensors_.find(name->text);
    if (found == tensors_.end()) fail("its tensor " + excerpt(name->text) + " is not in the file");
    const TensorView& view = found->second;
    if (view.type != type) fail("tensor " + excerpt(name->text) + " is " + names_of(view.type).name + ": needs " + names_of(type).name);
    if (view.shape != shape) fail("tensor " + excerpt(name->text) + " has shape " + spelled(view.shape) + ": needs " + spelled(shape));
    return &view;
}

const float* StepReader::floats(const char* role, const Shape& shape, bool optional) {
    const TensorView* view = tensor(role, TensorType::float32, shape, optional);
    return view == nullptr ? nullptr : static_cast<const float*>(view->data);
}

const std::uint16_t* StepReader::halves(const char* role, const Shape& shape) {
    const auto* numbers = static_cast<const std::uint16_t*>(tensor(role, TensorType::float16, shape, false)->data);
    constexpr std::uint16_t exponent = 0x7C00;
    if (std::any_of(numbers, numbers + elements(shape), [](std::uint16_t number) { return (number & exponent) == exponent; })) {
        fail("tensor " + excerpt(roles_.at(role).text) + " holds NaN or infinity; the file is damaged");
    }
    return numbers;
}

const std::int8_t* StepReader::bytes(const char* role, const Shape& shape) {
    return static_cast<const std::int8_t*>(tensor(role, TensorType::int8, shape, false)->data);
}

const std::uint8_t* StepReader::bits(const char* role, std::int64_t rows, std::int64_t n, bool optional) {
    const TensorView* view = tensor(role, TensorType::uint8, {rows, row_bytes(n)}, optional);
    if (view == nullptr) return nullptr;
    const auto* data = static_cast<const std::uint8_t*>(view->data);
    for (std::int64_t row = 0; row < rows; ++row, data += row_bytes(n)) {
        // Kernels read whole words, so a stray bit after the end of a row would count as a weight.
        bool stray = n % 8 != 0 && (data[n / 8] >> (n % 8)) != 0;
        for (std::int64_t i = (n + 7) / 8; i < row_bytes(n); ++i) stray |= data[i] != 0;
        if (stray) {
            fail("tensor " + excerpt(roles_.at(role).text) + " has bits set beyond its " + std::to_string(n) + " columns; the file is damaged");
        }
    }
    return static_cast<const std::uint8_t*>(view->data);
}

void StepReader::image(const Shape& x) const {
    if (x.size() != 3) wrong_input(x, "(height, width, channels)");
}

Window StepReader::window(const Shape& x, bool dilated) {
    Window w;
    sizes("kernel_size", w.kernel, 2, 1);
    sizes("stride", w.stride, 2, 1);
    sizes("padding", w.padding, 4, 0);
    if (dilated) sizes("dilation", w.dilation, 2, 1);
    const double height = static_cast<double>(x[0] + w.padding[0] + w.padding[1]), width = static_cast<double>(x[1] + w.padding[2] + w.padding[3]);
    if (height * width * static_cast<double>(x[2]) > static_cast<double>(max_elements)) {
        fail("its padded input has more than " + std::to_string(max_elements) + " elements");
    }
    return w;
}

Depth StepReader::depth(const Shape& x, Window& others) {
    Depth d;
    std::int64_t kernel[3], stride[3], dilation[3], padding[6];
    sizes("kernel_size", kernel, 3, 1);
    sizes("stride", stride, 3, 1);
    sizes("padding", padding, 6, 0);
    sizes("dilation", dilation, 3, 1);
    d.kernel = kernel[0], d.stride = stride[0], d.dilation = dilation[0];
    std::copy_n(padding, 2, d.padding);
    std::copy_n(padding + 2, 4, others.padding);
    double padded = static_cast<double>(x[3]);
    for (std::size_t axis = 0; axis < 3; ++axis) {
        padded *= static_cast<double>(x[axis] + padding[2 * axis] + padding[2 * axis + 1]);
        if (axis == 0) continue;
        others.kernel[axis - 1] = kernel[axis];
        others.stride[axis - 1] = stride[axis];
        others.dilation[axis - 1] = dilation[axis];
    }
    if (padded > static_cast<double>(max_elements)) fail("its padded input has more than " + std::to_string(max_elements) + " elements");
    return d;
}

std::int64_t StepReader::side(const Window& w, const Shape& x, int axis) const {
    const std::int64_t free = x[axis] + w.padding[2 * axis] + w.padding[2 * axis + 1] - w.dilation[axis] * (w.kernel[axis] - 1) - 1;
    if (free < 0) fail("a kernel_size does not fit its padded input of shape " + spelled(x));
    return free / w.stride[axis] + 1;
}

BitWeights StepReader::weights(std::int64_t out, std::int64_t in) {
    if (in > max_binary_row) fail("has rows of " + std::to_string(in) + " weights: needs at most " + std::to_string(max_binary_row));
    BitWeights weights;
    weights.plus_minus = choice("values", "01", "pm1") == "pm1";
    if (has("planes")) weights.planes = plane_counts(attribute("planes"));
    if (has("input")) weights.input = input_levels(attribute("input"));
    const std::int64_t sum = std::accumulate(weights.planes.begin(), weights.planes.end(), std::int64_t{0});
    // 2^22 * 255 * 32767 is far from 64 bits.
    if ((has("planes") || has("input")) && in * sum * weights.input.largest() >= (std::int64_t{1} << 31)) {
        fail("its sums over " + std::to_string(in) + " inputs do not fit 32 bits: use fewer bits or smaller planes");
    }
    weights.rows = bits("weight", weights.plane_count() * out, in, false);
    return weights;
}

std::vector<int> StepReader::plane_counts(const Json& json) const {
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

InputLevels StepReader::input_levels(const Json& json) const {
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

// A number of an attribute that is an object: above 0, or from 1 on if `least` is 1.
float StepReader::positive_field(const Json& object, const std::string& attribute, const char* name, float least) const {
    const Json& value = object.object.at(name);
    const float number = fits_float32(value) ? static_cast<float>(value.number) : 0.0f;
    if (!(number > 0) || number < least) {
        fail(attribute + ": its " + name + (least > 0 ? " needs a finite number from 1" : " needs a finite number above 0"));
    }
    return number;
}

ops::RotaryScaling StepReader::rotary_scaling() {
    using Kind = ops::RotaryScaling::Kind;
    const Json& json = attribute("scaling");
    const Json* name = json.find("kind");
    const std::string kind = name == nullptr || name->kind != Json::Kind::text ? "" : name->text;
    ops::RotaryScaling made;
    std::vector<std::string> needed = {"factor", "original_context"};
    const char *fast = "beta_fast", *slow = "beta_slow";
    if (kind == "linear") {
        made.kind = Kind::linear;
        needed.pop_back();
    } else if (kind == "yarn") {
        made.kind = Kind::yarn;
        needed.insert(needed.end(), {fast, slow});
    } else if (kind == "llama3") {
        made.kind = Kind::llama3;
        fast = "high_freq_factor", slow = "low_freq_factor";
        needed.insert(needed.end(), {fast, slow});
    } else {
        fail("scaling: needs a kind, one of 'linear', 'yarn', 'llama3'");
    }
    const bool has_factor = made.kind == Kind::yarn && json.find("attention_factor") != nullptr;
    bool whole = json.object.size() == needed.size() + 1 + (has_factor ? 1 : 0);
    std::string list = "kind";
    for (const std::string& field : needed) {
        whole = whole && json.find(field) != nullptr;
        list += ", " + field;
    }
    if (!whole) fail("scaling: '" + kind + "' takes " + list + (made.kind == Kind::yarn ? ", and perhaps attention_factor" : ""));
    // A smaller factor would turn a pair by more than one radian a token.
    made.factor = positive_field(json, "scaling", "factor", 1);
    if (made.kind == Kind::linear) return made;
    const Json& context = json.object.at("original_context");
    if (!is_integer(context, 1, max_axis)) fail("scaling: its original_context needs an integer from 1 to " + std::to_string(max_axis));
    made.original_context = static_cast<std::int64_t>(context.number);
    made.fast = positive_field(json, "scaling", fast, 0);
    made.slow = positive_field(json, "scaling", slow, 0);
    if (has_factor) made.attention_factor = positive_field(json, "scaling", "attention_factor", 0);
    if (!(made.fast > made.slow)) fail(std::string("scaling: its ") + fast + " is not above its " + slow);
    return made;
}

}  // namespace onebit
