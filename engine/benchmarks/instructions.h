// How many instructions a kernel takes: a fixed piece of work that a tool for counting can run.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace onebit {

// One call's worth of work of a kernel, named as in `Kernels`, or of a layer.
struct Work {
    const char* kernel;
    const char* size;
    double products;  // multiply-accumulates
    void (*run)(const Kernels& kernels, int times);
};
// Kernels alone, then whole layers.
std::vector<Work> all_work();
const std::vector<Work>& layer_work();

// Instructions of `times` calls, counted by letting a second process go on one instruction at a time; -1 where the system does not allow that.
// It knows every instruction that the processor knows, at some hundred thousand a second.
std::int64_t count_single_steps(const Work& work, const Kernels& kernels, int times);

}  // namespace onebit
