// The pool's rounds, and dense layers with outputs that threads divide.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "dense_group.h"
#include "dense_layer.h"
#include "kernel_tests.h"
#include "parallel.h"
#include "thread_pool.h"
#include "turn.h"

namespace {

// Rounds of all sizes, one right after the other, now and then with a pause in which workers fall asleep: each index runs once, and none after the
// round's end.
void test_rounds() {
    for (const int threads : {2, 3, 7}) {
        onebit::ThreadPool pool(threads);
        std::vector<std::atomic<int>> runs(64);
        for (int round = 0; round < 4000; ++round) {
            const int count = round % 3 == 0 ? pick(1, threads) : pick(1, 64);
            for (auto& run : runs) run.store(0, std::memory_order_relaxed);
            pool.parallel_for(count, [&](std::int64_t i, int thread) {
                if (thread >= 0 && thread < threads) runs[static_cast<std::size_t>(i)].fetch_add(1, std::memory_order_relaxed);
            });
            for (int i = 0; i < 64; ++i) CHECK(runs[static_cast<std::size_t>(i)].load(std::memory_order_relaxed) == (i < count ? 1 : 0));
            if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::microseconds(900));
        }
    }
}

// An exception in any thread reaches the caller, and the next round works.
void test_failing_rounds() {
    onebit::ThreadPool pool(3);
    for (int round = 0; round < 600; ++round) {
        const int count = pick(2, 40), bad = pick(0, count - 1);
        bool thrown = false;
        try {
            pool.parallel_for(count, [&](std::int64_t i, int) {
                if (i == bad) throw std::runtime_error("bad");
            });
        } catch (const std::runtime_error&) {
            thrown = true;
        }
        CHECK(thrown);
        std::atomic<int> runs{0};
        pool.parallel_for(count, [&](std::int64_t, int) { runs.fetch_add(1, std::memory_order_relaxed); });
        CHECK(runs.load() == count);
    }
}

struct Layer {
    std::int64_t inputs, outputs;
    std::vector<std::uint8_t> rows, memory;
    std::unique_ptr<onebit::DenseLayer> layer;

    Layer(std::int64_t in, std::int64_t out, const std::vector<int>& planes, const onebit::Kernels& kernels, int threads,
          const onebit::ops::Fused& after = {}, const onebit::InputLevels& levels = {})
        : inputs(in), outputs(out) {
        onebit::ops::Layer of;
        of.after = after;
        of.bits.input = levels;
        of.bits.planes = planes;
        of.bits.plus_minus = outputs % 2 == 0;
        const auto plane_outputs = static_cast<std::int64_t>(planes.size()) * outputs;
        rows.resize(static_cast<std::size_t>(plane_outputs * onebit::row_bytes(inputs)));
        std::uint32_t state = 7;
        for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
        // Bits beyond a row's last input are 0.
        for (std::int64_t o = 0; o < plane_outputs && inputs % 8 != 0; ++o) {
            rows[static_cast<std::size_t>((o + 1) * onebit::row_bytes(inputs) - 1)] &= static_cast<std::uint8_t>((1 << inputs % 8) - 1);
        }
        of.bits.rows = rows.data();
        memory.resize(static_cast<std::size_t>(onebit::BitMatrix::bytes(inputs, plane_outputs, kernels)) + 64);
        std::uint8_t* line = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
        layer = std::make_unique<onebit::DenseLayer>(of, inputs, outputs, true, kernels, line, threads);
    }

    std::vector<float> run(const std::vector<float>& x, std::int64_t count, onebit::ThreadPool& pool, onebit::DenseScratch& scratch) const {
        std::vector<float> y(static_cast<std::size_t>(count * outputs));
        layer->run(x.data(), count, false, y.data(), pool, scratch);
        // The same input again, as for another layer of the same input.
        std::vector<float> again(y.size());
        layer->run(x.data(), count, true, again.data(), pool, scratch);
        for (std::size_t i = 0; i < y.size(); ++i) CHECK(identical(y[i], again[i]));
        return y;
    }
};

