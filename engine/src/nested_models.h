// What a file with models of several numbers of planes says of them. src/onebit/nested_models.py is its twin, with the same messages.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "json.h"
#include "program.h"

namespace onebit {

struct NestedModels {
    int planes = 0;                                          // of the whole model
    std::map<std::string, std::vector<std::string>> joined;  // tensors that are made of the rows of several
    std::vector<std::pair<int, std::uint64_t>> smaller;      // planes, and where the model ends in the data
};

[[noreturn]] void nested_fault(const std::string& words);

// All throw std::invalid_argument with a message for users.
// `size`: bytes of the file's data.
NestedModels read_nested_models(const Json& json, std::uint64_t size);
// The type and the shape of a tensor that is joined of parts.
TensorView joined_view(const std::string& name, const std::vector<std::string>& parts, const Tensors& stored);
// Refuses joined tensors of so many bytes that only a damaged file has them.
void check_joined(std::uint64_t bytes, std::uint64_t size);
// Checks the program of a smaller model, with the tensors that lie before its end, against the whole one.
void check_smaller(int planes, const std::string& program, const std::string& whole, const Tensors& own, const Tensors& all);

}  // namespace onebit
