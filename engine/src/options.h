// How a program is to be run.
#pragma once

#include <cstddef>
#include <string>

namespace onebit {

enum class Precision { int8, float32 };

struct Options {
    Precision precision = Precision::int8;
    int threads = 1;
    std::string isa;                                // empty: ONEBIT_ISA's, else the best that the processor has
    std::size_t memory_cap = std::size_t{4} << 30;  // bytes of activations
    bool pin = false;                               // workers stay on processors of their own
};

}  // namespace onebit
