// A .onebit file taken apart and put together again, so that a mutation of its program is a file that a reader opens.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "json.h"
#include "program.h"

namespace fuzz {

using onebit::Json;

struct Tensor {
    onebit::TensorType type = onebit::TensorType::uint8;
    std::vector<std::int64_t> shape;
    std::vector<std::uint8_t> bytes;
};

struct ModelText {
    std::string program, task;
    std::map<std::string, Tensor> tensors;
};

// Nothing where the bytes are no .onebit file.
std::optional<ModelText> take_apart(const std::uint8_t* data, std::size_t size);
std::vector<std::uint8_t> put_together(const ModelText& model);

// A tree as the text that parse_json reads.
std::string to_text(const Json& tree);
Json number(double value);
Json text(const std::string& value);

}  // namespace fuzz
