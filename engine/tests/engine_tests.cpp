// The engine's own tests: every instruction set against the scalar one (kernel_tests.cpp), the thread pool, the plan of memory, and threads around
// one engine. They are also what runs under the sanitizers (-DONEBIT_SANITIZE=address,undefined or thread).
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "array_model.h"
#include "check.h"
#include "cpu.h"
#include "executor.h"
#include "json.h"
#include "kernel_tests.h"
#include "thread_pool.h"
#include "token_model.h"

namespace {

// The features that the sets of this build need.
std::uint32_t all_features() {
    int count = 0;
    const onebit::Kernels* const* all = onebit::all_kernels(&count);
    std::uint32_t features = 0;
    for (int i = 0; i < count; ++i) {
        features |= all[i]->needs;
    }
    for (const onebit::XnorWay& way : onebit::xnor_ways()) features |= way.needs;
    return features;
}

// CPUID and the auxiliary vector agree with Linux: an undetected feature would silently cost most of the speed.
void test_features() {
    std::ifstream file("/proc/cpuinfo");
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
#if defined(ONEBIT_ARM)
    const std::string key = "Features";
    const std::map<std::string, std::string> linux_names = {{"neon", "asimd"}, {"dotprod", "asimddp"}};
#else
    const std::string key = "flags";
    const std::map<std::string, std::string> linux_names;
#endif
    const std::size_t at = text.find("\n" + key);
    if (at == std::string::npos) return;  // another system, or an emulated processor
    const std::string line = " " + text.substr(text.find(':', at) + 1, text.find('\n', at + 1) - text.find(':', at) - 1) + " ";
    const std::vector<std::string> found = onebit::feature_names(onebit::cpu_features());
    for (const std::string& name : onebit::feature_names(all_features())) {
        const auto other = linux_names.find(name);
        const bool listed = line.find(" " + (other == linux_names.end() ? name : other->second) + " ") != std::string::npos;
        const bool seen = std::find(found.begin(), found.end(), name) != found.end();
        // The system lets a program use tiles or not.
        CHECK(seen == listed || (listed && name.starts_with("amx")));
    }
}

void test_choice() {
    int count = 0;
    const onebit::Kernels* const* all = onebit::all_kernels(&count);
    for (int i = 0; i < count; ++i) {
        std::string error;
        try {
            CHECK(&onebit::choose_kernels(all[i]->name) == all[i]);
        } catch (const std::invalid_argument& e) {
            error = e.what();
        }
        CHECK(onebit::supported(*all[i]) == error.empty());
        CHECK(error.empty() || error.find("this CPU lacks it") != std::string::npos);
        CHECK(onebit::feature_names(all[i]->needs).size() == static_cast<std::size_t>(std::popcount(all[i]->needs)));
    }
}

// Random programs: values that are needed at the same time never share a byte, and the block is no larger than all of them.
void test_memory_plan() {
    for (int round = 0; round < 300; ++round) {
        const int count = pick(1, 30);
        struct Made {
            std::vector<int> inputs;
            int output;
        };
        std::vector<Made> steps(static_cast<std::size_t>(count));
        std::vector<std::int64_t> sizes = {pick(0, 4000)};
        for (int i = 0; i < count; ++i) {
            for (int k = pick(1, 3); k > 0; --k) steps[static_cast<std::size_t>(i)].inputs.push_back(pick(0, i));
            steps[static_cast<std::size_t>(i)].output = i + 1;
            sizes.push_back(pick(0, 4000));
        }
        std::vector<onebit::Uses> order;
        for (const Made& step : steps) order.push_back({step.inputs, step.output});
        const onebit::MemoryPlan plan = onebit::plan_memory(order, sizes, 1, {count});
        std::vector<int> last(sizes.size(), 0);
        std::int64_t all = 0;
        for (int value = 0; value <= count; ++value) {
            last[static_cast<std::size_t>(value)] = value == count ? count + 1 : std::max(0, value - 1);
            for (int i = 0; i < count; ++i) {
                for (const int input : steps[static_cast<std::size_t>(i)].inputs) {
                    if (input == value && value != count) last[static_cast<std::size_t>(value)] = i;
                }
            }
            all += (sizes[static_cast<std::size_t>(value)] + 63) / 64 * 64;
        }
        CHECK(plan.bytes <= all);
        for (int a = 0; a <= count; ++a) {
            const auto x = static_cast<std::size_t>(a);
            CHECK(plan.offsets[x] >= 0 && plan.offsets[x] % 64 == 0 && plan.offsets[x] + sizes[x] <= plan.bytes);
            for (int b = a + 1; b <= count; ++b) {
                // b is made by step b - 1.
                const auto y = static_cast<std::size_t>(b);
                if (last[x] < b - 1) continue;
                CHECK(plan.offsets[x] + sizes[x] <= plan.offsets[y] || plan.offsets[y] + sizes[y] <= plan.offsets[x]);
            }
        }
    }
}

// The caller reads the output in place, and a later step that reads it must find it there.
void test_output_is_read() {
    const std::string text = R"({"input":{"name":"x","shape":[3]},"steps":[
        {"op":"relu","inputs":["x"],"output":"y","attributes":{}},
        {"op":"scale","inputs":["y"],"output":"z","attributes":{"factor":2}}],"output":"y"})";
    onebit::Executor executor(onebit::read_program(text, {}), {.isa = ""}, onebit::CacheNumbers::float32);
    executor.place(0);
    const float x[] = {-1, 2, 3};
    float y[3];
    executor.run(0, executor.size(), {x, y, {}});
    const float* z = executor.value(2);
    CHECK(y[0] == 0 && y[1] == 2 && y[2] == 3);
    CHECK(z[0] == 0 && z[1] == 4 && z[2] == 6);
}

