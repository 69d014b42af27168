#include "text.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer.h"
#include "vocabulary.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Tokens = std::vector<std::int32_t>;

class TextCutter {
  public:
    TextCutter(const std::string& vocabulary, bool of_bytes, bool lowercase)
        : vocabulary_(vocabulary, of_bytes), tokenizer_(vocabulary_, lowercase) {}

    nb::object encode(const nb::str& text) const {
        const std::string_view bytes = utf8(text);
        auto* tokens = new Tokens;
        const nb::capsule owner(tokens, [](void* data) noexcept { delete static_cast<Tokens*>(data); });
        {
            nb::gil_scoped_release release;
            *tokens = tokenizer_.encode(bytes);
        }
        return array(*tokens, owner);
    }

    nb::list encode_many(const nb::sequence& texts) const {
        // These references keep the texts alive while other threads run.
        std::vector<nb::str> kept;
        std::vector<std::string_view> bytes;
        for (const nb::handle text : texts) {
            kept.push_back(nb::cast<nb::str>(text));
            bytes.push_back(utf8(kept.back()));
        }
        auto* tokens = new std::vector<Tokens>;
        const nb::capsule owner(tokens, [](void* data) noexcept { delete static_cast<std::vector<Tokens>*>(data); });
        {
            nb::gil_scoped_release release;
            tokens->reserve(bytes.size());
            for (const std::string_view text : bytes) tokens->push_back(tokenizer_.encode(text));
        }
        nb::list arrays;
        for (Tokens& each : *tokens) arrays.append(array(each, owner));
        return arrays;
    }

    nb::str decode(const nb::sequence& tokens) const {
        Tokens checked;
        checked.reserve(nb::len(tokens));
        for (const nb::handle token : tokens) checked.push_back(check(token));
        std::string text;
        {
            nb::gil_scoped_release release;
            text = tokenizer_.decode(checked);
        }
        return nb::str(text.data(), text.size());
    }

    nb::bytes token_bytes(const nb::handle token) const {
        const std::string& bytes = vocabulary_.bytes(check(token));
        return nb::bytes(bytes.data(), bytes.size());
    }

    std::string word(const nb::handle token, bool first) const { return tokenizer_.word(check(token), first); }

  private:
    static std::string_view utf8(const nb::str& text) {
        Py_ssize_t size = 0;
        const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
        if (bytes == nullptr) throw nb::python_error();
        return {bytes, static_cast<std::size_t>(size)};
    }

    static nb::object array(Tokens& tokens, const nb::capsule& owner) {
        return nb::cast(nb::ndarray<std::int32_t, nb::numpy, nb::ndim<1>>(tokens.data(), {tokens.size()}, owner));
    }

    // An integer of Python or of NumPy.
    std::int32_t check(const nb::handle token) const {
        int overflow = 0;
        const long long value = PyLong_AsLongLongAndOverflow(token.ptr(), &overflow);
        if (value == -1 && overflow == 0 && PyErr_Occurred() != nullptr) throw nb::python_error();
        if (overflow != 0 || value < 0 || value >= vocabulary_.size())
            throw std::invalid_argument("[tokenizer] token " + std::string(nb::str(token).c_str()) + " is out of range: use 0 to " +
                                        std::to_string(vocabulary_.size() - 1));
        return static_cast<std::int32_t>(value);
    }

    onebit::Vocabulary vocabulary_;
    onebit::Tokenizer tokenizer_;
};

}  // namespace

void bind_tokenizer(nb::module_& module) {
    nb::class_<TextCutter>(module, "Tokenizer")
        .def(nb::init<const std::string&, bool, bool>(), "vocabulary"_a, "of_bytes"_a, "lowercase"_a)
        .def("encode", &TextCutter::encode, "text"_a)
        .def("encode_many", &TextCutter::encode_many, "texts"_a)
        .def("decode", &TextCutter::decode, "tokens"_a)
        .def("token_bytes", &TextCutter::token_bytes, "token"_a)
        .def("word", &TextCutter::word, "token"_a, "first"_a);
}
