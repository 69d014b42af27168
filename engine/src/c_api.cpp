// The C API: checks arguments, runs the models, and turns exceptions into status codes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif

#include "array_model.h"
#include "calibration.h"
#include "cpu.h"
#include "decimal.h"
#include "model_file.h"
#include "onebit/onebit.h"
#include "sampling.h"
#include "thread_pool.h"
#include "token_model.h"
#include "tokenizer.h"
#include "vocabulary.h"

struct onebit_pool {
    std::shared_ptr<onebit::ThreadPool> threads;
};

namespace {

// A fixed size: reporting that memory is exhausted must not need memory.
constexpr std::size_t message_bytes = 1024;
thread_local char last_error[message_bytes] = "";

void set_error(const char* message) noexcept {
    const std::size_t length = std::min(std::strlen(message), message_bytes - 1);
    std::memcpy(last_error, message, length);
    last_error[length] = '\0';
}

// An error with its status.
struct Failure {
    onebit_status status;
    std::string message;
};

[[noreturn]] void fail(onebit_status status, std::string message) {
    throw Failure{status, std::move(message)};
}

[[noreturn]] void invalid(std::string message) {
    fail(ONEBIT_INVALID_ARGUMENT, std::move(message));
}

template <class T>
void need(const T* argument, const char* name) {
    if (argument == nullptr) invalid(std::string("[onebit] ") + name + " is NULL");
}

onebit_status report(onebit_status status, const char* message) noexcept {
    set_error(message);
    return status;
}

// Runs `body`; every exception becomes a status and a message.
template <class Body>
onebit_status guarded(Body&& body) noexcept {
    try {
        body();
        return ONEBIT_OK;
    } catch (const Failure& failure) {
        return report(failure.status, failure.message.c_str());
    } catch (const std::bad_alloc&) {
        return report(ONEBIT_OUT_OF_MEMORY, "[onebit] out of memory: use a smaller model or batch, or close sequences");
    } catch (const std::length_error&) {
        return report(ONEBIT_OUT_OF_MEMORY, "[onebit] more memory is needed than there can be: use a smaller model");
    } catch (const std::system_error& error) {
        if (error.code() == std::errc::resource_unavailable_try_again)
            return report(ONEBIT_OUT_OF_MEMORY, "[onebit] the system gives no more threads: set fewer in the options");
        return report(ONEBIT_INTERNAL, error.what());
    } catch (const onebit::Interrupted& error) {
        return report(ONEBIT_INTERRUPTED, error.what());
    } catch (const std::invalid_argument& error) {
        return report(ONEBIT_INVALID_ARGUMENT, error.what());
    } catch (const std::exception& error) {
        return report(ONEBIT_INTERNAL, error.what());
    } catch (...) {
        return report(ONEBIT_INTERNAL, "[onebit] an unknown error");
    }
}

// The same for functions that do not return a status.
template <class T, class Body>
T guarded_or(T failed, Body&& body) noexcept {
    T result = failed;
    return guarded([&] { result = body(); }) == ONEBIT_OK ? result : failed;
}

int core_count() {
#if defined(__linux__)
    // The processors that this process may use, as in Python. Fails with more processors than the set holds.
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::clamp(CPU_COUNT(&set), 1, 256);
#endif
    return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 256u));
}

// The size of the first version of the structure.
constexpr std::size_t least_options_bytes = offsetof(onebit_options, memory_cap_bytes) + sizeof(std::uint64_t);

// The given options, with defaults for all others.
onebit_options copy_options(const onebit_options* given) {
    onebit_options options{};
    if (given != nullptr) {
        if (given->size < least_options_bytes)
            invalid("[onebit] options->size=" + std::to_string(given->size) + ": fill the options with onebit_options_init first");
        // Fields that this library does not know must be 0.
        const auto* bytes = reinterpret_cast<const unsigned char*>(given);
        if (given->size > 4096 || std::any_of(bytes + std::min(sizeof options, given->size), bytes + given->size, [](auto b) { return b != 0; }))
            invalid("[onebit] the options have fields that this version of the library does not know: use a newer library");
        std::memcpy(&options, given, std::min(sizeof options, given->size));
    }
    return options;
}