void test_thread_pool() {
    for (const int threads : {1, 2, 5}) {
        onebit::ThreadPool pool(threads, threads == 5);
        for (int round = 0; round < 500; ++round) {
            std::vector<int> seen(static_cast<std::size_t>(pick(0, 50)), 0);
            pool.parallel_for(static_cast<std::int64_t>(seen.size()), [&](std::int64_t i, int thread) {
                if (thread >= 0 && thread < threads) ++seen[static_cast<std::size_t>(i)];
            });
            for (const int times : seen) CHECK(times == 1);
            if (round % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // let the workers fall asleep
        }
    }
}

std::string small_program() {
    return R"({"input":{"name":"x","shape":[12,12,3]},"steps":[
        {"op":"bit_conv2d","inputs":["x"],"output":"a","attributes":{"in_channels":3,"out_channels":20,"kernel_size":[3,3],"stride":[1,1],
         "padding":[1,1,1,1],"dilation":[1,1],"groups":1,"values":"pm1"},"tensors":{"weight":"w"}},
        {"op":"normalize","inputs":["a"],"output":"b","attributes":{"over":"channel","eps":1e-5}},
        {"op":"relu","inputs":["b"],"output":"c","attributes":{}},
        {"op":"max_pool2d","inputs":["c"],"output":"d","attributes":{"kernel_size":[2,2],"stride":[2,2],"padding":[0,0,0,0]}},
        {"op":"mean_pool","inputs":["d"],"output":"e","attributes":{}}],"output":"e"})";
}

void test_engine_in_threads() {
    std::vector<std::uint8_t> bits(20 * 8);
    for (std::size_t i = 0; i < bits.size(); ++i)
        bits[i] = i % 8 < 3 ? static_cast<std::uint8_t>(pick(0, 255)) : static_cast<std::uint8_t>(i % 8 == 3 ? pick(0, 7) : 0);
    const onebit::Tensors tensors = {{"w", {bits.data(), onebit::TensorType::uint8, {20, 8}}}};
    for (const auto precision : {onebit::Precision::int8, onebit::Precision::float32}) {
        onebit::ArrayModel reference(small_program(), tensors, {.precision = precision, .threads = 1, .isa = "scalar"});
        std::vector<std::uint8_t> image(12 * 12 * 3);
        for (auto& v : image) v = static_cast<std::uint8_t>(pick(0, 255));
        std::vector<float> expected(20);
        reference.run(image.data(), 1, expected.data());
        onebit::ArrayModel engine(small_program(), tensors, {.precision = precision, .threads = 3, .isa = "", .pin = true});
        std::vector<std::thread> threads;
        std::vector<std::vector<float>> results(4, std::vector<float>(20));
        for (auto& result : results) {
            threads.emplace_back([&] {
                for (int i = 0; i < 20; ++i) engine.run(image.data(), 1, result.data());
            });
        }
        for (auto& thread : threads) thread.join();
        for (const auto& result : results) {
            for (std::size_t i = 0; i < 20; ++i) CHECK(near(result[i], expected[i]));
        }
    }
}

