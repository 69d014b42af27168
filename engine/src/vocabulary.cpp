#include "vocabulary.h"

#include <algorithm>
#include <stdexcept>

namespace onebit {
namespace {

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

}  // namespace

Vocabulary::Vocabulary(const Json& task) {
    const Json* list = task.find("vocabulary");
    const Json* alphabet = task.find("alphabet");
    if (list == nullptr || list->kind != Json::Kind::text || alphabet == nullptr || alphabet->kind != Json::Kind::text ||
        (alphabet->text != "bytes" && alphabet->text != "words")) {
        throw std::invalid_argument("[task] has no vocabulary of the alphabet 'bytes' or 'words'; the file is damaged");
    }
    const std::string_view text = list->text;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        pieces_.emplace_back(text.substr(begin, end - begin));
        bytes_.push_back(alphabet->text == "bytes" ? decode_bytes(pieces_.back()) : decode_word(pieces_.back()));
        begin = end + 1;
    }
    for (const std::string& piece : pieces_) {
        if (!ids_.emplace(piece, static_cast<std::int32_t>(ids_.size())).second)
            throw std::invalid_argument("[vocabulary] names '" + piece.substr(0, 40) +
                                        "' more than once: keep one of them, and pack the model again");
    }
    for (const char* needed : {"[UNK]", "[PAD]", "[SEP]"}) {
        if (id(needed) < 0) throw std::invalid_argument("[vocabulary] has no " + std::string(needed) + ": pack the model again with one that has");
    }
    never_ = {id("[PAD]"), id("[UNK]")};
}

std::int32_t Vocabulary::id(std::string_view piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? -1 : found->second;
}

}  // namespace onebit
