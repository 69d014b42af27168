// A model whose inputs are arrays: an image, a sequence of vectors, integers with a mask. One example after the other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "executor.h"
#include "turn.h"

namespace onebit {

// Where programs may end early.
struct Early {
    std::optional<float> threshold = std::nullopt;  // in place of that of every exit; 1 lets nothing end early
    std::int32_t* passed = nullptr;                 // where the exits that each example passed are wanted
};

class ArrayModel {
  public:
    // Copies what it needs of the tensors. Throws std::invalid_argument for a program that does not fit docs/program.md, an unknown or
    // unsupported instruction set, or more memory than the options allow.
    ArrayModel(const std::string& program, const Tensors& tensors, const Options& options);

    // Of several inputs, or outputs, the sum of their elements: an example has one after the other.
    const Shape& input_shape() const { return input_shape_; }
    const Shape& output_shape() const { return output_shape_; }
    // One array of numbers, one result.
    bool plain() const { return limits_.size() == 1 && limits_[0] == 0 && executor_.outputs().size() == 1; }
    struct Place {
        const std::string& name;
        const Shape& shape;
        bool integers;
    };
    std::vector<Place> inputs() const;
    std::vector<Place> outputs() const;
    const Kernels& kernels() const { return executor_.kernels(); }
    int threads() const { return executor_.pool().threads(); }
    Precision precision() const { return executor_.precision(); }
    // Weights in the engine's layout, activations and working memory.
    std::size_t memory_bytes() const { return executor_.memory_bytes(); }
    // What that will be at most, and what single steps take for themselves: it was compared with the cap at load.
    std::uint64_t most_bytes() const { return executor_.most_bytes(); }
    std::size_t arena_bytes() const { return executor_.arena_bytes(); }
    // What runs, in its order.
    std::vector<PlanLine> plan() const { return executor_.plan(); }
    // See Executor.
    void time_nodes();
    std::vector<std::int64_t> nanoseconds() const;

    // Compute a batch of `count` examples, one after the other: pixels (divided by 255) or floats. May be called from several threads; the
    // calls take turns. Pixels are for plain models; integers come as floats, and throw std::invalid_argument where no embedding has their row. What
    // `ask` throws ends the computation; the model can be used again.
    void run(const std::uint8_t* batch, std::int64_t count, float* out, const Ask& ask = {}, const Early& early = {});
    void run(const float* batch, std::int64_t count, float* out, const Ask& ask = {}, const Early& early = {});

  private:
    ArrayModel(Program program, const Options& options);
    // Computes the example at an index. `given`: the example, or null where it was copied to its place.
    void run_example(std::int64_t index, const float* given, float* out, const Early& early);
    void run_several(const float* given, float* out);

    std::vector<std::int64_t> limits_;  // of each input of integers, which are below it; 0 of numbers
    Executor executor_;
    Shape input_shape_, output_shape_;
    mutable Turn turn_;  // taken before the pool's
};

}  // namespace onebit
