// Encoding and decoding of fixed examples. tests/test_tokenizer.py compares thousands of texts with Hugging Face tokenizers.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "check.h"
#include "kernel_tests.h"
#include "piece_matcher.h"
#include "tokenizer.h"
#include "unicode.h"
#include "vocabulary.h"
#include "words.h"

namespace {

using Tokens = std::vector<std::int32_t>;

void test_utf8() {
    const auto valid = [](std::string_view text) { return onebit::valid_utf8(text); };
    const std::string mark = "\xEF\xBF\xBD";
    CHECK(valid("a\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80") == "a\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80");
    // A cut sequence counts once, each byte that begins none too; surrogates and overlong forms are not UTF-8.
    CHECK(valid("\xE2\x82") == mark && valid("\xE2\x82"
                                             "a") == mark + "a");
    CHECK(valid("\xED\xA0\x80") == mark + mark + mark && valid("\xC0\x80") == mark + mark && valid("\xF4\x90\x80\x80") == mark + mark + mark + mark);
    CHECK(onebit::is_utf8("\xF4\x8F\xBF\xBF") && !onebit::is_utf8("\xF4\x90\x80\x80"));
    for (char32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 37) {
        if (c >= 0xD800 && c < 0xE000) continue;
        std::string text;
        onebit::append_utf8(text, c);
        std::size_t at = 0;
        CHECK(onebit::next_character(text, at) == c && at == text.size());
    }
}

void test_words_of_bytes() {
    const auto words = [](std::string_view text) {
        std::string cut;
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t end = onebit::end_of_word(text, at);
            cut += std::string(text.substr(at, end - at)) + "|";
            at = end;
        }
        return cut;
    };
    CHECK(words("It's  we'll 'tis 12,5") == "It|'s| | we|'ll| '|tis| 12|,|5|");
    CHECK(words(" \n\ta  ") == " \n|\t|a|  |");
    CHECK(words("\xC3\xA9t\xC3\xA9\xC2\xA0\xC2\xBD!?") == "\xC3\xA9t\xC3\xA9|\xC2\xA0|\xC2\xBD|!?|");
    CHECK(words(" ") == " |" && words("'") == "'|" && words("'x") == "'|x|");
}

void test_words_of_bert() {
    const auto words = [](std::string_view text, bool fold) {
        std::string cut;
        onebit::cut_words(text, fold, [&](std::string_view word, std::size_t) { cut += std::string(word) + "|"; });
        return cut;
    };
    CHECK(words("\xC3\x89t\xC3\xA9, \xE6\xBC\xA2\xE5\xAD\x97x \x01\xEF\xBF\xBD", true) == "ete|,|\xE6\xBC\xA2|\xE5\xAD\x97|x|");
    CHECK(words("\xC3\x89t\xC3\xA9 A", false) == "\xC3\x89t\xC3\xA9|A|");
    // Hangul is cut into its letters.
    CHECK(words("\xEA\xB0\x81", true) == "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8|");
    // Of two marks that stay, the mark of the lower class comes first: U+1D16D has 226, U+1D165 216.
    CHECK(words("\xF0\x9D\x85\xAD\xF0\x9D\x85\xA5", true) == "\xF0\x9D\x85\xA5\xF0\x9D\x85\xAD|");
    CHECK(words("\xF0\x9D\x85\xAD\xF0\x9D\x85\xA5", false) == "\xF0\x9D\x85\xAD\xF0\x9D\x85\xA5|");
}

// Tries every length, the longest first.
bool simple_match(const std::vector<onebit::PieceMatcher::Piece>& pieces, bool of_two_kinds, std::string_view word, Tokens& tokens) {
    for (std::size_t at = 0; at < word.size();) {
        const onebit::PieceMatcher::Piece* longest = nullptr;
        for (const auto& piece : pieces) {
            const bool fits = !of_two_kinds || piece.first == (at == 0);
            if (fits && word.substr(at).starts_with(piece.bytes) && (longest == nullptr || longest->bytes.size() < piece.bytes.size()))
                longest = &piece;
        }
        if (longest == nullptr) return false;
        tokens.push_back(longest->token);
        at += longest->bytes.size();
    }
    return true;
}

