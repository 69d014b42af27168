// The calibration of a machine: measurements, the choices from them, and their file.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "array_model.h"
#include "calibration.h"
#include "check.h"
#include "kernel_tests.h"

namespace {

namespace fs = std::filesystem;

// Sets an environment variable during its lifetime.
class Set {
  public:
    Set(const char* name, const std::string& value) : name_(name) {
        const char* before = std::getenv(name);
        had_ = before != nullptr;
        before_ = had_ ? before : "";
        setenv(name, value.c_str(), 1);
    }
    ~Set() {
        if (had_) {
            setenv(name_, before_.c_str(), 1);
        } else {
            unsetenv(name_);
        }
    }
    Set(const Set&) = delete;
    Set& operator=(const Set&) = delete;

  private:
    const char* name_;
    bool had_;
    std::string before_;
};

class Folder {
  public:
    Folder() {
        path_ = fs::temp_directory_path() / ("onebit-calibration-" + std::to_string(std::random_device()()));
        fs::create_directories(path_);
    }
    ~Folder() {
        std::error_code error;
        fs::remove_all(path_, error);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::string operator/(const std::string& name) const { return (path_ / name).string(); }

  private:
    fs::path path_;
};

// A set with some fake members. It is never run.
onebit::Kernels pretended(bool looks_images_up) {
    onebit::Kernels kernels = onebit::scalar_kernels;
    kernels.name = "pretended";
    kernels.gemv.layout.most_rows = 40;
    kernels.conv.least_gain = 5;
    kernels.gemv.least_divided = 77'777;
    if (!looks_images_up) kernels.conv.product = nullptr;
    return kernels;
}

void test_choice_of_ways() {
    const onebit::Kernels kernels = pretended(true);
    // The times of a Zen 4: look-ups are twice as fast as a panel, and the result is the shipped gain.
    onebit::Ways ways = onebit::choose_ways(kernels, {1 / 465.0, 1 / 230.0, 0.01, 0.22, 0.22, 1 / 280.0});
    CHECK(ways.most_rows == onebit::any_rows && ways.least_image_gain == 3 && ways.least_divided == 280'000);
    // Faster panels pay off from the row on that makes up for expanding them.
    ways = onebit::choose_ways(kernels, {0.005, 0.003, 0.02, 0.1024, 0.2, 0.006});
    CHECK(ways.most_rows == 10 && ways.least_image_gain == onebit::never);
    // Nearly equal times: the set's own choice, but images do not use look-ups.
    ways = onebit::choose_ways(kernels, {0.004, 0.0041, 0.02, 0.05, 0.2, 0.006});
    CHECK(ways.most_rows == 40 && ways.least_image_gain == onebit::never);
    // A set without a product of images keeps its values.
    CHECK(onebit::choose_ways(pretended(false), {0.002, 0.004, 0.02, 0.05, 0.2, 0.006}).least_image_gain == 5);
    // A clock that stands still or runs backwards.
    for (const double time : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
        CHECK(onebit::choose_ways(kernels, {0.002, time, 0.02, 0.05, 0.2, 0.006}) == onebit::ways_of(kernels));
        CHECK(onebit::choose_ways(kernels, {0.002, 0.004, 0.02, 0.05, 0.2, time}) == onebit::ways_of(kernels));
    }
    // Times without any proportion stay numbers.
    ways = onebit::choose_ways(kernels, {1e9, 1e-9, 1e30, 1e30, 1e30, 1e-30});
    CHECK(ways.most_rows >= 4 && ways.most_rows <= 1'000'000);
    CHECK(ways.least_divided == 10'000'000);
}

void test_kept_ways() {
    const Folder folder;
    const onebit::Kernels kernels = pretended(true);
    const std::string file = onebit::calibration_file(folder / "new/deep", kernels);
    CHECK(!onebit::read_ways(file, kernels));
    const onebit::Ways ways{12, 7, 1234};
    CHECK(onebit::write_ways(file, kernels, ways));
    CHECK(onebit::read_ways(file, kernels) == ways);
    for (const auto& entry : fs::directory_iterator(fs::path(file).parent_path())) CHECK(entry.path() == file);
    std::string good;
    {
        std::ifstream in(file, std::ios::binary);
        good.assign(std::istreambuf_iterator<char>(in), {});
    }
    // A file that is truncated, changed or extended is ignored.
    const auto reads = [&](const std::string& text) {
        std::ofstream(file, std::ios::binary) << text;
        return onebit::read_ways(file, kernels).has_value();
    };
    CHECK(reads(good));
    for (std::size_t length = 0; length < good.size(); ++length) CHECK(!reads(good.substr(0, length)));
    for (std::size_t i = 0; i < good.size(); i += 3) {
        std::string changed = good;
        changed[i] = static_cast<char>(changed[i] ^ 1);
        CHECK(!reads(changed));
    }
    CHECK(!reads(good + "\n") && !reads(good + std::string(10'000, 'x')) && !reads(std::string(100'000, 'x')));
    // A file of another set, or with choices that are impossible for a set or for a measurement.
    onebit::Kernels other = kernels;
    other.name = "other";
    CHECK(reads(good) && !onebit::read_ways(file, other));
    CHECK(!onebit::read_ways(file, pretended(false)));
    for (const onebit::Ways bad : {onebit::Ways{-1, 7, 1}, {onebit::any_rows + 1, 7, 1}, {4, 0, 1}, {4, 7, -1}}) {
        CHECK(onebit::write_ways(file, kernels, bad) && !onebit::read_ways(file, kernels));
    }
    CHECK(onebit::write_ways(file, kernels, {4, onebit::never, 1}) && onebit::read_ways(file, kernels)->least_image_gain == onebit::never);
    // A folder in place of the file, and a file in place of the folder.
    fs::remove(file);
    fs::create_directories(file + "/inside");
    CHECK(!onebit::read_ways(file, kernels) && !onebit::write_ways(file, kernels, ways));
    std::ofstream(folder / "plain") << "x";
    CHECK(!onebit::write_ways(folder / "plain/calibration.txt", kernels, ways) && !onebit::read_ways(folder / "plain/calibration.txt", kernels));
}

// Several processes write at the same time: a reader finds one complete file or none.
void test_writers_at_once() {
    const Folder folder;
    const onebit::Kernels kernels = pretended(true);
    const std::string file = folder / "ways.txt";
    std::vector<std::thread> writers;
    for (int w = 0; w < 3; ++w) {
        writers.emplace_back([&, w] {
            for (int i = 0; i < 60; ++i) onebit::write_ways(file, kernels, {w, 1 + w, w});
        });
    }
    bool whole = true;
    for (int i = 0; i < 300; ++i) {
        const bool there = fs::exists(file);
        const auto found = onebit::read_ways(file, kernels);
        whole = whole && (!there || (found && found->most_rows == found->least_divided && found->least_image_gain == found->most_rows + 1));
    }
    for (std::thread& writer : writers) writer.join();
    CHECK(whole);
    for (const auto& entry : fs::directory_iterator(fs::path(file).parent_path())) CHECK(entry.path() == file);
}

void test_cache_folder() {
    const Set home("HOME", "/home/someone");
    const Set named("ONEBIT_CACHE", ""), system("XDG_CACHE_HOME", "");
    CHECK(onebit::cache_folder() == "/home/someone/.cache/onebit");
    {
        const Set other("XDG_CACHE_HOME", "/var/cache");
        CHECK(onebit::cache_folder() == "/var/cache/onebit");
        const Set own("ONEBIT_CACHE", "~/kept");
        CHECK(onebit::cache_folder() == "/home/someone/kept");
    }
    const Set nowhere("HOME", "");
    CHECK(onebit::cache_folder().empty());
}

// A real measurement: measured, kept and read again, and without a place to keep it.
void test_measuring(const onebit::Kernels& kernels) {
    const Folder folder;
    const Set words("ONEBIT_CALIBRATION", "");
    {
        const Set cache("ONEBIT_CACHE", folder / "cache");
        const onebit::Calibration first = onebit::calibrate(kernels);
        CHECK(onebit::ways_of(onebit::calibrated(kernels)) == first.ways);
        if (kernels.needs == 0) {
            CHECK(first.file.empty() && first.ways == onebit::ways_of(kernels));
            return;
        }
        CHECK(first.source == "measured now" && onebit::read_ways(first.file, kernels) == first.ways);
    }
    std::ofstream(folder / "plain") << "x";
    const Set cache("ONEBIT_CACHE", folder / "plain");
    CHECK(onebit::calibrate(kernels).source.find("cannot be written") != std::string::npos);
    const Set home("HOME", ""), none("ONEBIT_CACHE", ""), system("XDG_CACHE_HOME", "");
    CHECK(onebit::calibrate(kernels).source.find("no home folder") != std::string::npos);
    const Set bad("ONEBIT_CALIBRATION", "fast");
    bool refused = false;
    try {
        onebit::calibrate(kernels);
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    CHECK(refused);
}

// A network with a convolution and with a dense layer of 49 rows takes each way, and gives the same bits and no more memory than it said.
void test_forced_ways(const onebit::Kernels& kernels) {
    const std::string text =
        R"({"input":{"name":"x","shape":[7,7,32]},"steps":[)"
        R"({"op":"bit_conv2d","inputs":["x"],"output":"a","attributes":{"in_channels":32,"out_channels":70,"kernel_size":[3,3],"stride":[1,1],)"
        R"("padding":[1,1,1,1],"dilation":[1,1],"groups":1,"values":"pm1"},"tensors":{"weight":"c"}},)"
        R"({"op":"bit_linear","inputs":["a"],"output":"y","attributes":{"in_features":70,"out_features":90,"values":"01"},)"
        R"("tensors":{"weight":"d"}}],"output":"y"})";
    const std::int64_t kernel = onebit::row_bytes(288), row = onebit::row_bytes(70);
    std::vector<std::uint8_t> convolution(static_cast<std::size_t>(70 * kernel)), dense(static_cast<std::size_t>(90 * row));
    for (std::int64_t o = 0; o < 70; ++o) {
        for (int i = 0; i < 36; ++i) convolution[static_cast<std::size_t>(o * kernel + i)] = static_cast<std::uint8_t>(pick(0, 255));
    }
    for (std::int64_t o = 0; o < 90; ++o) {
        for (int i = 0; i < 9; ++i) dense[static_cast<std::size_t>(o * row + i)] = static_cast<std::uint8_t>(pick(0, i == 8 ? 63 : 255));
    }
    const onebit::Tensors tensors{{"c", {convolution.data(), onebit::TensorType::uint8, {70, kernel}}},
                                  {"d", {dense.data(), onebit::TensorType::uint8, {90, row}}}};
    std::vector<float> x(7 * 7 * 32), expected;
    for (float& v : x) v = pick_float();
    for (const char* way : {"off", "lookups", "panels"}) {
        const Set words("ONEBIT_CALIBRATION", way);
        for (const int threads : {1, 3}) {
            onebit::Options options;
            options.isa = kernels.name;
            options.threads = threads;
            onebit::ArrayModel model(text, tensors, options);
            std::vector<float> y(7 * 7 * 90);
            model.run(x.data(), 1, y.data());
            CHECK(model.memory_bytes() <= model.most_bytes());
            if (expected.empty()) expected = y;
            for (std::size_t i = 0; i < y.size(); ++i) CHECK(identical(y[i], expected[i]));
        }
    }
    const Set lookups("ONEBIT_CALIBRATION", "lookups");
    CHECK(onebit::calibrated(kernels).gemv.layout.most_rows == onebit::any_rows);
    const Set panels("ONEBIT_CALIBRATION", "panels");
    CHECK(onebit::calibrated(kernels).gemv.layout.most_rows == 0 && onebit::calibrated(kernels).conv.least_gain == onebit::never);
}

}  // namespace

void add_calibration_tests(Tests& tests) {
    tests.add("choice of ways", test_choice_of_ways);
    tests.add("kept ways", test_kept_ways);
    tests.add_threaded("writers at once", test_writers_at_once);
    tests.add("cache folder", test_cache_folder);
    add_for_each_set(tests, "measuring", test_measuring);
#if !defined(ONEBIT_WASM)  // which keeps to its tables
    add_for_each_set(tests, "forced ways", test_forced_ways);
#endif
}
