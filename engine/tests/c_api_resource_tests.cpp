// Tests of the C API: threads, pools, allocations that fail, and damaged files.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <new>
#include <random>
#include <thread>

#include "c_api_files.h"
#include "json.h"

namespace {

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

namespace c_api {

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

}  // namespace c_api
