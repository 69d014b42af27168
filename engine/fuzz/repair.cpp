#include "repair.h"

#include <algorithm>

#include "program.h"

namespace fuzz {
namespace {

using Shape = std::vector<std::int64_t>;

// Small, so that many files a second can be tried.
constexpr std::int64_t most_elements = 1 << 14;

// One step, whose attributes are read and set.
class Repair {
  public:
    Repair(Json& step, const Shape& x, std::map<std::string, Tensor>& tensors) : step_(step), x_(x), tensors_(tensors) {
        if (step.find("attributes") == nullptr || step.at("attributes").kind != Json::Kind::object)
            step.object["attributes"].kind = Json::Kind::object;
    }

    // False where this is no step that it understands.
    bool run(Shape& y) {
        const std::string& op = step_.at("op").text;
        const bool bits = op.rfind("bit_", 0) == 0;
        y = x_;
        if (op == "linear" || op == "bit_linear" || op == "int8_linear") {
            set("in_features", x_.back());
            y.back() = size("out_features");
            if (op == "int8_linear") return tensor("weight", onebit::TensorType::int8, {y.back(), x_.back()}) && scales(y.back(), x_.back());
            if (bits && attribute("group") != nullptr && !scales(y.back(), x_.back())) return false;
            return layer(bits, y.back(), {x_.back()});
        }
        if (op == "conv2d" || op == "bit_conv2d") return convolution(bits, y);
        if (op == "conv3d" || op == "bit_conv3d") return volume(bits, y);
        if (op == "max_pool2d" || op == "avg_pool2d") return window(y, false);
        if (op == "mean_magnitude") {
            if (attribute("kernel_size") == nullptr) {
                y.back() = 1;
                return true;
            }
            const bool fits = window(y, true);
            if (fits) y[2] = 1;
            return fits;
        }
        if (op == "embedding" || op == "bit_embedding" || op == "int8_embedding") {
            std::int64_t rows = size("rows");
            const Json* of = attribute("of");
            if (of != nullptr && of->text == "position") set("rows", rows = std::max(rows, x_[0]));
            y = {x_[0], size("features")};
            if (op == "int8_embedding") return tensor("weight", onebit::TensorType::int8, {rows, y[1]}) && scales(rows, y[1]);
            if (bits && attribute("group") != nullptr && !scales(rows, y[1])) return false;
            return bits ? tensor("weight", false, {planes() * rows, onebit::row_bytes(y[1])}, y[1]) && bias(true, y[1])
                        : tensor("weight", true, {rows, y[1]});
        }
        if (op == "lstm" || op == "gru" || op == "bit_lstm" || op == "bit_gru") {
            const std::int64_t gates = op.find("lstm") != std::string::npos ? 4 : 3;
            if (x_.size() != 2 || x_[1] % gates != 0) return false;
            const std::int64_t hidden = x_[1] / gates;
            set("hidden", hidden);
            y = {x_[0], hidden};
            if (bits && !tensor("scale", true, {x_[1]})) return false;
            if (op != "lstm" && !tensor("shift", true, {x_[1]})) return false;
            return bits ? tensor("weight", false, {planes() * x_[1], onebit::row_bytes(hidden)}, hidden) : tensor("weight", true, {x_[1], hidden});
        }
        if (op == "scale_shift") {
            const bool shifted = step_.at("tensors").find("shift") != nullptr;
            return tensor("scale", true, {x_.back()}) && (!shifted || tensor("shift", true, {x_.back()}));
        }
        if (op == "prelu") return tensor("slope", true, {x_.back()});
        if (op == "group_normalize") return divide("groups", x_.back());
        if (op == "rms_normalize") return attribute("groups") == nullptr || divide("groups", x_.back());
        if (op == "rotary") {
            divide("heads", x_.back());
            const std::int64_t features = x_.back() / size("heads");
            if (attribute("rotated") != nullptr || features % 2 != 0) set("rotated", std::max<std::int64_t>(2, size("rotated") / 2 * 2));
            return features > 1;
        }
        if (op == "attention") {
            // Of values of one shape.
            step_.object["attributes"].object.erase("kv_heads");
            return divide("heads", x_.back());
        }
        if (op == "flatten") {
            std::int64_t all = 1;
            for (const std::int64_t axis : x_) all *= axis;
            y = {all};
        }
        if (op == "mean_pool" || op == "last") y = {x_.back()};
        if (op == "rows") {
            if (x_.size() != 3) return false;
            y = {x_[0], x_[1] * x_[2]};
        }
        return true;
    }

