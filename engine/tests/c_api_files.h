// What the tests of the C API are made of: files of every kind of model, and handles that free themselves.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "onebit/onebit.h"

namespace c_api {

// The call fails with this status, and its message contains this text.
#define CHECK_FAILS(call, status, text)                             \
    do {                                                            \
        CHECK((call) == (status));                                  \
        CHECK(std::strstr(onebit_last_error(), (text)) != nullptr); \
    } while (false)

using Bytes = std::vector<unsigned char>;

struct Tensor {
    std::string name, type, shape;  // the shape without its brackets
    Bytes data;
};

inline std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '\n') continue;
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

// A file with the tensors one after the other. A `header` that is not empty replaces the generated one.
inline Bytes with_header(const std::string& header, const Bytes& data) {
    Bytes file(8 + header.size() + data.size());
    const std::uint64_t size = header.size();
    std::memcpy(file.data(), &size, 8);
    std::copy(header.begin(), header.end(), file.begin() + 8);
    std::copy(data.begin(), data.end(), file.end() - static_cast<std::ptrdiff_t>(data.size()));
    return file;
}

inline std::string metadata(const std::string& program, const std::string& task) {
    return R"("__metadata__":{"onebit_format":"1","program":)" + quoted(program) + R"(,"task":)" + quoted(task) + "}";
}

inline Bytes packed(const std::string& program, const std::string& task, const std::vector<Tensor>& tensors) {
    std::string header = "{" + metadata(program, task);
    Bytes data;
    for (const Tensor& tensor : tensors) {
        header += "," + quoted(tensor.name) + R"(:{"dtype":")" + tensor.type + R"(","shape":[)" + tensor.shape + R"(],"data_offsets":[)" +
                  std::to_string(data.size()) + "," + std::to_string(data.size() + tensor.data.size()) + "]}";
        data.insert(data.end(), tensor.data.begin(), tensor.data.end());
    }
    return with_header(header + "}", data);
}

inline Bytes rows_of_bits(int rows, int columns) {
    Bytes bits(static_cast<std::size_t>(rows * 8), 0);
    for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < columns; ++c) bits[static_cast<std::size_t>(8 * r + c / 8)] |= static_cast<unsigned char>(pick(0, 1) << (c % 8));
    }
    return bits;
}

inline const char* const image_program = R"({"input":{"name":"x","shape":[12,12,3]},"steps":[
    {"op":"bit_conv2d","inputs":["x"],"output":"a","attributes":{"in_channels":3,"out_channels":20,"kernel_size":[3,3],"stride":[1,1],
     "padding":[1,1,1,1],"dilation":[1,1],"groups":1,"values":"pm1"},"tensors":{"weight":"w"}},
    {"op":"normalize","inputs":["a"],"output":"b","attributes":{"over":"channel","eps":1e-5}},
    {"op":"relu","inputs":["b"],"output":"c","attributes":{}},
    {"op":"max_pool2d","inputs":["c"],"output":"d","attributes":{"kernel_size":[2,2],"stride":[2,2],"padding":[0,0,0,0]}},
    {"op":"mean_pool","inputs":["d"],"output":"e","attributes":{}}],"output":"e"})";

inline const char* const token_program = R"({"input":{"name":"t","shape":[40],"kind":"tokens"},"steps":[
    {"op":"bit_embedding","inputs":["t"],"output":"a","attributes":{"rows":260,"features":20,"values":"01","of":"token"},"tensors":{"weight":"e"}},
    {"op":"normalize","inputs":["a"],"output":"b","attributes":{"over":"channel","eps":1e-5}},
    {"op":"attention","inputs":["b","b","b"],"output":"c","attributes":{"heads":2}},
    {"op":"add","inputs":["b","c"],"output":"d","attributes":{}},
    {"op":"bit_linear","inputs":["d"],"output":"f","attributes":{"in_features":20,"out_features":260,"values":"pm1"},"tensors":{"weight":"w"}},
    {"op":"normalize","inputs":["f"],"output":"g","attributes":{"over":"channel","eps":1e-5}}],"output":"g"})";

inline const char* const recurrent_program = R"({"input":{"name":"t","shape":[40],"kind":"tokens"},"steps":[
    {"op":"bit_embedding","inputs":["t"],"output":"a","attributes":{"rows":260,"features":20,"values":"pm1","of":"token"},"tensors":{"weight":"e"}},
    {"op":"bit_lstm","inputs":["a"],"output":"b","attributes":{"hidden":5,"values":"pm1","planes":[1,2],"input":{"quantizer":"sign"},"eps":1e-3},
     "tensors":{"weight":"h","scale":"s","shift":"s"}},
    {"op":"bit_linear","inputs":["b"],"output":"c","attributes":{"in_features":5,"out_features":15,"values":"pm1"},"tensors":{"weight":"v"}},
    {"op":"gru","inputs":["c"],"output":"d","attributes":{"hidden":5},"tensors":{"weight":"g","shift":"k"}},
    {"op":"bit_linear","inputs":["d"],"output":"f","attributes":{"in_features":5,"out_features":260,"values":"pm1"},"tensors":{"weight":"w"}},
    {"op":"normalize","inputs":["f"],"output":"g","attributes":{"over":"channel","eps":1e-5}}],"output":"g"})";

inline const char* const float_program = R"({"input":{"name":"x","shape":[4]},"steps":[{"op":"linear","inputs":["x"],"output":"y",
    "attributes":{"in_features":4,"out_features":2},"tensors":{"weight":"w"}}],"output":"y"})";