void check_threads(std::int32_t threads, std::int32_t pin_threads) {
    if (threads < 0 || threads > 256) invalid("[onebit] threads=" + std::to_string(threads) + ": use 1 to 256, or 0 for one for each core");
    if (pin_threads != 0 && pin_threads != 1) invalid("[onebit] pin_threads=" + std::to_string(pin_threads) + ": use 0 or 1");
}

void read_threads(const onebit_options& options, onebit::Options& settings) {
    check_threads(options.threads, options.pin_threads);
    settings.threads = options.threads == 0 ? core_count() : options.threads;
    settings.pin = options.pin_threads == 1;
    if (options.pool == nullptr) return;
    if (options.threads != 0 || options.pin_threads != 0)
        invalid("[onebit] threads=" + std::to_string(options.threads) + ", pin_threads=" + std::to_string(options.pin_threads) +
                " and a pool: leave both 0, the pool has threads already");
    settings.pool = options.pool->threads;
}

onebit::Options read_options(const onebit_options& options) {
    onebit::Options settings;
    if (options.precision != ONEBIT_INT8 && options.precision != ONEBIT_FLOAT32)
        invalid("[onebit] precision=" + std::to_string(options.precision) + ": use ONEBIT_INT8 or ONEBIT_FLOAT32");
    settings.precision = options.precision == ONEBIT_INT8 ? onebit::Precision::int8 : onebit::Precision::float32;
    read_threads(options, settings);
    settings.isa = options.isa == nullptr ? "" : options.isa;
    onebit::calibrated(onebit::choose_kernels(settings.isa));  // an unknown instruction set or calibration is not a fault of the file
    if (options.memory_cap_bytes != 0) settings.memory_cap = options.memory_cap_bytes;
    return settings;
}

// A model, shared by its handle and its sequences.
struct Loaded {
    // One of the two is set.
    std::unique_ptr<onebit::ArrayModel> engine;
    std::unique_ptr<onebit::TokenModel> decoder;
    std::vector<std::string> labels;
    onebit::Vocabulary vocabulary;
    std::unique_ptr<onebit::Tokenizer> tokenizer;  // of the vocabulary, if there is one
    std::string description;
    onebit::Ask ask;  // whether to continue

    std::int64_t outputs() const { return decoder ? decoder->outputs() : onebit::elements(engine->output_shape()); }
};

// The only place that makes a model of arrays or of tokens.
void construct(Loaded& model, const onebit::ModelFile& file, const onebit::Options& settings) {
    const onebit::Json program = onebit::parse_json(file.program());
    const onebit::Json* input = program.find("input");
    const onebit::Json* kind = input == nullptr ? nullptr : input->find("kind");
    const bool tokens = kind != nullptr && kind->text != "integers";
    if (tokens) {
        model.decoder = std::make_unique<onebit::TokenModel>(file.program(), file.tensors(), settings);
    } else {
        model.engine = std::make_unique<onebit::ArrayModel>(file.program(), file.tensors(), settings);
    }
}

std::string to_json(const onebit::Shape& shape) {
    std::string text = "[";
    for (const std::int64_t axis : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(axis);
    return text + "]";
}

// A text as JSON has it.
std::string to_json(const std::string& text) {
    constexpr char digits[] = "0123456789abcdef";
    std::string quoted = "\"";
    for (const char c : text) {
        const auto code = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            quoted += std::string("\\") + c;
        } else if (code < 0x20) {
            quoted += std::string("\\u00") + digits[code / 16] + digits[code % 16];
        } else {
            quoted += c;
        }
    }
    return quoted + "\"";
}