std::string token_program() {
    return R"({"input":{"name":"t","shape":[40],"kind":"tokens"},"steps":[
        {"op":"bit_embedding","inputs":["t"],"output":"a","attributes":{"rows":9,"features":20,"values":"01","of":"token"},"tensors":{"weight":"e"}},
        {"op":"normalize","inputs":["a"],"output":"b","attributes":{"over":"channel","eps":1e-5}},
        {"op":"attention","inputs":["b","b","b"],"output":"c","attributes":{"heads":2}},
        {"op":"add","inputs":["b","c"],"output":"d","attributes":{}},
        {"op":"bit_linear","inputs":["d"],"output":"f","attributes":{"in_features":20,"out_features":9,"values":"pm1"},"tensors":{"weight":"w"}},
        {"op":"normalize","inputs":["f"],"output":"g","attributes":{"over":"channel","eps":1e-5}}],"output":"g"})";
}

// What today's language models have: positions that turn, several heads of queries for one of keys and values, a window, gains without shifts.
std::string grouped_program() {
    return R"({"input":{"name":"t","shape":[200],"kind":"tokens"},"steps":[
        {"op":"embedding","inputs":["t"],"output":"a","attributes":{"rows":9,"features":24,"of":"token"},"tensors":{"weight":"e"}},
        {"op":"rms_normalize","inputs":["a"],"output":"b","attributes":{"eps":1e-5}},
        {"op":"scale_shift","inputs":["b"],"output":"c","attributes":{},"tensors":{"scale":"s"}},
        {"op":"linear","inputs":["c"],"output":"k","attributes":{"in_features":24,"out_features":4},"tensors":{"weight":"k"}},
        {"op":"rms_normalize","inputs":["c"],"output":"q","attributes":{"eps":1e-5,"groups":6}},
        {"op":"rotary","inputs":["q"],"output":"r","attributes":{"heads":6,"base":10000}},
        {"op":"rotary","inputs":["k"],"output":"u","attributes":{"heads":1,"base":10000,"rotated":2,"scaling":{"kind":"linear","factor":2}}},
        {"op":"attention","inputs":["r","u","k"],"output":"d","attributes":{"heads":6,"kv_heads":1}},
        {"op":"attention","inputs":["d","k","u"],"output":"f","attributes":{"heads":6,"kv_heads":1,"window":70}},
        {"op":"add","inputs":["c","f"],"output":"g","attributes":{}}],"output":"g"})";
}

// A text read whole, and one read in pieces of every size, and together with others: the same bits, with any cache and any number of threads.
void test_grouped_attention() {
    std::vector<float> numbers(9 * 24);
    for (float& v : numbers) v = pick_float();
    const onebit::Tensors tensors = {{"e", {numbers.data(), onebit::TensorType::float32, {9, 24}}},
                                     {"s", {numbers.data(), onebit::TensorType::float32, {24}}},
                                     {"k", {numbers.data(), onebit::TensorType::float32, {4, 24}}}};
    std::vector<std::int32_t> text(200);
    for (auto& token : text) token = pick(0, 8);
    using Cache = std::optional<onebit::CacheNumbers>;
    for (const Cache cache : {Cache{}, Cache{onebit::CacheNumbers::bf16}, Cache{onebit::CacheNumbers::int8}}) {
        const auto precision = cache ? onebit::Precision::int8 : onebit::Precision::float32;
        std::vector<float> expected(200 * 24), y(200 * 24);
        onebit::TokenModel whole(grouped_program(), tensors, {.precision = precision, .threads = 1, .isa = "", .cache = cache});
        whole.extend({whole.open()}, {200}, text.data(), true, expected.data());
        for (const int threads : {1, 3}) {
            onebit::TokenModel model(grouped_program(), tensors, {.precision = precision, .threads = threads, .isa = "", .cache = cache});
            const int one = model.open(), other = model.open();
            int done = 0;
            while (done < 200) {
                const int count = std::min(200 - done, pick(0, 2) == 0 ? pick(1, 90) : 1);
                std::vector<std::int32_t> twice(text.begin() + done, text.begin() + done + count);
                twice.insert(twice.end(), text.begin() + done, text.begin() + done + count);
                std::vector<float> both(static_cast<std::size_t>(2 * count * 24));
                model.extend({one, other}, {count, count}, twice.data(), true, both.data());
                std::copy_n(both.begin(), count * 24, y.begin() + done * 24);
                CHECK(std::equal(both.begin(), both.begin() + count * 24, both.begin() + count * 24));
                done += count;
            }
            CHECK(y == expected);
        }
    }
}

