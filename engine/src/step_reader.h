// Reads one step of a program. It checks every attribute and tensor when it is read, and knows at the end whether any was not read.
// step_checks.cpp and layer_checks.cpp have the checks of each op.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "json.h"
#include "program.h"
#include "step_checks.h"

namespace onebit {

// In the form of a Python tuple, so that both checkers have the same messages.
std::string spelled(const Shape& shape);

class StepReader {
  public:
    explicit StepReader(const StepSource& source)
        : where_(source.where), attributes_(source.attributes), roles_(source.roles), tensors_(source.tensors) {}

    [[noreturn]] void fail(const std::string& message) const;
    [[noreturn]] void wrong_input(const Shape& x, const char* needed) const;
    // Throws if the step has attributes or tensors that its op does not take: a later version may give them a meaning.
    void finish() const;

    bool has(const std::string& name) const { return attributes_.object.contains(name); }
    bool has_tensor(const char* role) const { return roles_.find(role) != nullptr; }
    // From 1 up.
    std::int64_t size(const char* name, std::int64_t most = max_axis);
    // From 0 up.
    std::int64_t index(const char* name, std::int64_t most = max_axis);
    // Integers from `least` to `most`, one for each axis of a value.
    std::vector<std::int64_t> per_axis(const char* name, std::int64_t least, std::int64_t most);
    // The inputs that share a scale, of a row of `inputs`; all of them if the step does not say.
    std::int64_t group(std::int64_t inputs);
    float above_zero(const char* name);
    float finite(const char* name);
    bool boolean(const char* name);
    // The attribute, which must have one of the two values.
    const std::string& choice(const char* name, const std::string& first, const std::string& second);
    const float* floats(const char* role, const Shape& shape, bool optional);
    // Finite float16 numbers, as their bits.
    const std::uint16_t* halves(const char* role, const Shape& shape);
    const std::int8_t* bytes(const char* role, const Shape& shape);
    const std::uint8_t* bits(const char* role, std::int64_t rows, std::int64_t n, bool optional);

    void image(const Shape& x) const;
    Window window(const Shape& x, bool dilated);
    // Of a convolution of volumes: its third axis, and the others.
    Depth depth(const Shape& x, Window& others);
    // The number of positions of the window.
    std::int64_t side(const Window& w, const Shape& x, int axis) const;
    std::vector<int> planes() { return plane_counts(attribute("planes")); }
    // Of `scaling`.
    ops::RotaryScaling rotary_scaling();
    // The weights of a layer with these numbers of inputs and outputs.
    BitWeights weights(std::int64_t out, std::int64_t in);

    void sizes(const char* name, std::int64_t* out, std::size_t count, std::int64_t least);

  private:
    const Json& attribute(const std::string& name);
    float positive_field(const Json& object, const std::string& attribute, const char* name, float least) const;
    const TensorView* tensor(const char* role, TensorType type, const Shape& shape, bool optional);
    std::vector<int> plane_counts(const Json& json) const;
    InputLevels input_levels(const Json& json) const;

    const std::string& where_;
    const Json& attributes_;
    const Json& roles_;
    const Tensors& tensors_;
    std::set<std::string> read_attributes_, read_roles_;
};

}  // namespace onebit
