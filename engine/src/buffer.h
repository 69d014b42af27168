// Working memory that grows.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace onebit {

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
    T* data() const { return data_.get(); }
    std::size_t size() const { return size_; }
    std::size_t bytes() const { return size_ * sizeof(T); }

  private:
    static constexpr std::align_val_t line{64};
    struct Free {
        void operator()(T* data) const { ::operator delete(data, line); }
    };
    std::unique_ptr<T[], Free> data_;
    std::size_t size_ = 0;
};

}  // namespace onebit
