#include "parallel.h"

namespace onebit {
namespace {

// Work (multiply-accumulates, or elements times 8) below which waking threads costs more than it gives.
constexpr std::int64_t serial_work = 40'000;

}  // namespace

void parallel(ThreadPool& pool, std::int64_t work, std::int64_t count, const std::function<void(std::int64_t, int)>& body) {
    if (work < serial_work) {
        for (std::int64_t i = 0; i < count; ++i) body(i, 0);
    } else {
        pool.parallel_for(count, body);
    }
}

}  // namespace onebit
