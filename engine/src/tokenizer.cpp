#include "tokenizer.h"

#include <utility>

#include "unicode.h"
#include "words.h"

namespace onebit {
namespace {

// BERT's tokenizer takes a longer word as unknown.
constexpr std::size_t longest_word = 100;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) text.replace(at, from.size(), to);
}

// As Hugging Face tokenizers writes English.
void close_up(std::string& word) {
    constexpr std::pair<std::string_view, std::string_view> forms[] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                                                       {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                                                       {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : forms) replace_all(word, from, to);
}

}  // namespace

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
    std::vector<std::int32_t> tokens;
    if (text.empty()) return tokens;  // without making the matcher
    if (!vocabulary_.of_bytes()) {
        encode_words(text, tokens);
    } else if (is_utf8(text)) {
        encode_bytes(text, tokens);
    } else {
        encode_bytes(valid_utf8(text), tokens);
    }
    return tokens;
}

std::string Tokenizer::decode(std::span<const std::int32_t> tokens) const {
    std::string text;
    if (vocabulary_.of_bytes()) {
        for (const std::int32_t token : tokens) text += vocabulary_.bytes(token);
        return valid_utf8(text);
    }
    for (std::size_t i = 0; i < tokens.size(); ++i) text += word(tokens[i], i == 0);
    return text;
}

std::string Tokenizer::word(std::int32_t token, bool first) const {
    std::string text = first ? vocabulary_.piece(token) : vocabulary_.bytes(token);
    close_up(text);
    return text;
}

const PieceMatcher& Tokenizer::matcher() const {
    if (const PieceMatcher* made = matcher_.load(std::memory_order_acquire)) return *made;
    const std::lock_guard lock(making_);
    if (const PieceMatcher* made = matcher_.load(std::memory_order_relaxed)) return *made;
    std::vector<PieceMatcher::Piece> pieces;
    pieces.reserve(static_cast<std::size_t>(vocabulary_.size()));
    for (std::int32_t token = 0; token < vocabulary_.size(); ++token) {
        const std::string_view piece = vocabulary_.piece(token);
        if (vocabulary_.of_bytes()) {
            if (!vocabulary_.foreign(token)) pieces.push_back({vocabulary_.bytes(token), token, false});
        } else {
            const bool first = !piece.starts_with("##");
            pieces.push_back({first ? piece : piece.substr(2), token, first});
        }
    }
    std::erase_if(pieces, [](const PieceMatcher::Piece& piece) { return piece.bytes.empty(); });
    owned_ = std::make_unique<const PieceMatcher>(std::move(pieces), !vocabulary_.of_bytes());
    matcher_.store(owned_.get(), std::memory_order_release);
    return *owned_;
}

void Tokenizer::encode_bytes(std::string_view text, std::vector<std::int32_t>& tokens) const {
    const PieceMatcher& pieces = matcher();
    std::vector<std::int32_t> states;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = end_of_word(text, at);
        pieces.match(text.substr(at, end - at), states, tokens);  // each byte is a piece, so they cover it
        at = end;
    }
}

void Tokenizer::encode_words(std::string_view text, std::vector<std::int32_t>& tokens) const {
    const PieceMatcher& pieces = matcher();
    const std::int32_t unknown = vocabulary_.id("[UNK]");
    std::vector<std::int32_t> states;
    cut_words(text, lowercase_, [&](std::string_view word, std::size_t characters) {
        if (characters > longest_word || !pieces.match(word, states, tokens)) tokens.push_back(unknown);
    });
}

}  // namespace onebit
