#include "words.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "unicode.h"

namespace onebit {
namespace {

// The classes of ASCII, near at hand.
const std::array<std::uint8_t, 128>& ascii_classes() {
    static const std::array<std::uint8_t, 128> classes = [] {
        std::array<std::uint8_t, 128> made{};
        for (char32_t c = 0; c < 128; ++c) made[c] = character_class(c);
        return made;
    }();
    return classes;
}

// The class of the character at `at`, which moves on.
std::uint8_t next_class(std::string_view text, std::size_t& at) {
    const auto first = static_cast<unsigned char>(text[at]);
    if (first >= 0x80) return character_class(next_character(text, at));
    ++at;
    return ascii_classes()[first];
}

// What the characters of a run have in common: letters, numbers, white space, or none of them.
int kind_of(std::uint8_t character_class) {
    return character_class & (letter | number | space);
}

std::size_t end_of_contraction(std::string_view text, std::size_t begin) {
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
        if (text.substr(begin, ending.size()) == ending) return begin + ending.size();
    }
    return begin;
}

// BERT's words, character by character.
class WordCutter {
  public:
    WordCutter(bool fold, const std::function<void(std::string_view, std::size_t)>& take) : fold_(fold), take_(take) {}

    void cut(std::string_view text) {
        for (std::size_t at = 0; at < text.size();) {
            const char32_t character = next_character(text, at);
            const std::uint8_t kind = character < 128 ? ascii_classes()[character] : character_class(character);
            if (kind & removed) continue;
            if (kind & (blank | ideograph)) end_word();
            if (kind & blank) continue;
            if (fold_ && kind & folded) {
                add_folded(character);
            } else {
                add(character);
            }
            if (kind & ideograph) end_word();
        }
        end_word();
    }

  private:
    void add_folded(char32_t character) {
        const Fold left = fold(character);
        for (int i = 0; i < left.count; ++i) add(left.characters[i]);
        // An accent that is left out keeps marks apart, unless marks are what change places with it.
        if (left.count == 0 && combining_class(character) == 0) place_marks();
    }

    void add(char32_t character) {
        // No character before U+0300 has a combining class.
        const std::uint8_t order = fold_ && character >= 0x300 ? combining_class(character) : 0;
        if (order != 0) {
            marks_.emplace_back(std::uint64_t{order} << 32 | marks_.size(), character);
        } else {
            place_marks();
            place(character);
        }
    }

    // Marks that follow each other stand in the order of their classes: Unicode's canonical order.
    void place_marks() {
        if (marks_.empty()) return;
        std::sort(marks_.begin(), marks_.end());
        for (const auto& [order, mark] : marks_) place(mark);
        marks_.clear();
    }

    void place(char32_t character) {
        const std::uint8_t kind = character < 128 ? ascii_classes()[character] : character_class(character);
        if (kind & punctuation) give_word();
        append_utf8(word_, character);
        ++characters_;
        if (kind & punctuation) give_word();
    }

    void end_word() {
        place_marks();
        give_word();
    }

    void give_word() {
        if (characters_ > 0) take_(word_, characters_);
        word_.clear();
        characters_ = 0;
    }

    bool fold_;
    const std::function<void(std::string_view, std::size_t)>& take_;
    std::string word_;
    std::size_t characters_ = 0;
    std::vector<std::pair<std::uint64_t, char32_t>> marks_;  // each with its class, then its place among them
};

}  // namespace

std::size_t end_of_word(std::string_view text, std::size_t begin) {
    if (text[begin] == '\'') {
        if (const std::size_t end = end_of_contraction(text, begin); end > begin) return end;
    }
    // A word may begin with one blank.
    std::size_t at = text[begin] == ' ' && begin + 1 < text.size() ? begin + 1 : begin;
    int kind = kind_of(next_class(text, at));
    if (kind == space) {
        at = begin;
        kind = kind_of(next_class(text, at));
    }
    std::size_t last = begin;  // where the last character of the run begins
    while (at < text.size()) {
        std::size_t next = at;
        if (kind_of(next_class(text, next)) != kind) {
            // White space leaves its last character to the word after it.
            return kind == space && last > begin ? last : at;
        }
        last = at;
        at = next;
    }
    return at;
}

void cut_words(std::string_view text, bool fold, const std::function<void(std::string_view, std::size_t)>& take) {
    WordCutter(fold, take).cut(text);
}

}  // namespace onebit