  private:
    Json* attribute(const char* name) {
        auto& members = step_.object["attributes"].object;
        const auto found = members.find(name);
        return found == members.end() ? nullptr : &found->second;
    }

    void set(const char* name, std::int64_t value) { step_.object["attributes"].object[name] = number(static_cast<double>(value)); }

    static std::int64_t bounded(const Json& json, std::int64_t least) {
        return json.kind == Json::Kind::number ? static_cast<std::int64_t>(std::clamp(json.number, static_cast<double>(least), 256.0)) : 1;
    }

    std::int64_t size(const char* name) {
        const Json* json = attribute(name);
        const std::int64_t value = json == nullptr ? 1 : bounded(*json, 1);
        set(name, value);
        return value;
    }

    bool divide(const char* name, std::int64_t all) {
        if (all % size(name) != 0) set(name, 1);
        return true;
    }

    std::vector<std::int64_t> sizes(const char* name, std::size_t count, std::int64_t least) {
        std::vector<std::int64_t> values;
        Json* json = attribute(name);
        for (std::size_t i = 0; i < count; ++i) values.push_back(json != nullptr && i < json->list.size() ? bounded(json->list[i], least) : least);
        Json made;
        made.kind = Json::Kind::list;
        for (const std::int64_t value : values) made.list.push_back(number(static_cast<double>(value)));
        step_.object["attributes"].object[name] = made;
        return values;
    }

    std::int64_t planes() {
        const Json* json = attribute("planes");
        return json == nullptr ? 1 : static_cast<std::int64_t>(json->list.size());
    }

    bool window(Shape& y, bool dilated) {
        if (x_.size() != 3) return false;
        const auto kernel = sizes("kernel_size", 2, 1), stride = sizes("stride", 2, 1), padding = sizes("padding", 4, 0);
        const auto dilation = dilated ? sizes("dilation", 2, 1) : std::vector<std::int64_t>{1, 1};
        for (std::size_t axis = 0; axis < 2; ++axis) {
            const std::int64_t free = x_[axis] + padding[2 * axis] + padding[2 * axis + 1] - dilation[axis] * (kernel[axis] - 1) - 1;
            if (free < 0) return false;
            y[axis] = free / stride[axis] + 1;
        }
        return true;
    }

    bool convolution(bool bits, Shape& y) {
        if (!window(y, true)) return false;
        set("in_channels", x_[2]);
        y[2] = size("out_channels");
        std::int64_t groups = size("groups");
        if (x_[2] % groups != 0 || y[2] % groups != 0) set("groups", groups = 1);
        const auto kernel = sizes("kernel_size", 2, 1);
        return layer(bits, y[2], {kernel[0], kernel[1], x_[2] / groups});
    }

    bool volume(bool bits, Shape& y) {
        if (x_.size() != 4) return false;
        const auto kernel = sizes("kernel_size", 3, 1), stride = sizes("stride", 3, 1), padding = sizes("padding", 6, 0);
        const auto dilation = sizes("dilation", 3, 1);
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const std::int64_t free = x_[axis] + padding[2 * axis] + padding[2 * axis + 1] - dilation[axis] * (kernel[axis] - 1) - 1;
            if (free < 0) return false;
            y[axis] = free / stride[axis] + 1;
        }
        set("in_channels", x_[3]);
        y[3] = size("out_channels");
        std::int64_t groups = size("groups");
        if (x_[3] % groups != 0 || y[3] % groups != 0) set("groups", groups = 1);
        return layer(bits, y[3], {kernel[0] * kernel[1], kernel[2], x_[3] / groups});
    }

    bool layer(bool bits, std::int64_t outputs, Shape weight) {
        std::int64_t inputs = 1;
        for (const std::int64_t axis : weight) inputs *= axis;
        if (bits) return tensor("weight", false, {planes() * outputs, onebit::row_bytes(inputs)}, inputs) && bias(true, outputs);
        weight.insert(weight.begin(), outputs);
        return tensor("weight", true, weight) && bias(false, outputs);
    }

