#include "memory_plan.h"

#include <algorithm>

namespace onebit {

MemoryPlan plan_memory(const std::vector<const Step*>& steps, const std::vector<std::int64_t>& sizes, int output) {
    const auto at = [](int index) { return static_cast<std::size_t>(index); };
    std::vector<std::size_t> last(sizes.size(), 0);
    for (std::size_t i = 0; i < steps.size(); ++i) {
        for (const int input : steps[i]->inputs) {
            if (input >= 0) last[at(input)] = i;
        }
    }
    last[at(output)] = steps.size();
    MemoryPlan plan;
    plan.buffer_of.assign(sizes.size(), -1);
    std::vector<int> free;
    const auto place = [&](int value) {
        const std::int64_t size = sizes[at(value)];
        // The smallest free buffer that is large enough, else the largest, which then grows.
        auto best = free.end();
        for (auto it = free.begin(); it != free.end(); ++it) {
            if (best == free.end()) {
                best = it;
                continue;
            }
            const std::int64_t here = plan.sizes[at(*it)], there = plan.sizes[at(*best)];
            if ((here >= size) != (there >= size) ? here >= size : (here >= size ? here < there : here > there)) best = it;
        }
        if (best == free.end()) {
            plan.buffer_of[at(value)] = static_cast<int>(plan.sizes.size());
            plan.sizes.push_back(size);
        } else {
            plan.buffer_of[at(value)] = *best;
            plan.sizes[at(*best)] = std::max(plan.sizes[at(*best)], size);
            free.erase(best);
        }
    };
    place(0);
    for (std::size_t i = 0; i < steps.size(); ++i) {
        place(steps[i]->output);
        const auto& inputs = steps[i]->inputs;
        for (std::size_t k = 0; k < std::size(inputs); ++k) {
            const bool again = std::find(inputs, inputs + k, inputs[k]) != inputs + k;  // freed once, where it is read twice
            if (inputs[k] >= 0 && last[at(inputs[k])] == i && !again) free.push_back(plan.buffer_of[at(inputs[k])]);
        }
    }
    return plan;
}

}  // namespace onebit
