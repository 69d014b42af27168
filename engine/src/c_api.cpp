// The C API: options, loading, and batches of arrays. c_api_text.cpp has texts.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "c_api_guard.h"
#include "c_api_model.h"
#include "calibration.h"
#include "cpu.h"
#include "model_file.h"

using namespace onebit::c_api;

namespace {

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
    return last_message();
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
