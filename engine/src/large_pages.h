// Memory for the keys and values of texts, in pages of 2 MB where the system has them: those of many texts are spread over more small pages than a
// processor finds without looking them up in memory.
#pragma once

#include <cstddef>

namespace onebit {

// Aligned to a cache line. Throws std::bad_alloc.
void* take_large(std::size_t bytes);
// Gives back what was taken with so many bytes. A page goes back to the system when nothing of it is in use.
void give_large(void* memory, std::size_t bytes) noexcept;

// For containers.
template <class T>
struct LargePages {
    using value_type = T;

    LargePages() = default;
    template <class Other>
    explicit LargePages(const LargePages<Other>&) {}

    T* allocate(std::size_t n) { return static_cast<T*>(take_large(n * sizeof(T))); }
    void deallocate(T* memory, std::size_t n) noexcept { give_large(memory, n * sizeof(T)); }
    friend bool operator==(const LargePages&, const LargePages&) { return true; }
};

}  // namespace onebit
