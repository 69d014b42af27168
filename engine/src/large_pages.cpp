#include "large_pages.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <iterator>
#include <list>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace onebit {
namespace {

constexpr std::size_t page_bytes = std::size_t{1} << 21, small_page = 4096;
// Less stays together in small pages anyway; of more, few fit in a page.
constexpr std::size_t least = 4 * small_page, most = page_bytes / 4;
constexpr std::align_val_t line{64}, large{page_bytes};
// So many pages that hold nothing wait for the next text. All others go back to the system.
constexpr std::size_t most_spare = 4;

#if defined(__linux__)
constexpr bool has_large_pages = true;
#else
constexpr bool has_large_pages = false;
#endif

bool in_page(std::size_t bytes) {
    return has_large_pages && bytes >= least && bytes <= most;
}

// Sizes that share pages: four for each doubling.
std::size_t rounded(std::size_t bytes) {
    const std::size_t step = std::max(small_page, std::bit_floor(bytes) / 4);
    return (bytes + step - 1) / step * step;
}

struct Block {
    Block* next;
};

// Holds blocks of one size, so that it is empty as soon as no text needs it.
struct Page {
    std::byte* memory;
    std::size_t size;       // of a block
    std::size_t untouched;  // bytes from which on it was never used
    std::size_t used;       // blocks
    Block* free;
};

using Pages = std::list<Page>;

struct Size {
    Pages open, full;  // with a free block, and without
};

#if defined(__linux__)
pid_t this_process() {
    return getpid();
}
#else
int this_process() {
    return 0;
}
#endif

struct Pool {
    std::mutex mutex;
    const decltype(this_process()) process = this_process();
    std::map<std::size_t, Size> sizes;
    std::unordered_map<std::uintptr_t, Pages::iterator> pages;  // by their address
    std::byte* spare[most_spare];
    std::size_t spares = 0;
};

// Never destroyed: models of other static objects may still give back to it. A child of fork() has one of its own, because a thread that it does not
// have may have held the lock.
Pool& pool() {
    static std::atomic<Pool*> current{nullptr};
    Pool* found = current.load();
    if (found != nullptr && found->process == this_process()) return *found;
    Pool* made = new Pool;
    if (current.compare_exchange_strong(found, made)) return *made;
    delete made;
    return *found;
}

std::uintptr_t address_of_page(const void* memory) {
    return reinterpret_cast<std::uintptr_t>(memory) & ~std::uintptr_t{page_bytes - 1};
}

std::byte* new_memory(Pool& from) {
    if (from.spares > 0) return from.spare[--from.spares];
    void* memory = ::operator new(page_bytes, large);
#if defined(__linux__)
    madvise(memory, page_bytes, MADV_HUGEPAGE);  // where it is refused, small pages do
#endif
    return static_cast<std::byte*>(memory);
}

void give_page(Pool& to, Pages& open, Pages::iterator page) noexcept {
    std::byte* memory = page->memory;
    to.pages.erase(address_of_page(memory));
    open.erase(page);
    if (to.spares < most_spare) {
        to.spare[to.spares++] = memory;
    } else {
        ::operator delete(memory, large);
    }
}

void add_page(Pool& to, Size& of, std::size_t size) {
    of.open.push_front({nullptr, size, 0, 0, nullptr});
    try {
        of.open.front().memory = new_memory(to);
        try {
            to.pages.emplace(address_of_page(of.open.front().memory), of.open.begin());
        } catch (...) {
            ::operator delete(of.open.front().memory, large);
            throw;
        }
    } catch (...) {
        of.open.pop_front();
        throw;
    }
}

}  // namespace

void* take_large(std::size_t bytes) {
    if (!in_page(bytes)) return ::operator new(bytes, line);
    const std::size_t size = rounded(bytes);
    Pool& from = pool();
    const std::lock_guard lock(from.mutex);
    Size& of = from.sizes[size];
    if (of.open.empty()) add_page(from, of, size);
    // From the page with the fewest free blocks, so that others become empty.
    const auto page = std::max_element(of.open.begin(), of.open.end(), [](const Page& a, const Page& b) { return a.used < b.used; });
    void* taken = page->free;
    if (page->free != nullptr) {
        page->free = page->free->next;
    } else {
        taken = page->memory + page->untouched;
        page->untouched += size;
    }
    if (++page->used == page_bytes / size) of.full.splice(of.full.begin(), of.open, page);
    return taken;
}

void give_large(void* memory, std::size_t bytes) noexcept {
    if (!in_page(bytes)) return ::operator delete(memory, line);
    Pool& to = pool();
    const std::lock_guard lock(to.mutex);
    const auto found = to.pages.find(address_of_page(memory));
    if (found == to.pages.end()) return;  // taken before a fork(): it stays
    const auto page = found->second;
    Size& of = to.sizes.find(page->size)->second;
    if (page->used == page_bytes / page->size) of.open.splice(of.open.begin(), of.full, page);
    page->free = new (memory) Block{page->free};
    if (--page->used == 0) give_page(to, of.open, page);
}

}  // namespace onebit
