// Loads any bytes as a .onebit file, asks for all that a model says of itself, and runs it, in the precision and with the instruction set that the
// bytes choose. libFuzzer calls it millions of times; `make fuzz` builds and runs it.
#include <onebit/onebit.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "model_file.h"
#include "program.h"

namespace {

// Small, so that many files a second can be tried: a larger program runs the same code.
constexpr std::uint64_t memory_cap_bytes = 16u << 20;
constexpr double most_work = 1 << 16;
constexpr std::size_t most_examples = 2, most_tokens = 6;
// Of each file of libFuzzer's, which costs far more to make than to load. COPIES in fuzz.py counts them.
constexpr std::uint64_t damaged_copies = 4;

void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "fuzz_load: %s: %s\n", what, onebit_last_error());
    std::abort();
}

std::vector<std::string> supported_isas() {
    const std::string all = onebit_isas();
    std::vector<std::string> names;
    for (std::size_t at = 0; at < all.size();) {
        const std::size_t end = std::min(all.find(", ", at), all.size());
        names.push_back(all.substr(at, end - at));
        at = end + 2;
    }
    return names;
}

std::uint64_t hash(const std::uint8_t* data, std::size_t size) {
    std::uint64_t value = 0xcbf29ce484222325u;
    for (std::size_t i = 0; i < size; ++i) value = (value ^ data[i]) * 0x100000001b3u;
    return value ^ value >> 32;
}

// Multiplications, comparisons and moves of one run, about.
double work_of(const std::uint8_t* data, std::size_t size) {
    const onebit::ModelFile file(reinterpret_cast<const std::byte*>(data), size);
    const onebit::Program program = onebit::read_program(file.program(), file.tensors());
    const double rows = program.tokens ? static_cast<double>(most_tokens) : 1;
    const auto count = [&](int value) {
        const onebit::Shape& shape = program.shapes[static_cast<std::size_t>(value)];
        return program.tokens ? rows * static_cast<double>(shape.back()) : static_cast<double>(onebit::elements(shape));
    };
    double work = count(0);
    for (const onebit::Step& step : program.steps) {
        const onebit::Shape& x = program.shapes[static_cast<std::size_t>(step.inputs[0])];
        const double outputs = count(step.output);
        const auto taps_of = [](const onebit::Window& w) { return static_cast<double>(w.kernel[0] * w.kernel[1]); };
        if (const auto* layer = step.find<onebit::ops::Layer>()) {
            const onebit::Window& w = layer->window;
            const double planes = static_cast<double>(layer->bits.plane_count());
            const double deep = layer->depth ? static_cast<double>(layer->depth->kernel) : 1;
            work += outputs * planes * deep * taps_of(w) * static_cast<double>(x.back() / w.groups);
            if (layer->depth) {
                const onebit::Depth& d = *layer->depth;
                work += static_cast<double>(x[0] + d.padding[0] + d.padding[1]) * static_cast<double>(x[1] + w.padding[0] + w.padding[1]) *
                        static_cast<double>(x[2] + w.padding[2] + w.padding[3]) * static_cast<double>(x[3]);
            } else if (layer->convolution)
                work += static_cast<double>(x[0] + w.padding[0] + w.padding[1]) * static_cast<double>(x[1] + w.padding[2] + w.padding[3]) *
                        static_cast<double>(x[2]);
        } else if (const auto* recurrence = step.find<onebit::ops::Recurrence>()) {
            work += outputs * static_cast<double>(recurrence->bits.plane_count() * 4 * recurrence->hidden);
        } else if (step.op == onebit::Op::attention) {
            work += outputs * rows;
        } else {
            const auto* pool = step.find<onebit::ops::Pool>();
            const auto* magnitude = step.find<onebit::ops::MeanMagnitude>();
            const onebit::Window window = pool != nullptr        ? pool->window
                                          : magnitude != nullptr ? magnitude->window.value_or(onebit::Window())
                                                                 : onebit::Window();
            work += outputs * taps_of(window) + count(step.inputs[0]);
        }
    }
    return work;
}

