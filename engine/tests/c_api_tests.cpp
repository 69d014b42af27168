// Tests of the C API: images, texts, arguments and files, each with its errors. They also run under the sanitizers, where a leak or a read beyond the
// file is an error.
#include <filesystem>
#include <fstream>
#include <random>

#include "c_api_files.h"
#include "json.h"
#include "model_file.h"
#include "sampling.h"

using namespace c_api;

namespace {

// WebAssembly has one, whatever is asked for.
#if defined(__EMSCRIPTEN__)
constexpr int threads_of_build = 1;
#else
constexpr int threads_of_build = 2;
#endif

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
    const auto chosen = [](const std::vector<float>& of, double temperature, std::int32_t top_k, double random) {
        std::vector<double> scores(of.begin(), of.end());
        if (scores.size() > 3) scores[3] = -std::numeric_limits<double>::infinity();
        return onebit::choose_token(onebit::scalar_kernels, scores, {temperature, top_k}, random);
    };
    const auto frequencies = [&](double temperature, int top_k) {
        std::vector<double> found(logits.size(), 0);
        for (std::uint64_t i = 0; i < 20000; ++i)
            found[static_cast<std::size_t>(chosen(logits, temperature, top_k, onebit::chance(5, i)))] += 1.0 / 20000;
        return found;
    };
    for (const int top_k : {0, 2, 100}) {
        double total = 0;
        const auto kept = [&](std::size_t i) { return i != 3 && i != 5 && (top_k != 2 || i == 1 || i == 4); };
        for (std::size_t i = 0; i < logits.size(); ++i) total += kept(i) ? std::exp(logits[i] / 0.7) : 0;
        const auto found = frequencies(0.7, top_k);
        for (std::size_t i = 0; i < logits.size(); ++i) CHECK(std::fabs(found[i] - (kept(i) ? std::exp(logits[i] / 0.7) / total : 0)) < 0.015);
    }
    CHECK(chosen(logits, 1e-300, 0, 0.999) == 1 && chosen(logits, 0, 0, 0.999) == 1);
    CHECK(chosen({std::nanf(""), std::nanf("")}, 0, 0, 0.5) == -1);
    CHECK(chosen(logits, 1, 0, 0.999999999999) == 4 && chosen(logits, 1, 0, 0) == 0);
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
