// What Unicode says of characters, as Hugging Face tokenizers reads it, and UTF-8. Vocabularies were trained on texts that it had cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace onebit {

// The bits of a character's class, in the order of unicode_tables.py.
enum CharacterClass : std::uint8_t {
    letter = 1,
    number = 2,
    space = 4,  // White_Space
    // What BERT makes of a character: nothing, a blank, a word of its own (an ideograph, or punctuation), or another one without its accents and in
    // lower case.
    removed = 8,
    blank = 16,
    ideograph = 32,
    punctuation = 64,
    folded = 128
};

std::uint8_t character_class(char32_t character);

// Its canonical combining class; marks of different classes may change places.
std::uint8_t combining_class(char32_t character);

// What is left of a character of the class `folded`, and how many characters that is: 0 of an accent.
struct Fold {
    char32_t characters[3];
    int count;
};
Fold fold(char32_t character);

// As RFC 3629 says: no surrogates, no overlong forms, at most U+10FFFF.
bool is_utf8(std::string_view text);

inline constexpr char32_t replacement = 0xFFFD;

// Takes the character at `at`, which moves on. What is not UTF-8 is U+FFFD, as often as Python's "replace" puts it: for each sequence that was cut,
// and for each byte that begins none.
char32_t next_character(std::string_view text, std::size_t& at);

void append_utf8(std::string& out, char32_t character);

// The text with U+FFFD for what is not UTF-8.
std::string valid_utf8(std::string_view text);

}  // namespace onebit
