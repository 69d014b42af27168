#include "nested_models.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <stdexcept>

namespace onebit {
namespace {

constexpr std::size_t most_planes = 8;
// Joined tensors are copies. A file of P planes has at most P of each.
constexpr std::uint64_t most_copies = 8;

bool has_exactly(const Json& json, std::initializer_list<const char*> names) {
    return json.kind == Json::Kind::object && json.object.size() == names.size() &&
           std::all_of(names.begin(), names.end(), [&](const char* name) { return json.find(name) != nullptr; });
}

bool is_within(const Json& value, std::uint64_t least, std::uint64_t most) {
    return value.kind == Json::Kind::number && value.is_integer && value.number >= static_cast<double>(least) &&
           value.number <= static_cast<double>(most);
}

}  // namespace

void nested_fault(const std::string& words) {
    throw std::invalid_argument("[planes] " + words + "; the file is damaged");
}

NestedModels read_nested_models(const Json& json, std::uint64_t size) {
    if (!has_exactly(json, {"planes", "joined", "smaller"})) nested_fault("needs an object of planes, joined and smaller");
    const Json &planes = json.at("planes"), &joined = json.at("joined"), &smaller = json.at("smaller");
    if (!is_within(planes, 2, most_planes)) nested_fault("planes: needs an integer from 2 to 8");
    if (joined.kind != Json::Kind::object || smaller.kind != Json::Kind::list || smaller.list.empty()) {
        nested_fault("joined needs an object, and smaller a list of at least one model");
    }
    NestedModels made;
    made.planes = static_cast<int>(planes.number);
    for (const auto& [name, parts] : joined.object) {
        const bool fits = parts.kind == Json::Kind::list && parts.list.size() >= 2 && parts.list.size() <= most_planes &&
                          std::all_of(parts.list.begin(), parts.list.end(), [](const Json& part) { return part.kind == Json::Kind::text; });
        if (!fits) nested_fault("joined " + excerpt(name) + ": needs 2 to 8 names of tensors");
        for (const Json& part : parts.list) made.joined[name].push_back(part.text);
    }
    for (std::size_t i = 0; i < smaller.list.size(); ++i) {
        const Json& one = smaller.list[i];
        const std::string where = "smaller[" + std::to_string(i) + "]";
        if (!has_exactly(one, {"planes", "end"})) nested_fault(where + " needs an object of planes and end");
        const std::uint64_t least = made.smaller.empty() ? 1 : static_cast<std::uint64_t>(made.smaller.back().first) + 1;
        const std::uint64_t start = made.smaller.empty() ? 0 : made.smaller.back().second;
        const auto most = static_cast<std::uint64_t>(made.planes) - 1;
        if (!is_within(one.at("planes"), least, most)) {
            nested_fault(where + ".planes: needs an integer from " + std::to_string(least) + " to " + std::to_string(most));
        }
        if (!is_within(one.at("end"), start, size)) {
            nested_fault(where + ".end: needs an integer from " + std::to_string(start) + " to " + std::to_string(size));
        }
        made.smaller.emplace_back(static_cast<int>(one.at("planes").number), static_cast<std::uint64_t>(one.at("end").number));
    }
    return made;
}

TensorView joined_view(const std::string& name, const std::vector<std::string>& parts, const Tensors& stored) {
    const std::string where = "joined " + excerpt(name);
    if (stored.contains(name)) nested_fault(where + " is a tensor of the file too");
    TensorView whole;
    for (const std::string& part : parts) {
        const auto found = stored.find(part);
        if (found == stored.end()) nested_fault(where + ": its part " + excerpt(part) + " is not in the file");
        const TensorView& view = found->second;
        const bool fits = view.type == TensorType::uint8 && view.shape.size() == 2 && (whole.shape.empty() || whole.shape[1] == view.shape[1]);
        if (!fits) nested_fault(where + ": needs parts of uint8 with two axes and rows of one length");
        if (whole.shape.empty()) {
            whole.shape = view.shape;
        } else {
            whole.shape[0] += view.shape[0];
        }
    }
    return whole;
}

void check_joined(std::uint64_t bytes, std::uint64_t size) {
    if (bytes > most_copies * size) nested_fault("its joined tensors take more than 8 times the data of the file");
}

void check_smaller(int planes, const std::string& program, const std::string& whole, const Tensors& own, const Tensors& all) {
    const Program full = read_program(whole, all);
    try {
        const Program made = read_program(program, own);
        const auto output = [](const Program& p) { return p.shapes[static_cast<std::size_t>(p.outputs.front())]; };
        const bool same = made.tokens == full.tokens && made.shapes[0] == full.shapes[0] && output(made) == output(full);
        if (!same) throw std::invalid_argument("its input and output are not those of the whole model");
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument("[planes=" + std::to_string(planes) + "] " + error.what());
    }
}

}  // namespace onebit
