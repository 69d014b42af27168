// Tests of the C API: every error, threads, allocations that fail, and damaged files. They also run under the sanitizers, where a leak or a
// read beyond the file is an error.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "json.h"
#include "model_file.h"
#include "onebit/onebit.h"
#include "sampling.h"

namespace {

// WebAssembly has one, whatever is asked for.
#if defined(__EMSCRIPTEN__)
constexpr int threads_of_build = 1;
#else
constexpr int threads_of_build = 2;
#endif

// Allocations until one fails; negative for never. With `failing_for_good` all after it fail too.
std::atomic<long> allocations_left{-1};
std::atomic<bool> failing_for_good{false};

bool allocation_fails() {
    if (allocations_left.load() < 0) return false;
    const long left = allocations_left.fetch_sub(1);
    if (left > 0) return false;
    if (failing_for_good.load()) allocations_left.store(0);
    return true;
}

}  // namespace

void* operator new(std::size_t size) {
    void* memory = allocation_fails() ? nullptr : std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void* operator new[](std::size_t size) {
    return operator new(size);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    const auto align = static_cast<std::size_t>(alignment);
    void* memory = allocation_fails() ? nullptr : std::aligned_alloc(align, (size + align - 1) / align * align);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
    return operator new(size, alignment);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    std::free(memory);
}

namespace {

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

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '\n') continue;
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

// A file with the tensors one after the other. A `header` that is not empty replaces the generated one.
Bytes with_header(const std::string& header, const Bytes& data) {
    Bytes file(8 + header.size() + data.size());
    const std::uint64_t size = header.size();
    std::memcpy(file.data(), &size, 8);
    std::copy(header.begin(), header.end(), file.begin() + 8);
    std::copy(data.begin(), data.end(), file.end() - static_cast<std::ptrdiff_t>(data.size()));
    return file;
}

std::string metadata(const std::string& program, const std::string& task) {
    return R"("__metadata__":{"onebit_format":"1","program":)" + quoted(program) + R"(,"task":)" + quoted(task) + "}";
}

Bytes packed(const std::string& program, const std::string& task, const std::vector<Tensor>& tensors) {
    std::string header = "{" + metadata(program, task);
    Bytes data;
    for (const Tensor& tensor : tensors) {
        header += "," + quoted(tensor.name) + R"(:{"dtype":")" + tensor.type + R"(","shape":[)" + tensor.shape + R"(],"data_offsets":[)" +
                  std::to_string(data.size()) + "," + std::to_string(data.size() + tensor.data.size()) + "]}";
        data.insert(data.end(), tensor.data.begin(), tensor.data.end());
    }
    return with_header(header + "}", data);
}

Bytes rows_of_bits(int rows, int columns) {
    Bytes bits(static_cast<std::size_t>(rows * 8), 0);
    for (int r = 0; r < rows; ++r) {
        for (int c = 0; c < columns; ++c) bits[static_cast<std::size_t>(8 * r + c / 8)] |= static_cast<unsigned char>(pick(0, 1) << (c % 8));
    }
    return bits;
}

const char* const image_program = R"({"input":{"name":"x","shape":[12,12,3]},"steps":[
    {"op":"bit_conv2d","inputs":["x"],"output":"a","attributes":{"in_channels":3,"out_channels":20,"kernel_size":[3,3],"stride":[1,1],
     "padding":[1,1,1,1],"dilation":[1,1],"groups":1,"values":"pm1"},"tensors":{"weight":"w"}},
    {"op":"normalize","inputs":["a"],"output":"b","attributes":{"over":"channel","eps":1e-5}},
    {"op":"relu","inputs":["b"],"output":"c","attributes":{}},
    {"op":"max_pool2d","inputs":["c"],"output":"d","attributes":{"kernel_size":[2,2],"stride":[2,2],"padding":[0,0,0,0]}},
    {"op":"mean_pool","inputs":["d"],"output":"e","attributes":{}}],"output":"e"})";

const char* const token_program = R"({"input":{"name":"t","shape":[40],"kind":"tokens"},"steps":[
    {"op":"bit_embedding","inputs":["t"],"output":"a","attributes":{"rows":260,"features":20,"values":"01","of":"token"},"tensors":{"weight":"e"}},
    {"op":"normalize","inputs":["a"],"output":"b","attributes":{"over":"channel","eps":1e-5}},
    {"op":"attention","inputs":["b","b","b"],"output":"c","attributes":{"heads":2}},
    {"op":"add","inputs":["b","c"],"output":"d","attributes":{}},
    {"op":"bit_linear","inputs":["d"],"output":"f","attributes":{"in_features":20,"out_features":260,"values":"pm1"},"tensors":{"weight":"w"}},
    {"op":"normalize","inputs":["f"],"output":"g","attributes":{"over":"channel","eps":1e-5}}],"output":"g"})";

const char* const recurrent_program = R"({"input":{"name":"t","shape":[40],"kind":"tokens"},"steps":[
    {"op":"bit_embedding","inputs":["t"],"output":"a","attributes":{"rows":260,"features":20,"values":"pm1","of":"token"},"tensors":{"weight":"e"}},
    {"op":"bit_lstm","inputs":["a"],"output":"b","attributes":{"hidden":5,"values":"pm1","planes":[1,2],"input":{"quantizer":"sign"},"eps":1e-3},
     "tensors":{"weight":"h","scale":"s","shift":"s"}},
    {"op":"bit_linear","inputs":["b"],"output":"c","attributes":{"in_features":5,"out_features":15,"values":"pm1"},"tensors":{"weight":"v"}},
    {"op":"gru","inputs":["c"],"output":"d","attributes":{"hidden":5},"tensors":{"weight":"g","shift":"k"}},
    {"op":"bit_linear","inputs":["d"],"output":"f","attributes":{"in_features":5,"out_features":260,"values":"pm1"},"tensors":{"weight":"w"}},
    {"op":"normalize","inputs":["f"],"output":"g","attributes":{"over":"channel","eps":1e-5}}],"output":"g"})";

const char* const float_program = R"({"input":{"name":"x","shape":[4]},"steps":[{"op":"linear","inputs":["x"],"output":"y",
    "attributes":{"in_features":4,"out_features":2},"tensors":{"weight":"w"}}],"output":"y"})";

constexpr std::size_t pixel_count = 12 * 12 * 3, label_count = 20, token_count = 260;

std::string image_task(int labels = label_count, const char* size = "12,12") {
    std::string text = R"({"kind":"image-classification","labels":[)";
    for (int i = 0; i < labels; ++i) text += std::string(i == 0 ? "" : ",") + "\"label " + std::to_string(i) + "\"";
    return text + R"(],"image_size":[)" + size + R"(],"channels":3,"mean":[0,0,0],"std":[1,1,1]})";
}

// The last piece is a byte-level one: a space, then the two bytes of an o with dots, in the characters that stand for them.
std::string byte_pieces() {
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
std::string word_pieces() {
    std::string pieces = R"([PAD]\n[UNK]\n[SEP]\na\n##b)";
    for (std::size_t i = 5; i < token_count; ++i) pieces += "\\nword" + std::to_string(i);
    return pieces;
}

std::string text_task(const std::string& pieces = byte_pieces(), const std::string& alphabet = "bytes") {
    return R"({"kind":"text-generation","alphabet":")" + alphabet + R"(","lowercase":false,"vocabulary":")" + pieces + "\"}";
}