inline constexpr std::size_t pixel_count = 12 * 12 * 3, label_count = 20, token_count = 260;

inline std::string image_task(int labels = label_count, const char* size = "12,12") {
    std::string text = R"({"kind":"image-classification","labels":[)";
    for (int i = 0; i < labels; ++i) text += std::string(i == 0 ? "" : ",") + "\"label " + std::to_string(i) + "\"";
    return text + R"(],"image_size":[)" + size + R"(],"channels":3,"mean":[0,0,0],"std":[1,1,1]})";
}

// The last piece is a byte-level one: a space, then the two bytes of an o with dots, in the characters that stand for them.
inline std::string byte_pieces() {
    std::string pieces = R"([PAD]\n[UNK]\n[SEP]\na\nb\nc\nĊ\n[\nĠÃ¶)";
    // The others of the 256 characters that stand for bytes.
    for (int c = 0x21; c < 0x144; ++c) {
        const bool byte = c < 0x7F || (c > 0xA0 && c != 0xAD);
        if (!byte || c == 'a' || c == 'b' || c == 'c' || c == '[' || c == 0x10A) continue;
        char escape[12];
        std::snprintf(escape, sizeof escape, "\\n\\u%04x", static_cast<unsigned>(c));
        pieces += escape;
    }
    return pieces;
}
inline std::string word_pieces() {
    std::string pieces = R"([PAD]\n[UNK]\n[SEP]\na\n##b)";
    for (std::size_t i = 5; i < token_count; ++i) pieces += "\\nword" + std::to_string(i);
    return pieces;
}

inline std::string text_task(const std::string& pieces = byte_pieces(), const std::string& alphabet = "bytes") {
    return R"({"kind":"text-generation","alphabet":")" + alphabet + R"(","lowercase":false,"vocabulary":")" + pieces + "\"}";
}

inline Bytes image_file() {
    return packed(image_program, image_task(), {{"w", "U8", "20,8", rows_of_bits(20, 27)}});
}

inline Bytes text_file(const std::string& task = text_task()) {
    return packed(token_program, task, {{"e", "U8", "260,8", rows_of_bits(260, 20)}, {"w", "U8", "260,8", rows_of_bits(260, 20)}});
}

inline Bytes floats(int count) {
    Bytes bytes(static_cast<std::size_t>(count) * 4);
    for (int i = 0; i < count; ++i) {
        const float value = static_cast<float>(pick(-100, 100)) / 100;
        std::memcpy(bytes.data() + 4 * i, &value, 4);
    }
    return bytes;
}

inline Bytes recurrent_file() {
    return packed(recurrent_program, text_task(),
                  {{"e", "U8", "260,8", rows_of_bits(260, 20)},
                   {"h", "U8", "40,8", rows_of_bits(40, 5)},
                   {"v", "U8", "15,8", rows_of_bits(15, 5)},
                   {"w", "U8", "260,8", rows_of_bits(260, 5)},
                   {"g", "F32", "15,5", floats(75)},
                   {"s", "F32", "20", floats(20)},
                   {"k", "F32", "15", floats(15)}});
}

// Owners that free the C objects of the tests.
struct Free {
    void operator()(onebit_model* model) const { onebit_free(model); }
    void operator()(onebit_sequence* sequence) const { onebit_sequence_close(sequence); }
};
struct FreePool {
    void operator()(onebit_pool* pool) const { onebit_pool_free(pool); }
};
using Pool = std::unique_ptr<onebit_pool, FreePool>;
using Model = std::unique_ptr<onebit_model, Free>;
using Sequence = std::unique_ptr<onebit_sequence, Free>;

inline onebit_options options(int threads = 1, onebit_precision precision = ONEBIT_INT8) {
    onebit_options made;
    CHECK(onebit_options_init(&made, sizeof made) == ONEBIT_OK);
    made.threads = threads;
    made.precision = precision;
    return made;
}

inline onebit_status try_load(const Bytes& file, Model& model, const onebit_options& how) {
    onebit_model* loaded = nullptr;
    const onebit_status status = onebit_load_memory(file.data(), file.size(), &how, &loaded);
    model.reset(loaded);
    return status;
}

inline onebit_status try_load(const Bytes& file) {
    Model model;
    const onebit_status status = try_load(file, model, options());
    CHECK((status == ONEBIT_OK) == (model != nullptr));
    return status;
}

inline Model loaded(const Bytes& file, const onebit_options& how = options()) {
    Model model;
    CHECK(try_load(file, model, how) == ONEBIT_OK);
    return model;
}

inline Sequence opened(const Model& model) {
    onebit_sequence* sequence = nullptr;
    CHECK(onebit_sequence_open(model.get(), &sequence) == ONEBIT_OK);
    return Sequence(sequence);
}

inline std::vector<std::uint8_t> some_pixels(std::size_t images) {
    std::vector<std::uint8_t> pixels(images * pixel_count);
    for (auto& v : pixels) v = static_cast<std::uint8_t>(pick(0, 255));
    return pixels;
}

inline bool near(const std::vector<float>& a, const std::vector<float>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (!(std::fabs(a[i] - b[i]) <= 1e-4f * (1 + std::fabs(b[i])))) return false;
    }
    return a.size() == b.size();
}

// c_api_resource_tests.cpp
void test_threads();
void test_shared_pool();
void test_interrupt();
void test_allocations(const Bytes& text);
void test_damaged_files(const Bytes& good);

}  // namespace c_api