// Two consecutive recurrences, over tokens.
std::string recurrent_program() {
    return R"({"input":{"name":"t","shape":[40],"kind":"tokens"},"steps":[
        {"op":"bit_embedding","inputs":["t"],"output":"a","attributes":{"rows":9,"features":20,"values":"pm1","of":"token"},"tensors":{"weight":"e"}},
        {"op":"bit_lstm","inputs":["a"],"output":"b","attributes":{"hidden":5,"values":"pm1","planes":[1,2],"input":{"quantizer":"sign"},"eps":1e-3},
         "tensors":{"weight":"h","scale":"s","shift":"s"}},
        {"op":"bit_linear","inputs":["b"],"output":"c","attributes":{"in_features":5,"out_features":15,"values":"pm1"},"tensors":{"weight":"v"}},
        {"op":"gru","inputs":["c"],"output":"d","attributes":{"hidden":5},"tensors":{"weight":"g","shift":"k"}},
        {"op":"bit_linear","inputs":["d"],"output":"f","attributes":{"in_features":5,"out_features":9,"values":"pm1"},"tensors":{"weight":"w"}},
        {"op":"normalize","inputs":["f"],"output":"g","attributes":{"over":"channel","eps":1e-5}}],"output":"g"})";
}

// The tensors of recurrent_program, of either kind.
struct RecurrentTensors {
    std::vector<std::uint8_t> bits = std::vector<std::uint8_t>(40 * 8);
    std::vector<float> numbers = std::vector<float>(75);

    RecurrentTensors() {
        // Rows of 5 bits, which those of 20 are too.
        for (std::size_t i = 0; i < bits.size(); i += 8) bits[i] = static_cast<std::uint8_t>(pick(0, 31));
        for (float& v : numbers) v = pick_float() / 2;
    }

    onebit::Tensors views() const {
        return {{"e", {bits.data(), onebit::TensorType::uint8, {9, 8}}},       {"h", {bits.data(), onebit::TensorType::uint8, {40, 8}}},
                {"v", {bits.data(), onebit::TensorType::uint8, {15, 8}}},      {"w", {bits.data(), onebit::TensorType::uint8, {9, 8}}},
                {"g", {numbers.data(), onebit::TensorType::float32, {15, 5}}}, {"s", {numbers.data(), onebit::TensorType::float32, {20}}},
                {"k", {numbers.data(), onebit::TensorType::float32, {15}}}};
    }
};