std::string to_json(const std::vector<onebit::ArrayModel::Place>& places) {
    std::string text = "[";
    for (const auto& place : places) {
        text += std::string(text.size() > 1 ? ", " : "") + "{\"name\": " + to_json(place.name) + ", \"shape\": " + to_json(place.shape) +
                (place.integers ? ", \"kind\": \"integers\"}" : "}");
    }
    return text + "]";
}

// The task's labels or its vocabulary. They must fit the program.
void take_task(Loaded& model, onebit::Task& task) {
    if (model.decoder) {
        check_fit(task, {model.decoder->context()}, {model.decoder->context(), model.decoder->outputs()}, true);
    } else {
        check_fit(task, model.engine->input_shape(), model.engine->output_shape(), false);
    }
    model.labels = std::move(task.labels);
    model.vocabulary = std::move(task.vocabulary);
    if (model.vocabulary.size() > 0) model.tokenizer = std::make_unique<onebit::Tokenizer>(model.vocabulary, task.lowercase);
}

std::string describe(const Loaded& model, const std::string& task) {
    const auto of = [&](const auto& runner) {
        return "\"precision\": \"" + std::string(runner.precision() == onebit::Precision::int8 ? "int8" : "float32") +
               "\", \"threads\": " + std::to_string(runner.threads()) + ", \"isa\": \"" + runner.kernels().name +
               "\", \"memory_bytes\": " + std::to_string(runner.memory_bytes());
    };
    std::string text = "{\"kind\": \"" + std::string(model.decoder ? "tokens" : "arrays") + "\", \"task\": " + task + ", ";
    if (model.decoder) {
        text += "\"input_shape\": " + to_json(onebit::Shape{model.decoder->context()}) +
                ", \"output_shape\": " + to_json(onebit::Shape{model.decoder->outputs()}) +
                ", \"context\": " + std::to_string(model.decoder->context()) + ", \"vocabulary_size\": " + std::to_string(model.vocabulary.size()) +
                ", " + of(*model.decoder);
    } else {
        text += "\"input_shape\": " + to_json(model.engine->input_shape()) + ", \"output_shape\": " + to_json(model.engine->output_shape()) + ", " +
                of(*model.engine);
        if (!model.engine->plain()) {
            text += ", \"inputs\": " + to_json(model.engine->inputs()) + ", \"outputs\": " + to_json(model.engine->outputs());
        }
    }
    return text + "}";
}

std::shared_ptr<Loaded> build(const std::byte* data, std::size_t size, const onebit::Options& settings, const onebit_options& options) {
    onebit::ModelFile file(data, size);
    auto model = std::make_shared<Loaded>();
    if (options.interrupt != nullptr) {
        model->ask = [interrupt = options.interrupt, interrupt_data = options.interrupt_data] {
            if (interrupt(interrupt_data) != 0) throw onebit::Interrupted();
        };
    }
    construct(*model, file, settings);
    take_task(*model, file.task());
    model->description = describe(*model, file.task_text());
    return model;
}

}  // namespace

struct onebit_model {
    std::shared_ptr<Loaded> loaded;
};

struct onebit_sequence {
    std::shared_ptr<Loaded> model;
    int number = -1;
    std::vector<float> logits;    // that follow the last token in the decoder
    bool ready = false;           // whether there are such logits
    std::int32_t pending = -1;    // a generated token that has not been fed yet
    std::uint64_t generated = 0;  // how many random numbers were used

    ~onebit_sequence() {
        if (number >= 0) model->decoder->close(number);
    }
};

