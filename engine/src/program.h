// A program and its tensors, read and checked. docs/program.md is the specification.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "attributes.h"

namespace onebit {

using Shape = std::vector<std::int64_t>;

std::int64_t elements(const Shape& shape);
// Bytes of a row of bits on disk: padded to a multiple of 64 bits.
std::int64_t row_bytes(std::int64_t bits);

// What a tensor holds: rows of bits, floats, scales (float16) or signed bytes.
enum class TensorType { uint8, float32, float16, int8 };

struct TensorTypeNames {
    TensorType type;
    const char *name, *in_file;  // NumPy's, and safetensors'
    int bytes;
};
// In their order in a file.
constexpr TensorTypeNames tensor_types[] = {{TensorType::float32, "float32", "F32", 4},
                                            {TensorType::float16, "float16", "F16", 2},
                                            {TensorType::int8, "int8", "I8", 1},
                                            {TensorType::uint8, "uint8", "U8", 1}};
const TensorTypeNames& names_of(TensorType type);
// Null if there is no such type.
const TensorTypeNames* type_in_file(const std::string& name);

// A tensor that the caller owns.
struct TensorView {
    const void* data = nullptr;
    TensorType type = TensorType::uint8;
    Shape shape;
};
using Tensors = std::map<std::string, TensorView>;

// Which programs an op may stand in: any, only those over arrays or over tokens, or those over tokens with the tokens themselves as its input.
enum class PlacedIn { any, arrays, tokens, tokens_themselves };

struct Step {
    Op op{};
    int inputs[4] = {-1, -1, -1, -1};  // indices of values
    int output = -1;
    Attributes attributes;

    // What the step's family is given; of another family, null.
    template <class Family>
    const Family* find() const {
        return std::get_if<Family>(&attributes);
    }
    template <class Family>
    const Family& as() const {
        return std::get<Family>(attributes);
    }
};

// Values are numbered in the order in which they are made; the first are the inputs.
struct Program {
    std::vector<Step> steps;
    std::vector<Shape> shapes;
    std::vector<std::string> names;  // of the values
    std::vector<bool> integers;      // of each input: whether it holds integers, which embeddings read
    std::vector<int> outputs;
    bool tokens = false;  // the only input is a sequence of tokens, and every value has a row for each of them

    std::size_t inputs() const { return integers.size(); }
};

const char* op_name(Op op);
PlacedIn placed_in(Op op);
// All names in their order, as messages list them.
std::string known_ops();

// Throws std::invalid_argument with a message for users where the text or the tensors do not fit docs/program.md.
Program read_program(const std::string& json, const Tensors& tensors);

}  // namespace onebit
