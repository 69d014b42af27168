#include "unicode.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <span>
#include <vector>

namespace onebit {
namespace {

// Characters, each `step` after the one before, that become one other, which moves on by `slope`; 0 stands for none.
struct FoldRun {
    char32_t first;
    std::uint32_t count, step;
    char32_t target;
    std::int32_t slope;
};

#include "unicode_tables.inc"

constexpr char32_t past_unicode = 0x110000;

// A value for each character, made of the places where it changes. Most pages of 256 characters hold one value only and share it.
class Pages {
  public:
    explicit Pages(std::span<const std::uint32_t> changes) {
        std::array<std::int32_t, 256> uniform;
        uniform.fill(-1);
        std::size_t at = 0;
        std::uint8_t page[256], value = 0;
        for (char32_t first = 0; first < past_unicode; first += 256) {
            for (char32_t i = 0; i < 256; ++i) {
                for (; at < changes.size() && changes[at] >> 8 == first + i; ++at) value = static_cast<std::uint8_t>(changes[at]);
                page[i] = value;
            }
            const bool one = std::all_of(page, page + 256, [&](std::uint8_t v) { return v == page[0]; });
            std::int32_t begin = one ? uniform[page[0]] : -1;
            if (begin < 0) {
                begin = static_cast<std::int32_t>(values_.size());
                values_.insert(values_.end(), page, page + 256);
                if (one) uniform[page[0]] = begin;
            }
            begins_[first >> 8] = begin;
        }
    }

    std::uint8_t operator[](char32_t character) const { return values_[static_cast<std::size_t>(begins_[character >> 8]) + (character & 255)]; }

  private:
    std::array<std::int32_t, past_unicode / 256> begins_;
    std::vector<std::uint8_t> values_;
};

// Hangul syllables are made of two or three letters; Unicode's chapter 3.12 has the formula.
Fold fold_syllable(char32_t index) {
    const char32_t last = index % 28;
    return {{0x1100 + index / (21 * 28), 0x1161 + index / 28 % 21, 0x11A7 + last}, last == 0 ? 2 : 3};
}

}  // namespace

std::uint8_t character_class(char32_t character) {
    static const Pages pages(class_changes);
    return pages[character];
}

std::uint8_t combining_class(char32_t character) {
    static const Pages pages(order_changes);
    return pages[character];
}

Fold fold(char32_t character) {
    if (character >= 0xAC00 && character < 0xD7A4) return fold_syllable(character - 0xAC00);
    const auto* after =
        std::upper_bound(std::begin(fold_runs), std::end(fold_runs), character, [](char32_t c, const FoldRun& r) { return c < r.first; });
    if (after != std::begin(fold_runs)) {
        const FoldRun& run = after[-1];
        const std::uint32_t distance = character - run.first, index = distance / run.step;
        if (distance % run.step == 0 && index < run.count) {
            if (run.target == 0) return {{}, 0};
            return {{static_cast<char32_t>(static_cast<std::int64_t>(run.target) + std::int64_t{index} * run.slope)}, 1};
        }
    }
    for (const auto& sequence : fold_sequences) {
        if (sequence[0] == character) return {{sequence[1], sequence[2], sequence[3]}, sequence[3] == 0 ? 2 : 3};
    }
    return {{character}, 1};
}

bool is_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
        const unsigned first = byte(i++);
        if (first < 0x80) continue;
        const std::size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
        if (first < 0xC2 || first > 0xF4 || text.size() - i < more) return false;
        const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80, high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (byte(i) < low || byte(i) > high) return false;
        for (std::size_t k = 1; k < more; ++k) {
            if (byte(i + k) >> 6 != 2) return false;
        }
        i += more;
    }
    return true;
}

char32_t next_character(std::string_view text, std::size_t& at) {
    const auto first = static_cast<unsigned char>(text[at++]);
    if (first < 0x80) return first;
    if (first < 0xC2 || first > 0xF4) return replacement;
    // The second byte of some has a smaller range: no overlong forms, no surrogates, nothing beyond U+10FFFF.
    unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80, high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    const int more = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    char32_t character = first & (0x3Fu >> more);
    for (int i = 0; i < more; ++i, ++at, low = 0x80, high = 0xBF) {
        if (at == text.size()) return replacement;
        const auto next = static_cast<unsigned char>(text[at]);
        if (next < low || next > high) return replacement;
        character = character << 6 | (next & 0x3Fu);
    }
    return character;
}

void append_utf8(std::string& out, char32_t character) {
    if (character < 0x80) {
        out += static_cast<char>(character);
        return;
    }
    const int more = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
    constexpr unsigned heads[] = {0, 0xC0, 0xE0, 0xF0};
    out += static_cast<char>(heads[more] | character >> 6 * more);
    for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (character >> 6 * i & 0x3F));
}

std::string valid_utf8(std::string_view text) {
    std::string valid;
    valid.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) append_utf8(valid, next_character(text, at));
    return valid;
}

}  // namespace onebit