namespace {

// Loads a model, with `name` at the beginning of messages about the file. `open` returns an object with data() and size().
template <class Open>
onebit_status load(const std::string_view name, const onebit_options* given, onebit_model** model, const Open& open) noexcept {
    return guarded([&] {
        const onebit_options options = copy_options(given);
        const onebit::Options settings = read_options(options);
        try {
            const auto content = open();
            auto handle = std::make_unique<onebit_model>();
            handle->loaded = build(content->data(), content->size(), settings, options);
            *model = handle.release();
        } catch (const onebit::UnreadableFile& error) {
            fail(ONEBIT_UNREADABLE, "[" + std::string(name) + "] " + error.what());
        } catch (const std::invalid_argument& error) {
            fail(ONEBIT_INVALID_FILE, "[" + std::string(name) + "] " + error.what());
        }
    });
}

template <class Element>
onebit_status run(onebit_model* model, const Element* batch, std::size_t batch_size, std::size_t count, float* out, std::size_t out_size) noexcept {
    return guarded([&] {
        need(model, "model");
        onebit::ArrayModel* engine = model->loaded->engine.get();
        if (engine == nullptr) fail(ONEBIT_WRONG_KIND, "[onebit] the model takes tokens, not batches: use onebit_sequence_open");
        if (count == 0) return;
        need(batch, "the batch");
        need(out, "out");
        const auto size = static_cast<std::size_t>(onebit::elements(engine->input_shape()));
        const auto outputs = static_cast<std::size_t>(onebit::elements(engine->output_shape()));
        if (batch_size / size != count || batch_size % size != 0)
            invalid("[onebit] a batch of " + std::to_string(batch_size) + " elements: " + std::to_string(count) + " examples have " +
                    std::to_string(size) + " each");
        if (out_size / outputs < count)
            invalid("[onebit] out has room for " + std::to_string(out_size) + " elements: " + std::to_string(count) + " examples give " +
                    std::to_string(outputs) + " each");
        engine->run(batch, static_cast<std::int64_t>(count), out, model->loaded->ask);
    });
}

const Loaded& of(const onebit_model* model) {
    need(model, "model");
    return *model->loaded;
}

const onebit::Tokenizer& tokenizer_of(const Loaded& model) {
    if (!model.tokenizer) invalid("[onebit] the model has no vocabulary");
    return *model.tokenizer;
}

void check_token(const Loaded& model, std::int32_t token) {
    tokenizer_of(model);
    if (token < 0 || token >= model.vocabulary.size())
        invalid("[onebit] token " + std::to_string(token) + " is out of range: use 0 to " + std::to_string(model.vocabulary.size() - 1));
}

// Copies a result into the caller's buffer, or only its size if there is no buffer.
template <class Values, class Element>
void give(const Values& values, const char* name, Element* buffer, std::size_t room, std::size_t* size) {
    *size = values.size();
    if (buffer == nullptr) return;
    if (values.size() > room)
        invalid("[onebit] " + std::string(name) + " has room for " + std::to_string(room) + " elements: " + std::to_string(values.size()) +
                " are needed");
    std::copy(values.begin(), values.end(), buffer);
}

// Feeds the pending token and `count` more. If that fails, the sequence does not change.
void extend(onebit_sequence& sequence, const std::int32_t* tokens, std::size_t count) {
    onebit::TokenModel& decoder = *sequence.model->decoder;
    const std::int64_t before = decoder.length(sequence.number);
    const std::size_t pending = sequence.pending >= 0 ? 1 : 0;
    const auto room = static_cast<std::size_t>(decoder.context() - before);
    if (count > room || count + pending > room)
        fail(ONEBIT_CONTEXT_FULL, "[onebit] the sequence has " + std::to_string(before) + " tokens and the model's context is " +
                                      std::to_string(decoder.context()) + ": no room for " + std::to_string(count + pending) +
                                      " more; cut it to 0 and feed the newer half of the text again");
    std::vector<std::int32_t> all(sequence.pending >= 0 ? 1 : 0, sequence.pending);
    all.insert(all.end(), tokens, tokens + count);
    if (all.empty()) return;
    std::vector<float> logits(sequence.logits.size());
    decoder.extend({sequence.number}, {static_cast<std::int64_t>(all.size())}, all.data(), false, logits.data(), sequence.model->ask);
    sequence.logits.swap(logits);
    sequence.ready = true;
    sequence.pending = -1;
}

}  // namespace

const char* onebit_version(void) {
    return ONEBIT_VERSION;
}

