// The machine's limits, measured with bare instructions: reading memory, and multiplying bytes in registers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onebit {

// Memory of whole pages, with huge ones where the system gives them or with small ones only; filled with random bits.
class Pages {
  public:
    Pages(std::size_t bytes, bool huge);
    ~Pages();
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    const std::uint8_t* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }

  private:
    std::uint8_t* data_;
    std::size_t bytes_;
};

// Bytes of this process that lie in huge pages; 0 where the system does not tell.
std::size_t huge_bytes();

// XOR of all 64-byte lines with the widest loads that this CPU has; `bytes` is a multiple of 256. With `prefetch`, lines are asked for ahead.
void read_all(const std::uint8_t* from, std::size_t bytes, bool prefetch);

// Multiply-accumulates of bytes that one call of `multiply` makes, in registers only; 0 where there is no such loop for the set's instructions.
struct Peak {
    const char* instructions;
    double products;
    void (*multiply)();
};
Peak peak_of(const char* isa);

}  // namespace onebit
