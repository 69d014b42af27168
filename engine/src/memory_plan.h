// Which values of a program may share memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "program.h"

namespace onebit {

struct MemoryPlan {
    std::vector<int> buffer_of;       // of each value; -1 for values that no step makes (fusing removed them)
    std::vector<std::int64_t> sizes;  // of each buffer
};

// `steps` in the order in which they run, `sizes` of each value. A buffer is free again after the last step that reads its value; the input
// and the output keep theirs.
MemoryPlan plan_memory(const std::vector<const Step*>& steps, const std::vector<std::int64_t>& sizes, int output);

}  // namespace onebit
