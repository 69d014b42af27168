// The task in a model's file, checked with the messages and in the order of src/onebit/task.py.
#pragma once

#include <string>
#include <vector>

#include "json.h"
#include "program.h"
#include "vocabulary.h"

namespace onebit {

struct Task {
    std::string kind;
    std::vector<std::string> labels;  // of "image-classification"
    Shape image;                      // of "image-classification": (height, width, channels)
    Vocabulary vocabulary;            // of "text-generation"
    bool lowercase = false;           // of "text-generation": texts lose case and accents
};

// Throws std::invalid_argument if a field is missing, has a wrong type or is out of range. Unknown kinds are not checked.
Task read_task(const Json& json);

// Throws std::invalid_argument if the task does not fit a program with these shapes of input and output.
void check_fit(const Task& task, const Shape& input, const Shape& output, bool tokens);

// Throws std::invalid_argument if a name contains a character with the code 0 or occurs twice. `what` names the list, `kind` one of its names.
void check_names(const std::vector<std::string>& names, const std::string& what, const std::string& kind);

}  // namespace onebit
