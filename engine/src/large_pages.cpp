#include "large_pages.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <map>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace onebit {
namespace {

constexpr std::size_t page = std::size_t{1} << 21, small_page = 4096;
// Less stays together in small pages anyway; of more, few fit in a page.
constexpr std::size_t least = 4 * small_page, most = page / 4;
constexpr std::align_val_t line{64}, large{page};

#if defined(__linux__)
constexpr bool has_large_pages = true;
#else
constexpr bool has_large_pages = false;
#endif

bool in_page(std::size_t bytes) {
    return has_large_pages && bytes >= least && bytes <= most;
}

// Sizes that share free blocks: four for each doubling.
std::size_t rounded(std::size_t bytes) {
    const std::size_t step = std::max(small_page, std::bit_floor(bytes) / 4);
    return (bytes + step - 1) / step * step;
}

struct Block {
    Block* next;
};

struct Pool {
    std::mutex mutex;
    std::map<std::size_t, Block*> free;  // by their size
    std::byte* rest = nullptr;           // of the last page
    std::size_t left = 0;
};

// Never destroyed: models of other static objects may still give back to it.
Pool& pool() {
    static Pool& only = *new Pool;
    return only;
}

std::byte* new_page() {
    void* memory = ::operator new(page, large);
#if defined(__linux__)
    madvise(memory, page, MADV_HUGEPAGE);  // where it is refused, small pages do
#endif
    return static_cast<std::byte*>(memory);
}

}  // namespace

void* take_large(std::size_t bytes) {
    if (!in_page(bytes)) return ::operator new(bytes, line);
    const std::size_t size = rounded(bytes);
    Pool& from = pool();
    const std::lock_guard lock(from.mutex);
    Block*& free = from.free[size];
    if (free != nullptr) {
        Block* taken = free;
        free = taken->next;
        return taken;
    }
    if (from.left < size) {
        from.rest = new_page();
        from.left = page;
    }
    std::byte* taken = from.rest;
    from.rest += size;
    from.left -= size;
    return taken;
}

void give_large(void* memory, std::size_t bytes) noexcept {
    if (!in_page(bytes)) return ::operator delete(memory, line);
    Pool& to = pool();
    const std::lock_guard lock(to.mutex);
    // The entry is there since the block was taken.
    Block*& free = to.free.find(rounded(bytes))->second;
    free = new (memory) Block{free};
}

}  // namespace onebit
