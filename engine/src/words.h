// Texts cut into words, as Hugging Face tokenizers cuts them.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace onebit {

// Where the word of a text of UTF-8 ends that begins at `begin`, by GPT-2's rule:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t end_of_word(std::string_view text, std::size_t begin);

// Cuts a text by BERT's rules. Characters that say nothing are left out, white space ends a word, an ideograph or a punctuation mark is a word.
// Each word, and how many characters it has, is given to `take`. `fold`: words lose their accents and their case.
void cut_words(std::string_view text, bool fold, const std::function<void(std::string_view word, std::size_t characters)>& take);

}  // namespace onebit
