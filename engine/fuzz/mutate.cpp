// How libFuzzer changes a file: mostly its program, as a tree, put back into a file that fits together; now and then its text, its tensors or its
// bytes, as libFuzzer does it. Mutated bytes alone hardly ever get beyond the header.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <random>
#include <stdexcept>

#include "model_text.h"
#include "repair.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace fuzz {
namespace {

const char* const ops[] = {
#define OP(name, inputs, programs, check) #name,
#include "ops.def"
#undef OP
};
const char* const shape_keeping[] = {
#define UNARY(name, formula) #name,
#include "kernels/unary.def"
#undef UNARY
    "softmax", "add", "multiply", "normalize", "group_normalize", "rms_normalize", "rotary", "scale", "clip", "prelu", "scale_shift"};
const char* const words[] = {"01",      "pm1",      "channel", "example", "token",  "position", "hwc",   "chw",
                             "nearest", "bilinear", "sign",    "unit",    "absmax", "tokens",   "bytes", "words"};
const char* const attributes[] = {
    "in_features",   "out_features", "values", "planes",   "input",   "in_channels", "out_channels", "kernel_size", "stride", "padding",
    "dilation",      "groups",       "rows",   "features", "of",      "heads",       "kv_heads",     "window",      "base",   "rotated",
    "scaling",       "group",        "zero",   "hidden",   "reverse", "eps",         "over",         "low",         "high",   "count_include_pad",
    "factor",        "order",        "shape",  "axes",     "axis",    "start",       "stop",         "size",        "mode",   "align_corners",
    "output_padding"};
const double sizes[] = {0,   -1,  1,   2,    3,    4,     5,     7,       8,       15,           16,
                        17,  31,  32,  33,   48,   63,    64,    65,      96,      127,          128,
                        129, 255, 256, 1000, 4096, 65535, 65536, 1 << 22, 1 << 24, 2147483648.0, 9007199254740992.0,
                        0.5, 1e-9};

class Mutation {
  public:
    explicit Mutation(unsigned seed) : random_(seed) {}

    std::size_t below(std::size_t n) { return random_() % n; }
    bool one_in(std::size_t n) { return below(n) == 0; }
    template <class List>
    auto& any(List& list) {
        return *(std::begin(list) + static_cast<std::ptrdiff_t>(below(std::size(list))));
    }

