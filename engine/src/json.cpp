#include "json.h"

#include <charconv>
#include <cmath>
#include <stdexcept>

namespace onebit {
namespace {

constexpr int max_depth = 32;
// A value takes far more memory than its text: "[0,0,0," must not become a hundred times as much.
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
    [[noreturn]] void fail(const char* why) const {
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

    Json read(int depth) {
        if (depth > max_depth) fail("nested too deep");
        if (++values_ > max_values) fail("too many values");
        Json value;
        switch (peek()) {
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
                    if (!value.object.emplace(std::move(name), read(depth + 1)).second) fail("a name stands twice");
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
        const char* begin = text_.data() + at_;
        const char* end = text_.data() + text_.size();
        const auto [next, error] = std::from_chars(begin, end, value.number);
        if (error != std::errc() || !(*begin == '-' || (*begin >= '0' && *begin <= '9')) || !std::isfinite(value.number))
            fail("a value was expected");
        value.kind = Json::Kind::number;
        const std::string_view digits(begin, static_cast<std::size_t>(next - begin));
        value.is_integer = digits.find_first_of(".eE") == std::string_view::npos && std::fabs(value.number) < 9007199254740992.0;
        at_ += digits.size();
        return value;
    }

    unsigned hex() {
        if (at_ + 4 > text_.size()) fail("it ends too early");
        unsigned code = 0;
        const auto [next, error] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, code, 16);
        if (error != std::errc() || next != text_.data() + at_ + 4) fail("a wrong escape");
        at_ += 4;
        return code;
    }

    static void append_utf8(std::string& out, unsigned code) {
        if (code < 0x80) {
            out += static_cast<char>(code);
        } else if (code < 0x800) {
            out += static_cast<char>(0xC0 | (code >> 6));
            out += static_cast<char>(0x80 | (code & 63));
        } else if (code < 0x10000) {
            out += static_cast<char>(0xE0 | (code >> 12));
            out += static_cast<char>(0x80 | ((code >> 6) & 63));
            out += static_cast<char>(0x80 | (code & 63));
        } else {
            out += static_cast<char>(0xF0 | (code >> 18));
            out += static_cast<char>(0x80 | ((code >> 12) & 63));
            out += static_cast<char>(0x80 | ((code >> 6) & 63));
            out += static_cast<char>(0x80 | (code & 63));
        }
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

const Json& Json::at(const std::string& name) const {
    const Json* member = find(name);
    if (member == nullptr) throw std::invalid_argument("[program] lacks '" + name + "'");
    return *member;
}

const Json* Json::find(const std::string& name) const {
    if (kind != Kind::object) throw std::invalid_argument("[program] '" + name + "' is looked for in what is no object");
    const auto found = object.find(name);
    return found == object.end() ? nullptr : &found->second;
}

std::int64_t Json::integer(const char* what) const {
    if (kind != Kind::number || !is_integer) throw std::invalid_argument(std::string("[program] ") + what + " is no integer");
    return static_cast<std::int64_t>(number);
}

const std::string& Json::string(const char* what) const {
    if (kind != Kind::text) throw std::invalid_argument(std::string("[program] ") + what + " is no text");
    return text;
}

const std::vector<Json>& Json::items(const char* what) const {
    if (kind != Kind::list) throw std::invalid_argument(std::string("[program] ") + what + " is no list");
    return list;
}

Json parse_json(std::string_view text, const char* what) {
    return Parser(text, what).document();
}

}  // namespace onebit
