#include "json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "unicode.h"

namespace onebit {
namespace {

constexpr int max_depth = 32;
// A value takes far more memory than its text: without a limit, "[0,0,0," would take a hundred times its size.
constexpr int max_values = 1'000'000;

class Parser {
  public:
    Parser(std::string_view text, const char* what) : text_(text), what_(what) {}

    Json document() {
        Json value = read(0);
        skip_space();
        if (at_ != text_.size()) fail("more after the end");
        return value;
    }

  private:
    [[noreturn]] void fail(const std::string& why) const {
        throw std::invalid_argument("[" + std::string(what_) + "] not JSON at byte " + std::to_string(at_) + ": " + why);
    }

    void skip_space() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
    }

    char peek() {
        skip_space();
        if (at_ == text_.size()) fail("it ends too early");
        return text_[at_];
    }

    void expect(char c) {
        if (peek() != c) fail("another character was expected");
        ++at_;
    }

    bool word(std::string_view w) {
        if (text_.substr(at_, w.size()) != w) return false;
        at_ += w.size();
        return true;
    }

    // `depth`: the number of lists and objects around this value.
    Json read(int depth) {
        if (++values_ > max_values) fail("too many values: more than " + std::to_string(max_values));
        Json value;
        const char first = peek();
        if ((first == '{' || first == '[') && depth == max_depth) fail("nested too deep: more than " + std::to_string(max_depth));
        switch (first) {
            case '{':
                value.kind = Json::Kind::object;
                ++at_;
                if (peek() == '}') {
                    ++at_;
                    return value;
                }
                while (true) {
                    if (peek() != '"') fail("a name was expected");
                    std::string name = quoted();
                    expect(':');
                    if (value.object.contains(name)) fail("the name " + excerpt(name) + " stands twice");
                    value.object.emplace(std::move(name), read(depth + 1));
                    if (peek() == '}') break;
                    expect(',');
                }
                ++at_;
                return value;
            case '[':
                value.kind = Json::Kind::list;
                ++at_;
                if (peek() == ']') {
                    ++at_;
                    return value;
                }
                while (true) {
                    value.list.push_back(read(depth + 1));
                    if (peek() == ']') break;
                    expect(',');
                }
                ++at_;
                return value;
            case '"':
                value.kind = Json::Kind::text;
                value.text = quoted();
                return value;
            default: break;
        }
        if (word("null")) return value;
        if (word("true") || word("false")) {
            value.kind = Json::Kind::boolean;
            value.boolean = text_[at_ - 2] == 'u';
            return value;
        }
        read_number(value);
        return value;
    }

    bool digits() {
        const std::size_t begin = at_;
        while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
        return at_ > begin;
    }

    // Check JSON's own form first: std::from_chars accepts more, such as 01, 1. and .5.
    void read_number(Json& value) {
        const std::size_t begin = at_;
        word("-");
        if (!word("0") && !digits()) fail("a value was expected");
        value.is_integer = true;
        if (word(".")) {
            value.is_integer = false;
            if (!digits()) fail("a digit was expected");
        }
        const std::string_view mantissa = text_.substr(begin, at_ - begin);
        if (word("e") || word("E")) {
            value.is_integer = false;
            if (!word("+")) word("-");
            if (!digits()) fail("a digit was expected");
        }
        const std::string_view number = text_.substr(begin, at_ - begin);
        const auto error = std::from_chars(number.data(), number.data() + number.size(), value.number).ec;
        const bool vanished = value.number == 0 && mantissa.find_first_of("123456789") != std::string_view::npos;
        if (error != std::errc() || !std::isfinite(value.number) || vanished)
            fail("the number " + excerpt(std::string(number)) + " does not fit float64");
        value.kind = Json::Kind::number;
        value.is_integer = value.is_integer && std::fabs(value.number) < 9007199254740992.0;
    }

    unsigned hex() {
        if (at_ + 4 > text_.size()) fail("it ends too early");
        unsigned code = 0;
        const auto [next, error] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, code, 16);
        if (error != std::errc() || next != text_.data() + at_ + 4) fail("a wrong escape");
        at_ += 4;
        return code;
    }

    std::string quoted() {
        ++at_;
        std::string out;
        while (true) {
            if (at_ == text_.size()) fail("a text without an end");
            const char c = text_[at_++];
            if (c == '"') return out;
            if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a text");
            if (c != '\\') {
                out += c;
                continue;
            }
            if (at_ == text_.size()) fail("a text without an end");
            switch (text_[at_++]) {
                case '"': out += '"'; break;
                case '\\': out += '\\'; break;
                case '/': out += '/'; break;
                case 'b': out += '\b'; break;
                case 'f': out += '\f'; break;
                case 'n': out += '\n'; break;
                case 'r': out += '\r'; break;
                case 't': out += '\t'; break;
                case 'u': {
                    unsigned code = hex();
                    if (code >= 0xD800 && code < 0xE000) {
                        const unsigned low = code < 0xDC00 && word("\\u") ? hex() : 0;
                        if (low < 0xDC00 || low > 0xDFFF) fail("half a surrogate pair");
                        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    }
                    append_utf8(out, code);
                    break;
                }
                default: fail("a wrong escape");
            }
        }
    }

    std::string_view text_;
    const char* what_;
    std::size_t at_ = 0;
    int values_ = 0;
};

}  // namespace

std::string excerpt(std::string_view text) {
    constexpr std::size_t most = 60;
    // Do not cut inside a character, so that the rest is UTF-8.
    std::size_t end = std::min(text.size(), most);
    while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    std::string out = "'";
    for (const char c : text.substr(0, end)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
    return out + (end < text.size() ? "...'" : "'");
}

const Json& Json::at(const std::string& name) const {
    const Json* member = find(name);
    if (member == nullptr) throw std::invalid_argument("[program] lacks " + excerpt(name));
    return *member;
}

const Json* Json::find(const std::string& name) const {
    if (kind != Kind::object) return nullptr;
    const auto found = object.find(name);
    return found == object.end() ? nullptr : &found->second;
}

Json parse_json(std::string_view text, const char* what) {
    return Parser(text, what).document();
}

}  // namespace onebit
