// The engine's checkers of programs and of files give the messages in tests/conformance. tests/test_conformance.py tests Python's.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "json.h"
#include "onebit/onebit.h"
#include "program.h"

namespace {

using onebit::Json;

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        char escape[8];
        if (c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20) {
            std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
            out += escape;
        } else {
            out += c;
        }
    }
    return out + '"';
}

std::string to_text(const Json& json) {
    switch (json.kind) {
        case Json::Kind::null: return "null";
        case Json::Kind::boolean: return json.boolean ? "true" : "false";
        case Json::Kind::text: return quoted(json.text);
        case Json::Kind::number: {
            char text[40];
            std::snprintf(text, sizeof text, json.is_integer ? "%.0f" : "%.17g", json.number);
            // What was written with a point keeps one.
            return json.is_integer || std::strpbrk(text, ".e") != nullptr ? text : std::string(text) + ".0";
        }
        case Json::Kind::list: {
            std::string out;
            for (const Json& item : json.list) out += (out.empty() ? "" : ",") + to_text(item);
            return "[" + out + "]";
        }
        case Json::Kind::object: {
            std::string out;
            for (const auto& [name, value] : json.object) out += (out.empty() ? "" : ",") + quoted(name) + ":" + to_text(value);
            return "{" + out + "}";
        }
    }
    return "";
}

Json& child(Json& node, const std::string& key) {
    return node.kind == Json::Kind::list ? node.list.at(std::stoul(key)) : node.object[key];
}

// The value at a path such as "program/steps/0/op". It is created if it is missing.
Json& at(Json& document, const std::string& path) {
    Json* node = &document;
    std::istringstream keys(path);
    for (std::string key; std::getline(keys, key, '/');) node = &child(*node, key);
    return *node;
}

std::string inserted(const Json& insert) {
    if (insert.kind == Json::Kind::text) return insert.text;
    std::string out;
    for (const Json& part : insert.list) {
        for (double i = 0; i < part.list.at(1).number; ++i) out += part.list.at(0).text;
    }
    return out;
}

// The base with the changes of a case, and the texts of its parts with the insertions.
Json made(const Json& base, const Json& test) {
    Json document = base;
    if (const Json* changes = test.find("change")) {
        for (const auto& [path, value] : changes->object) at(document, path) = value;
    }
    if (const Json* removed = test.find("remove")) {
        for (const Json& path : removed->list) {
            const auto slash = path.text.rfind('/');
            at(document, path.text.substr(0, slash)).object.erase(path.text.substr(slash + 1));
        }
    }
    for (const auto& [key, value] : test.object) {
        if (key != "change" && key != "remove") document.object[key] = value;
    }
    for (const char* key : {"program_text", "task_text", "header_text"}) {
        if (document.find("insert") == nullptr || document.find(key) == nullptr) continue;
        std::string& text = document.object[key].text;
        const auto place = text.find('@');
        if (place != std::string::npos) text.replace(place, 1, inserted(document.at("insert")));
    }
    return document;
}

std::string part(const Json& document, const std::string& name) {
    const Json* text = document.find(name + "_text");
    return text != nullptr ? text->text : to_text(document.at(name));
}

std::string data_of(const Json& tensor) {
    const onebit::TensorTypeNames* type = onebit::type_in_file(tensor.at("dtype").text);
    double bytes = type == nullptr ? 1 : type->bytes;
    for (const Json& axis : tensor.at("shape").list) bytes *= axis.number;
    const Json* fill = tensor.find("fill");
    return std::string(static_cast<std::size_t>(bytes), fill == nullptr ? '\0' : static_cast<char>(fill->number));
}

// A whole file.
std::string file_of(const Json& document) {
    std::string header, data;
    if (const Json* text = document.find("header_text")) {
        header = text->text;
        data.resize(static_cast<std::size_t>(document.at("data").number));
    } else {
        header =
            R"({"__metadata__":{"onebit_format":"1","program":)" + quoted(part(document, "program")) + R"(,"task":)" + quoted(part(document, "task"));
        if (const Json* more = document.find("more")) {
            for (const auto& [key, value] : more->object) {
                header += "," + quoted(key) + ":" + quoted(value.kind == Json::Kind::text ? value.text : to_text(value));
            }
        }
        header += "}";
        for (const auto& [name, tensor] : document.at("tensors").object) {
            const std::size_t begin = data.size();
            data += data_of(tensor);
            header += "," + quoted(name) + R"(:{"dtype":)" + to_text(tensor.at("dtype")) + R"(,"shape":)" + to_text(tensor.at("shape")) +
                      R"(,"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
        }
        header += "}";
    }
    const std::uint64_t size = header.size();
    return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + data;
}

std::string judge_file(const Json& document) {
    const std::string file = file_of(document);
    onebit_options options;
    onebit_options_init(&options, sizeof options);
    options.threads = 1;
    onebit_model* model = nullptr;
    const onebit_status status = onebit_load_memory(file.data(), file.size(), &options, &model);
    onebit_free(model);
    if (status == ONEBIT_OK) return "";
    return (status == ONEBIT_INVALID_FILE ? "" : "status " + std::to_string(status) + ": ") + onebit_last_error();
}

std::string judge_program(const Json& document) {
    std::deque<std::string> owned;
    onebit::Tensors tensors;
    for (const auto& [name, tensor] : document.at("tensors").object) {
        owned.push_back(data_of(tensor));
        onebit::TensorView& view = tensors[name];
        view.data = owned.back().data();
        view.type = onebit::type_in_file(tensor.at("dtype").text)->type;
        for (const Json& axis : tensor.at("shape").list) view.shape.push_back(static_cast<std::int64_t>(axis.number));
    }
    try {
        onebit::read_program(part(document, "program"), tensors);
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "";
}

// The number of cases in a file with an unexpected result. Prints each of them.
int run_file(const std::filesystem::path& path, int& count) {
    std::ifstream stream(path);
    const Json content = onebit::parse_json(std::string(std::istreambuf_iterator<char>(stream), {}), "case");
    int wrong = 0;
    for (const Json& test : content.at("cases").list) {
        const Json document = made(content.at("base"), test);
        const bool whole = document.find("task") != nullptr || document.find("task_text") != nullptr || document.find("header_text") != nullptr;
        const std::string said = whole ? judge_file(document) : judge_program(document);
        const Json* words = test.find("words");
        bool right = said.empty() == (words == nullptr) && said.find('\n') == std::string::npos;
        for (std::size_t i = 0; right && words != nullptr && i < words->list.size(); ++i) right = said.find(words->list[i].text) != std::string::npos;
        if (!right) {
            std::fprintf(stderr, "%s, case %d (%s): %s\n    said: %s\n", path.filename().c_str(), count, test.at("name").text.c_str(),
                         words == nullptr ? "is right" : to_text(*words).c_str(), said.empty() ? "nothing" : said.substr(0, 300).c_str());
            ++wrong;
        }
        ++count;
    }
    return wrong;
}

}  // namespace

// A test for each file.
int main(int argc, char** argv) {
    Tests tests;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(ONEBIT_CONFORMANCE)) {
        if (entry.path().extension() == ".json") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const std::filesystem::path& path : files) {
        tests.add(path.stem().string(), [path] {
            int count = 0;
            CHECK(run_file(path, count) == 0);
            checks += count;
        });
    }
    return files.empty() ? 1 : tests.run(argc, argv);
}