// Rows of an image, one time step each, in both directions.
std::string sequence_program() {
    return R"({"input":{"name":"x","shape":[7,5,4]},"steps":[
        {"op":"mean_magnitude","inputs":["x"],"output":"m","attributes":{"kernel_size":[3,3],"stride":[1,1],"padding":[1,1,1,1],"dilation":[1,1]}},
        {"op":"multiply","inputs":["x","m"],"output":"n","attributes":{}},
        {"op":"avg_pool2d","inputs":["n"],"output":"o","attributes":{"kernel_size":[2,1],"stride":[1,1],"padding":[1,0,0,0],"count_include_pad":false}},
        {"op":"group_normalize","inputs":["o"],"output":"p","attributes":{"groups":2,"eps":1e-5}},
        {"op":"clip","inputs":["p"],"output":"q","attributes":{"low":-1.5,"high":1}},
        {"op":"rows","inputs":["q"],"output":"r","attributes":{}},
        {"op":"prelu","inputs":["r"],"output":"u","attributes":{},"tensors":{"slope":"s"}},
        {"op":"bit_lstm","inputs":["u"],"output":"a","attributes":{"hidden":5,"values":"01","reverse":true},
         "tensors":{"weight":"h","scale":"s","shift":"s"}},
        {"op":"silu","inputs":["a"],"output":"b","attributes":{}},
        {"op":"last","inputs":["b"],"output":"c","attributes":{}},
        {"op":"mean_pool","inputs":["a"],"output":"d","attributes":{}},
        {"op":"add","inputs":["c","d"],"output":"e","attributes":{}}],"output":"e"})";
}

onebit::Tensors sequence_tensors(const RecurrentTensors& tensors) {
    return {{"h", {tensors.bits.data(), onebit::TensorType::uint8, {20, 8}}}, {"s", {tensors.numbers.data(), onebit::TensorType::float32, {20}}}};
}

// The same examples give the same numbers in any order and with any number of threads: nothing is left of the one before.
void test_sequences() {
    const RecurrentTensors tensors;
    for (const auto precision : {onebit::Precision::int8, onebit::Precision::float32}) {
        onebit::ArrayModel reference(sequence_program(), sequence_tensors(tensors), {.precision = precision, .isa = "scalar"});
        onebit::ArrayModel engine(sequence_program(), sequence_tensors(tensors), {.precision = precision, .threads = 3, .isa = ""});
        for (int round = 0; round < 5; ++round) {
            std::vector<float> images(3 * 7 * 5 * 4), expected(3 * 5), y(3 * 5), alone(5);
            for (float& v : images) v = pick_float();
            reference.run(images.data(), 3, expected.data());
            engine.run(images.data(), 3, y.data());
            for (std::size_t i = 0; i < y.size(); ++i) {
                // A number of the state between two levels may round to either.
                CHECK(precision == onebit::Precision::int8 ? std::fabs(y[i] - expected[i]) < 0.05f : near(y[i], expected[i]));
            }
            engine.run(images.data() + 7 * 5 * 4, 1, alone.data());
            CHECK(std::equal(alone.begin(), alone.end(), y.begin() + 5));
        }
    }
}