    bool bias(bool bits, std::int64_t n) {
        const Json* names = step_.find("tensors");
        if (names == nullptr || names->find("bias") == nullptr) return true;
        return bits ? tensor("bias", false, {1, onebit::row_bytes(n)}, n) : tensor("bias", true, {n});
    }

    // Scales of the groups of a row of weights, and the attribute where it does not divide the row.
    bool scales(std::int64_t rows, std::int64_t inputs) {
        if (attribute("group") == nullptr) return tensor("scale", onebit::TensorType::float16, {rows, 1});
        if (inputs % 32 != 0) return false;
        const std::int64_t asked = size("group"), group = (asked == 64 || asked == 128) && inputs % asked == 0 ? asked : 32;
        set("group", group);
        step_.object["attributes"].object.erase("input");
        return tensor("scale", onebit::TensorType::float16, {rows, inputs / group});
    }

    bool tensor(const char* role, bool is_float, const Shape& shape, std::int64_t columns = 0) {
        return tensor(role, is_float ? onebit::TensorType::float32 : onebit::TensorType::uint8, shape, columns);
    }

    // The tensor of a role gets this shape; bits beyond a row's `columns` are cleared, and scales are finite.
    bool tensor(const char* role, onebit::TensorType type, const Shape& shape, std::int64_t columns = 0) {
        std::int64_t bytes = onebit::names_of(type).bytes;
        for (const std::int64_t axis : shape) bytes *= axis;
        if (bytes <= 0 || bytes > 4 * most_elements) return false;
        Json& names = step_.object["tensors"];
        names.kind = Json::Kind::object;
        if (names.object[role].kind != Json::Kind::text) names.object[role] = text(step_.at("output").text + role);
        Tensor& found = tensors_[names.object[role].text];
        if (found.type != type || found.shape != shape) {
            found.type = type;
            found.shape = shape;
            const std::vector<std::uint8_t> old = found.bytes.empty() ? std::vector<std::uint8_t>{0x5A, 0xC3, 0x3F, 0xBF} : found.bytes;
            found.bytes.resize(static_cast<std::size_t>(bytes));
            for (std::size_t i = 0; i < found.bytes.size(); ++i) found.bytes[i] = old[i % old.size()];
        }
        for (std::size_t i = 1; type == onebit::TensorType::float16 && i < found.bytes.size(); i += 2) found.bytes[i] &= 0xBF;
        if (type != onebit::TensorType::uint8) return true;
        const std::int64_t row = onebit::row_bytes(columns);
        for (std::int64_t at = 0; at < bytes; ++at) {
            const std::int64_t first = at % row * 8;
            const unsigned mask = first >= columns ? 0u : columns - first >= 8 ? 0xFFu : (1u << (columns - first)) - 1u;
            found.bytes[static_cast<std::size_t>(at)] &= static_cast<std::uint8_t>(mask);
        }
        return true;
    }

    Json& step_;
    const Shape x_;
    std::map<std::string, Tensor>& tensors_;
};

// Whether a value is small enough; no axis is 0.
bool is_small(const Shape& shape) {
    std::int64_t all = 1;
    for (const std::int64_t axis : shape) {
        if (axis < 1 || axis > most_elements) return false;
        all *= axis;
        if (all > most_elements) return false;
    }
    return !shape.empty();
}

}  // namespace

void repair(Json& program, std::map<std::string, Tensor>& tensors) {
    std::map<std::string, Shape> shapes;
    Shape& input = shapes[program.at("input").at("name").text];
    for (const Json& axis : program.at("input").at("shape").list) input.push_back(static_cast<std::int64_t>(std::clamp(axis.number, 0.0, 1e9)));
    if (!is_small(input)) return;
    for (Json& step : program.object["steps"].list) {
        const auto& inputs = step.at("inputs").list;
        const auto x = inputs.empty() ? shapes.end() : shapes.find(inputs[0].text);
        Shape y;
        if (x == shapes.end() || !Repair(step, x->second, tensors).run(y)) return;
        if (!is_small(y)) return;
        shapes[step.at("output").text] = y;
    }
}

}  // namespace fuzz