const char* onebit_isas(void) {
    return guarded_or<const char*>(nullptr, [] {
        static const std::string names = [] {
            int count = 0;
            const onebit::Kernels* const* all = onebit::all_kernels(&count);
            std::string found;
            for (int i = count - 1; i >= 0; --i) {
                if (onebit::supported(*all[i])) found += (found.empty() ? "" : ", ") + std::string(all[i]->name);
            }
            return found;
        }();
        return names.c_str();
    });
}

const char* onebit_last_error(void) {
    return last_error;
}

const char* onebit_status_name(int status) {
    switch (status) {
        case ONEBIT_OK: return "ONEBIT_OK";
        case ONEBIT_INVALID_ARGUMENT: return "ONEBIT_INVALID_ARGUMENT";
        case ONEBIT_UNREADABLE: return "ONEBIT_UNREADABLE";
        case ONEBIT_INVALID_FILE: return "ONEBIT_INVALID_FILE";
        case ONEBIT_WRONG_KIND: return "ONEBIT_WRONG_KIND";
        case ONEBIT_CONTEXT_FULL: return "ONEBIT_CONTEXT_FULL";
        case ONEBIT_OUT_OF_MEMORY: return "ONEBIT_OUT_OF_MEMORY";
        case ONEBIT_INTERNAL: return "ONEBIT_INTERNAL";
        case ONEBIT_INTERRUPTED: return "ONEBIT_INTERRUPTED";
    }
    return "unknown";
}

onebit_status onebit_options_init(onebit_options* options, size_t size) {
    return guarded([&] {
        need(options, "options");
        if (size < least_options_bytes || size > 4096) invalid("[onebit] size=" + std::to_string(size) + ": use sizeof(onebit_options)");
        // All defaults are 0, also those of fields that only the caller knows.
        std::memset(static_cast<void*>(options), 0, size);
        options->size = size;
    });
}

onebit_status onebit_pool_create(int32_t threads, int32_t pin_threads, onebit_pool** pool) {
    if (pool != nullptr) *pool = nullptr;
    return guarded([&] {
        need(pool, "pool");
        check_threads(threads, pin_threads);
        auto made = std::make_unique<onebit_pool>();
        made->threads = std::make_shared<onebit::ThreadPool>(threads == 0 ? core_count() : threads, pin_threads == 1);
        *pool = made.release();
    });
}

void onebit_pool_free(onebit_pool* pool) {
    delete pool;
}

onebit_status onebit_load(const char* path, const onebit_options* options, onebit_model** model) {
    if (model != nullptr) *model = nullptr;
    if (path == nullptr) return report(ONEBIT_INVALID_ARGUMENT, "[onebit] path is NULL");
    if (model == nullptr) return report(ONEBIT_INVALID_ARGUMENT, "[onebit] model is NULL");
    return load(path, options, model, [&] { return std::make_unique<onebit::FileContent>(path); });
}

onebit_status onebit_load_memory(const void* data, size_t size, const onebit_options* options, onebit_model** model) {
    if (model != nullptr) *model = nullptr;
    if (data == nullptr) return report(ONEBIT_INVALID_ARGUMENT, "[onebit] data is NULL");
    if (model == nullptr) return report(ONEBIT_INVALID_ARGUMENT, "[onebit] model is NULL");
    struct Bytes {
        const std::byte* begin;
        std::size_t count;
        const std::byte* data() const { return begin; }
        std::size_t size() const { return count; }
    };
    const Bytes bytes{static_cast<const std::byte*>(data), size};
    return load("memory", options, model, [&] { return &bytes; });
}

void onebit_free(onebit_model* model) {
    delete model;
}

const char* onebit_describe(const onebit_model* model) {
    return guarded_or<const char*>(nullptr, [&] { return of(model).description.c_str(); });
}

onebit_kind onebit_model_kind(const onebit_model* model) {
    return guarded_or(ONEBIT_KIND_NONE, [&] { return of(model).decoder ? ONEBIT_KIND_TOKENS : ONEBIT_KIND_ARRAYS; });
}