    // Text as libFuzzer mutates bytes.
    void bytes(std::string& value) {
        value.resize(value.size() + 16);
        value.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(value.data()), value.size() - 16, value.size()));
    }

    void tensor(ModelText& model) {
        if (model.tensors.empty()) return;
        Tensor& one = std::next(model.tensors.begin(), static_cast<std::ptrdiff_t>(below(model.tensors.size())))->second;
        if (one.bytes.empty()) return;
        if (one.type == onebit::TensorType::float32 && one_in(2)) {
            const float special[] = {
                0.0f, -0.0f, 1.0f, 1e38f, -1e38f, 1e-40f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()};
            const float value = any(special);
            std::memcpy(one.bytes.data() + below(one.bytes.size() / 4) * 4, &value, 4);
        } else {
            const std::size_t size = one.bytes.size();
            std::vector<std::uint8_t> changed = one.bytes;
            changed.resize(LLVMFuzzerMutate(changed.data(), size, size));
            changed.resize(size);
            one.bytes = changed;
        }
    }

    void tree(Json& program) {
        std::vector<Json>& steps = program.object["steps"].list;
        if (steps.empty()) return;
        const std::size_t index = below(steps.size());
        Json& step = steps[index];
        switch (below(16)) {
            case 0: step.object["op"] = text(any(ops)); return;
            case 1:
            case 2:
            case 3:
            case 4: value(step.object["attributes"]); return;
            case 5: {
                auto& members = step.object["attributes"].object;
                if (one_in(2) && !members.empty()) {
                    members.erase(std::next(members.begin(), static_cast<std::ptrdiff_t>(below(members.size()))));
                } else {
                    members[any(attributes)] = number(any(sizes));
                }
                return;
            }
            case 6: levels(step); return;
            case 7: planes(step); return;
            case 8: remove(program, index); return;
            case 9: {
                Json copy = step;
                insert(program, index, copy);
                return;
            }
            case 10:
            case 11: insert(program, index, keeping(step.at("output").text)); return;
            case 12: value(program.object["input"].object["shape"]); return;
            case 13: {
                std::vector<Json>& inputs = step.object["inputs"].list;
                if (!inputs.empty()) any(inputs) = index > 0 && !one_in(4) ? steps[below(index)].at("output") : program.at("input").at("name");
                return;
            }
            case 14: {
                auto& named = step.object["tensors"].object;
                const Json& other = any(steps).object["tensors"];
                if (!named.empty() && !other.object.empty()) {
                    const auto to = std::next(named.begin(), static_cast<std::ptrdiff_t>(below(named.size())));
                    to->second = std::next(other.object.begin(), static_cast<std::ptrdiff_t>(below(other.object.size())))->second;
                }
                return;
            }
            default: program.object["output"] = any(steps).at("output"); return;
        }
    }

    // The first steps of one program and all of another, whose values and tensors get names of their own.
    void splice(Json& program, std::map<std::string, Tensor>& tensors, Json other, const std::map<std::string, Tensor>& more) {
        std::vector<Json>&steps = program.object["steps"].list, &added = other.object["steps"].list;
        if (steps.empty() || added.empty()) return;
        steps.resize(1 + below(steps.size()));
        const std::string end = steps.back().at("output").text, start = other.at("input").at("name").text;
        const auto renamed = [&](Json& name) { name = name.text == start ? text(end) : text("z" + name.text); };
        const std::size_t first = below(added.size());
        for (std::size_t i = first; i < added.size(); ++i) {
            Json step = added[i];
            for (Json& name : step.object["inputs"].list) {
                const bool made = std::any_of(added.begin() + static_cast<std::ptrdiff_t>(first), added.begin() + static_cast<std::ptrdiff_t>(i),
                                              [&](const Json& s) { return s.at("output").text == name.text; });
                if (made) {
                    renamed(name);
                } else {
                    name = text(end);
                }
            }
            renamed(step.object["output"]);
            for (auto& [role, name] : step.object["tensors"].object) {
                const auto found = more.find(name.text);
                name = text("z" + name.text);
                if (found != more.end()) tensors[name.text] = found->second;
            }
            steps.push_back(step);
        }
        program.object["output"] = steps.back().at("output");
    }

  private:
    // Some value below a member.
    void value(Json& json) {
        switch (json.kind) {
            case Json::Kind::object:
                if (!json.object.empty()) value(std::next(json.object.begin(), static_cast<std::ptrdiff_t>(below(json.object.size())))->second);
                return;
            case Json::Kind::list:
                if (json.list.empty() || one_in(12)) {
                    json.list.push_back(number(any(sizes)));
                } else if (one_in(12)) {
                    json.list.pop_back();
                } else {
                    value(any(json.list));
                }
                return;
            case Json::Kind::number:
                if (one_in(6)) {
                    json = number(any(sizes));
                } else if (one_in(2)) {
                    json = number(static_cast<double>(1 + below(9)));
                } else {
                    json = number(json.number * (one_in(2) ? 2 : 1) + (one_in(2) ? 1 : -1));
                }
                return;
            case Json::Kind::text: json = text(any(words)); return;
            case Json::Kind::boolean: json.boolean = !json.boolean; return;
            case Json::Kind::null: json = number(any(sizes)); return;
        }
    }

    void levels(Json& step) {
        Json& all = step.object["attributes"];
        if (one_in(5)) {
            all.object.erase("input");
            return;
        }
        Json input;
        input.kind = Json::Kind::object;
        const std::size_t kind = below(3);
        input.object["quantizer"] = text(kind == 0 ? "sign" : kind == 1 ? "unit" : "absmax");
        if (kind == 1) input.object["bits"] = number(static_cast<double>(1 + below(8)));
        if (kind == 2) input.object["bits"] = number(one_in(2) ? 8 : 16);
        all.object["input"] = input;
    }

    void planes(Json& step) {
        Json list;
        list.kind = Json::Kind::list;
        for (std::size_t i = 0, n = 1 + below(4); i < n; ++i)
            list.list.push_back(number(static_cast<double>(one_in(4) ? 1 + below(200) : 1 + below(4))));
        step.object["attributes"].object["planes"] = list;
    }

    Json keeping(const std::string& input) {
        Json step;
        step.kind = Json::Kind::object;
        const std::string op = any(shape_keeping);
        step.object["op"] = text(op);
        Json& inputs = step.object["inputs"];
        inputs.kind = Json::Kind::list;
        inputs.list.assign(op == "add" || op == "multiply" ? 2 : 1, text(input));
        step.object["output"] = text(input);  // insert gives another
        Json& all = step.object["attributes"];
        all.kind = Json::Kind::object;
        if (op == "normalize") all.object["over"] = text(one_in(2) ? "channel" : "example");
        if (op == "normalize" || op == "group_normalize" || op == "rms_normalize") all.object["eps"] = number(0.001);
        if (op == "group_normalize") all.object["groups"] = number(static_cast<double>(1 + below(4)));
        if (op == "rotary") all.object["heads"] = number(1), all.object["base"] = number(10000);
        if (op == "scale") all.object["factor"] = number(0.75);
        if (op == "clip") all.object["low"] = number(-0.5), all.object["high"] = number(0.5);
        Json& named = step.object["tensors"];
        named.kind = Json::Kind::object;
        const std::string fresh = "n" + std::to_string(below(1000000));
        if (op == "prelu") named.object["slope"] = text(fresh);
        if (op == "scale_shift") named.object["scale"] = named.object["shift"] = text(fresh);
        return step;
    }

    static void rename(Json& program, std::size_t from, const std::string& old, const Json& name) {
        std::vector<Json>& steps = program.object["steps"].list;
        for (std::size_t i = from; i < steps.size(); ++i) {
            for (Json& input : steps[i].object["inputs"].list) {
                if (input.text == old) input = name;
            }
        }
        if (program.object["output"].text == old) program.object["output"] = name;
    }

    // After a step; what read that step's value reads the new one's.
    void insert(Json& program, std::size_t index, Json step) {
        std::vector<Json>& steps = program.object["steps"].list;
        const std::string old = steps[index].at("output").text;
        const Json name = text("m" + std::to_string(below(1000000)));
        rename(program, index + 1, old, name);
        for (Json& input : step.object["inputs"].list) input = text(old);
        step.object["output"] = name;
        steps.insert(steps.begin() + static_cast<std::ptrdiff_t>(index) + 1, std::move(step));
    }

    void remove(Json& program, std::size_t index) {
        std::vector<Json>& steps = program.object["steps"].list;
        const std::vector<Json>& inputs = steps[index].at("inputs").list;
        if (steps.size() < 2 || inputs.empty()) return;
        const Json input = inputs[0];
        rename(program, index + 1, steps[index].at("output").text, input);
        steps.erase(steps.begin() + static_cast<std::ptrdiff_t>(index));
    }

    std::minstd_rand random_;
};

