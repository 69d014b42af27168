// Text to tokens and back, as Hugging Face tokenizers does it with WordPiece: over bytes, with GPT-2's rule for words, and over words, with BERT's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "piece_matcher.h"
#include "vocabulary.h"

namespace onebit {

// May be used by several threads.
class Tokenizer {
  public:
    // The vocabulary must live as long as this. `lowercase`: texts lose their case and their accents first; of vocabularies of words.
    Tokenizer(const Vocabulary& vocabulary, bool lowercase) : vocabulary_(vocabulary), lowercase_(lowercase) {}

    // What is not UTF-8 counts as U+FFFD. UTF-8 has at most as many tokens as bytes, other bytes at most three times as many.
    std::vector<std::int32_t> encode(std::string_view text) const;
    // The text of tokens that are in the vocabulary, as UTF-8.
    std::string decode(std::span<const std::int32_t> tokens) const;
    // What a token of words adds to the text of tokens before it.
    std::string word(std::int32_t token, bool first) const;

  private:
    const PieceMatcher& matcher() const;
    void encode_bytes(std::string_view text, std::vector<std::int32_t>& tokens) const;
    void encode_words(std::string_view text, std::vector<std::int32_t>& tokens) const;

    const Vocabulary& vocabulary_;
    bool lowercase_;
    // Made when a text is first met: who works with tokens does not need it. std::call_once will not do: where it throws, for want of memory,
    // the next call under ThreadSanitizer never returns.
    mutable std::mutex making_;
    mutable std::unique_ptr<const PieceMatcher> owned_;
    mutable std::atomic<const PieceMatcher*> matcher_{nullptr};
};

}  // namespace onebit
