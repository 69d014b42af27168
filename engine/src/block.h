// A block of memory of fixed size for one purpose: weights in the engine's layout, or the activations of a program.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onebit {

class Block {
  public:
    Block() = default;
    // `bytes` of undefined content, aligned to a cache line. Pages that are never written do not take memory. `large_pages`: asks the system for
    // pages of 2 MB, if it has them. They avoid walks through page tables, which would slow the streaming of weights. Throws std::bad_alloc.
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