Bytes image_file() {
    return packed(image_program, image_task(), {{"w", "U8", "20,8", rows_of_bits(20, 27)}});
}

Bytes text_file(const std::string& task = text_task()) {
    return packed(token_program, task, {{"e", "U8", "260,8", rows_of_bits(260, 20)}, {"w", "U8", "260,8", rows_of_bits(260, 20)}});
}

Bytes floats(int count) {
    Bytes bytes(static_cast<std::size_t>(count) * 4);
    for (int i = 0; i < count; ++i) {
        const float value = static_cast<float>(pick(-100, 100)) / 100;
        std::memcpy(bytes.data() + 4 * i, &value, 4);
    }
    return bytes;
}

Bytes recurrent_file() {
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

onebit_options options(int threads = 1, onebit_precision precision = ONEBIT_INT8) {
    onebit_options made;
    CHECK(onebit_options_init(&made, sizeof made) == ONEBIT_OK);
    made.threads = threads;
    made.precision = precision;
    return made;
}

onebit_status try_load(const Bytes& file, Model& model, const onebit_options& how) {
    onebit_model* loaded = nullptr;
    const onebit_status status = onebit_load_memory(file.data(), file.size(), &how, &loaded);
    model.reset(loaded);
    return status;
}

onebit_status try_load(const Bytes& file) {
    Model model;
    const onebit_status status = try_load(file, model, options());
    CHECK((status == ONEBIT_OK) == (model != nullptr));
    return status;
}

Model loaded(const Bytes& file, const onebit_options& how = options()) {
    Model model;
    CHECK(try_load(file, model, how) == ONEBIT_OK);
    return model;
}

Sequence opened(const Model& model) {
    onebit_sequence* sequence = nullptr;
    CHECK(onebit_sequence_open(model.get(), &sequence) == ONEBIT_OK);
    return Sequence(sequence);
}

std::vector<std::uint8_t> some_pixels(std::size_t images) {
    std::vector<std::uint8_t> pixels(images * pixel_count);
    for (auto& v : pixels) v = static_cast<std::uint8_t>(pick(0, 255));
    return pixels;
}

bool near(const std::vector<float>& a, const std::vector<float>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (!(std::fabs(a[i] - b[i]) <= 1e-4f * (1 + std::fabs(b[i])))) return false;
    }
    return a.size() == b.size();
}

void test_images() {
    const Bytes file = image_file();
    const auto pixels = some_pixels(3);
    for (const auto precision : {ONEBIT_INT8, ONEBIT_FLOAT32}) {
        const Model model = loaded(file, options(2, precision));
        CHECK(onebit_model_kind(model.get()) == ONEBIT_KIND_ARRAYS);
        CHECK(onebit_input_size(model.get()) == pixel_count && onebit_output_size(model.get()) == label_count);
        CHECK(onebit_input_axis(model.get(), 0) == 12 && onebit_input_axis(model.get(), 2) == 3 && onebit_input_axis(model.get(), 3) == 0);
        CHECK(onebit_label_count(model.get()) == label_count && onebit_label(model.get(), 19) == std::string("label 19"));
        CHECK(onebit_context(model.get()) == 0 && onebit_vocabulary_size(model.get()) == 0 && onebit_memory_bytes(model.get()) > 0);
        const onebit::Json json = onebit::parse_json(onebit_describe(model.get()));
        CHECK(json.at("kind").text == "arrays" && json.at("task").at("labels").list.size() == label_count);
        CHECK(json.at("input_shape").list.size() == 3 && json.at("output_shape").list.at(0).number == 20 &&
              json.at("threads").number == threads_of_build);
        CHECK(json.at("precision").text == (precision == ONEBIT_INT8 ? "int8" : "float32"));
        CHECK(std::string(onebit_isas()).find(json.at("isa").text) != std::string::npos);

        std::vector<float> floats(pixels.begin(), pixels.end());
        for (float& v : floats) v /= 255.0f;
        std::vector<float> all(3 * label_count), same(3 * label_count), one(label_count);
        CHECK(onebit_run_pixels(model.get(), pixels.data(), pixels.size(), 3, all.data(), all.size()) == ONEBIT_OK);
        CHECK(onebit_run_floats(model.get(), floats.data(), floats.size(), 3, same.data(), same.size()) == ONEBIT_OK);
        CHECK(all == same);
        CHECK(onebit_run_pixels(model.get(), pixels.data() + pixel_count, pixel_count, 1, one.data(), one.size()) == ONEBIT_OK);
        CHECK(near(one, {all.begin() + label_count, all.begin() + 2 * label_count}));
        CHECK(onebit_run_pixels(model.get(), nullptr, 0, 0, nullptr, 0) == ONEBIT_OK);
    }
}

