// Encoding and decoding of fixed examples. tests/test_tokenizer.py compares thousands of texts with Hugging Face tokenizers.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "decimal.h"
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

// What the C library reads is taken as right.
bool read_rightly(const std::string& number) {
    const double found = onebit::nearest_double(number), expected = std::strtod(number.c_str(), nullptr);
    if (found == expected && std::signbit(found) == std::signbit(expected)) return true;
    std::fprintf(stderr, "%s was read as %a rather than %a\n", number.c_str(), found, expected);
    return false;
}

void test_decimal_numbers() {
    for (const char* number : {"0",
                               "-0",
                               "-0.0",
                               "1",
                               "1e22",
                               "1e23",
                               "123456789012345e22",
                               "9007199254740993",
                               "9007199254740992.9",
                               "9007199254740993.0000000001",
                               "1.7976931348623157e308",
                               "1.7976931348623158e308",
                               "1.7976931348623159e308",
                               "1e309",
                               "-1e400",
                               "1e99999999999999999999",
                               "1e-99999999999999999999",
                               "0e99999999999999999999",
                               "2.2250738585072014e-308",
                               "2.2250738585072011e-308",
                               "2.225073858507201e-308",
                               "4.9406564584124654e-324",
                               "5e-324",
                               "2.4703282292062327e-324",
                               "2.4703282292062328e-324",
                               "7.4109846876186981e-324",
                               "2e-324",
                               "1e-326",
                               "0.1",
                               "0.000001",
                               "-12.5E+3",
                               "6.02214076e+23",
                               "1.00000005960464477539062500001",
                               "0.500000000000000166533453693773481063544750213623046875"})
        CHECK(read_rightly(number));
    // Far more digits than a double has: exactly between two of them, and the same with a digit more.
    const std::string zeros(1000, '0'), half = "9007199254740993";
    CHECK(read_rightly(half + "." + zeros) && read_rightly(half + "." + zeros + "1") && read_rightly("0." + zeros + half));
    CHECK(read_rightly(half + zeros + "e-1000") && read_rightly(half + zeros + "1e-1001") && read_rightly(half + zeros));
    std::uniform_int_distribution<std::uint64_t> bits;
    std::uniform_int_distribution<int> exponent(-345, 312), digits(1, 40);
    for (int i = 0; i < 3000; ++i) {
        const double value = std::bit_cast<double>(bits(generator));
        if (!std::isfinite(value)) continue;
        char text[64];
        std::snprintf(text, sizeof text, "%.*e", pick(0, 20), value);
        CHECK(read_rightly(text));
        std::snprintf(text, sizeof text, "%.*g", pick(6, 9), static_cast<double>(pick_float()));
        CHECK(read_rightly(text));
        std::string number;
        for (int left = digits(generator); left > 0; --left) number += static_cast<char>('0' + pick(number.empty(), 9));
        number.insert(static_cast<std::size_t>(pick(1, static_cast<int>(number.size()))), number.size() > 1 ? "." : "");
        if (number.back() == '.') number += '0';
        CHECK(read_rightly(number + "e" + std::to_string(exponent(generator))));
    }
}

void test_numbers_in_messages() {
    for (const auto& [value, text] : std::initializer_list<std::pair<double, const char*>>{{0, "0.0"},
                                                                                           {-1, "-1.0"},
                                                                                           {0.5, "0.5"},
                                                                                           {-0.000001, "-0.000001"},
                                                                                           {1e-9, "0.0"},
                                                                                           {0.9999999, "1.0"},
                                                                                           {123456.789, "123456.789"},
                                                                                           {1e300, "100000000000e289"},
                                                                                           {HUGE_VAL, "inf"},
                                                                                           {-HUGE_VAL, "-inf"},
                                                                                           {std::nan(""), "nan"}})
        CHECK(onebit::to_decimal(value) == text);
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
    tests.add("text: decimal numbers", test_decimal_numbers);
    tests.add("text: numbers in messages", test_numbers_in_messages);
    tests.add("text: words of bytes", test_words_of_bytes);
    tests.add("text: words of BERT", test_words_of_bert);
    tests.add("text: longest pieces", test_longest_pieces);
    tests.add("text: bytes come back", test_bytes_come_back);
    tests.add("text: words and pieces", test_words_and_pieces);
    tests.add_threaded("text: a tokenizer in threads", test_tokenizer_in_threads);
}
