// Failed computations: the engine forgets the caller's memory, and works again afterwards. The address sanitizer finds pointers that it
// keeps.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "array_model.h"
#include "check.h"
#include "large_pages.h"
#include "token_model.h"

namespace {

// Allocations of working memory (which are aligned) until one fails; negative for never.
std::atomic<long> allocations_left{-1};
// Large pages that were taken from the system and not given back.
constexpr std::size_t large_page = std::size_t{1} << 21;
std::atomic<long> large_pages{0};

}  // namespace

void* operator new(std::size_t size, std::align_val_t alignment) {
    if (allocations_left.load() >= 0 && allocations_left.fetch_sub(1) == 0) throw std::bad_alloc();
    const auto align = static_cast<std::size_t>(alignment);
    void* memory = std::aligned_alloc(align, (size + align - 1) / align * align);
    if (memory == nullptr) throw std::bad_alloc();
    if (align == large_page) ++large_pages;
    return memory;
}
void operator delete(void* memory, std::align_val_t alignment) noexcept {
    if (static_cast<std::size_t>(alignment) == large_page) --large_pages;
    std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t alignment) noexcept {
    operator delete(memory, alignment);
}

namespace {

std::string convolution(const std::string& op, const std::string& input) {
    return R"({"input":{"name":"x","shape":[6,6,32]},"steps":[{"op":")" + op + R"(","inputs":["x"],"output":"y",
        "attributes":{"in_channels":32,"out_channels":20,"kernel_size":[3,3],"stride":[1,1],"padding":[1,1,1,1],"dilation":[1,1],"groups":1)" +
           input + R"(},"tensors":{"weight":"w"}}],"output":"y"})";
}

// 20 rows of 288 bits.
std::vector<std::uint8_t> some_bits() {
    std::vector<std::uint8_t> bits(20 * 40);
    for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = i % 40 < 36 ? static_cast<std::uint8_t>(pick(0, 255)) : 0;
    return bits;
}

// A run fails because memory is exhausted, and its batch is freed. A second run has a batch at an odd address, which is therefore copied.
void test_failed_runs_leave_no_pointer() {
    const std::vector<std::uint8_t> bits = some_bits();
    const std::vector<float> weights(20 * 9 * 32, 0.25f);
    const onebit::Tensors binary = {{"w", {bits.data(), onebit::TensorType::uint8, {20, 40}}}},
                          floats = {{"w", {weights.data(), onebit::TensorType::float32, {20, 3, 3, 32}}}};
    const struct {
        std::string program;
        const onebit::Tensors& tensors;
    } cases[] = {
        {convolution("conv2d", ""), floats},
        {convolution("bit_conv2d", R"(,"values":"pm1")"), binary},
        {convolution("bit_conv2d", R"(,"values":"pm1","input":{"quantizer":"sign"})"), binary},
    };
    constexpr std::size_t size = 6 * 6 * 32, outputs = 6 * 6 * 20;
    std::vector<float> example(size);
    for (float& v : example) v = pick_float();
    for (const auto& [program, tensors] : cases) {
        for (const auto precision : {onebit::Precision::int8, onebit::Precision::float32}) {
            std::vector<float> expected(outputs), y(outputs);
            onebit::ArrayModel(program, tensors, {.precision = precision, .isa = ""}).run(example.data(), 1, expected.data());
            for (long n = 0;; ++n) {
                onebit::ArrayModel engine(program, tensors, {.precision = precision, .isa = ""});
                auto first = std::make_unique<std::vector<float>>(size, 5.0f);
                auto out = std::make_unique<std::vector<float>>(outputs);
                allocations_left.store(n);
                bool failed = false;
                try {
                    engine.run(first->data(), 1, out->data());
                } catch (const std::bad_alloc&) {
                    failed = true;
                }
                allocations_left.store(-1);
                CHECK(failed || n > 0);
                if (!failed) break;
                const std::vector<float> untouched(size, 5.0f);
                CHECK(*first == untouched);
                auto unaligned = std::make_unique<std::vector<std::uint8_t>>(size * sizeof(float) + 1);
                std::memcpy(unaligned->data() + 1, example.data(), size * sizeof(float));
                const auto* odd = reinterpret_cast<const float*>(reinterpret_cast<std::uintptr_t>(unaligned->data()) + 1);
                engine.run(odd, 1, y.data());
                CHECK(*first == untouched && y == expected);
                first.reset();
                out.reset();
                engine.run(odd, 1, y.data());
                CHECK(y == expected);
            }
        }
    }
}

// The caller owns the tensors too, and may free them before the engine runs.
void test_tensors_may_be_freed() {
    auto bits = std::make_unique<std::vector<std::uint8_t>>(some_bits());
    const std::string program = convolution("bit_conv2d", R"(,"values":"01")");
    onebit::ArrayModel engine(program, {{"w", {bits->data(), onebit::TensorType::uint8, {20, 40}}}}, {});
    std::vector<float> x(6 * 6 * 32, 1.0f), before(6 * 6 * 20), after(before.size());
    engine.run(x.data(), 1, before.data());
    bits.reset();
    engine.run(x.data(), 1, after.data());
    CHECK(before == after);
}

// An exception in any thread reaches the caller, and the pool continues.
void test_exceptions_leave_the_pool() {
    for (const int threads : {1, 4}) {
        onebit::ThreadPool pool(threads);
        for (int round = 0; round < 200; ++round) {
            std::atomic<int> begun{0};
            bool caught = false;
            try {
                pool.parallel_for(50, [&](std::int64_t i, int) {
                    ++begun;
                    if (i % 7 == 3) throw std::runtime_error("in a body");
                });
            } catch (const std::runtime_error& error) {
                caught = std::strcmp(error.what(), "in a body") == 0;
            }
            CHECK(caught && begun.load() < 50);
            std::atomic<int> seen{0};
            pool.parallel_for(50, [&](std::int64_t, int) { ++seen; });
            CHECK(seen.load() == 50);
        }
    }
}

// An exception of the caller's interrupt function ends a computation in any thread, and everything works afterwards.
void test_interruption() {
    const std::vector<float> weights(60 * 9 * 8, 0.25f);
    const std::string program = R"({"input":{"name":"x","shape":[64,64,8]},"steps":[{"op":"conv2d","inputs":["x"],"output":"y",
        "attributes":{"in_channels":8,"out_channels":60,"kernel_size":[3,3],"stride":[1,1],"padding":[1,1,1,1],"dilation":[1,1],"groups":1},
        "tensors":{"weight":"w"}},{"op":"mean_pool","inputs":["y"],"output":"z","attributes":{}}],"output":"z"})";
    const onebit::Tensors tensors = {{"w", {weights.data(), onebit::TensorType::float32, {60, 3, 3, 8}}}};
    constexpr std::int64_t size = 64 * 64 * 8, most = 2000;
    std::vector<float> batch(size * most), out(60 * most), expected(60), y(60);
    for (std::int64_t i = 0; i < size; ++i) batch[static_cast<std::size_t>(i)] = pick_float();
    for (const int threads : {1, 3}) {
        onebit::ArrayModel engine(program, tensors, {.threads = threads, .isa = ""});
        engine.run(batch.data(), 1, expected.data());
        for (int round = 0; round < 2; ++round) {
            bool ended = false;
            try {
                engine.run(batch.data(), most, out.data(), [] { throw onebit::Interrupted(); });
            } catch (const onebit::Interrupted&) {
                ended = true;
            }
            CHECK(ended);
            engine.run(batch.data(), 1, y.data());
            CHECK(y == expected);
        }
        // One that is not ended.
        int asked = 0;
        engine.run(batch.data(), 50, out.data(), [&] { ++asked; });
        CHECK(std::equal(expected.begin(), expected.end(), out.begin()));
    }
    // The calling thread has finished its work and waits for another.
    onebit::ThreadPool pool(2);
    const onebit::Ask ask = [] { throw onebit::Interrupted(); };
    const onebit::ThreadPool::Use use(pool, ask);
    bool ended = false;
    try {
        pool.parallel_for(2, [&](std::int64_t i, int thread) {
            for (int n = 0; i == 0 && n < 1000; ++n) {
                std::this_thread::sleep_for(std::chrono::milliseconds(10));
                pool.check(thread);
            }
        });
    } catch (const onebit::Interrupted&) {
        ended = true;
    }
    CHECK(ended);
}