void test_text(const Bytes& file) {
    for (const auto precision : {ONEBIT_INT8, ONEBIT_FLOAT32}) {
        Model model = loaded(file, options(2, precision));
        CHECK(onebit_model_kind(model.get()) == ONEBIT_KIND_TOKENS && onebit_input_size(model.get()) == 0 && onebit_label_count(model.get()) == 0);
        CHECK(onebit_context(model.get()) == 40 && onebit_vocabulary_size(model.get()) == token_count &&
              onebit_output_size(model.get()) == token_count);
        const onebit::Json json = onebit::parse_json(onebit_describe(model.get()));
        CHECK(json.at("kind").text == "tokens" && json.at("context").number == 40 && json.at("vocabulary_size").number == 260);
        CHECK(onebit_token_id(model.get(), "[SEP]") == 2 && onebit_token_text(model.get(), 3) == std::string("a"));
        std::size_t size = 0;
        CHECK(onebit_token_bytes(model.get(), 8, &size) == std::string(" ö") && size == 3);
        CHECK(onebit_token_bytes(model.get(), 6, &size) == std::string("\n") && size == 1);
        CHECK(onebit_token_bytes(model.get(), 2, &size) == std::string("[SEP]") && size == 5);

        // Fed whole, in pieces, and cut and fed again.
        const std::vector<std::int32_t> text = {2, 3, 4, 5, 3, 4, 8, 7, 3};
        std::vector<float> whole(token_count), pieces(token_count);
        const Sequence a = opened(model), b = opened(model);
        CHECK(onebit_sequence_feed(a.get(), text.data(), text.size(), whole.data(), whole.size()) == ONEBIT_OK);
        CHECK(onebit_sequence_length(a.get()) == text.size());
        CHECK(onebit_sequence_feed(b.get(), text.data(), 5, nullptr, 0) == ONEBIT_OK);
        CHECK(onebit_sequence_feed(b.get(), text.data() + 5, 1, nullptr, 0) == ONEBIT_OK);
        CHECK(onebit_sequence_cut(b.get(), 4) == ONEBIT_OK && onebit_sequence_length(b.get()) == 4);
        CHECK(onebit_sequence_feed(b.get(), text.data() + 4, text.size() - 4, pieces.data(), pieces.size()) == ONEBIT_OK);
        CHECK(near(whole, pieces));
        CHECK(onebit_sequence_feed(b.get(), nullptr, 0, nullptr, 0) == ONEBIT_OK);

        // Greedy: the largest logit but [PAD] and [UNK], step by step.
        std::int32_t token = -1;
        for (int step = 0; step < 10; ++step) {
            std::int32_t expected = 2;
            for (std::int32_t t = 2; t < static_cast<std::int32_t>(token_count); ++t) {
                if (pieces[static_cast<std::size_t>(t)] > pieces[static_cast<std::size_t>(expected)]) expected = t;
            }
            CHECK(onebit_generate_next(a.get(), 0, 0, 0, &token) == ONEBIT_OK);
            CHECK(token == expected);
            CHECK(onebit_sequence_length(a.get()) == text.size() + static_cast<std::size_t>(step) + 1);
            CHECK(onebit_sequence_feed(b.get(), &token, 1, pieces.data(), pieces.size()) == ONEBIT_OK);
        }
        // A generated token is part of the text for what is fed, and may be cut off.
        CHECK(onebit_sequence_feed(a.get(), text.data(), 2, whole.data(), whole.size()) == ONEBIT_OK);
        CHECK(onebit_sequence_feed(b.get(), text.data(), 2, pieces.data(), pieces.size()) == ONEBIT_OK);
        CHECK(near(whole, pieces));
        const std::size_t length = onebit_sequence_length(a.get());
        CHECK(onebit_generate_next(a.get(), 0, 0, 0, &token) == ONEBIT_OK);
        CHECK(onebit_sequence_cut(a.get(), length) == ONEBIT_OK && onebit_sequence_length(a.get()) == length);
        CHECK_FAILS(onebit_generate_next(a.get(), 0, 0, 0, &token), ONEBIT_INVALID_ARGUMENT, "feed at least one token");
        CHECK(onebit_sequence_feed(a.get(), text.data(), 1, nullptr, 0) == ONEBIT_OK);

        // To the context's end, and one token beyond.
        while (onebit_sequence_length(a.get()) < 41) CHECK(onebit_generate_next(a.get(), 0, 0, 0, &token) == ONEBIT_OK);
        CHECK_FAILS(onebit_generate_next(a.get(), 0, 0, 0, &token), ONEBIT_CONTEXT_FULL, "the model's context is 40");
        CHECK_FAILS(onebit_sequence_feed(a.get(), text.data(), 1, nullptr, 0), ONEBIT_CONTEXT_FULL, "no room for 2 more");
        CHECK(onebit_sequence_length(a.get()) == 41);

        // A sequence outlives its model's handle.
        model.reset();
        CHECK(onebit_sequence_cut(a.get(), 0) == ONEBIT_OK);
        CHECK(onebit_sequence_feed(a.get(), text.data(), 3, whole.data(), whole.size()) == ONEBIT_OK);
    }
    const Model words = loaded(text_file(text_task(word_pieces(), "words")));
    std::size_t size = 0;
    CHECK(onebit_token_bytes(words.get(), 3, &size) == std::string(" a") && onebit_token_bytes(words.get(), 4, &size) == std::string("b"));
}

void test_sampling() {
    const Model model = loaded(text_file());
    const std::int32_t start[] = {2, 3};
    const auto write = [&](double temperature, int top_k, std::uint64_t seed) {
        const Sequence sequence = opened(model);
        CHECK(onebit_sequence_feed(sequence.get(), start, 2, nullptr, 0) == ONEBIT_OK);
        std::vector<std::int32_t> made(30);
        for (auto& token : made) {
            CHECK(onebit_generate_next(sequence.get(), temperature, top_k, seed, &token) == ONEBIT_OK);
            CHECK(token >= 2 && token < static_cast<std::int32_t>(token_count));
        }
        return made;
    };
    CHECK(write(1.5, 0, 7) == write(1.5, 0, 7));
    CHECK(write(1.5, 0, 7) != write(1.5, 0, 8));
    CHECK(write(1.5, 1, 7) == write(0, 0, 0));

    // Frequencies are the probabilities.
    const std::vector<float> logits = {1.0f, 2.0f, 0.5f, 9.0f, 1.5f, std::nanf("")};
    const auto frequencies = [&](double temperature, int top_k) {
        std::vector<double> found(logits.size(), 0);
        for (std::uint64_t i = 0; i < 20000; ++i)
            found[static_cast<std::size_t>(onebit::choose_token(logits, {3}, temperature, top_k, onebit::chance(5, i)))] += 1.0 / 20000;
        return found;
    };
    for (const int top_k : {0, 2, 100}) {
        double total = 0;
        const auto kept = [&](std::size_t i) { return i != 3 && i != 5 && (top_k != 2 || i == 1 || i == 4); };
        for (std::size_t i = 0; i < logits.size(); ++i) total += kept(i) ? std::exp(logits[i] / 0.7) : 0;
        const auto found = frequencies(0.7, top_k);
        for (std::size_t i = 0; i < logits.size(); ++i) CHECK(std::fabs(found[i] - (kept(i) ? std::exp(logits[i] / 0.7) / total : 0)) < 0.015);
    }
    CHECK(onebit::choose_token(logits, {3}, 1e-300, 0, 0.999) == 1 && onebit::choose_token(logits, {3}, 0, 0, 0.999) == 1);
    CHECK(onebit::choose_token({std::nanf(""), std::nanf("")}, {}, 0, 0, 0.5) == -1);
    CHECK(onebit::choose_token(logits, {3}, 1, 0, 0.999999999999) == 4 && onebit::choose_token(logits, {3}, 1, 0, 0) == 0);
}

