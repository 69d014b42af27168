#include "program.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "json.h"
#include "step_checks.h"
#include "step_reader.h"

namespace onebit {
namespace {

struct OpRow {
    const char* name;
    int inputs;
    PlacedIn placed_in;
};
constexpr OpRow op_rows[] = {
#define OP(name, inputs, programs, check) {#name, inputs, PlacedIn::programs},
#include "ops.def"
#undef OP
};

const OpRow& row_of(Op op) {
    return op_rows[static_cast<std::size_t>(op)];
}

const std::map<std::string, Op>& op_names() {
    static const std::map<std::string, Op> names = [] {
        std::map<std::string, Op> all;
        for (std::size_t i = 0; i < std::size(op_rows); ++i) all.emplace(op_rows[i].name, static_cast<Op>(i));
        return all;
    }();
    return names;
}

[[noreturn]] void wrong(const std::string& message) {
    throw std::invalid_argument("[program] " + message);
}

const char* needed(Json::Kind kind) {
    return kind == Json::Kind::object ? " needs an object; the file is damaged"
           : kind == Json::Kind::list ? " needs a list; the file is damaged"
                                      : " needs a text; the file is damaged";
}

const Json& typed(const Json& value, Json::Kind kind, const std::string& where) {
    if (value.kind != kind) wrong(where + needed(kind));
    return value;
}

// A member that there must be.
const Json& member(const Json& object, const char* name, Json::Kind kind, const std::string& where) {
    const Json* found = object.find(name);
    if (found == nullptr) wrong(where + needed(kind));
    return typed(*found, kind, where);
}

// What a later version adds must not be passed over: its numbers would be wrong without a word.
void refuse_unknown(const Json& object, std::initializer_list<std::string_view> known, const std::string& where) {
    std::string unknown;
    for (const auto& [name, value] : object.object) {
        if (std::find(known.begin(), known.end(), name) == known.end()) unknown += (unknown.empty() ? "" : ", ") + excerpt(name);
    }
    if (!unknown.empty()) wrong(where + " has what this version does not know: " + unknown);
}

Shape input_shape(const Json& input, const std::string& where) {
    const Json* json = input.find("shape");
    Shape shape;
    bool fits = json != nullptr && json->kind == Json::Kind::list && !json->list.empty() && json->list.size() <= 4;
    for (std::size_t i = 0; fits && i < json->list.size(); ++i) {
        const Json& axis = json->list[i];
        fits = axis.kind == Json::Kind::number && axis.is_integer && axis.number >= 1 && axis.number <= static_cast<double>(max_axis);
        if (fits) shape.push_back(static_cast<std::int64_t>(axis.number));
    }
    if (!fits) wrong(where + ".shape: needs 1 to 4 integers from 1 to " + std::to_string(max_axis));
    return shape;
}

constexpr std::size_t most_places = 16;  // inputs, and outputs

const std::vector<Json>& several(const Json& json, const char* name) {
    const Json& listed = *json.find(name);
    if (listed.kind != Json::Kind::list || listed.list.size() < 2 || listed.list.size() > most_places) {
        wrong(std::string(name) + " needs a list of 2 to " + std::to_string(most_places) + "; the file is damaged");
    }
    return listed.list;
}

// Appends an input; one that is alone may be tokens.
void add_input(Program& program, const Json& input, const std::string& where, bool alone) {
    typed(input, Json::Kind::object, where);
    refuse_unknown(input, {"name", "shape", "kind"}, where);
    Shape shape = input_shape(input, where);
    const Json* kind = input.find("kind");
    const bool text = kind != nullptr && kind->kind == Json::Kind::text && shape.size() == 1;
    const bool integers = text && kind->text == "integers";
    program.tokens = alone && text && kind->text == "tokens";
    if (kind != nullptr && !integers && !program.tokens) {
        wrong(where + ".kind: only " + (alone ? "'tokens' and 'integers', with one axis, are known" : "'integers', with one axis, is known"));
    }
    program.names.push_back(member(input, "name", Json::Kind::text, where + ".name").text);
    program.shapes.push_back(std::move(shape));
    program.integers.push_back(integers);
}

bool is_integers(const Program& program, int value) {
    return static_cast<std::size_t>(value) < program.inputs() && program.integers[static_cast<std::size_t>(value)];
}

void refuse_twice(const std::vector<std::string>& names, const char* what) {
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) != names.begin() + static_cast<std::ptrdiff_t>(i)) {
            wrong(std::string(what) + " name " + excerpt(names[i]) + " twice");
        }
    }
}

