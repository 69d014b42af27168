#include "block.h"

#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace onebit {
namespace {

constexpr std::size_t line = 64;
constexpr std::size_t large_page = std::size_t{2} << 20;

}  // namespace

Block::Block(std::size_t bytes, bool large_pages) : bytes_(bytes), alignment_(large_pages && bytes >= large_page ? large_page : line) {
    if (bytes == 0) return;
    data_ = static_cast<std::uint8_t*>(::operator new(bytes, std::align_val_t(alignment_)));
#if defined(__linux__)
    // The last part uses small pages, because it would not fill a large one. If the system refuses, only speed is lost.
    if (alignment_ == large_page) madvise(data_, bytes / large_page * large_page, MADV_HUGEPAGE);
#endif
}

Block::~Block() {
    if (data_ != nullptr) ::operator delete(data_, std::align_val_t(alignment_));
}

Block::Block(Block&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)), alignment_(other.alignment_) {}

Block& Block::operator=(Block&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(alignment_, other.alignment_);
    return *this;
}

}  // namespace onebit
