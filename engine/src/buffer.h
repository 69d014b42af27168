// Working memory that grows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace onebit {

// Bytes of working memory: what is taken now, and what will be taken at most.
struct WorkingBytes {
    std::uint64_t now = 0, most = 0;

    WorkingBytes& operator+=(const WorkingBytes& other) {
        now += other.now;
        most += other.most;
        return *this;
    }
};

// Memory that grows and keeps its contents undefined: unlike a vector's, growing does not write it, so untouched pages cost nothing. It begins where
// a line of the cache does: registers are as long as a line, and loads that reach into two cost twice.
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
    // Says at load that a run will reserve so many at most; takes nothing.
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

// What a layer does with each buffer that a run takes, in one list that loading and running share: expect at load, reserve in a run. So no run takes
// more than was said.
constexpr auto expect_buffer = [](auto& buffer, auto n) { buffer.expect(static_cast<std::uint64_t>(n)); };
constexpr auto reserve_buffer = [](auto& buffer, auto n) { buffer.reserve(static_cast<std::size_t>(n)); };

}  // namespace onebit