std::size_t give(const ModelText& model, std::uint8_t* data, std::size_t max_size) {
    const std::vector<std::uint8_t> file = put_together(model);
    if (file.size() > max_size) return 0;
    std::memcpy(data, file.data(), file.size());
    return file.size();
}

}  // namespace
}  // namespace fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size, unsigned seed) {
    fuzz::Mutation mutation(seed);
    std::optional<fuzz::ModelText> model = fuzz::take_apart(data, size);
    const std::size_t way = mutation.below(16);
    if (!model || way == 0) return LLVMFuzzerMutate(data, size, max_size);
    try {
        if (way == 1) {
            mutation.bytes(model->program);
        } else if (way == 2) {
            mutation.bytes(model->task);
        } else if (way <= 4) {
            mutation.tensor(*model);
        } else {
            onebit::Json program = onebit::parse_json(model->program);
            for (std::size_t i = 1 + mutation.below(3); i > 0; --i) mutation.tree(program);
            if (!mutation.one_in(4)) fuzz::repair(program, model->tensors);
            model->program = fuzz::to_text(program);
        }
    } catch (const std::invalid_argument&) {
        // A program that is no longer one: its bytes are all that is left to change.
        return LLVMFuzzerMutate(data, size, max_size);
    }
    const std::size_t made = fuzz::give(*model, data, max_size);
    return made != 0 ? made : LLVMFuzzerMutate(data, size, max_size);
}

extern "C" std::size_t LLVMFuzzerCustomCrossOver(const std::uint8_t* first, std::size_t first_size, const std::uint8_t* second,
                                                 std::size_t second_size, std::uint8_t* out, std::size_t max_size, unsigned seed) {
    fuzz::Mutation mutation(seed);
    std::optional<fuzz::ModelText> model = fuzz::take_apart(first, first_size);
    const std::optional<fuzz::ModelText> other = fuzz::take_apart(second, second_size);
    if (!model || !other) return 0;
    try {
        onebit::Json program = onebit::parse_json(model->program);
        mutation.splice(program, model->tensors, onebit::parse_json(other->program), other->tensors);
        fuzz::repair(program, model->tensors);
        model->program = fuzz::to_text(program);
    } catch (const std::invalid_argument&) {
        return 0;
    }
    return fuzz::give(*model, out, max_size);
}
