// A block of memory for one purpose, as large as it will ever be: weights in the engine's layout, or the activations of a program.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onebit {

class Block {
  public:
    Block() = default;
    // `bytes` of undefined contents that begin at a cache line; pages that are never written take no memory. `large_pages`: asks the system for pages
    // of 2 MB, where it has them, which spares the walks through page tables that streaming weights otherwise waits for. Throws std::bad_alloc.
    explicit Block(std::size_t bytes, bool large_pages = false);
    ~Block();
    Block(Block&& other) noexcept;
    Block& operator=(Block&& other) noexcept;
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    std::uint8_t* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }

  private:
    std::uint8_t* data_ = nullptr;
    std::size_t bytes_ = 0;
    std::size_t alignment_ = 0;
};

}  // namespace onebit
