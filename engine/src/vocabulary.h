// The tokens of a language model and the bytes that they add to a text. docs/program.md describes the task that holds them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace onebit {

class Vocabulary {
  public:
    // None, for models that write no text.
    Vocabulary() = default;
    // Of a text with a token in each line, in the alphabet "bytes" or in that of words. Throws std::invalid_argument where it is not one.
    Vocabulary(const std::string& text, bool of_bytes);
    // Its table of ids points into its pieces.
    Vocabulary(const Vocabulary&) = delete;
    Vocabulary& operator=(const Vocabulary&) = delete;
    Vocabulary(Vocabulary&&) = default;
    Vocabulary& operator=(Vocabulary&&) = default;

    bool of_bytes() const { return of_bytes_; }
    std::int64_t size() const { return static_cast<std::int64_t>(pieces_.size()); }
    const std::string& piece(std::int64_t token) const { return pieces_[static_cast<std::size_t>(token)]; }
    // What the token adds to a text.
    const std::string& bytes(std::int64_t token) const { return bytes_[static_cast<std::size_t>(token)]; }
    // Whether a token of a vocabulary of bytes has a character that stands for no byte, so that no text is cut into it.
    bool foreign(std::int64_t token) const;
    // -1 where there is none.
    std::int32_t id(std::string_view piece) const;
    // Tokens that are never written: padding, and what stands for unknown characters.
    const std::vector<std::int32_t>& never() const { return never_; }

  private:
    bool of_bytes_ = false;
    std::vector<std::string> pieces_, bytes_;
    std::unordered_map<std::string_view, std::int32_t> ids_;
    std::vector<std::int32_t> never_;
};

}  // namespace onebit