size_t onebit_input_size(const onebit_model* model) {
    return guarded_or<size_t>(0, [&] {
        const Loaded& loaded = of(model);
        return loaded.engine ? static_cast<size_t>(onebit::elements(loaded.engine->input_shape())) : 0;
    });
}

size_t onebit_output_size(const onebit_model* model) {
    return guarded_or<size_t>(0, [&] { return static_cast<size_t>(of(model).outputs()); });
}

size_t onebit_input_axis(const onebit_model* model, size_t axis) {
    return guarded_or<size_t>(0, [&]() -> size_t {
        const Loaded& loaded = of(model);
        if (!loaded.engine || axis >= loaded.engine->input_shape().size()) return 0;
        return static_cast<size_t>(loaded.engine->input_shape()[axis]);
    });
}

size_t onebit_context(const onebit_model* model) {
    return guarded_or<size_t>(0, [&] {
        const Loaded& loaded = of(model);
        return loaded.decoder ? static_cast<size_t>(loaded.decoder->context()) : 0;
    });
}

size_t onebit_memory_bytes(const onebit_model* model) {
    return guarded_or<size_t>(0, [&] {
        const Loaded& loaded = of(model);
        return loaded.decoder ? loaded.decoder->memory_bytes() : loaded.engine->memory_bytes();
    });
}

size_t onebit_label_count(const onebit_model* model) {
    return guarded_or<size_t>(0, [&] { return of(model).labels.size(); });
}

const char* onebit_label(const onebit_model* model, size_t index) {
    return guarded_or<const char*>(nullptr, [&] {
        const auto& labels = of(model).labels;
        if (index >= labels.size())
            invalid("[onebit] label " + std::to_string(index) + ": the model has " + std::to_string(labels.size()) + " labels");
        return labels[index].c_str();
    });
}

onebit_status onebit_run_pixels(onebit_model* model, const uint8_t* pixels, size_t pixels_size, size_t count, float* out, size_t out_size) {
    return run(model, pixels, pixels_size, count, out, out_size);
}

onebit_status onebit_run_floats(onebit_model* model, const float* batch, size_t batch_size, size_t count, float* out, size_t out_size) {
    return run(model, batch, batch_size, count, out, out_size);
}

size_t onebit_vocabulary_size(const onebit_model* model) {
    return guarded_or<size_t>(0, [&] { return static_cast<size_t>(of(model).vocabulary.size()); });
}

const char* onebit_token_text(const onebit_model* model, int32_t token) {
    return guarded_or<const char*>(nullptr, [&] {
        check_token(of(model), token);
        return of(model).vocabulary.piece(token).c_str();
    });
}

const char* onebit_token_bytes(const onebit_model* model, int32_t token, size_t* size) {
    return guarded_or<const char*>(nullptr, [&] {
        check_token(of(model), token);
        need(size, "size");
        const std::string& bytes = of(model).vocabulary.bytes(token);
        *size = bytes.size();
        return bytes.c_str();
    });
}

int32_t onebit_token_id(const onebit_model* model, const char* text) {
    return guarded_or<int32_t>(-1, [&] {
        const Loaded& loaded = of(model);
        need(text, "text");
        const std::int32_t id = loaded.vocabulary.id(text);
        if (id < 0) invalid("[onebit] the model's vocabulary has no '" + std::string(text).substr(0, 40) + "'");
        return id;
    });
}

onebit_status onebit_encode(const onebit_model* model, const char* text, size_t text_size, int32_t* tokens, size_t tokens_size, size_t* count) {
    if (count != nullptr) *count = 0;
    return guarded([&] {
        const Loaded& loaded = of(model);
        need(count, "count");
        if (text_size > 0) need(text, "text");
        give(tokenizer_of(loaded).encode({text, text_size}), "tokens", tokens, tokens_size, count);
    });
}

