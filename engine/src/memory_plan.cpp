#include "memory_plan.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "index.h"

namespace onebit {
namespace {

// Where a value may begin: a cache line, which is a register of the widest instruction set too.
constexpr std::int64_t alignment = 64;

// Finding places that values share takes the square of their number. With so many, which a file may say but no network has, each gets its own.
constexpr std::size_t most_sharing_values = 4096;

struct Life {
    std::int64_t made = -1, last = -1;  // steps
};

}  // namespace

MemoryPlan plan_memory(const std::vector<Uses>& steps, const std::vector<std::int64_t>& sizes, std::size_t inputs, const std::vector<int>& outputs) {
    std::vector<Life> lives(sizes.size());
    std::fill_n(lives.begin(), inputs, Life{0, 0});
    for (std::size_t i = 0; i < steps.size(); ++i) {
        const auto now = static_cast<std::int64_t>(i);
        lives[at(steps[i].output)] = {now, now};
        for (const int input : steps[i].inputs) lives[at(input)].last = now;
    }
    for (const int output : outputs) lives[at(output)].last = static_cast<std::int64_t>(steps.size());

    // The largest first, each at the lowest place that nothing which lives at the same time has taken: the small ones then fill the gaps.
    std::vector<int> order(sizes.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) { return sizes[at(a)] != sizes[at(b)] ? sizes[at(a)] > sizes[at(b)] : a < b; });
    MemoryPlan plan;
    plan.offsets.assign(sizes.size(), -1);
    std::vector<int> placed;
    for (const int value : order) {
        const Life life = lives[at(value)];
        if (life.made < 0) continue;
        if (sizes.size() > most_sharing_values) {
            plan.offsets[at(value)] = (plan.bytes + alignment - 1) / alignment * alignment;
            plan.bytes = plan.offsets[at(value)] + sizes[at(value)];
            continue;
        }
        std::vector<int> beside;
        for (const int other : placed) {
            if (lives[at(other)].made <= life.last && life.made <= lives[at(other)].last) beside.push_back(other);
        }
        std::sort(beside.begin(), beside.end(), [&](int a, int b) { return plan.offsets[at(a)] < plan.offsets[at(b)]; });
        std::int64_t offset = 0;
        for (const int other : beside) {
            if (plan.offsets[at(other)] - offset >= sizes[at(value)]) break;
            const std::int64_t end = plan.offsets[at(other)] + sizes[at(other)];
            offset = std::max(offset, (end + alignment - 1) / alignment * alignment);
        }
        plan.offsets[at(value)] = offset;
        plan.bytes = std::max(plan.bytes, offset + sizes[at(value)]);
        placed.push_back(value);
    }
    return plan;
}

void check_memory(std::uint64_t bytes, std::uint64_t cap) {
    cap = std::min<std::uint64_t>(cap, std::numeric_limits<std::ptrdiff_t>::max());  // what a process of 32 bits can have
    if (bytes <= cap) return;
    throw std::invalid_argument("[engine] weights, activations and working memory need " + std::to_string(bytes) + " bytes, more than the " +
                                std::to_string(cap) + " that are allowed: raise memory_cap, or use smaller inputs");
}

}  // namespace onebit