std::size_t optional_inputs(Op op) {
    return op == Op::full_attention ? 1 : 0;  // a mask
}

void refuse_unread(const Program& program) {
    std::vector<bool> read(program.inputs(), false);
    const auto mark = [&](int value) {
        if (value >= 0 && static_cast<std::size_t>(value) < read.size()) read[static_cast<std::size_t>(value)] = true;
    };
    for (const Step& step : program.steps) std::for_each(std::begin(step.inputs), std::end(step.inputs), mark);
    std::for_each(program.outputs.begin(), program.outputs.end(), mark);
    const auto unread = static_cast<std::size_t>(std::find(read.begin(), read.end(), false) - read.begin());
    if (unread < read.size()) wrong("nothing reads its input " + excerpt(program.names[unread]) + ": leave it out");
}

// A step as its JSON has it: its members are of the right types, and it has no others.
struct RawStep {
    RawStep(const Json& item, const std::string& where) {
        typed(item, Json::Kind::object, where);
        refuse_unknown(item, {"op", "inputs", "output", "attributes", "tensors"}, where);
        op = member(item, "op", Json::Kind::text, where + ".op").text;
        for (const Json& input : member(item, "inputs", Json::Kind::list, where + ".inputs").list) {
            inputs.push_back(typed(input, Json::Kind::text, where + ".inputs[" + std::to_string(inputs.size()) + "]").text);
        }
        output = member(item, "output", Json::Kind::text, where + ".output").text;
        attributes.kind = tensors.kind = Json::Kind::object;
        if (const Json* given = item.find("attributes")) attributes = typed(*given, Json::Kind::object, where + ".attributes");
        if (const Json* given = item.find("tensors")) tensors = typed(*given, Json::Kind::object, where + ".tensors");
        for (const auto& [role, name] : tensors.object) typed(name, Json::Kind::text, where + ".tensors." + role);
    }

    std::string op, output;
    std::vector<std::string> inputs;
    Json attributes, tensors;
};

// Checks a step and appends it with the value that it makes. `named`: all values before it.
void add_step(Program& program, const RawStep& raw, const Tensors& tensors, std::map<std::string, int>& named) {
    std::string where = "step " + std::to_string(program.steps.size());
    const auto op = op_names().find(raw.op);
    if (op == op_names().end()) {
        throw std::invalid_argument("[" + where + "] unknown op " + excerpt(raw.op) + ": this version knows " + known_ops() + "; use a newer onebit");
    }
    where += " (" + raw.op + ")";
    const auto fail = [&](const std::string& message) { throw std::invalid_argument("[" + where + "] " + message); };
    Step step;
    step.op = op->second;
    for (const std::string& name : raw.inputs) {
        if (!named.contains(name)) fail("uses the value " + excerpt(name) + " before any step makes it");
    }
    step.output = static_cast<int>(program.shapes.size());
    if (!named.emplace(raw.output, step.output).second) fail("makes the value " + excerpt(raw.output) + " a second time");
    const auto least = static_cast<std::size_t>(row_of(step.op).inputs), most = least + optional_inputs(step.op);
    if (raw.inputs.size() < least || raw.inputs.size() > most) {
        const std::string more = most > least ? " or " + std::to_string(most) : "";
        fail("has " + std::to_string(raw.inputs.size()) + " inputs: needs " + std::to_string(least) + more);
    }
    bool integers = false;
    for (std::size_t i = 0; i < raw.inputs.size(); ++i) {
        step.inputs[i] = named.at(raw.inputs[i]);
        integers |= is_integers(program, step.inputs[i]);
    }
    const auto shape_of = [&](int value) { return value < 0 ? nullptr : &program.shapes[static_cast<std::size_t>(value)]; };
    Shape made = check_step(
        step, {where, raw.attributes, raw.tensors, tensors},
        {*shape_of(step.inputs[0]), shape_of(step.inputs[1]), shape_of(step.inputs[2]), shape_of(step.inputs[3]), program.tokens, integers});
    // Of tokens only some rows are in memory at a time.
    if (!program.tokens) check_shape(made, where);
    program.names.push_back(raw.output);
    program.shapes.push_back(std::move(made));
    program.steps.push_back(std::move(step));
}