// If a prompt is computed in several parts and a later one fails, the sequence does not change.
void test_failed_prompts_append_nothing() {
    std::vector<std::uint8_t> table(9 * 8);
    for (std::size_t i = 0; i < table.size(); i += 8) table[i] = static_cast<std::uint8_t>(pick(0, 255));
    const std::string program = R"({"input":{"name":"x","shape":[600],"kind":"tokens"},"steps":[
        {"op":"bit_embedding","inputs":["x"],"output":"e","attributes":{"rows":9,"features":8,"of":"token","values":"pm1"},"tensors":{"weight":"e"}},
        {"op":"attention","inputs":["e","e","e"],"output":"a","attributes":{"heads":1}}],"output":"a"})";
    const onebit::Tensors tensors = {{"e", {table.data(), onebit::TensorType::uint8, {9, 8}}}};
    std::vector<std::int32_t> text(600);
    for (auto& token : text) token = pick(0, 8);
    std::vector<float> expected(8), y(8), first(8);
    onebit::TokenModel reference(program, tensors, {});
    reference.extend({reference.open()}, {600}, text.data(), false, expected.data());
    for (long n = 0;; ++n) {
        onebit::TokenModel decoder(program, tensors, {});
        const int sequence = decoder.open();
        decoder.extend({sequence}, {3}, text.data(), false, first.data());
        allocations_left.store(n);
        bool failed = false;
        try {
            decoder.extend({sequence}, {597}, text.data() + 3, false, y.data());
        } catch (const std::bad_alloc&) {
            failed = true;
        }
        allocations_left.store(-1);
        if (!failed) {
            CHECK(n > 2 && y == expected);
            return;
        }
        CHECK(decoder.length(sequence) == 3);
        decoder.extend({sequence}, {597}, text.data() + 3, false, y.data());
        CHECK(y == expected);
    }
}