void test_arguments() {
    const Bytes images = image_file(), text = text_file();
    const Model image = loaded(images), decoder = loaded(text);
    onebit_model* out = nullptr;
    onebit_options how = options();
    CHECK(std::string(onebit_version()).find('.') != std::string::npos && std::string(onebit_isas()).find("scalar") != std::string::npos);
    CHECK(onebit_status_name(ONEBIT_INVALID_FILE) == std::string("ONEBIT_INVALID_FILE") && onebit_status_name(99) == std::string("unknown"));

    CHECK_FAILS(onebit_options_init(nullptr, sizeof how), ONEBIT_INVALID_ARGUMENT, "options is NULL");
    CHECK_FAILS(onebit_options_init(&how, 3), ONEBIT_INVALID_ARGUMENT, "use sizeof(onebit_options)");
    CHECK_FAILS(onebit_load(nullptr, &how, &out), ONEBIT_INVALID_ARGUMENT, "path is NULL");
    CHECK_FAILS(onebit_load("x", &how, nullptr), ONEBIT_INVALID_ARGUMENT, "model is NULL");
    CHECK_FAILS(onebit_load_memory(nullptr, 1, &how, &out), ONEBIT_INVALID_ARGUMENT, "data is NULL");
    CHECK_FAILS(onebit_load_memory(images.data(), 1, &how, nullptr), ONEBIT_INVALID_ARGUMENT, "model is NULL");
    const auto refused = [&](const onebit_options& wrong, const char* message) {
        Model model;
        CHECK_FAILS(try_load(images, model, wrong), ONEBIT_INVALID_ARGUMENT, message);
        CHECK(model == nullptr);
    };
    onebit_options wrong = options();
    wrong.size = 0, refused(wrong, "onebit_options_init first");
    wrong = options(), wrong.precision = 7, refused(wrong, "precision=7");
    wrong = options(), wrong.threads = -1, refused(wrong, "threads=-1");
    wrong = options(), wrong.threads = 257, refused(wrong, "use 1 to 256");
    wrong = options(), wrong.isa = "sse9", refused(wrong, "isa='sse9' is unknown");
    wrong = options(), wrong.memory_cap_bytes = 100;
    Model model;
    CHECK_FAILS(try_load(images, model, wrong), ONEBIT_INVALID_FILE, "more than the 100 that are allowed");
    // NULL options are the defaults; one thread for each core.
    CHECK(onebit_load_memory(images.data(), images.size(), nullptr, &out) == ONEBIT_OK);
    onebit_free(out);
    // The options of a newer library: fields that this one does not know must be 0.
    struct {
        onebit_options known;
        std::uint64_t more;
    } newer;
    static_assert(sizeof newer == sizeof(onebit_options) + 8);
    CHECK(onebit_options_init(&newer.known, sizeof newer) == ONEBIT_OK && newer.more == 0);
    CHECK(onebit_load_memory(images.data(), images.size(), &newer.known, &out) == ONEBIT_OK);
    onebit_free(out);
    newer.more = 1;
    CHECK_FAILS(onebit_load_memory(images.data(), images.size(), &newer.known, &out), ONEBIT_INVALID_ARGUMENT, "use a newer library");
    CHECK(out == nullptr);

    // NULL everywhere.
    CHECK(onebit_describe(nullptr) == nullptr && onebit_model_kind(nullptr) == ONEBIT_KIND_NONE && onebit_input_size(nullptr) == 0);
    CHECK(onebit_output_size(nullptr) == 0 && onebit_input_axis(nullptr, 0) == 0 && onebit_context(nullptr) == 0);
    CHECK(onebit_memory_bytes(nullptr) == 0 && onebit_label_count(nullptr) == 0 && onebit_label(nullptr, 0) == nullptr);
    CHECK(onebit_vocabulary_size(nullptr) == 0 && onebit_token_text(nullptr, 0) == nullptr && onebit_token_id(nullptr, "a") == -1);
    std::size_t size = 0;
    CHECK(onebit_token_bytes(nullptr, 0, &size) == nullptr && onebit_token_bytes(decoder.get(), 3, nullptr) == nullptr);
    CHECK(onebit_sequence_length(nullptr) == 0 && onebit_token_id(decoder.get(), nullptr) == -1);
    onebit_free(nullptr);
    onebit_sequence_close(nullptr);
    float number = 0;
    std::int32_t token = 3;
    CHECK_FAILS(onebit_run_pixels(nullptr, nullptr, 0, 0, nullptr, 0), ONEBIT_INVALID_ARGUMENT, "model is NULL");
    CHECK_FAILS(onebit_sequence_feed(nullptr, &token, 1, nullptr, 0), ONEBIT_INVALID_ARGUMENT, "sequence is NULL");
    CHECK_FAILS(onebit_sequence_cut(nullptr, 0), ONEBIT_INVALID_ARGUMENT, "sequence is NULL");
    CHECK_FAILS(onebit_generate_next(nullptr, 0, 0, 0, &token), ONEBIT_INVALID_ARGUMENT, "sequence is NULL");
    CHECK_FAILS(onebit_sequence_open(decoder.get(), nullptr), ONEBIT_INVALID_ARGUMENT, "sequence is NULL");

    // Labels and tokens that are not there.
    CHECK(onebit_label(image.get(), label_count) == nullptr && std::strstr(onebit_last_error(), "has 20 labels") != nullptr);
    CHECK(onebit_token_text(image.get(), 0) == nullptr && std::strstr(onebit_last_error(), "no vocabulary") != nullptr);
    CHECK(onebit_token_text(decoder.get(), 260) == nullptr && onebit_token_text(decoder.get(), -1) == nullptr);
    CHECK(onebit_token_id(decoder.get(), "nothing") == -1);

    // Batches.
    const auto pixels = some_pixels(2);
    std::vector<float> logits(2 * label_count);
    const auto run = [&](std::size_t pixels_size, std::size_t count, std::size_t out_size) {
        return onebit_run_pixels(image.get(), pixels.data(), pixels_size, count, logits.data(), out_size);
    };
    CHECK_FAILS(run(pixels.size() - 1, 2, logits.size()), ONEBIT_INVALID_ARGUMENT, "432 each");
    CHECK_FAILS(run(pixels.size(), 1, logits.size()), ONEBIT_INVALID_ARGUMENT, "1 examples");
    CHECK_FAILS(run(pixels.size(), 2, logits.size() - 1), ONEBIT_INVALID_ARGUMENT, "room for 39");
    CHECK_FAILS(run(0, SIZE_MAX / 2, logits.size()), ONEBIT_INVALID_ARGUMENT, "432 each");
    CHECK_FAILS(run(SIZE_MAX, SIZE_MAX / pixel_count, 0), ONEBIT_INVALID_ARGUMENT, "each");
    CHECK_FAILS(onebit_run_pixels(image.get(), nullptr, pixel_count, 1, logits.data(), 40), ONEBIT_INVALID_ARGUMENT, "batch is NULL");
    CHECK_FAILS(onebit_run_pixels(image.get(), pixels.data(), pixel_count, 1, nullptr, 40), ONEBIT_INVALID_ARGUMENT, "out is NULL");
    CHECK_FAILS(onebit_run_floats(decoder.get(), &number, 1, 1, &number, 1), ONEBIT_WRONG_KIND, "use onebit_sequence_open");

    // Sequences.
    onebit_sequence* none = nullptr;
    CHECK_FAILS(onebit_sequence_open(image.get(), &none), ONEBIT_WRONG_KIND, "use onebit_run_pixels");
    CHECK(none == nullptr);
    const Sequence sequence = opened(decoder);
    const std::int32_t outside[] = {3, 260}, negative = -1;
    std::vector<std::int32_t> many(41, 3);
    CHECK_FAILS(onebit_generate_next(sequence.get(), 0, 0, 0, &token), ONEBIT_INVALID_ARGUMENT, "feed at least one token");
    CHECK_FAILS(onebit_sequence_feed(sequence.get(), outside, 2, nullptr, 0), ONEBIT_INVALID_ARGUMENT, "token 260 is out of range: use 0 to 259");
    CHECK_FAILS(onebit_sequence_feed(sequence.get(), &negative, 1, nullptr, 0), ONEBIT_INVALID_ARGUMENT, "token -1");
    CHECK_FAILS(onebit_sequence_feed(sequence.get(), nullptr, 1, nullptr, 0), ONEBIT_INVALID_ARGUMENT, "tokens is NULL");
    CHECK_FAILS(onebit_sequence_feed(sequence.get(), &token, 1, &number, 1), ONEBIT_INVALID_ARGUMENT, "the model gives 260");
    CHECK_FAILS(onebit_sequence_feed(sequence.get(), many.data(), 41, nullptr, 0), ONEBIT_CONTEXT_FULL, "cut it to 0");
    CHECK_FAILS(onebit_sequence_feed(sequence.get(), many.data(), SIZE_MAX, nullptr, 0), ONEBIT_CONTEXT_FULL, "cut it to 0");
    CHECK_FAILS(onebit_sequence_cut(sequence.get(), 1), ONEBIT_INVALID_ARGUMENT, "cannot be cut to 1");
    CHECK(onebit_sequence_length(sequence.get()) == 0);
    CHECK(onebit_sequence_feed(sequence.get(), many.data(), 40, nullptr, 0) == ONEBIT_OK);
    CHECK_FAILS(onebit_generate_next(sequence.get(), -1, 0, 0, &token), ONEBIT_INVALID_ARGUMENT, "temperature=-1");
    CHECK_FAILS(onebit_generate_next(sequence.get(), std::nan(""), 0, 0, &token), ONEBIT_INVALID_ARGUMENT, "temperature=");
    CHECK_FAILS(onebit_generate_next(sequence.get(), HUGE_VAL, 0, 0, &token), ONEBIT_INVALID_ARGUMENT, "temperature=inf");
    CHECK_FAILS(onebit_generate_next(sequence.get(), 1, -1, 0, &token), ONEBIT_INVALID_ARGUMENT, "top_k=-1");
    CHECK_FAILS(onebit_generate_next(sequence.get(), 1, 0, 0, nullptr), ONEBIT_INVALID_ARGUMENT, "token is NULL");
    CHECK(onebit_sequence_length(sequence.get()) == 40);
}