// Convolutions that read bits, of random shapes, with levels of either sign, padding, strides and dilations, and strips of wide images: their sums
// before any normalisation are whole numbers times the scale, so that sets differ by a rounding at most.
void test_image_convolutions() {
    for (int round = 0; round < 60; ++round) {
        const bool wide = round % 20 == 0;
        const int channels = wide ? 48 : 16 * pick(1, 4), outputs = pick(17, 140), kernel[2] = {pick(1, 5), pick(1, 5)};
        const int stride[2] = {pick(1, 2), pick(1, 2)}, dilation[2] = {pick(1, 2), pick(1, 2)}, pool = pick(1, 3);
        const int height = wide ? 12 : pick(10, 30), width = wide ? 700 : pick(10, 30);
        int padding[4];
        for (int& p : padding) p = pick(0, 3);
        const std::int64_t row = onebit::row_bytes(std::int64_t{kernel[0]} * kernel[1] * channels);
        std::vector<std::uint8_t> bits(static_cast<std::size_t>(row * outputs));
        const int inputs = kernel[0] * kernel[1] * channels;
        for (int o = 0; o < outputs; ++o) {
            for (int i = 0; i < inputs; ++i) bits[static_cast<std::size_t>(o * row + i / 8)] |= static_cast<std::uint8_t>(pick(0, 1) << (i % 8));
        }
        const onebit::Tensors tensors = {{"w", {bits.data(), onebit::TensorType::uint8, {outputs, row}}}};
        const auto n = [](int v) { return std::to_string(v); };
        const std::string conv = R"({"op":"bit_conv2d","inputs":["x"],"output":"a","attributes":{"in_channels":)" + n(channels) +
                                 R"(,"out_channels":)" + n(outputs) + R"(,"kernel_size":[)" + n(kernel[0]) + "," + n(kernel[1]) + R"(],"stride":[)" +
                                 n(stride[0]) + "," + n(stride[1]) + R"(],"padding":[)" + n(padding[0]) + "," + n(padding[1]) + "," + n(padding[2]) +
                                 "," + n(padding[3]) + R"(],"dilation":[)" + n(dilation[0]) + "," + n(dilation[1]) + R"(],"groups":1,"values":")" +
                                 (round % 2 == 0 ? "01" : "pm1") + R"("},"tensors":{"weight":"w"}})";
        const int out_height = (height + padding[0] + padding[1] - (kernel[0] - 1) * dilation[0] - 1) / stride[0] + 1;
        const int out_width = (width + padding[2] + padding[3] - (kernel[1] - 1) * dilation[1] - 1) / stride[1] + 1;
        const bool pooled = pool > 1 && out_height >= pool && out_width >= pool;
        const std::string pooling = R"(,{"op":"max_pool2d","inputs":["a"],"output":"b","attributes":{"kernel_size":[)" + n(pool) + "," + n(pool) +
                                    R"(],"stride":[)" + n(pool) + "," + n(pool) + R"(],"padding":[0,0,0,0]}})";
        const std::string program = R"({"input":{"name":"x","shape":[)" + n(height) + "," + n(width) + "," + n(channels) + R"(]},"steps":[)" + conv +
                                    (pooled ? pooling : "") + R"(],"output":")" + (pooled ? "b" : "a") + R"("})";
        std::vector<float> image(static_cast<std::size_t>(height * width * channels));
        for (auto& v : image) v = round % 3 == 0 ? std::fabs(pick_float()) : pick_float();
        onebit::ArrayModel reference(program, tensors, {.isa = "scalar"});
        std::vector<float> expected(static_cast<std::size_t>(onebit::elements(reference.output_shape())));
        reference.run(image.data(), 1, expected.data());
        for (const int threads : {1, 3}) {
            onebit::ArrayModel engine(program, tensors, {.threads = threads, .isa = ""});
            std::vector<float> y(expected.size());
            for (int again = 0; again < 2; ++again) {
                engine.run(image.data(), 1, y.data());
                for (std::size_t i = 0; i < y.size(); ++i) CHECK(near(y[i], expected[i]));
            }
        }
    }
}

void test_decoder_in_threads(const std::string& program, const onebit::Tensors& tensors) {
    std::vector<std::int32_t> text(40);
    for (auto& token : text) token = pick(0, 8);
    for (const auto precision : {onebit::Precision::int8, onebit::Precision::float32}) {
        std::vector<float> expected(40 * 9);
        onebit::TokenModel reference(program, tensors, {.precision = precision, .threads = 1, .isa = "scalar"});
        reference.extend({reference.open()}, {40}, text.data(), true, expected.data());
        onebit::TokenModel decoder(program, tensors, {.precision = precision, .threads = 3, .isa = ""});
        std::vector<std::thread> threads;
        std::vector<std::vector<float>> results(4, std::vector<float>(40 * 9));
        for (auto& result : results) {
            threads.emplace_back([&] {
                const int sequence = decoder.open();
                decoder.extend({sequence}, {11}, text.data(), true, result.data());
                for (int i = 11; i < 40; ++i) decoder.extend({sequence}, {1}, text.data() + i, false, result.data() + i * 9);
                decoder.close(sequence);
            });
        }
        for (auto& thread : threads) thread.join();
        for (const auto& result : results) {
            for (std::size_t i = 0; i < result.size(); ++i) CHECK(near(result[i], expected[i]));
        }
    }
}

