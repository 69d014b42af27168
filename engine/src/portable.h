// What the C++20 library of emscripten 3.1.6 lacks. cmake/emscripten.cmake includes it in every file.
#pragma once

#include <charconv>
#include <cstdlib>
#include <string>
#include <version>

namespace std {

#if !defined(__cpp_lib_bit_cast)
template <class To, class From>
constexpr To bit_cast(const From& from) noexcept {
    return __builtin_bit_cast(To, from);
}
#endif

#if defined(_LIBCPP_VERSION) && _LIBCPP_VERSION < 20000
// For JSON's numbers, which are checked before: strtod would also take others. A program that never calls setlocale has the locale "C".
inline from_chars_result from_chars(const char* first, const char* last, double& value) {
    const string text(first, last);
    char* end = nullptr;
    value = strtod(text.c_str(), &end);
    return {first + (end - text.c_str()), end == text.c_str() ? errc::invalid_argument : errc()};
}
#endif

}  // namespace std