// Text of some bytes, most of them as English has them, to tokens and back.
void cut(const onebit_model* model, std::uint64_t seed) {
    char text[64];
    for (std::size_t i = 0; i < sizeof text; ++i) {
        const auto byte = static_cast<unsigned char>(seed >> i % 57 ^ i * 31);
        text[i] = static_cast<char>((seed & 3) == 0 ? byte : "etaoin srhldcu,'"[byte & 15]);
    }
    std::int32_t tokens[3 * sizeof text];
    std::size_t count = 0, size = 0;
    check(onebit_encode(model, text, sizeof text, tokens, std::size(tokens), &count) == ONEBIT_OK, "a text has no tokens");
    check(onebit_decode(model, tokens, count, nullptr, 0, &size) == ONEBIT_OK, "tokens have no text");
}

void ask(onebit_model* model, std::uint64_t seed) {
    check(onebit_describe(model) != nullptr, "no description");
    for (std::size_t axis = 0; axis < 5; ++axis) onebit_input_axis(model, axis);
    const std::size_t labels = onebit_label_count(model), pieces = onebit_vocabulary_size(model);
    for (std::size_t i = 0; i < std::min<std::size_t>(labels, 8); ++i) check(onebit_label(model, i) != nullptr, "no label");
    check(onebit_label(model, labels) == nullptr, "one label too many");
    for (std::size_t i = 0; i < std::min<std::size_t>(pieces, 300); ++i) {
        std::size_t size = 0;
        const auto token = static_cast<std::int32_t>(i);
        check(onebit_token_text(model, token) != nullptr && onebit_token_bytes(model, token, &size) != nullptr, "no piece");
    }
    onebit_token_id(model, "[SEP]");
    if (pieces > 0) cut(model, seed);
    check(onebit_memory_bytes(model) < memory_cap_bytes + (std::uint64_t{64} << 20), "it holds far more than its cap");
}

// Numbers of all sizes; now and then an infinity or NaN.
float input_at(std::uint64_t seed, std::size_t i) {
    const std::uint64_t mixed = (seed + i) * 0x9e3779b97f4a7c15u;
    if ((seed & 7) == 0 && mixed >> 59 == 0) {
        constexpr float special[] = {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                                     std::numeric_limits<float>::quiet_NaN(), 1e38f};
        return special[mixed >> 32 & 3];
    }
    return static_cast<float>(static_cast<std::int32_t>(mixed >> 32)) / static_cast<float>(1u << 30);
}

void run_arrays(onebit_model* model, std::uint64_t seed) {
    const std::size_t count = 1 + seed % most_examples, in = count * onebit_input_size(model), out = count * onebit_output_size(model);
    std::vector<float> floats(in), results(out);
    std::vector<std::uint8_t> pixels(in);
    for (std::size_t i = 0; i < in; ++i) {
        floats[i] = input_at(seed, i);
        pixels[i] = static_cast<std::uint8_t>(seed * (i + 1) >> 7);
    }
    check(onebit_run_floats(model, floats.data(), in, count, results.data(), out) == ONEBIT_OK, "floats do not run");
    check(onebit_run_pixels(model, pixels.data(), in, count, results.data(), out) == ONEBIT_OK, "pixels do not run");
    check(onebit_run_floats(model, floats.data(), in, count, results.data(), out) == ONEBIT_OK, "floats do not run again");
    onebit_sequence* sequence = nullptr;
    check(onebit_sequence_open(model, &sequence) == ONEBIT_WRONG_KIND, "a sequence of arrays");
}

