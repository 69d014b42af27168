// Runs a program: plans its memory and fuses its steps at load, then computes batches.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "product_layer.h"
#include "program.h"
#include "thread_pool.h"

namespace onebit {

enum class Precision { int8, float32 };

class Engine {
  public:
    // Copies what it needs of the tensors. Throws std::invalid_argument for a program that does not fit docs/program.md, an unknown or
    // unsupported `isa`, or more activation memory than `memory_cap` bytes.
    Engine(const std::string& program, const Tensors& tensors, Precision precision, int threads, const std::string& isa,
           std::size_t memory_cap = std::size_t{4} << 30);

    const Shape& input_shape() const { return shapes_.front(); }
    const Shape& output_shape() const { return shapes_[static_cast<std::size_t>(output_)]; }
    const Kernels& kernels() const { return kernels_; }
    int threads() const { return pool_.threads(); }
    Precision precision() const { return precision_; }
    // Weights in the engine's layout, activations and scratch memory.
    std::size_t memory_bytes() const;

    // Compute a batch of `count` examples, one after the other: pixels (divided by 255) or floats. May be called from several threads; the
    // calls take turns.
    void run(const std::uint8_t* batch, std::int64_t count, float* out);
    void run(const float* batch, std::int64_t count, float* out);

  private:
    // A step as it is executed: a product layer with what was fused into it, or one other op.
    struct Task {
        Step step;
        std::unique_ptr<ProductLayer> layer;  // binary and float products
        std::vector<float> scale, shift;      // of a scale_shift on its own
    };

    void plan(std::size_t memory_cap);
    void run_example(float* out);
    void run_task(const Task& task);
    float* value(int index) { return buffers_[static_cast<std::size_t>(buffer_of_[static_cast<std::size_t>(index)])].data(); }

    const Kernels& kernels_;
    Precision precision_;
    std::vector<Shape> shapes_;
    int output_ = 0;
    std::vector<Task> tasks_;
    std::vector<int> buffer_of_;  // of each value; -1 for values that fusing removed
    std::vector<std::vector<float>> buffers_;
    std::vector<Range> ranges_;  // of values that a product layer made
    std::vector<bool> range_known_;
    ThreadPool pool_;
    Scratch scratch_;
    std::mutex mutex_;
};

}  // namespace onebit
