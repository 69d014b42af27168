// A small strict JSON reader: enough for a program and a file's header, with limits on depth and on how many values there are, and an error for
// everything that is not JSON or that readers of JSON disagree about. docs/program.md, "JSON", lists what; src/onebit/strict_json.py is its twin.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace onebit {

struct Json {
    enum class Kind { null, boolean, number, text, list, object };

    Kind kind = Kind::null;
    bool boolean = false;
    double number = 0;
    bool is_integer = false;  // written without a point or an exponent, and within 2^53
    std::string text;
    std::vector<Json> list;
    std::map<std::string, Json> object;

    // The member of an object; throws std::invalid_argument where this is not an object or lacks it.
    const Json& at(const std::string& name) const;
    // The member, or null where there is none, or where this is not an object.
    const Json* find(const std::string& name) const;
};

// A text in quotes as it stands in an error: on one line and short, whatever a file holds.
std::string excerpt(std::string_view text);

// Throws std::invalid_argument with the position of the first thing that is not JSON. `what` is named in the message.
Json parse_json(std::string_view text, const char* what = "program");

}  // namespace onebit
