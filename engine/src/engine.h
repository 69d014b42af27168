// Runs a program: plans its memory and fuses its steps at load, then computes batches.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "block.h"
#include "count_layer.h"
#include "dense_layer.h"
#include "kernels/kernels.h"
#include "memory_plan.h"
#include "options.h"
#include "product_layer.h"
#include "program.h"
#include "recurrent_layer.h"
#include "thread_pool.h"

namespace onebit {

class Engine {
  public:
    // Copies what it needs of the tensors. Throws std::invalid_argument for a program that does not fit docs/program.md, an unknown or
    // unsupported instruction set, or more memory for activations than the options allow.
    Engine(const std::string& program, const Tensors& tensors, const Options& options);

    const Shape& input_shape() const { return shapes_.front(); }
    const Shape& output_shape() const { return shapes_[static_cast<std::size_t>(output_)]; }
    const Kernels& kernels() const { return kernels_; }
    int threads() const { return pool_.threads(); }
    Precision precision() const { return precision_; }
    // Weights in the engine's layout, activations and scratch memory.
    std::size_t memory_bytes() const;
    // What that will be at most, and what single steps take for themselves: it was compared with the cap at load.
    std::uint64_t most_bytes() const { return most_bytes_; }
    std::size_t arena_bytes() const { return arena_.bytes(); }
    // What runs, in its order.
    std::vector<PlanLine> plan() const;

    // Compute a batch of `count` examples, one after the other: pixels (divided by 255) or floats. May be called from several threads; the
    // calls take turns. What `ask` throws ends the computation; the engine can be used again.
    void run(const std::uint8_t* batch, std::int64_t count, float* out, const Ask& ask = {});
    void run(const float* batch, std::int64_t count, float* out, const Ask& ask = {});

  private:
    // A step as it is executed: a product layer with what was fused into it, or one other op.
    struct Task {
        Step step;
        std::unique_ptr<ProductLayer> layer;  // convolutions, and float products
        std::unique_ptr<DenseLayer> dense;    // binary products of rows
        std::unique_ptr<RecurrentLayer> recurrence;
        std::unique_ptr<CountLayer> counts;  // binary products of signs, or of few bits
        std::string before;                  // the name of a step that it took in before its own
        std::string fused;                   // the names of the steps that it took in
        std::vector<float> scale, shift;     // of a scale_shift on its own; the slope of a prelu
    };

    // Where the caller has an example, or null where it was copied, and where its result goes. Such pointers are arguments and never members: a call
    // that fails must leave none behind.
    struct Call {
        const float* given;
        float* taken;
    };

    void place_values(std::uint64_t memory_cap);
    std::uint64_t weight_bytes() const;
    WorkingBytes working_bytes() const;
    // What a step takes while it runs and gives back.
    std::uint64_t step_bytes(const Step& step) const;
    void run_example(const Call& call);
    void run_task(const Task& task, const Call& call);
    float* value(int index, const Call& call) const;
    float* placed(int index) const { return reinterpret_cast<float*>(arena_.data() + placed_.offsets[static_cast<std::size_t>(index)]); }

    const Kernels& kernels_;
    Precision precision_;
    std::vector<Shape> shapes_;
    int output_ = 0;
    std::vector<Task> tasks_;
    std::vector<std::string> names_;  // of values
    MemoryPlan placed_;
    std::uint64_t most_bytes_ = 0;
    Block arena_;                // all values
    Block weights_;              // bits of dense layers
    std::vector<Range> ranges_;  // of values that a product layer made
    std::vector<bool> range_known_;
    ThreadPool pool_;
    Scratch scratch_;
    DenseScratch dense_scratch_;
    RecurrentScratch recurrent_scratch_;
    CountScratch count_scratch_;
    std::timed_mutex mutex_;
};

}  // namespace onebit
