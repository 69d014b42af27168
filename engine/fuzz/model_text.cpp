#include "model_text.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "model_file.h"

namespace fuzz {
namespace {

std::string quoted(const std::string& value) {
    std::string out = "\"";
    for (const char c : value) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
            out += escaped;
        } else {
            out += c;
        }
    }
    return out + '"';
}

void write(const Json& tree, std::string& out) {
    const char* separator = "";
    switch (tree.kind) {
        case Json::Kind::null: out += "null"; return;
        case Json::Kind::boolean: out += tree.boolean ? "true" : "false"; return;
        case Json::Kind::text: out += quoted(tree.text); return;
        case Json::Kind::number: {
            char buffer[40];
            std::snprintf(buffer, sizeof buffer, tree.is_integer ? "%.0f" : "%.9e", tree.number);
            out += buffer;
            return;
        }
        case Json::Kind::list:
            out += '[';
            for (const Json& item : tree.list) {
                out += separator;
                write(item, out);
                separator = ",";
            }
            out += ']';
            return;
        case Json::Kind::object:
            out += '{';
            for (const auto& [name, member] : tree.object) {
                out += separator + quoted(name) + ":";
                write(member, out);
                separator = ",";
            }
            out += '}';
            return;
    }
}

}  // namespace

std::optional<ModelText> take_apart(const std::uint8_t* data, std::size_t size) {
    try {
        const onebit::ModelFile file(reinterpret_cast<const std::byte*>(data), size);
        ModelText model{file.program(), file.task_text(), {}};
        for (const auto& [name, view] : file.tensors()) {
            auto bytes = static_cast<std::size_t>(onebit::names_of(view.type).bytes);
            for (const std::int64_t axis : view.shape) bytes *= static_cast<std::size_t>(axis);
            const auto* from = static_cast<const std::uint8_t*>(view.data);
            model.tensors[name] = {view.type, view.shape, std::vector<std::uint8_t>(from, from + bytes)};
        }
        return model;
    } catch (const std::invalid_argument&) {
        return std::nullopt;
    }
}

std::vector<std::uint8_t> put_together(const ModelText& model) {
    std::string header = R"({"__metadata__":{"onebit_format":"1","program":)" + quoted(model.program) + ",\"task\":" + quoted(model.task) + "}";
    std::size_t at = 0;
    // Wide numbers first, so that they are aligned.
    std::vector<const Tensor*> order;
    for (const onebit::TensorTypeNames& names : onebit::tensor_types) {
        for (const auto& [name, tensor] : model.tensors) {
            if (tensor.type != names.type) continue;
            std::string shape;
            for (const std::int64_t axis : tensor.shape) shape += (shape.empty() ? "" : ",") + std::to_string(axis);
            header += "," + quoted(name) + ":{\"dtype\":\"" + std::string(names.in_file) + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
                      std::to_string(at) + "," + std::to_string(at + tensor.bytes.size()) + "]}";
            at += tensor.bytes.size();
            order.push_back(&tensor);
        }
    }
    header += '}';
    header.append((8 - header.size() % 8) % 8, ' ');
    std::vector<std::uint8_t> file(8);
    const std::uint64_t size = header.size();
    std::memcpy(file.data(), &size, 8);
    file.insert(file.end(), header.begin(), header.end());
    for (const Tensor* tensor : order) file.insert(file.end(), tensor->bytes.begin(), tensor->bytes.end());
    return file;
}

std::string to_text(const Json& tree) {
    std::string out;
    write(tree, out);
    return out;
}

Json number(double value) {
    Json json;
    json.kind = Json::Kind::number;
    json.number = value;
    json.is_integer = std::trunc(value) == value && std::fabs(value) < 0x1p63;
    return json;
}

Json text(const std::string& value) {
    Json json;
    json.kind = Json::Kind::text;
    json.text = value;
    return json;
}

}  // namespace fuzz
