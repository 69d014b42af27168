// Working memory that grows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace onebit {

// Bytes of working memory: allocated now, and the most that will be allocated.
struct WorkingBytes {
    std::uint64_t now = 0, most = 0;

    WorkingBytes& operator+=(const WorkingBytes& other) {
        now += other.now;
        most += other.most;
        return *this;
    }
};

// Growing memory with undefined contents. Unlike a vector it is not written when it grows, so untouched pages cost nothing. It begins at a cache
// line: registers are as long as a line, and a load that crosses two lines costs twice.
template <class T>
class Buffer {
  public:
    T* reserve(std::size_t n) {
        if (n > size_) {
            data_.reset();
            size_ = 0;
            data_.reset(static_cast<T*>(::operator new(n * sizeof(T), line)));
            size_ = n;
        }
        return data_.get();
    }
    // Announces at load the most that a run will reserve. Allocates nothing.
    void expect(std::uint64_t n) { expected_ = std::max(expected_, n); }
    T* data() const { return data_.get(); }
    std::size_t size() const { return size_; }
    std::size_t bytes() const { return size_ * sizeof(T); }
    WorkingBytes working_bytes() const { return {size_ * sizeof(T), expected_ * sizeof(T)}; }

  private:
    static constexpr std::align_val_t line{64};
    struct Free {
        void operator()(T* data) const { ::operator delete(data, line); }
    };
    std::unique_ptr<T[], Free> data_;
    std::size_t size_ = 0;
    std::uint64_t expected_ = 0;
};

// Visits each buffer of a run. Loading and running share this list (expect at load, reserve in a run), so no run takes more than announced.
// Each layer calls it with its own buffers.
constexpr auto expect_buffer = [](auto& buffer, auto n) { buffer.expect(static_cast<std::uint64_t>(n)); };
constexpr auto reserve_buffer = [](auto& buffer, auto n) { buffer.reserve(static_cast<std::size_t>(n)); };

}  // namespace onebit
