// Decimal numbers as texts, for C++ libraries that have no std::from_chars of floating-point numbers, and for messages.
#pragma once

#include <string>
#include <string_view>

namespace onebit {

// The double that is nearest to a number in JSON's form, of two the even one: what std::from_chars gives. 0 or infinity where none is near.
double nearest_double(std::string_view number);

// A number for a message, with one to six digits after the point: printf would bring 8 kB of WebAssembly along.
std::string to_decimal(double value);

}  // namespace onebit