// With any number of threads and rows, the results equal those of one thread, bit for bit.
void test_divided_layers(const onebit::Kernels& kernels) {
    struct Case {
        std::int64_t inputs, outputs;
        std::vector<int> planes;
    };
    const Case cases[] = {{768, 768, {1}}, {700, 521, {1}}, {1030, 1290, {1}}, {800, 300, {2, 1}}, {70, 30, {1}}};
    for (const Case& c : cases) {
        const Layer alone(c.inputs, c.outputs, c.planes, kernels, 1);
        onebit::ThreadPool one(1);
        onebit::DenseScratch its;
        its.threads.resize(1);
        for (const int threads : {2, 3, 5}) {
            const Layer divided(c.inputs, c.outputs, c.planes, kernels, threads);
            onebit::ThreadPool pool(threads);
            onebit::DenseScratch scratch;
            scratch.threads.resize(static_cast<std::size_t>(threads));
            for (const std::int64_t count : {1, 2, 4, 5, 70, 200}) {
                if (count > 5 && kernels.gemv.layout.most_rows != onebit::any_rows && kernels.needs == 0) continue;  // scalar takes long
                std::vector<float> x(static_cast<std::size_t>(count * c.inputs));
                for (float& v : x) v = pick_float();
                const std::vector<float> expected = alone.run(x, count, one, its), found = divided.run(x, count, pool, scratch);
                for (std::size_t i = 0; i < expected.size(); ++i) CHECK(identical(expected[i], found[i]));
            }
        }
    }
}

// Layers that run as one give what each of them gives alone, in one round or, where some have too little work or too many rows, one after the other.
void test_grouped_layers(const onebit::Kernels& kernels) {
    constexpr std::int64_t inputs = 768;
    struct Case {
        std::vector<std::int64_t> outputs;
        std::vector<int> planes;
    };
    const Case cases[] = {{{768, 768, 768}, {1}}, {{768, 1030}, {1}}, {{512, 640, 512}, {2, 1}}, {{768, 30, 768}, {1}}};
    for (const Case& c : cases) {
        for (const int threads : {1, 2, 3}) {
            std::vector<Layer> layers;
            std::vector<const onebit::DenseLayer*> grouped;
            for (const std::int64_t outputs : c.outputs) layers.emplace_back(inputs, outputs, c.planes, kernels, threads);
            for (const Layer& layer : layers) grouped.push_back(layer.layer.get());
            const onebit::DenseGroup group(grouped);
            onebit::ThreadPool pool(threads);
            onebit::DenseScratch scratch;
            scratch.threads.resize(static_cast<std::size_t>(threads));
            for (const std::int64_t count : {1, 3, 6}) {
                if (count > 1 && threads > 2 && kernels.needs == 0) continue;  // scalar takes long
                std::vector<float> x(static_cast<std::size_t>(count * inputs));
                for (float& v : x) v = pick_float();
                if (count == 3) x[inputs] = std::numeric_limits<float>::infinity();
                std::vector<std::vector<float>> found, expected;
                std::vector<float*> to;
                for (const Layer& layer : layers) {
                    expected.push_back(layer.run(x, count, pool, scratch));
                    found.emplace_back(expected.back().size());
                }
                for (std::vector<float>& y : found) to.push_back(y.data());
                for (const bool again : {false, true}) {
                    group.run(x.data(), count, again, to, pool, scratch);
                    for (std::size_t i = 0; i < layers.size(); ++i) {
                        for (std::size_t o = 0; o < found[i].size(); ++o) CHECK(identical(expected[i][o], found[i][o]));
                        std::fill(found[i].begin(), found[i].end(), 0.0f);
                    }
                }
            }
        }
    }
}