// Models of one pool, each called by its own thread, give the same bits as alone. A model outlives the maker of the pool.
void test_shared_pool(const onebit::Tensors& text_tensors) {
    const RecurrentTensors recurrent;
    std::vector<float> image(3 * 7 * 5 * 4);
    for (float& v : image) v = pick_float();
    std::vector<std::int32_t> text(40);
    for (auto& token : text) token = pick(0, 8);
    const auto write = [&](onebit::TokenModel& decoder) {
        std::vector<float> y(40 * 9);
        const int sequence = decoder.open();
        decoder.extend({sequence}, {11}, text.data(), true, y.data());
        for (int i = 11; i < 40; ++i) decoder.extend({sequence}, {1}, text.data() + i, false, y.data() + i * 9);
        decoder.close(sequence);
        return y;
    };
    const auto images = [&](onebit::ArrayModel& engine) {
        std::vector<float> y(3 * 5);
        engine.run(image.data(), 3, y.data());
        return y;
    };
    onebit::Options options{.threads = 3};
    onebit::ArrayModel own_engine(sequence_program(), sequence_tensors(recurrent), options);
    onebit::TokenModel own_decoder(token_program(), text_tensors, options);
    const std::vector<float> expected_image = images(own_engine), expected_text = write(own_decoder);
    options.threads = 1;
    options.pool = std::make_shared<onebit::ThreadPool>(3);
    onebit::ArrayModel engine(sequence_program(), sequence_tensors(recurrent), options);
    onebit::TokenModel decoder(token_program(), text_tensors, options), other(token_program(), text_tensors, options);
    options.pool.reset();
    CHECK(engine.threads() == 3 && decoder.threads() == 3);
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 200; ++i) wrong += images(engine) != expected_image;
        });
        threads.emplace_back([&, t] {
            for (int i = 0; i < 10; ++i) wrong += write(t == 0 ? decoder : other) != expected_text;
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(wrong.load() == 0);
}

// The interrupt function cannot compute with a model of the same pool: it gets an error and does not wait for itself.
void test_pool_within_its_turn() {
    const RecurrentTensors recurrent;
    onebit::Options options;
    options.pool = std::make_shared<onebit::ThreadPool>(2);
    onebit::ArrayModel engine(sequence_program(), sequence_tensors(recurrent), options);
    onebit::ArrayModel inner(sequence_program(), sequence_tensors(recurrent), options);
    constexpr std::int64_t count = 20'000;
    const std::vector<float> image(7 * 5 * 4, 0.5f), many(count * 7 * 5 * 4, 0.5f);
    std::vector<float> y(5), all(count * 5);
    std::string error;
    const onebit::Ask ask = [&] {
        try {
            inner.run(image.data(), 1, y.data());
        } catch (const std::invalid_argument& e) {
            error = e.what();
            throw onebit::Interrupted();
        }
    };
    bool ended = false;
    try {
        while (true) engine.run(many.data(), count, all.data(), ask);
    } catch (const onebit::Interrupted&) {
        ended = true;
    }
    CHECK(ended && error.find("has the turn") != std::string::npos);
    inner.run(image.data(), 1, y.data());
    engine.run(many.data(), 1, all.data());
    CHECK(std::equal(y.begin(), y.end(), all.begin()));
}

// Programs that need too much memory for activations are refused before it is allocated.
void test_memory_cap() {
    const std::vector<std::uint8_t> zeros(20 * 8);
    const onebit::Tensors tensors = {{"w", {zeros.data(), onebit::TensorType::uint8, {20, 8}}},
                                     {"e", {zeros.data(), onebit::TensorType::uint8, {9, 8}}}};
    onebit::Tensors of_tokens = tensors;
    of_tokens["w"].shape = {9, 8};
    const auto refuses = [](const auto& make) {
        try {
            make();
        } catch (const std::invalid_argument& error) {
            return std::string(error.what()).find("memory_cap") != std::string::npos;
        }
        return false;
    };
    const onebit::ArrayModel engine(small_program(), tensors, {});
    CHECK(engine.most_bytes() > engine.arena_bytes() && engine.arena_bytes() > 12 * 12 * 3 * 4);
    CHECK(refuses([&] { onebit::ArrayModel(small_program(), tensors, {.isa = "", .memory_cap = engine.most_bytes() - 1}); }));
    onebit::ArrayModel(small_program(), tensors, {.isa = "", .memory_cap = engine.most_bytes()});
    const onebit::TokenModel decoder(token_program(), of_tokens, {});
    CHECK(refuses([&] { onebit::TokenModel(token_program(), of_tokens, {.isa = "", .memory_cap = decoder.most_bytes() - 1}); }));
    // The default: more than a pointer of 32 bits can count, and 0 in its lower half.
    onebit::TokenModel(token_program(), of_tokens, {.isa = "", .memory_cap = std::uint64_t{4} << 30});
    std::string long_texts = token_program();
    long_texts.replace(long_texts.find("[40]"), 4, "[70000]");
    onebit::TokenModel(long_texts, of_tokens, {.isa = "", .cache = onebit::CacheNumbers::bf16});
    try {
        onebit::TokenModel(long_texts, of_tokens, {.isa = "", .cache = onebit::CacheNumbers::int8});
        CHECK(false);
    } catch (const std::invalid_argument& error) {
        CHECK(std::string(error.what()).find("up to 65536 tokens") != std::string::npos);
    }
}

void test_damaged_programs(const std::string& good, const onebit::Tensors& tensors) {
    int refused = 0;
    for (int round = 0; round < 3000; ++round) {
        std::string text = good;
        for (int i = pick(1, 3); i > 0; --i)
            text[static_cast<std::size_t>(pick(0, static_cast<int>(text.size()) - 1))] = static_cast<char>(pick(32, 126));
        if (pick(0, 3) == 0) text.resize(static_cast<std::size_t>(pick(0, static_cast<int>(text.size()))));
        try {
            const onebit::Program program = onebit::read_program(text, tensors);
            CHECK(!program.shapes.empty());
        } catch (const std::invalid_argument&) {
            ++refused;
        }
    }
    CHECK(refused > 1000);
}

// Text with a few bits of 9 rows.
std::vector<std::uint8_t> token_bits() {
    std::vector<std::uint8_t> bits(9 * 8);
    for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint8_t>(i % 8 < 2 ? pick(0, 255) : i % 8 == 2 ? pick(0, 15) : 0);
    return bits;
}

}  // namespace

