#include "instructions.h"

#include <csignal>
#include <cstddef>
#include <vector>

#include "bit_matrix.h"
#include "kv_cache.h"

#if defined(__linux__)
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace onebit {
namespace {

constexpr int inputs = 4096;       // of a product with bits
constexpr int panel_inputs = 512;  // of a product with a panel
constexpr int rows = 24;
constexpr int tokens = 256, features = 64;

// Any numbers: no kernel's way depends on them. Made in a few instructions, as these are counted too.
template <class T>
std::vector<T> some_numbers(std::size_t count) {
    std::vector<T> numbers(count);
    for (std::size_t i = 0; i < count; ++i)
        numbers[i] = static_cast<T>(static_cast<std::int32_t>(static_cast<std::uint32_t>(i) * 2654435761u >> 24) - 100);
    return numbers;
}

// A whole number of tiles in every layout.
void product_bits(const Kernels& k, int times) {
    constexpr int outputs = 256;
    std::vector<std::uint8_t> bits = some_numbers<std::uint8_t>(BitMatrix::bytes(inputs, outputs, k));
    const BitMatrix matrix(k, nullptr, inputs, outputs, bits.data());
    const auto x = some_numbers<std::int8_t>(inputs + slack_bytes);
    std::vector<std::uint8_t> prepared(static_cast<std::size_t>(matrix.prepared_bytes()));
    k.gemv.prepare(x.data(), matrix.steps(), prepared.data());
    std::vector<std::int32_t> sums(outputs);
    for (int i = 0; i < times; ++i) matrix.multiply(0, matrix.units(), prepared.data(), 1, sums.data(), outputs);
}

void product_rows(const Kernels& k, int times) {
    constexpr int outputs = 256;
    std::vector<std::uint8_t> bits = some_numbers<std::uint8_t>(BitMatrix::bytes(panel_inputs, outputs, k));
    const BitMatrix matrix(k, nullptr, panel_inputs, outputs, bits.data());
    // Filled by one call of the library: where instructions are counted one by one, setting up must not take longer than the work.
    const std::vector<std::uint8_t> prepared(static_cast<std::size_t>(rows * matrix.prepared_bytes()), std::uint8_t{3});
    std::vector<std::int32_t> sums(static_cast<std::size_t>(rows * outputs));
    for (int i = 0; i < times; ++i) matrix.multiply(0, matrix.units(), prepared.data(), rows, sums.data(), outputs);
}

void prepare_bits(const Kernels& k, int times) {
    const int steps = inputs / k.gemv.layout.step_inputs;
    const auto x = some_numbers<std::int8_t>(inputs + slack_bytes);
    std::vector<std::uint8_t> prepared(static_cast<std::size_t>(steps * k.gemv.layout.prepared_bytes));
    for (int i = 0; i < times; ++i) k.gemv.prepare(x.data(), steps, prepared.data());
}

template <class Input, class Weight, class Sum>
void with_panel(void (*product)(const Input* const*, int, const Segments&, const Weight*, int, Sum*, std::ptrdiff_t), int times) {
    constexpr int width = max_blocks * block_outputs;
    const auto x = some_numbers<Input>(rows * panel_inputs + slack_bytes);
    std::vector<Weight> panel(static_cast<std::size_t>(panel_inputs * width), Weight{1});
    std::vector<Sum> sums(static_cast<std::size_t>(rows * width));
    const Input* from[rows];
    for (int r = 0; r < rows; ++r) from[r] = x.data() + r * panel_inputs;
    const std::ptrdiff_t no_offset = 0;
    const Segments segments{&no_offset, 1, panel_inputs};
    for (int i = 0; i < times; ++i) product(from, rows, segments, panel.data(), max_blocks, sums.data(), width);
}

void product_int8(const Kernels& k, int times) {
    const TilesInUse in_use(k.tiles);
    with_panel(k.gemm.product_int8, times);
}

void product_float(const Kernels& k, int times) {
    with_panel(k.gemm.product_float, times);
}

void attend(const Kernels& k, CacheNumbers numbers, int times) {
    KvCache cache(numbers, 1, features, tokens);
    cache.reserve(tokens);
    const auto q = some_numbers<float>(features);
    for (int t = 0; t < tokens; ++t) cache.put(k, 0, t, q.data(), q.data());
    std::vector<float> scores(tokens), y(features);
    Attended a{};
    a.rows = 1;
    a.tokens = tokens;
    a.row_stride = features;
    a.score_stride = tokens;
    for (int i = 0; i < times; ++i) cache.attend(k, 0, a, q.data(), scores.data(), y.data());
}

void attend_float(const Kernels& k, int times) {
    attend(k, CacheNumbers::float32, times);
}

void attend_bf16(const Kernels& k, int times) {
    attend(k, CacheNumbers::bf16, times);
}

void attend_int8(const Kernels& k, int times) {
    attend(k, CacheNumbers::int8, times);
}

constexpr Work kernel_work[] = {
    {"gemv.product", "256 outputs, 4096 inputs", 256.0 * inputs, product_bits},
    {"conv.product, rows", "24 rows, 256 outputs, 512 inputs", rows * 256.0 * panel_inputs, product_rows},
    // What is made once serves all outputs.
    {"gemv.prepare", "4096 inputs, for 4096 outputs", 4096.0 * inputs, prepare_bits},
    {"gemm.product_int8", "24 rows, 64 outputs, 512 inputs", 1.0 * rows * max_blocks * block_outputs * panel_inputs, product_int8},
    {"gemm.product_float", "24 rows, 64 outputs, 512 inputs", 1.0 * rows * max_blocks * block_outputs * panel_inputs, product_float},
    {"attention.float32", "a query, 256 tokens, 64 features", 2.0 * tokens * features, attend_float},
    {"attention.bf16", "a query, 256 tokens, 64 features", 2.0 * tokens * features, attend_bf16},
    {"attention.int8", "a query, 256 tokens, 64 features", 2.0 * tokens * features, attend_int8},
};

}  // namespace

std::vector<Work> all_work() {
    std::vector<Work> all;
    for (const Work& work : kernel_work) all.push_back(work);
    for (const Work& work : layer_work()) all.push_back(work);
    return all;
}

std::int64_t count_single_steps(const Work& work, const Kernels& kernels, int times) {
#if defined(__linux__)
    const pid_t child = fork();
    if (child < 0) return -1;
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(1);
        // Once untold: the system resolves functions and maps memory when they are first used.
        work.run(kernels, 1);
        raise(SIGSTOP);
        work.run(kernels, times);
        raise(SIGSTOP);
        _exit(0);
    }
    std::int64_t count = 0;
    int status = 0;
    const auto stopped_by = [&](int signal) { return WIFSTOPPED(status) && WSTOPSIG(status) == signal; };
    bool good = waitpid(child, &status, 0) == child && stopped_by(SIGSTOP);
    while (good && ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) == 0 && waitpid(child, &status, 0) == child && stopped_by(SIGTRAP)) ++count;
    good = good && stopped_by(SIGSTOP);
    if (!WIFEXITED(status) && !WIFSIGNALED(status)) {
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    }
    return good ? count : -1;
#else
    (void)work, (void)kernels, (void)times;
    return -1;
#endif
}

}  // namespace onebit