// A row's epilogue is the same bits however many threads share it: as the layer alone, then a normalisation, then a function of each number.
void test_shared_epilogues(const onebit::Kernels& kernels) {
    using onebit::InputLevels;
    constexpr std::int64_t inputs = 70;
    const onebit::UnaryKernel functions[] = {nullptr, kernels.rows.relu, kernels.rows.gelu, kernels.rows.silu};
    for (const std::int64_t outputs : {300, 1280, 4096, 9000, 12'289}) {
        if (kernels.needs == 0 && outputs > 300 && outputs != 9000) continue;  // scalar takes long
        std::vector<float> scale, shift;
        for (std::int64_t o = 0; o < outputs; ++o) scale.push_back(pick_float()), shift.push_back(pick_float());
        for (int round = 0; round < 9; ++round) {
            const InputLevels levels = round % 3 == 2 ? InputLevels{InputLevels::Quantizer::absmax, 16} : InputLevels{};
            const std::vector<int> planes = round % 2 == 0 ? std::vector<int>{1} : std::vector<int>{2, 1};
            const int norm = round % 3, function = pick(0, 3);
            onebit::ops::Fused after;
            if (norm == 1) after.normalize = {true, 1e-5f};
            if (norm == 2) after.scale_shift = {scale.data(), shift.data()};
            after.relu = function == 1;
            if (function > 1) after.activation = function == 2 ? onebit::Op::gelu : onebit::Op::silu;
            const std::int64_t rows = pick(1, 2);
            std::vector<float> x(static_cast<std::size_t>(rows * inputs));
            // The squares of the last ones do not fit floats.
            for (float& v : x) v = pick_float() * (round > 6 ? 1e25f : 1.0f);
            onebit::DenseScratch its;
            its.threads.resize(1);
            onebit::ThreadPool one(1);
            std::vector<float> expected = Layer(inputs, outputs, planes, kernels, 1, {}, levels).run(x, rows, one, its);
            for (float* row = expected.data(); row < expected.data() + rows * outputs; row += outputs) {
                if (norm == 1) kernels.rows.normalize(row, outputs, 1e-5f, row);
                if (norm == 2) kernels.rows.scale_shift(row, 1, static_cast<int>(outputs), scale.data(), shift.data(), row);
                if (function > 0) functions[function](row, outputs, row);
            }
            for (const int threads : {1, 2, 3, 5}) {
                onebit::ThreadPool pool(threads);
                onebit::DenseScratch scratch;
                scratch.threads.resize(static_cast<std::size_t>(threads));
                const std::vector<float> found = Layer(inputs, outputs, planes, kernels, threads, after, levels).run(x, rows, pool, scratch);
                for (std::size_t i = 0; i < expected.size(); ++i) CHECK(identical(expected[i], found[i]));
            }
        }
    }
}

// Each number belongs to one piece, however few there are per thread.
void test_shared_numbers() {
    for (const int threads : {1, 2, 3}) {
        onebit::ThreadPool pool(threads);
        for (const std::int64_t n : {0, 1, 511, 768, 1024, 1537, 50'000}) {
            std::vector<int> seen(static_cast<std::size_t>(n));
            onebit::parallel_numbers(pool, n, [&](std::int64_t first, std::int64_t count) {
                for (std::int64_t i = first; i < first + count; ++i) ++seen[static_cast<std::size_t>(i)];
            });
            for (const int times : seen) CHECK(times == 1);
        }
    }
}

// One thread at a time has a turn.
void test_turns() {
    onebit::Turn turn;
    int inside = 0, most = 0, taken = 0;  // guarded by the turn
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            const onebit::Ask ask = t % 2 == 0 ? onebit::Ask([] {}) : onebit::Ask();
            for (int i = 0; i < 300; ++i) {
                const auto held = onebit::take_turn(turn, ask);
                most = std::max(most, ++inside);
                ++taken;
                --inside;
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(most == 1 && taken == 1200);
    // A thread that has the turn and asks again would wait for itself.
    const std::lock_guard held(turn);
    bool refused = false;
    try {
        turn.lock();
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    CHECK(refused);
}

// Threads get their turns in the order in which they asked. An interrupted thread leaves, and those after it do not wait for it.
void test_order_of_turns() {
    onebit::Turn turn;
    std::vector<int> order;  // guarded by the turn
    std::vector<std::thread> threads;
    std::atomic<bool> end{false}, waits[4] = {};
    {
        const std::lock_guard held(turn);
        for (int t = 0; t < 4; ++t) {
            threads.emplace_back([&, t] {
                try {
                    const auto mine = onebit::take_turn(turn, [&, t] {
                        waits[t].store(true);
                        if (t == 1 && end.load()) throw onebit::Interrupted();
                    });
                    order.push_back(t);
                } catch (const onebit::Interrupted&) {
                }
            });
            // The interrupt function is called while waiting.
            while (!waits[t].load()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        end.store(true);
        threads[1].join();
    }
    for (const int t : {0, 2, 3}) threads[static_cast<std::size_t>(t)].join();
    CHECK((order == std::vector<int>{0, 2, 3}));
}

}  // namespace

void add_thread_tests(Tests& tests) {
    tests.add("rounds of threads", test_rounds);
    tests.add("rounds that fail", test_failing_rounds);
    tests.add_threaded("turns", test_turns);
    tests.add_threaded("order of turns", test_order_of_turns);
    tests.add("numbers that threads share", test_shared_numbers);
    add_for_each_set(tests, "divided layers", test_divided_layers);
    add_for_each_set(tests, "shared epilogues", test_shared_epilogues);
    add_for_each_set(tests, "grouped layers", test_grouped_layers);
}