void test_files() {
    const std::string folder = (std::filesystem::temp_directory_path() / ("onebit-c-api-" + std::to_string(std::random_device()()))).string();
    std::filesystem::create_directory(folder);
    const std::string path = folder + "/a.onebit";
    onebit_model* model = nullptr;
    CHECK_FAILS(onebit_load(path.c_str(), nullptr, &model), ONEBIT_UNREADABLE, "a.onebit] no such file");
    CHECK_FAILS(onebit_load(folder.c_str(), nullptr, &model), ONEBIT_UNREADABLE, "is a folder");
    CHECK_FAILS(onebit_load("/dev/null", nullptr, &model), ONEBIT_UNREADABLE, "is a device");
    std::ofstream(path).flush();
    CHECK_FAILS(onebit_load(path.c_str(), nullptr, &model), ONEBIT_INVALID_FILE, "a.onebit] is empty");
    CHECK(model == nullptr);
    const Bytes file = image_file();
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
    CHECK(onebit_load(path.c_str(), nullptr, &model) == ONEBIT_OK);
    onebit_free(model);
    const onebit::FileContent mapped(path), read(path, false);
    CHECK(mapped.size() == file.size() && std::memcmp(mapped.data(), file.data(), file.size()) == 0);
    CHECK(read.size() == file.size() && std::memcmp(read.data(), file.data(), file.size()) == 0);
    std::filesystem::remove_all(folder);
}