void test_longest_pieces() {
    for (int round = 0; round < 300; ++round) {
        const bool of_two_kinds = pick(0, 1) == 1;
        std::vector<std::string> texts;
        std::vector<onebit::PieceMatcher::Piece> pieces;
        for (int i = pick(0, 12); i > 0; --i) {
            std::string text;
            for (int length = pick(1, 6); length > 0; --length) text += static_cast<char>('a' + pick(0, 1));
            texts.push_back(text);
        }
        std::sort(texts.begin(), texts.end());
        texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
        for (const std::string& text : texts) {
            const int kinds = of_two_kinds ? pick(1, 3) : 1;
            if (kinds & 1) pieces.push_back({text, static_cast<std::int32_t>(pieces.size()), false});
            if (kinds & 2) pieces.push_back({text, static_cast<std::int32_t>(pieces.size()), true});
        }
        const onebit::PieceMatcher matcher(pieces, of_two_kinds);
        Tokens states;
        for (int i = 0; i < 20; ++i) {
            std::string word;
            for (int length = pick(0, 20); length > 0; --length) word += static_cast<char>('a' + pick(0, 20) / 10);
            Tokens expected, found = {7};
            const bool covered = simple_match(pieces, of_two_kinds, word, expected);
            CHECK(matcher.match(word, states, found) == covered);
            if (!covered) expected.clear();
            expected.insert(expected.begin(), 7);
            CHECK(found == expected);
        }
    }
}

std::string vocabulary_of_bytes() {
    std::string text = "[PAD]\n[UNK]\n[SEP]";
    for (char32_t c = 0x21; c < 0x144; ++c) {
        if (c == 0x7F || (c > 0x7F && c < 0xA1) || c == 0xAD) continue;
        text += '\n';
        onebit::append_utf8(text, c);
    }
    return text + "\nth\nthe\n\xC4\xA0the\n\xC4\xA0t\nxyz\xC2\xA0";
}

void test_bytes_come_back() {
    const onebit::Vocabulary vocabulary(vocabulary_of_bytes(), true);
    const onebit::Tokenizer tokenizer(vocabulary, false);
    const auto id = [&](std::string_view piece) { return vocabulary.id(piece); };
    CHECK((tokenizer.encode("the the") == Tokens{id("the"), id("\xC4\xA0the")}));
    CHECK((tokenizer.encode("th they") == Tokens{id("th"), id("\xC4\xA0the"), id("y")}));
    CHECK(tokenizer.encode("").empty() && tokenizer.decode({}).empty());
    // A token with a character that does not stand for a byte is never found.
    CHECK(tokenizer.encode("xyz\xC2\xA0").size() == 5);
    CHECK(tokenizer.decode(tokenizer.encode("a\xFFz")) == "a\xEF\xBF\xBDz");
    std::string text;
    for (int i = 0; i < 3000; ++i) {
        const auto c = static_cast<char32_t>(pick(0, 0x10FFFF));
        onebit::append_utf8(text, c >= 0xD800 && c < 0xE000 ? U' ' : c);
    }
    const Tokens tokens = tokenizer.encode(text);
    CHECK(tokenizer.decode(tokens) == text && tokens.size() <= text.size());
    // Half of a character.
    const Tokens half(tokens.begin(), tokens.begin() + 1);
    CHECK(tokenizer.decode(half) == onebit::valid_utf8(vocabulary.bytes(half[0])));
}

void test_words_and_pieces() {
    const onebit::Vocabulary vocabulary("[PAD]\n[UNK]\n[SEP]\nthe\ncat\n##s\n##\n,\n!\n##the", false);
    const onebit::Tokenizer lower(vocabulary, true), cased(vocabulary, false);
    CHECK((lower.encode("The C\xC3\x81TS, the dog!") == Tokens{3, 4, 5, 7, 3, 1, 8}));
    CHECK((cased.encode("The cats thethe") == Tokens{1, 4, 5, 3, 9}));
    CHECK(lower.encode("the" + std::string(97, 's')).size() == 98 && (lower.encode("the" + std::string(98, 's')) == Tokens{1}));
    CHECK(lower.decode(Tokens{3, 4, 5, 7, 3, 8}) == "the cats, the!");
    CHECK(lower.decode(Tokens{5, 4}) == "##s cat");
}

// The first texts of several threads make the automaton.
void test_tokenizer_in_threads() {
    const onebit::Vocabulary vocabulary("[PAD]\n[UNK]\n[SEP]\nthe\ncat\n##s", false);
    const onebit::Tokenizer tokenizer(vocabulary, true);
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int round = 0; round < 50; ++round) wrong += tokenizer.encode("the cats \xC3\x89 the") != Tokens{3, 4, 5, 1, 3};
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
}

}  // namespace

void add_text_tests(Tests& tests) {
    tests.add("text: UTF-8", test_utf8);
    tests.add("text: words of bytes", test_words_of_bytes);
    tests.add("text: words of BERT", test_words_of_bert);
    tests.add("text: longest pieces", test_longest_pieces);
    tests.add("text: bytes come back", test_bytes_come_back);
    tests.add("text: words and pieces", test_words_and_pieces);
    tests.add_threaded("text: a tokenizer in threads", test_tokenizer_in_threads);
}