// An exit gives what the program's output would be.
void check_exits(const Program& program) {
    const bool plain = program.inputs() == 1 && program.outputs.size() == 1 && !is_integers(program, 0);
    for (std::size_t i = 0; i < program.steps.size(); ++i) {
        const Step& step = program.steps[i];
        if (step.op != Op::exit) continue;
        const std::string where = "[step " + std::to_string(i) + " (exit)] ";
        if (!plain) throw std::invalid_argument(where + "has no meaning for several inputs or outputs, or for integers");
        const Shape &own = program.shapes[static_cast<std::size_t>(step.output)],
                    &whole = program.shapes[static_cast<std::size_t>(program.outputs.front())];
        if (own != whole) {
            throw std::invalid_argument(where + "its input has shape " + spelled(own) + ": needs that of the program's output, " + spelled(whole));
        }
    }
}

}  // namespace

const TensorTypeNames& names_of(TensorType type) {
    return *std::find_if(std::begin(tensor_types), std::end(tensor_types), [&](const TensorTypeNames& names) { return names.type == type; });
}

const TensorTypeNames* type_in_file(const std::string& name) {
    const auto* found =
        std::find_if(std::begin(tensor_types), std::end(tensor_types), [&](const TensorTypeNames& names) { return name == names.in_file; });
    return found == std::end(tensor_types) ? nullptr : found;
}

const char* op_name(Op op) {
    return row_of(op).name;
}

PlacedIn placed_in(Op op) {
    return row_of(op).placed_in;
}

std::string known_ops() {
    std::string known;
    for (const auto& [name, op] : op_names()) known += (known.empty() ? "" : ", ") + name;
    return known;
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
    typed(json, Json::Kind::object, "its JSON");
    refuse_unknown(json, {"input", "inputs", "steps", "output", "outputs"}, "its JSON");
    for (const auto& [one, some] : {std::pair{"input", "inputs"}, std::pair{"output", "outputs"}}) {
        if (json.find(one) != nullptr && json.find(some) != nullptr) {
            wrong("its JSON has both '" + std::string(one) + "' and '" + some + "': keep one");
        }
    }
    Program program;
    if (json.find("inputs") != nullptr) {
        for (const Json& item : several(json, "inputs")) add_input(program, item, "inputs[" + std::to_string(program.inputs()) + "]", false);
    } else {
        add_input(program, member(json, "input", Json::Kind::object, "input"), "input", true);
    }
    std::vector<std::string> output_names;
    if (json.find("outputs") != nullptr) {
        for (const Json& item : several(json, "outputs")) {
            output_names.push_back(typed(item, Json::Kind::text, "outputs[" + std::to_string(output_names.size()) + "]").text);
        }
    } else {
        output_names.push_back(member(json, "output", Json::Kind::text, "output").text);
    }
    std::vector<RawStep> steps;
    for (const Json& item : member(json, "steps", Json::Kind::list, "steps").list) {
        steps.emplace_back(item, "steps[" + std::to_string(steps.size()) + "]");
    }
    if (program.tokens && output_names.size() > 1) wrong("outputs: a program over tokens has one output");
    refuse_twice(program.names, "inputs");
    refuse_twice(output_names, "outputs");
    std::map<std::string, int> named;
    for (std::size_t i = 0; i < program.inputs(); ++i) {
        check_shape(program.shapes[i], "input");
        named.emplace(program.names[i], static_cast<int>(i));
    }
    for (const RawStep& raw : steps) add_step(program, raw, tensors, named);
    for (const std::string& name : output_names) {
        const auto output = named.find(name);
        if (output == named.end() || (program.tokens && output->second == 0) || is_integers(program, output->second)) {
            wrong("its output " + excerpt(name) + " is made by no step");
        }
        program.outputs.push_back(output->second);
    }
    refuse_unread(program);
    check_exits(program);
    return program;
}

}  // namespace onebit
