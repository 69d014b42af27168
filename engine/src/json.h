// A small strict JSON reader for programs and headers of files, with limits on depth and on the number of values. It refuses everything that is not
// JSON or on which JSON readers disagree. docs/program.md, "JSON", lists this; src/onebit/strict_json.py is its twin.
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

    // The member of an object. Throws std::invalid_argument if this is not an object or lacks the member.
    const Json& at(const std::string& name) const;
    // The member, or null if there is none or if this is not an object.
    const Json* find(const std::string& name) const;
};

// A text in quotes as an error quotes it: short and on one line.
std::string excerpt(std::string_view text);

// Throws std::invalid_argument with the position of the first thing that is not JSON. `what` is named in the message.
Json parse_json(std::string_view text, const char* what = "program");

}  // namespace onebit