void run_tokens(onebit_model* model, std::uint64_t seed) {
    onebit_sequence *sequence = nullptr, *other = nullptr;
    check(onebit_sequence_open(model, &sequence) == ONEBIT_OK && onebit_sequence_open(model, &other) == ONEBIT_OK, "no sequence");
    std::vector<float> logits(onebit_output_size(model));
    const auto feed = [&](onebit_sequence* to, std::size_t count, std::uint64_t salt) {
        std::vector<std::int32_t> tokens(count);
        // Most are within small tables; a token that is out of range is refused.
        for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<std::int32_t>((seed >> (i + salt)) % 7) - (salt == 3 ? 1 : 0);
        const onebit_status status = onebit_sequence_feed(to, tokens.data(), count, logits.data(), logits.size());
        check(status == ONEBIT_OK || status == ONEBIT_INVALID_ARGUMENT || status == ONEBIT_CONTEXT_FULL, "tokens do not run");
    };
    feed(sequence, 1 + seed % 4, 0);
    feed(other, 1, 1);
    feed(sequence, 1, 2);
    feed(sequence, 1, 3);
    const std::size_t length = onebit_sequence_length(sequence);
    check(onebit_sequence_cut(sequence, length / 2) == ONEBIT_OK, "no cut");
    feed(sequence, 1, 4);
    for (const double temperature : {0.0, 0.8}) {
        std::int32_t token = -1;
        const onebit_status status = onebit_generate_next(sequence, temperature, static_cast<std::int32_t>(seed % 3), seed, &token);
        check(status == ONEBIT_OK || status == ONEBIT_INVALID_ARGUMENT || status == ONEBIT_CONTEXT_FULL || status == ONEBIT_INVALID_FILE,
              "no next token");
    }
    onebit_sequence_close(other);
    onebit_sequence_close(sequence);
}

void run(const std::uint8_t* data, std::size_t size, onebit_precision precision, std::uint64_t seed) {
    static const std::vector<std::string> isas = supported_isas();
    onebit_options options;
    check(onebit_options_init(&options, sizeof options) == ONEBIT_OK, "no options");
    options.precision = precision;
    options.threads = 1;
    options.memory_cap_bytes = memory_cap_bytes;
    options.isa = isas[(seed >> 8) % isas.size()].c_str();
    onebit_model* model = nullptr;
    const onebit_status status = onebit_load_memory(data, size, &options, &model);
    check((status == ONEBIT_OK) == (model != nullptr), "a status and a model that do not fit");
    check(status == ONEBIT_OK || status == ONEBIT_INVALID_FILE, "another error than of the file");
    if (status != ONEBIT_OK) return;
    ask(model, seed);
    if (work_of(data, size) <= most_work) {
        if (onebit_model_kind(model) == ONEBIT_KIND_TOKENS) {
            run_tokens(model, seed);
        } else {
            run_arrays(model, seed);
        }
    }
    onebit_free(model);
}

// A file as storage and transport damage it: some bytes changed, lost, repeated or swapped.
std::vector<std::uint8_t> damaged(const std::uint8_t* data, std::size_t size, std::uint64_t seed) {
    std::vector<std::uint8_t> file(data, data + size);
    const auto next = [&seed](std::uint64_t below) {
        seed = seed * 0x5851f42d4c957f2du + 0x14057b7ef767814fu;
        return static_cast<std::size_t>((seed >> 33) % below);
    };
    for (std::size_t edits = 1 + next(3); edits > 0 && !file.empty(); --edits) {
        const std::size_t at = next(file.size()), length = std::min(1 + next(16), file.size() - at), other = next(file.size());
        const auto begin = file.begin() + static_cast<std::ptrdiff_t>(at), end = begin + static_cast<std::ptrdiff_t>(length);
        switch (next(6)) {
            case 0: file[at] = static_cast<std::uint8_t>(file[at] ^ (1u << next(8))); break;
            case 1: file[at] = static_cast<std::uint8_t>(next(256)); break;
            case 2: file.erase(begin, end); break;
            case 3: file.resize(at); break;
            case 4: std::swap(file[at], file[other]); break;
            default: {
                const std::vector<std::uint8_t> part(begin, end);
                file.insert(file.begin() + static_cast<std::ptrdiff_t>(other), part.begin(), part.end());
            }
        }
    }
    return file;
}

void run_file(const std::uint8_t* data, std::size_t size) {
    const std::uint64_t seed = hash(data, size);
    run(data, size, (seed & 1) == 0 ? ONEBIT_INT8 : ONEBIT_FLOAT32, seed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    run_file(data, size);
    const std::uint64_t seed = hash(data, size);
    for (std::uint64_t copy = 1; copy <= damaged_copies; ++copy) {
        const std::vector<std::uint8_t> file = damaged(data, size, seed + copy);
        if (!file.empty()) run_file(file.data(), file.size());  // of an empty one there is no address to give
    }
    return 0;
}