// Blocks of many sizes come and go: none overlaps another, and what many texts needed at once goes back to the system.
void test_large_pages_go_back() {
    struct Taken {
        unsigned char* memory;
        std::size_t bytes;
        unsigned char mark;
    };
    std::vector<Taken> taken;
    const auto give = [&](std::size_t which) {
        const Taken given = taken[which];
        CHECK(given.memory[0] == given.mark && given.memory[given.bytes - 1] == given.mark);
        onebit::give_large(given.memory, given.bytes);
        taken[which] = taken.back();
        taken.pop_back();
    };
    for (int n = 0; n < 3000; ++n) {
        const auto bytes = static_cast<std::size_t>(pick(1, n % 10 == 0 ? 1000000 : 90000));
        auto* memory = static_cast<unsigned char*>(onebit::take_large(bytes));
        CHECK(reinterpret_cast<std::uintptr_t>(memory) % 64 == 0);
        taken.push_back({memory, bytes, static_cast<unsigned char>(n)});
        std::memset(memory, taken.back().mark, bytes);
        if (n % 3 == 0) give(static_cast<std::size_t>(pick(0, static_cast<int>(taken.size()) - 1)));
    }
    while (taken.size() > 1) give(taken.size() / 2);
    CHECK(large_pages <= 6);
    give(0);
    // Where memory is exhausted, nothing is taken and everything goes on.
    const std::size_t bytes = 100000;
    std::vector<void*> blocks;
    allocations_left.store(2);
    try {
        for (;;) blocks.push_back(onebit::take_large(bytes));
    } catch (const std::bad_alloc&) {
    }
    allocations_left.store(-1);
    blocks.push_back(onebit::take_large(bytes));
    for (void* memory : blocks) onebit::give_large(memory, bytes);
    CHECK(large_pages <= 5);
}

#if defined(__linux__)
// A child gives back what its parent took, which stays, and has pages of its own.
void test_large_pages_in_a_child() {
    const std::size_t bytes = 50000;
    void* taken = onebit::take_large(bytes);
    const pid_t child = fork();
    if (child == 0) {
        void* own = onebit::take_large(bytes);
        std::memset(own, 1, bytes);
        onebit::give_large(taken, bytes);
        onebit::give_large(own, bytes);
        _exit(own == taken ? 1 : 0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    onebit::give_large(taken, bytes);
}
#endif

}  // namespace

int main(int argc, char** argv) {
    Tests tests;
    tests.add("failed runs leave no pointer", test_failed_runs_leave_no_pointer);
    tests.add("tensors may be freed", test_tensors_may_be_freed);
    tests.add_threaded("exceptions leave the pool", test_exceptions_leave_the_pool);
    tests.add_threaded("interruption", test_interruption);
    tests.add("failed prompts append nothing", test_failed_prompts_append_nothing);
    tests.add("large pages go back", test_large_pages_go_back);
#if defined(__linux__)
    tests.add("large pages in a child", test_large_pages_in_a_child);
#endif
    return tests.run(argc, argv);
}