int main(int argc, char** argv) {
    Tests tests;
    add_kernel_tests(tests);
    add_grouped_tests(tests);
    add_row_tests(tests);
    add_xnor_tests(tests);
    add_tile_tests(tests);
    add_thread_tests(tests);
    add_calibration_tests(tests);
    add_text_tests(tests);
    tests.add("features", test_features);
    tests.add("choice of a set", test_choice);
    tests.add("memory plan", test_memory_plan);
    tests.add("output that a later step reads", test_output_is_read);
    tests.add("thread pool", test_thread_pool);
    tests.add("memory cap", test_memory_cap);
    tests.add_threaded("engine in threads", test_engine_in_threads);
    tests.add_threaded("pool of several models", [] {
        const auto bits = token_bits();
        test_shared_pool({{"e", {bits.data(), onebit::TensorType::uint8, {9, 8}}}, {"w", {bits.data(), onebit::TensorType::uint8, {9, 8}}}});
    });
    tests.add("pool within its turn", test_pool_within_its_turn);
    tests.add("image convolutions", test_image_convolutions);
    tests.add("sequences", test_sequences);
    tests.add("grouped attention", test_grouped_attention);
    tests.add_threaded("decoder in threads", [] {
        const auto bits = token_bits();
        test_decoder_in_threads(token_program(),
                                {{"e", {bits.data(), onebit::TensorType::uint8, {9, 8}}}, {"w", {bits.data(), onebit::TensorType::uint8, {9, 8}}}});
    });
    tests.add_threaded("recurrent decoder in threads", [] {
        const RecurrentTensors recurrent;
        test_decoder_in_threads(recurrent_program(), recurrent.views());
    });
    tests.add("damaged recurrent programs", [] {
        const RecurrentTensors recurrent;
        test_damaged_programs(recurrent_program(), recurrent.views());
        test_damaged_programs(sequence_program(), sequence_tensors(recurrent));
    });
    tests.add("damaged programs", [] {
        const std::vector<std::uint8_t> zeros(20 * 8);
        test_damaged_programs(small_program(), {{"w", {zeros.data(), onebit::TensorType::uint8, {20, 8}}}});
        test_damaged_programs(token_program(),
                              {{"e", {zeros.data(), onebit::TensorType::uint8, {9, 8}}}, {"w", {zeros.data(), onebit::TensorType::uint8, {9, 8}}}});
    });
    return tests.run(argc, argv);
}
