// What the C++20 library of emscripten 3.1.6 lacks. cmake/emscripten.cmake includes it in every file.
#pragma once

#include <charconv>
#include <string_view>
#include <system_error>
#include <version>

#include "decimal.h"

namespace std {

#if !defined(__cpp_lib_bit_cast)
template <class To, class From>
constexpr To bit_cast(const From& from) noexcept {
    return __builtin_bit_cast(To, from);
}
#endif

#if defined(_LIBCPP_VERSION) && _LIBCPP_VERSION < 20000
// For JSON's numbers, whose form is checked before. strtod would bring soft floats of 128 bits along.
inline from_chars_result from_chars(const char* first, const char* last, double& value) {
    value = onebit::nearest_double(string_view(first, static_cast<size_t>(last - first)));
    return {last, errc()};
}
#endif

}  // namespace std
