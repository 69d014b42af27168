#include "vocabulary.h"

#include <algorithm>
#include <stdexcept>

#include "json.h"
#include "task.h"

namespace onebit {
namespace {

// Beyond any vocabulary in use; they bound what a hostile file takes.
constexpr std::size_t max_tokens = std::size_t{1} << 20;
constexpr std::size_t max_token_bytes = 1024;

// The byte that a character of the byte-level alphabet stands for (GPT-2's `bytes_to_unicode`), or -1: printable Latin-1 characters stand for
// themselves, the other bytes for the characters from U+0100 on, in their order.
int byte_of(unsigned character) {
    const auto printable = [](unsigned c) { return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF); };
    if (character < 0x100) return printable(character) ? static_cast<int>(character) : -1;
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 0x100; ++byte) {
        if (!printable(byte) && next++ == character) return static_cast<int>(byte);
    }
    return -1;
}

// A piece of the byte-level alphabet as bytes; one with another character stays as it is.
std::string decode_bytes(const std::string& piece) {
    std::string out;
    for (std::size_t i = 0; i < piece.size(); ++i) {
        const auto first = static_cast<unsigned char>(piece[i]);
        unsigned character = first;
        if (first >= 0x80) {
            if (first >= 0xE0 || i + 1 == piece.size()) return piece;  // beyond U+07FF
            character = (first & 31u) << 6 | (static_cast<unsigned char>(piece[++i]) & 63u);
        }
        const int byte = byte_of(character);
        if (byte < 0) return piece;
        out += static_cast<char>(byte);
    }
    return out;
}

std::string decode_word(const std::string& piece) {
    return piece.starts_with("##") ? piece.substr(2) : " " + piece;
}

// How many of the 256 bytes no piece stands for.
int lacking_bytes(const std::unordered_map<std::string_view, std::int32_t>& ids) {
    int lacking = 0;
    for (unsigned character = 0; character < 0x200; ++character) {
        if (byte_of(character) < 0) continue;
        const std::string piece = character < 0x80
                                      ? std::string(1, static_cast<char>(character))
                                      : std::string{static_cast<char>(0xC0 | character >> 6), static_cast<char>(0x80 | (character & 63u))};
        lacking += !ids.contains(piece);
    }
    return lacking;
}

[[noreturn]] void wrong(const std::string& message) {
    throw std::invalid_argument("[task] " + message + "; the file is damaged");
}

}  // namespace

Vocabulary::Vocabulary(const std::string& text, bool of_bytes) : of_bytes_(of_bytes) {
    const auto count = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
    if (count > max_tokens) wrong("the vocabulary has " + std::to_string(count) + " tokens: needs at most " + std::to_string(max_tokens));
    pieces_.reserve(count);
    bytes_.reserve(count);
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        pieces_.push_back(text.substr(begin, end - begin));
        bytes_.push_back(of_bytes ? decode_bytes(pieces_.back()) : decode_word(pieces_.back()));
        begin = end + 1;
    }
    check_names(pieces_, "the vocabulary", "token");
    for (const std::string& piece : pieces_) ids_.emplace(piece, static_cast<std::int32_t>(ids_.size()));
    for (const char* needed : {"[UNK]", "[PAD]", "[SEP]"}) {
        if (id(needed) < 0) {
            wrong("the vocabulary has no " + std::string(needed) + ": add a line " + needed + " to it, or use another vocabulary");
        }
    }
    for (const std::string& piece : pieces_) {
        if (piece.size() > max_token_bytes) {
            wrong("the token " + excerpt(piece) + " has " + std::to_string(piece.size()) + " bytes: needs at most " +
                  std::to_string(max_token_bytes));
        }
    }
    if (const int lacking = of_bytes ? lacking_bytes(ids_) : 0)
        wrong("the vocabulary lacks " + std::to_string(lacking) + " of the 256 bytes: use alphabet='words' with it");
    never_ = {id("[PAD]"), id("[UNK]")};
}

bool Vocabulary::foreign(std::int64_t token) const {
    // Of the characters that stand for bytes, those that stand for themselves and take one byte of UTF-8 are printable ASCII.
    const auto stands_for_itself = [](char c) { return c > 0x20 && c < 0x7F; };
    return piece(token) == bytes(token) && !std::all_of(piece(token).begin(), piece(token).end(), stands_for_itself);
}

std::int32_t Vocabulary::id(std::string_view piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? -1 : found->second;
}

}  // namespace onebit
