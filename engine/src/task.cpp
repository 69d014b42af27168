#include "task.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

namespace onebit {
namespace {

constexpr std::int64_t max_side = std::int64_t{1} << 24;

[[noreturn]] void wrong(const std::string& message) {
    throw std::invalid_argument("[task] " + message + "; the file is damaged");
}

const Json* member(const Json& json, const char* name, Json::Kind kind) {
    const Json* found = json.find(name);
    return found != nullptr && found->kind == kind ? found : nullptr;
}

bool is_side(const Json& value) {
    return value.kind == Json::Kind::number && value.is_integer && value.number >= 1 && value.number <= static_cast<double>(max_side);
}

std::string list(const Shape& shape) {
    std::string text = "[";
    for (const std::int64_t axis : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(axis);
    return text + "]";
}

void read_image_task(Task& task, const Json& json) {
    const Json* labels = member(json, "labels", Json::Kind::list);
    if (labels == nullptr) wrong("lacks its labels: needs a list of texts");
    if (labels->list.empty()) wrong("has no labels: name at least one class");
    for (const Json& label : labels->list) {
        if (label.kind != Json::Kind::text) wrong("a label is not a text: needs a list of texts");
        task.labels.push_back(label.text);
    }
    check_names(task.labels, "the list of labels", "label");
    const Json* size = member(json, "image_size", Json::Kind::list);
    if (size == nullptr || size->list.size() != 2 || !is_side(size->list[0]) || !is_side(size->list[1]))
        wrong("image_size: needs (height, width), two integers from 1 to " + std::to_string(max_side));
    const Json* channels = member(json, "channels", Json::Kind::number);
    if (channels == nullptr || !channels->is_integer || (channels->number != 1 && channels->number != 3)) wrong("channels: use 1 (grey) or 3 (RGB)");
    for (const Json* side : {size->list.data(), size->list.data() + 1, channels}) task.image.push_back(static_cast<std::int64_t>(side->number));
    for (const bool deviation : {false, true}) {
        const char* name = deviation ? "std" : "mean";
        const Json* values = member(json, name, Json::Kind::list);
        const auto fits = [&](const Json& value) { return value.kind == Json::Kind::number && (!deviation || value.number > 0); };
        if (values == nullptr || values->list.size() != static_cast<std::size_t>(channels->number) ||
            !std::all_of(values->list.begin(), values->list.end(), fits)) {
            wrong(std::string(name) + ": needs finite numbers" + (deviation ? " above 0" : "") + ", one for each of " +
                  std::to_string(task.image[2]) + " channels");
        }
    }
}

void read_text_task(Task& task, const Json& json) {
    const Json* vocabulary = member(json, "vocabulary", Json::Kind::text);
    if (vocabulary == nullptr) wrong("has no vocabulary: needs a text with a token in each line");
    const Json* alphabet = member(json, "alphabet", Json::Kind::text);
    if (alphabet == nullptr || (alphabet->text != "bytes" && alphabet->text != "words")) wrong("alphabet: use 'bytes' or 'words'");
    const Json* lowercase = member(json, "lowercase", Json::Kind::boolean);
    if (lowercase == nullptr) wrong("lowercase: use true or false");
    task.lowercase = lowercase->boolean;
    task.vocabulary = Vocabulary(vocabulary->text, alphabet->text == "bytes");
}

}  // namespace

Task read_task(const Json& json) {
    Task task;
    const Json* kind = member(json, "kind", Json::Kind::text);
    if (kind == nullptr) throw std::invalid_argument("[task] missing from the metadata, or without a kind; the file is damaged");
    task.kind = kind->text;
    if (task.kind == "image-classification") read_image_task(task, json);
    if (task.kind == "text-generation") read_text_task(task, json);
    return task;
}

void check_fit(const Task& task, const Shape& input, const Shape& output, bool tokens) {
    if (task.kind == "image-classification") {
        const auto count = static_cast<std::int64_t>(task.labels.size());
        if (tokens || input != task.image || output != Shape{count}) {
            throw std::invalid_argument("[task] names " + std::to_string(count) + " labels and images of " + list(task.image) +
                                        ", but the program takes " + list(input) + " and gives " + list(output) + ": pack the model again");
        }
    } else if (task.kind == "text-generation" && (!tokens || output.back() != task.vocabulary.size())) {
        throw std::invalid_argument("[task] the vocabulary has " + std::to_string(task.vocabulary.size()) + " tokens, but the program gives " +
                                    list(output) + ": pack the model again");
    }
}

void check_names(const std::vector<std::string>& names, const std::string& what, const std::string& kind) {
    std::unordered_map<std::string_view, std::size_t> first;
    for (std::size_t i = 0; i < names.size(); ++i) {
        // A reader in C would end the text there.
        if (names[i].find('\0') != std::string::npos) {
            wrong(what + " names " + excerpt(names[i]) + " with a character of the code 0: leave it out");
        }
        const auto [found, added] = first.emplace(names[i], i);
        if (!added) {
            wrong(what + " names " + excerpt(names[i]) + " more than once (" + kind + "s " + std::to_string(found->second) + " and " +
                  std::to_string(i) + "): keep one of them");
        }
    }
}

}  // namespace onebit