void test_damaged_frames() {
    const auto refused = [](const Bytes& file, const char* message) { CHECK_FAILS(try_load(file), ONEBIT_INVALID_FILE, message); };
    const std::string empty = metadata(float_program, R"({"kind":"other"})");
    const auto with_tensor = [&](const std::string& tensor, std::size_t bytes) {
        return with_header("{" + empty + R"(,"w":)" + tensor + "}", Bytes(bytes));
    };
    refused(Bytes(3), "is not a .onebit file");
    refused(Bytes(100), "is not a .onebit file");
    Bytes file = image_file();
    file[6] = 1;
    refused(file, "its header claims");
    file = image_file();
    file.resize(200);
    refused(file, "is truncated: its header needs");
    file = image_file();
    file.pop_back();
    refused(file, "is truncated: tensor 'w' needs 160 bytes of data");
    file.resize(file.size() + 2);
    refused(file, "1 bytes that belong to no tensor");
    file = image_file();
    file[12] = 0xFF;
    refused(file, "not UTF-8");
    refused(with_header("{]", {}), "[header] not JSON at byte 1");
    refused(with_header(R"({"w":"\ud800"})", {}), "half a surrogate pair");
    refused(with_header("{}", {}), "not a packed model");
    refused(with_header(R"({"__metadata__":[]})", {}), "__metadata__ is not an object");
    refused(with_header(R"({"__metadata__":{"onebit_format":1}})", {}), "the metadata's 'onebit_format' is not a text");
    refused(with_header(R"({"__metadata__":{"onebit_format":"2"}})", {}), "format version '2': this onebit reads '1'");
    refused(with_header(R"({"__metadata__":{"onebit_format":"1"}})", {}), "[program] missing");
    refused(with_header(R"({"__metadata__":{"onebit_format":"1","program":"{}"}})", {}), "[task] missing");
    refused(with_header(R"({"__metadata__":{"onebit_format":"1","program":"{}","task":"{"}})", {}), "[task] not JSON");
    refused(with_header(R"({"__metadata__":{"onebit_format":"1","program":"{","task":"{\"kind\":\"x\"}"}})", {}), "[program] not JSON");
    refused(with_header("{" + std::string(40, '[') + std::string(40, ']') + "}", {}), "[header]");
    std::string many = R"({"__metadata__":{},"w":[0)";
    for (int i = 0; i < 1'000'000; ++i) many += ",0";
    refused(with_header(many + "]}", {}), "too many values");
    refused(with_tensor("5", 0), "lacks its dtype");
    refused(with_tensor(R"({"dtype":"I16","shape":[2,4],"data_offsets":[0,16]})", 16), "of type 'I16': a packed model holds F32, F16, I8, U8");
    refused(with_tensor(R"({"dtype":"F32","shape":[2,4]})", 32), "lacks its data_offsets");
    refused(with_tensor(R"({"dtype":"F32","data_offsets":[0,32]})", 32), "lacks its shape");
    refused(with_tensor(R"({"dtype":"F32","shape":[2,-4],"data_offsets":[0,32]})", 32), "integers from 1");
    refused(with_tensor(R"({"dtype":"F32","shape":[2,4],"data_offsets":[32,0]})", 32), "ends before it begins");
    refused(with_tensor(R"({"dtype":"F32","shape":[2,4],"data_offsets":[0,33]})", 32), "is truncated");
    refused(with_tensor(R"({"dtype":"F32","shape":[2,4],"data_offsets":[0,31]})", 32), "its shape needs 32");
    refused(with_tensor(R"({"dtype":"F32","shape":[9007199254740990,9007199254740990],"data_offsets":[0,32]})", 32), "more elements than");
    refused(with_tensor(R"({"dtype":"F32","shape":[2,4],"data_offsets":[8,40]})", 40), "leave a gap");
    refused(with_tensor(R"({"dtype":"F32","shape":[2,4],"data_offsets":[0,32]},"v":{"dtype":"U8","shape":[4],"data_offsets":[30,34]})", 34),
            "overlap");
    refused(with_tensor(R"({"dtype":"F32","shape":[4,2],"data_offsets":[0,32]})", 32), "has shape (4, 2): needs (2, 4)");
    refused(packed(image_program, image_task(19), {{"w", "U8", "20,8", rows_of_bits(20, 27)}}), "names 19 labels");
    refused(packed(image_program, image_task(20, "12,11"), {{"w", "U8", "20,8", rows_of_bits(20, 27)}}), "images of [12, 11, 3]");
    refused(packed(image_program, R"({"kind":"image-classification"})", {{"w", "U8", "20,8", rows_of_bits(20, 27)}}), "lacks its labels");
    refused(packed(image_program, text_task(), {{"w", "U8", "20,8", rows_of_bits(20, 27)}}), "the vocabulary has 260 tokens");
    refused(text_file(image_task()), "names 20 labels");
    refused(text_file(text_task(R"([PAD]\n[UNK]\n[SEP])", "words")), "the vocabulary has 3 tokens");
    refused(text_file(text_task(R"([PAD]\n[UNK]\na)")), "has no [SEP]");
    refused(text_file(text_task(R"([PAD]\n[UNK]\n[SEP]\na\na)")), "names 'a' more than once");
    refused(text_file(text_task(byte_pieces(), "runes")), "use 'bytes' or 'words'");
    refused(text_file(R"({"kind":"text-generation"})"), "no vocabulary");
}

// A float tensor after one byte lies at an odd address.
void test_alignment() {
    const std::vector<float> weights = {1, 2, 3, 4, -1, 0.5f, 0, 2}, x = {1, 1, 2, 0.25f};
    Bytes data(32);
    std::memcpy(data.data(), weights.data(), 32);
    for (std::size_t shift = 1; shift <= 4; ++shift) {
        const Bytes file =
            packed(float_program, R"({"kind":"other"})", {{"pad", "U8", std::to_string(shift), Bytes(shift)}, {"w", "F32", "2,4", data}});
        for (std::size_t start = 0; start < 4; ++start) {
            Bytes moved(start);
            moved.insert(moved.end(), file.begin(), file.end());
            onebit_model* model = nullptr;
            CHECK(onebit_load_memory(moved.data() + start, file.size(), nullptr, &model) == ONEBIT_OK);
            std::fill(moved.begin(), moved.end(), static_cast<unsigned char>(0));  // the model keeps nothing of it
            std::vector<float> y(2);
            CHECK(onebit_run_floats(model, x.data(), 4, 1, y.data(), 2) == ONEBIT_OK);
            CHECK(y[0] == 10.0f && y[1] == 0.0f);
            onebit_free(model);
        }
    }
}

std::vector<std::int32_t> encoded(const Model& model, const std::string& text) {
    std::vector<std::int32_t> tokens(3 * text.size());
    std::size_t count = 0, again = 0;
    CHECK(onebit_encode(model.get(), text.data(), text.size(), nullptr, 0, &count) == ONEBIT_OK && count <= tokens.size());
    CHECK(onebit_encode(model.get(), text.data(), text.size(), tokens.data(), tokens.size(), &again) == ONEBIT_OK && again == count);
    tokens.resize(count);
    return tokens;
}

std::string decoded(const Model& model, const std::vector<std::int32_t>& tokens) {
    std::size_t size = 0, again = 0;
    CHECK(onebit_decode(model.get(), tokens.data(), tokens.size(), nullptr, 0, &size) == ONEBIT_OK);
    std::string text(size, 'x');
    CHECK(onebit_decode(model.get(), tokens.data(), tokens.size(), text.data(), size, &again) == ONEBIT_OK && again == size);
    return text;
}

void test_encoding() {
    const Model bytes = loaded(text_file()), words = loaded(text_file(text_task(word_pieces(), "words"))), image = loaded(image_file());
    const std::string text("a\0 wörter\n\xF0\x9F\x98\x80", 15);
    CHECK(decoded(bytes, encoded(bytes, text)) == text);
    CHECK(decoded(bytes, encoded(bytes, "a\xFF\xE2\x82")) == "a\xEF\xBF\xBD\xEF\xBF\xBD");
    CHECK((encoded(words, "a ab word7, abb") == std::vector<std::int32_t>{3, 3, 4, 7, 1, 3, 4, 4}));
    CHECK(decoded(words, {3, 4, 7, 4}) == "ab word7b");
    CHECK(encoded(bytes, "").empty() && decoded(bytes, {}).empty());

    std::size_t count = 0;
    std::int32_t tokens[3] = {-7, -7, -7};
    char letters[2] = {'x', 'x'};
    CHECK(onebit_encode(bytes.get(), nullptr, 0, nullptr, 0, &count) == ONEBIT_OK && count == 0);
    CHECK_FAILS(onebit_encode(words.get(), "a a a a", 7, tokens, 3, &count), ONEBIT_INVALID_ARGUMENT, "tokens has room for 3 elements: 4 are needed");
    CHECK(count == 4 && tokens[0] == -7);
    CHECK_FAILS(onebit_encode(nullptr, "a", 1, tokens, 3, &count), ONEBIT_INVALID_ARGUMENT, "model is NULL");
    CHECK_FAILS(onebit_encode(words.get(), nullptr, 1, tokens, 3, &count), ONEBIT_INVALID_ARGUMENT, "text is NULL");
    CHECK_FAILS(onebit_encode(words.get(), "a", 1, tokens, 3, nullptr), ONEBIT_INVALID_ARGUMENT, "count is NULL");
    CHECK_FAILS(onebit_encode(image.get(), "a", 1, tokens, 3, &count), ONEBIT_INVALID_ARGUMENT, "has no vocabulary");
    const std::int32_t known[] = {3, 4}, wrong[] = {3, 260};
    CHECK_FAILS(onebit_decode(words.get(), known, 2, letters, 1, &count), ONEBIT_INVALID_ARGUMENT, "text has room for 1 elements: 2 are needed");
    CHECK(count == 2 && letters[0] == 'x');
    CHECK_FAILS(onebit_decode(words.get(), wrong, 2, letters, 2, &count), ONEBIT_INVALID_ARGUMENT, "token 260 is out of range: use 0 to 259");
    CHECK_FAILS(onebit_decode(nullptr, known, 2, letters, 2, &count), ONEBIT_INVALID_ARGUMENT, "model is NULL");
    CHECK_FAILS(onebit_decode(words.get(), nullptr, 2, letters, 2, &count), ONEBIT_INVALID_ARGUMENT, "tokens is NULL");
    CHECK_FAILS(onebit_decode(words.get(), known, 2, letters, 2, nullptr), ONEBIT_INVALID_ARGUMENT, "size is NULL");
    CHECK_FAILS(onebit_decode(image.get(), known, 2, letters, 2, &count), ONEBIT_INVALID_ARGUMENT, "has no vocabulary");
}

void test_large_vocabulary() {
    std::string pieces = R"([PAD]\n[UNK]\n[SEP])";
    const int count = 30522;
    for (int i = 3; i < count; ++i) pieces += "\\nword" + std::to_string(i);
    std::string program = token_program;
    for (const char* name : {"\"rows\":260", "\"out_features\":260"})
        program.replace(program.find(name), std::strlen(name), std::string(name, std::strlen(name) - 3) + std::to_string(count));
    const std::string shape = std::to_string(count) + ",8";
    const Model model = loaded(
        packed(program, text_task(pieces, "words"), {{"e", "U8", shape, rows_of_bits(count, 20)}, {"w", "U8", shape, rows_of_bits(count, 20)}}));
    CHECK(onebit_vocabulary_size(model.get()) == 30522 && onebit_token_text(model.get(), 30521) == std::string("word30521"));
    CHECK(onebit_token_id(model.get(), "word12345") == 12345);
}

void test_threads() {
    const Model image = loaded(image_file(), options(3)), decoder = loaded(text_file(), options(3));
    const auto pixels = some_pixels(1);
    std::vector<float> expected(label_count);
    CHECK(onebit_run_pixels(image.get(), pixels.data(), pixels.size(), 1, expected.data(), expected.size()) == ONEBIT_OK);
    const auto write = [&] {
        std::vector<std::int32_t> made(20, 2);
        const Sequence sequence = opened(decoder);
        CHECK(onebit_sequence_feed(sequence.get(), made.data(), 1, nullptr, 0) == ONEBIT_OK);
        for (auto& token : made) CHECK(onebit_generate_next(sequence.get(), 0.9, 5, 3, &token) == ONEBIT_OK);
        return made;
    };
    const auto text = write();
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            // CHECK counts without a lock: here only the outcome is taken.
            std::vector<float> logits(label_count);
            for (int i = 0; i < 10; ++i) {
                if (onebit_run_pixels(image.get(), pixels.data(), pixels.size(), 1, logits.data(), logits.size()) != ONEBIT_OK) ++wrong;
                if (!near(logits, expected)) ++wrong;
                onebit_sequence* sequence = nullptr;
                std::int32_t token = 2;
                if (onebit_sequence_open(decoder.get(), &sequence) != ONEBIT_OK) ++wrong;
                if (onebit_sequence_feed(sequence, &token, 1, nullptr, 0) != ONEBIT_OK) ++wrong;
                for (const std::int32_t same : text) {
                    if (onebit_generate_next(sequence, 0.9, 5, 3, &token) != ONEBIT_OK || token != same) ++wrong;
                }
                // Each thread has its own message.
                if (onebit_label(image.get(), static_cast<std::size_t>(100 + t)) != nullptr) ++wrong;
                if (std::strstr(onebit_last_error(), ("label " + std::to_string(100 + t)).c_str()) == nullptr) ++wrong;
                if (onebit_memory_bytes(decoder.get()) == 0) ++wrong;
                onebit_sequence_close(sequence);
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong == 0);
}

Pool pool_of(std::int32_t threads) {
    onebit_pool* pool = nullptr;
    CHECK(onebit_pool_create(threads, 0, &pool) == ONEBIT_OK);
    return Pool(pool);
}

// Models of a pool that are called from several threads give the same results as each alone, also after the pool's handle is freed.
void test_shared_pool() {
    const Bytes file = image_file();
    onebit_pool* none = nullptr;
    CHECK_FAILS(onebit_pool_create(2, 0, nullptr), ONEBIT_INVALID_ARGUMENT, "pool is NULL");
    CHECK_FAILS(onebit_pool_create(-1, 0, &none), ONEBIT_INVALID_ARGUMENT, "threads=-1: use 1 to 256");
    CHECK_FAILS(onebit_pool_create(257, 0, &none), ONEBIT_INVALID_ARGUMENT, "threads=257: use 1 to 256");
    CHECK_FAILS(onebit_pool_create(2, 2, &none), ONEBIT_INVALID_ARGUMENT, "pin_threads=2: use 0 or 1");
    CHECK(none == nullptr);
    onebit_pool_free(nullptr);
    CHECK(pool_of(0) != nullptr);  // one for each core
    Pool pool = pool_of(3);
    onebit_options how = options(0);
    how.pool = pool.get();
    Model model;
    how.threads = 2;
    CHECK_FAILS(try_load(file, model, how), ONEBIT_INVALID_ARGUMENT, "threads=2, pin_threads=0 and a pool: leave both 0");
    how.threads = 0, how.pin_threads = 1;
    CHECK_FAILS(try_load(file, model, how), ONEBIT_INVALID_ARGUMENT, "threads=0, pin_threads=1 and a pool: leave both 0");
    how.pin_threads = 0;
    const auto pixels = some_pixels(1);
    const auto logits_of = [&](const Model& of) {
        std::vector<float> logits(label_count);
        return onebit_run_pixels(of.get(), pixels.data(), pixels.size(), 1, logits.data(), logits.size()) == ONEBIT_OK ? logits
                                                                                                                       : std::vector<float>();
    };
    const std::vector<float> expected = logits_of(loaded(file, options(3)));
    const Model first = loaded(file, how), second = loaded(file, how);
    pool.reset();
    CHECK(onebit::parse_json(onebit_describe(first.get())).at("threads").number == 3);
    std::atomic<int> wrong{0};
    std::thread other([&] {
        for (int i = 0; i < 1000; ++i) wrong += logits_of(second) != expected;
    });
    for (int i = 0; i < 1000; ++i) wrong += logits_of(first) != expected;
    other.join();
    CHECK(wrong == 0);
}

// The options' interrupt ends a computation that takes too long. The model and its sequences can be used afterwards.
void test_interrupt() {
    const Bytes file = image_file();
    std::atomic<int> asked{0};
    onebit_options how = options(2);
    how.interrupt = [](void* data) { return static_cast<std::atomic<int>*>(data)->fetch_add(1) >= 1 ? 1 : 0; };
    how.interrupt_data = &asked;
    const Model model = loaded(file, how);
    onebit_status status = ONEBIT_OK;
    for (std::size_t count = 1000; status == ONEBIT_OK && count < (1u << 24); count *= 2) {
        const auto pixels = some_pixels(count);
        std::vector<float> logits(count * label_count);
        status = onebit_run_pixels(model.get(), pixels.data(), pixels.size(), count, logits.data(), logits.size());
    }
    CHECK(status == ONEBIT_INTERRUPTED && asked.load() == 2);
    CHECK(std::strstr(onebit_last_error(), "interrupted") != nullptr);
    CHECK(onebit_status_name(status) == std::string("ONEBIT_INTERRUPTED"));
    asked.store(-1000);
    const auto pixels = some_pixels(1);
    std::vector<float> logits(label_count), expected(label_count);
    CHECK(onebit_run_pixels(model.get(), pixels.data(), pixel_count, 1, logits.data(), label_count) == ONEBIT_OK);
    CHECK(onebit_run_pixels(loaded(file, options(2)).get(), pixels.data(), pixel_count, 1, expected.data(), label_count) == ONEBIT_OK);
    CHECK(logits == expected);
}

// Calls `body` with the first, second, ... allocation failing until none fails, and returns their number. The body returns the status of its
// call.
long each_allocation(const std::function<onebit_status()>& body) {
    for (long n = 0;; ++n) {
        allocations_left.store(n);
        const onebit_status status = body();
        const bool reached = allocations_left.exchange(-1) > 0;
        CHECK(status == ONEBIT_OK || status == ONEBIT_OUT_OF_MEMORY);
        if (status == ONEBIT_OK && reached) return n;
        if (status == ONEBIT_OUT_OF_MEMORY) CHECK(std::strstr(onebit_last_error(), "out of memory") != nullptr);
        CHECK(n < 100'000);
    }
}

void test_allocations(const Bytes& text) {
    const Bytes images = image_file();
    const auto pixels = some_pixels(1);
    long tried = 0;
    for (const bool for_good : {false, true}) {
        failing_for_good.store(for_good);
        tried += each_allocation([&] {
            const long left = allocations_left.exchange(-1);
            const Model model = loaded(text);  // whose tokenizer is new
            allocations_left.store(left);
            std::size_t count = 0;
            const onebit_status status = onebit_encode(model.get(), "a b\xFF", 4, nullptr, 0, &count);
            const long rest = allocations_left.exchange(-1);
            CHECK(onebit_encode(model.get(), "a b\xFF", 4, nullptr, 0, &count) == ONEBIT_OK && count == 6);
            allocations_left.store(rest);
            return status;
        });
        for (const auto precision : {ONEBIT_INT8, ONEBIT_FLOAT32}) {
            for (const int threads : {1, 3}) {
                const onebit_options how = options(threads, precision);
                for (const Bytes* file : {&images, &text}) {
                    tried += each_allocation([&] {
                        onebit_model* model = nullptr;
                        const onebit_status status = onebit_load_memory(file->data(), file->size(), &how, &model);
                        if ((status == ONEBIT_OK) != (model != nullptr)) return ONEBIT_INTERNAL;
                        onebit_free(model);
                        return status;
                    });
                }
                // A model that ran out of memory works again when there is some.
                std::vector<float> expected(label_count), logits(label_count);
                CHECK(onebit_run_pixels(loaded(images, how).get(), pixels.data(), pixel_count, 1, expected.data(), label_count) == ONEBIT_OK);
                Model model = loaded(images, how);
                tried += each_allocation([&] {
                    const onebit_status status = onebit_run_pixels(model.get(), pixels.data(), pixel_count, 1, logits.data(), label_count);
                    if (status == ONEBIT_OK) return status;
                    allocations_left.store(-1);
                    CHECK(onebit_run_pixels(model.get(), pixels.data(), pixel_count, 1, logits.data(), label_count) == ONEBIT_OK);
                    CHECK(near(logits, expected));
                    model = loaded(images, how);
                    return status;
                });
                const std::vector<std::int32_t> start = {2, 3, 4, 5, 6, 7};
                const auto write = [&](const Model& decoder, std::vector<std::int32_t>& made) {
                    onebit_sequence* sequence = nullptr;
                    onebit_status status = onebit_sequence_open(decoder.get(), &sequence);
                    if (status == ONEBIT_OK) status = onebit_sequence_feed(sequence, start.data(), start.size(), nullptr, 0);
                    for (auto& token : made) {
                        if (status == ONEBIT_OK) status = onebit_generate_next(sequence, 0.8, 4, 1, &token);
                    }
                    onebit_sequence_close(sequence);
                    return status;
                };
                std::vector<std::int32_t> same(4), made(4);
                CHECK(write(loaded(text, how), same) == ONEBIT_OK);
                Model decoder = loaded(text, how);
                tried += each_allocation([&] {
                    const onebit_status status = write(decoder, made);
                    if (status == ONEBIT_OK) return status;
                    allocations_left.store(-1);
                    CHECK(write(decoder, made) == ONEBIT_OK && made == same);
                    decoder = loaded(text, how);
                    return status;
                });
            }
        }
    }
    failing_for_good.store(false);
    std::printf("%ld allocations failed\n", tried);
}

// Files with wrong bytes, truncated, or with changed numbers give an error or a model that works.
void test_damaged_files(const Bytes& good) {
    std::uint64_t header = 0;
    std::memcpy(&header, good.data(), 8);
    std::map<onebit_status, int> loads;
    onebit_options how = options();
    how.memory_cap_bytes = 1 << 24;
    for (int round = 0; round < 6000; ++round) {
        Bytes file = good;
        const int end = static_cast<int>(pick(0, 2) == 0 ? file.size() : 8 + header) - 1;
        for (int i = pick(1, 3); i > 0; --i) {
            auto& byte = file[static_cast<std::size_t>(pick(0, end))];
            const int way = pick(0, 2);
            if (way == 0) {
                byte = static_cast<unsigned char>(pick(0, 255));
            } else if (way == 1) {
                byte = static_cast<unsigned char>(byte ^ 1 << pick(0, 7));
            } else {
                byte = static_cast<unsigned char>("0123456789-\"[]{},:e.\\"[pick(0, 20)]);
            }
        }
        if (pick(0, 4) == 0) {
            // Longer numbers: a digit twice, with the header's size put right.
            const auto digits = [&](std::size_t i) { return file[i] >= '0' && file[i] <= '9'; };
            std::size_t at = static_cast<std::size_t>(pick(8, static_cast<int>(7 + header)));
            while (at < 8 + header && !digits(at)) ++at;
            const int times = pick(1, 8);
            if (at < 8 + header) {
                file.insert(file.begin() + static_cast<std::ptrdiff_t>(at), static_cast<std::size_t>(times), '9');
                const std::uint64_t longer = header + static_cast<std::uint64_t>(times);
                std::memcpy(file.data(), &longer, 8);
            }
        }
        if (pick(0, 7) == 0) file.resize(static_cast<std::size_t>(pick(0, static_cast<int>(file.size()))));
        // An allocation of just this size: reading beyond it is an error under the address sanitizer.
        const std::unique_ptr<unsigned char[]> exact(new unsigned char[file.size()]);
        std::memcpy(exact.get(), file.data(), file.size());
        how.precision = pick(0, 1) == 0 ? ONEBIT_INT8 : ONEBIT_FLOAT32;
        onebit_model* raw = nullptr;
        const onebit_status status = onebit_load_memory(exact.get(), file.size(), &how, &raw);
        ++loads[status];
        CHECK(status == ONEBIT_OK || status == ONEBIT_INVALID_FILE || status == ONEBIT_OUT_OF_MEMORY);
        const Model model(raw);
        if (model == nullptr) continue;
        CHECK(onebit::parse_json(onebit_describe(model.get())).kind == onebit::Json::Kind::object);
        if (onebit_model_kind(model.get()) == ONEBIT_KIND_ARRAYS) {
            std::vector<float> input(onebit_input_size(model.get()), 0.5f), out(onebit_output_size(model.get()));
            CHECK(onebit_run_floats(model.get(), input.data(), input.size(), 1, out.data(), out.size()) == ONEBIT_OK);
        } else {
            const Sequence sequence = opened(model);
            std::int32_t token = 0;
            onebit_status step = onebit_sequence_feed(sequence.get(), &token, 1, nullptr, 0);
            for (int i = 0; i < 5 && step == ONEBIT_OK; ++i) step = onebit_generate_next(sequence.get(), 0.8, 3, 1, &token);
            CHECK(step != ONEBIT_INTERNAL);
        }
    }
    std::printf("of 6000 damaged files %d still load\n", loads[ONEBIT_OK]);
    CHECK(loads[ONEBIT_OK] > 20 && loads[ONEBIT_INVALID_FILE] > 1000);
}

}  // namespace

// Another seed gives other damaged files.
int main(int argc, char** argv) {
    check_context = onebit_last_error;
    Tests tests;
    tests.add("images", test_images);
    tests.add("text", [] { test_text(text_file()); });
    tests.add("recurrent text", [] { test_text(recurrent_file()); });
    tests.add("sampling", test_sampling);
    tests.add("arguments", test_arguments);
    tests.add("files", test_files);
    tests.add("damaged frames", test_damaged_frames);
    tests.add("alignment", test_alignment);
    tests.add("encoding", test_encoding);
    tests.add("large vocabulary", test_large_vocabulary);
    tests.add_threaded("threads", test_threads);
    tests.add_threaded("shared pool", test_shared_pool);
    tests.add("interrupt", test_interrupt);
    tests.add("allocations", [] { test_allocations(text_file()); });
    tests.add("allocations of recurrent text", [] { test_allocations(recurrent_file()); });
    tests.add("damaged image files", [] { test_damaged_files(image_file()); });
    tests.add("damaged text files", [] { test_damaged_files(text_file()); });
    tests.add("damaged recurrent files", [] { test_damaged_files(recurrent_file()); });
    tests.add("damaged float files", [] {
        const std::vector<Tensor> tensors = {{"pad", "U8", "1", Bytes(1)}, {"w", "F32", "2,4", Bytes(32, 0x3E)}};
        test_damaged_files(packed(float_program, R"({"kind":"other"})", tensors));
    });
    return tests.run(argc, argv);
}