onebit_status onebit_decode(const onebit_model* model, const int32_t* tokens, size_t count, char* text, size_t text_size, size_t* size) {
    if (size != nullptr) *size = 0;
    return guarded([&] {
        const Loaded& loaded = of(model);
        need(size, "size");
        if (count > 0) need(tokens, "tokens");
        for (std::size_t i = 0; i < count; ++i) check_token(loaded, tokens[i]);
        give(tokenizer_of(loaded).decode({tokens, count}), "text", text, text_size, size);
    });
}

onebit_status onebit_sequence_open(onebit_model* model, onebit_sequence** sequence) {
    if (sequence != nullptr) *sequence = nullptr;
    return guarded([&] {
        need(model, "model");
        need(sequence, "sequence");
        if (!model->loaded->decoder)
            fail(ONEBIT_WRONG_KIND, "[onebit] the model takes batches, not tokens: use onebit_run_pixels or onebit_run_floats");
        auto opened = std::make_unique<onebit_sequence>();
        opened->model = model->loaded;
        opened->logits.resize(static_cast<std::size_t>(opened->model->outputs()));
        opened->number = opened->model->decoder->open();
        *sequence = opened.release();
    });
}

void onebit_sequence_close(onebit_sequence* sequence) {
    delete sequence;
}

size_t onebit_sequence_length(const onebit_sequence* sequence) {
    return guarded_or<size_t>(0, [&] {
        need(sequence, "sequence");
        return static_cast<size_t>(sequence->model->decoder->length(sequence->number)) + (sequence->pending >= 0 ? 1 : 0);
    });
}

onebit_status onebit_sequence_feed(onebit_sequence* sequence, const int32_t* tokens, size_t count, float* logits, size_t logits_size) {
    return guarded([&] {
        need(sequence, "sequence");
        if (count == 0) return;
        need(tokens, "tokens");
        if (logits != nullptr && logits_size < sequence->logits.size())
            invalid("[onebit] logits has room for " + std::to_string(logits_size) + " elements: the model gives " +
                    std::to_string(sequence->logits.size()));
        extend(*sequence, tokens, count);
        if (logits != nullptr) std::copy(sequence->logits.begin(), sequence->logits.end(), logits);
    });
}

onebit_status onebit_sequence_cut(onebit_sequence* sequence, size_t length) {
    return guarded([&] {
        need(sequence, "sequence");
        const size_t now = onebit_sequence_length(sequence);
        if (length > now) invalid("[onebit] a sequence of " + std::to_string(now) + " tokens cannot be cut to " + std::to_string(length));
        if (length == now) return;
        sequence->model->decoder->cut(sequence->number, static_cast<std::int64_t>(length));
        sequence->pending = -1;
        sequence->ready = false;
    });
}

onebit_status onebit_generate_next(onebit_sequence* sequence, double temperature, int32_t top_k, uint64_t seed, int32_t* token) {
    return guarded([&] {
        need(sequence, "sequence");
        need(token, "token");
        if (!(temperature >= 0) || std::isinf(temperature))
            invalid("[onebit] temperature=" + onebit::to_decimal(temperature) + ": use 0 (the most probable token always) or more");
        if (top_k < 0) invalid("[onebit] top_k=" + std::to_string(top_k) + ": use 1 or more, or 0 for all tokens");
        if (!sequence->ready) invalid("[onebit] nothing to go on from: feed at least one token first");
        extend(*sequence, nullptr, 0);
        const double random = onebit::chance(seed, sequence->generated);
        std::vector<double> scores(sequence->logits.begin(), sequence->logits.end());
        for (const std::int32_t never : sequence->model->vocabulary.never())
            scores[static_cast<std::size_t>(never)] = -std::numeric_limits<double>::infinity();
        const std::int32_t chosen = onebit::choose_token(sequence->model->decoder->kernels(), scores, {temperature, top_k}, random);
        if (chosen < 0) fail(ONEBIT_INVALID_FILE, "[onebit] the model gives no logits that are numbers: its parameters are damaged");
        sequence->pending = chosen;
        ++sequence->generated;
        *token = chosen;
    });
}
