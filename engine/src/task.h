// What a model is for, as its file says it: checked in the words, and in the order, of src/onebit/task.py.
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

// Throws std::invalid_argument where a field is missing, of a wrong type or out of its range. A kind that is not known is left to whoever knows it.
Task read_task(const Json& json);

// Throws std::invalid_argument where the task is not that of a program that takes and gives values of these shapes.
void check_fit(const Task& task, const Shape& input, const Shape& output, bool tokens);

// Throws std::invalid_argument where a name holds a character of the code 0, or stands twice; `what` is the list, `kind` one of its names.
void check_names(const std::vector<std::string>& names, const std::string& what, const std::string& kind);

}  // namespace onebit
