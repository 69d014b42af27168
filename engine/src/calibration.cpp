#include "calibration.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bit_matrix.h"
#include "buffer.h"
#include "cpu.h"
#include "program.h"

namespace onebit {
namespace {

namespace fs = std::filesystem;

// C functions for files: streams and their locales would take memory in every process that loads a model.
struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

// A choice other than the table's must be faster by this factor, so that noise does not decide.
constexpr double clearly = 1.1;
// The assumed number of outputs for which a layer prepares its inputs.
constexpr double usual_outputs = 1024;
// Threads divide work that takes one thread this many nanoseconds: a round of the pool costs about 150, and moving the sums as much again.
constexpr double worth_dividing = 1000;
// The measured work: a piece of a layer that stays in the second-level cache.
constexpr std::int64_t inputs = 512, outputs = 256, rows = 24;
constexpr int repeats = 7;
constexpr std::string_view first_line = "onebit calibration 1";

std::uint64_t hash(std::string_view text) {
    std::uint64_t sum = 14695981039346656037u;  // FNV-1a
    for (const char c : text) sum = (sum ^ static_cast<unsigned char>(c)) * 1099511628211u;
    return sum;
}

std::string hexadecimal(std::uint64_t number) {
    std::array<char, 17> digits{};
    std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(number));
    return digits.data();
}

// The fastest of several runs, in nanoseconds: other work on the machine only adds time.
template <class Work>
double fastest(const Work& work) {
    double least = 0;
    for (int i = 0; i <= repeats; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        work();
        const double took = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
        // The first run only fills caches.
        if (i == 1 || (i > 1 && took < least)) least = took;
    }
    return least;
}

std::string contents(const Kernels& kernels, const Ways& ways) {
    const auto line = [](const char* name, const std::string& value) { return name + (" " + value) + "\n"; };
    return std::string(first_line) + "\n" + line("engine", ONEBIT_VERSION) + line("set", kernels.name) + line("machine", machine()) +
           line("most_rows", std::to_string(ways.most_rows)) + line("least_image_gain", std::to_string(ways.least_image_gain)) +
           line("least_divided", std::to_string(ways.least_divided));
}

// Without possible look-ups none is chosen, whatever the user asks for.
Ways forced(const Kernels& kernels, bool look_up) {
    Ways ways = ways_of(kernels);
    ways.most_rows = look_up ? any_rows : 0;
    ways.least_image_gain = look_up && kernels.conv.product != nullptr ? 1 : never;
    return ways;
}

Calibration kept_or_measured(const Kernels& kernels, bool again) {
    // The scalar set is the specification and need not be fast.
    if (kernels.needs == 0) return {ways_of(kernels), "the set's own: it is not measured", ""};
    const std::string folder = cache_folder(), file = folder.empty() ? "" : calibration_file(folder, kernels);
    if (!again && !file.empty()) {
        if (const auto ways = read_ways(file, kernels)) return {*ways, "measured earlier", file};
    }
    std::error_code error;
    const bool damaged = !again && !file.empty() && fs::exists(file, error);
    const Ways ways = choose_ways(kernels, measure(kernels));
    if (file.empty()) return {ways, "measured now, and not kept: there is no home folder", ""};
    if (!write_ways(file, kernels, ways)) return {ways, "measured now, and not kept: " + folder + " cannot be written", ""};
    return {ways, damaged ? "measured now: what was kept was damaged or of another machine" : "measured now", file};
}

}  // namespace

Ways ways_of(const Kernels& kernels) {
    return {kernels.gemv.layout.most_rows, kernels.conv.least_gain, kernels.gemv.least_divided};
}

Ways choose_ways(const Kernels& kernels, const Timings& t) {
    Ways ways = ways_of(kernels);
    for (const double time : {t.look_up, t.panel, t.expand, t.prepare, t.one_row}) {
        if (!(time > 0) || !std::isfinite(time)) return ways;
    }
    // With many rows, each row saves time with a panel, and all rows together pay for expanding it.
    const double looked_up = t.look_up + t.prepare / usual_outputs, saved = looked_up - t.panel;
    if (kernels.tiles != nullptr) {
        // With many rows, a separate driver for tiles is faster than the measured panel.
    } else if (looked_up > clearly * t.panel) {
        ways.most_rows = std::max<std::int64_t>(4, static_cast<std::int64_t>(std::min(1e6, std::ceil(t.expand / saved))));
    } else if (looked_up * clearly < t.panel) {
        ways.most_rows = any_rows;
    }
    // For an image: what each tap and each 16 outputs save over a panel's product must pay for the tables. A unit of outputs counts half of its
    // blocks (bit_convolution.cpp, `suits`).
    if (kernels.conv.product != nullptr && t.prepare_at > 0) {
        const double gain = 2 * block_outputs * (t.panel - t.look_up);
        ways.least_image_gain = t.panel > clearly * t.look_up
                                    ? std::max<std::int64_t>(1, static_cast<std::int64_t>(std::min(1e6, std::round(t.prepare_at / gain))))
                                    : never;
    }
    ways.least_divided = static_cast<std::int64_t>(std::clamp(worth_dividing / t.one_row, 1e4, 1e7));
    return ways;
}

Timings measure(const Kernels& kernels) {
    const std::int64_t stored = row_bytes(inputs);
    std::vector<std::uint8_t> bits(static_cast<std::size_t>(outputs * stored));
    for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint8_t>(i * 2654435761u >> 13);
    const auto room = [](std::int64_t bytes) { return static_cast<std::size_t>(bytes + slack_bytes); };
    Buffer<std::uint8_t> memory, levels, prepared;
    Buffer<std::int8_t> panel;
    Buffer<std::int32_t> sums;
    const BitMatrix matrix(kernels, bits.data(), inputs, outputs,
                           memory.reserve(room(static_cast<std::int64_t>(BitMatrix::bytes(inputs, outputs, kernels)))));
    const std::int64_t length = matrix.padded_inputs(), stride = matrix.padded_outputs(), of_row = matrix.prepared_bytes();
    levels.reserve(room(rows * length));
    for (std::int64_t i = 0; i < rows * length; ++i) levels.data()[i] = static_cast<std::uint8_t>(i * 97 % 251);
    prepared.reserve(room(rows * of_row));
    panel.reserve(room(length * stride));
    sums.reserve(static_cast<std::size_t>(rows * stride));
    const auto* x = reinterpret_cast<const std::int8_t*>(levels.data());

    Timings t{};
    constexpr double products = static_cast<double>(inputs * outputs);
    t.prepare = fastest([&] {
                    for (std::int64_t r = 0; r < rows; ++r) kernels.gemv.prepare(x + r * length, matrix.steps(), prepared.data() + r * of_row);
                }) /
                static_cast<double>(rows * inputs);
    t.look_up = fastest([&] { matrix.multiply(0, matrix.units(), prepared.data(), rows, sums.data(), stride); }) / (products * rows);
    t.one_row = fastest([&] { matrix.multiply(0, matrix.units(), prepared.data(), 1, sums.data(), stride); }) / products;
    constexpr std::int64_t of_panel = max_blocks * block_outputs;
    t.expand = fastest([&] {
                   for (std::int64_t o = 0; o < outputs; o += of_panel) {
                       matrix.expand(o / block_outputs, max_blocks, panel.data() + o * length);
                   }
               }) /
               products;
    const std::ptrdiff_t no_offset = 0;
    const Segments segments{&no_offset, 1, static_cast<int>(length)};
    t.panel =
        fastest([&] {
            const TilesInUse in_use(kernels.tiles);
            for (std::int64_t o = 0; o < outputs; o += of_panel) {
                for (std::int64_t r = 0; r < rows; r += kernels.gemm.rows_at_once) {
                    const std::uint8_t* from[max_rows];
                    const auto count = static_cast<int>(std::min<std::int64_t>(kernels.gemm.rows_at_once, rows - r));
                    for (int i = 0; i < count; ++i) from[i] = levels.data() + (r + i) * length;
                    kernels.gemm.product_int8(from, count, segments, panel.data() + o * length, max_blocks, sums.data() + r * stride + o, stride);
                }
            }
        }) /
        (products * rows);
    if (kernels.conv.product != nullptr) {
        t.prepare_at = fastest([&] {
                           for (std::int64_t step = 0; step < matrix.steps(); ++step) {
                               kernels.conv.prepare(x + step * kernels.gemv.layout.step_inputs, length, rows,
                                                    prepared.data() + step * rows * kernels.gemv.layout.prepared_bytes);
                           }
                       }) /
                       static_cast<double>(rows * inputs);
    }
    return t;
}

std::string cache_folder() {
    const auto named = [](const char* name) {
        const char* value = std::getenv(name);
        return std::string(value == nullptr ? "" : value);
    };
    const std::string home = named("HOME");
    if (std::string folder = named("ONEBIT_CACHE"); !folder.empty()) {
        if (folder[0] != '~' || (folder.size() > 1 && folder[1] != '/')) return folder;
        return home.empty() ? "" : folder.replace(0, 1, home);
    }
    if (const std::string folder = named("XDG_CACHE_HOME"); !folder.empty()) return folder + "/onebit";
    return home.empty() ? "" : home + "/.cache/onebit";
}

std::string machine() {
    std::string text = cpu_model() + "; features " + std::to_string(cpu_features());
    // The name of a processor on one line.
    for (char& c : text) c = c >= ' ' && c <= '~' ? c : '?';
    return text;
}

std::string calibration_file(const std::string& folder, const Kernels& kernels) {
    return folder + "/calibration-" + kernels.name + "-" + hexadecimal(hash(machine())) + ".txt";
}

std::optional<Ways> read_ways(const std::string& file, const Kernels& kernels) {
    std::error_code error;
    if (!fs::is_regular_file(file, error)) return std::nullopt;
    const File in(std::fopen(file.c_str(), "rb"));
    if (!in) return std::nullopt;
    std::array<char, 2048> text{};
    const std::string all(text.data(), std::fread(text.data(), 1, text.size() - 1, in.get()));
    // The last line is a checksum of the others. The file must equal, byte for byte, what would be written.
    Ways ways{};
    const std::size_t numbers = all.find("most_rows "), sum = all.rfind("sum ");
    if (numbers == std::string::npos || sum == std::string::npos || sum < numbers) return std::nullopt;
    long long most_rows = 0, least_image_gain = 0, least_divided = 0;
    const std::string lines = all.substr(numbers, sum - numbers);
    const bool whole =
        std::sscanf(lines.c_str(), "most_rows %lld least_image_gain %lld least_divided %lld", &most_rows, &least_image_gain, &least_divided) == 3;
    ways = {most_rows, least_image_gain, least_divided};
    const std::string expected = contents(kernels, ways);
    if (!whole || all != expected + "sum " + hexadecimal(hash(expected)) + "\n") return std::nullopt;
    const bool in_range = ways.most_rows >= 0 && ways.most_rows <= any_rows && ways.least_image_gain >= 1 && ways.least_divided >= 0;
    // A set without a product of images cannot have a gain of images.
    const bool possible = ways.least_image_gain == never || kernels.conv.product != nullptr;
    return in_range && possible ? std::optional(ways) : std::nullopt;
}

bool write_ways(const std::string& file, const Kernels& kernels, const Ways& ways) {
    std::error_code error;
    const fs::path to(file);
    fs::create_directories(to.parent_path(), error);
    // Each writer has its own temporary name. All of them write the same content.
    std::random_device random;
    const std::string part = file + "." + hexadecimal(std::uint64_t{random()} << 32 | random()) + ".part";
    const std::string all = contents(kernels, ways), text = all + "sum " + hexadecimal(hash(all)) + "\n";
    std::FILE* out = std::fopen(part.c_str(), "wb");
    const bool written = out != nullptr && std::fwrite(text.data(), 1, text.size(), out) == text.size();
    // Writing may fail as late as here.
    if (out == nullptr || std::fclose(out) != 0 || !written) {
        fs::remove(part, error);
        return false;
    }
    fs::rename(part, to, error);
    if (!error) return true;
    fs::remove(part, error);
    return false;
}

Calibration calibrate(const Kernels& kernels) {
    const char* set = std::getenv("ONEBIT_CALIBRATION");
    const std::string word = set == nullptr ? "" : set;
    if (word == "off") return {ways_of(kernels), "the set's own: ONEBIT_CALIBRATION=off", ""};
    if (word == "lookups" || word == "panels") return {forced(kernels, word == "lookups"), "ONEBIT_CALIBRATION=" + word, ""};
    if (!word.empty() && word != "again") {
        throw std::invalid_argument("[engine] ONEBIT_CALIBRATION=" + word.substr(0, 40) + ": use again, off, lookups or panels, or leave it unset");
    }
    static std::mutex mutex;
    static std::map<std::pair<const Kernels*, std::string>, Calibration> done;
    const std::lock_guard lock(mutex);
    const auto key = std::make_pair(&kernels, word + " " + cache_folder());
    const auto found = done.find(key);
    if (found != done.end()) return found->second;
    return done[key] = kept_or_measured(kernels, word == "again");
}

const Kernels& calibrated(const Kernels& kernels) {
#if defined(ONEBIT_WASM)
    // A page has no folder for what was measured, and clocks too coarse for measuring.
    return kernels;
#endif
    const Ways ways = calibrate(kernels).ways;
    if (ways == ways_of(kernels)) return kernels;
    static std::mutex mutex;
    static std::vector<std::pair<const Kernels*, std::unique_ptr<const Kernels>>> tables;
    const std::lock_guard lock(mutex);
    for (const auto& [from, table] : tables) {
        if (from == &kernels && ways_of(*table) == ways) return *table;
    }
    Kernels table = kernels;
    table.gemv.layout.most_rows = ways.most_rows;
    table.conv.least_gain = ways.least_image_gain;
    table.gemv.least_divided = ways.least_divided;
    tables.emplace_back(&kernels, std::make_unique<const Kernels>(table));
    return *tables.back().second;
}

}  // namespace onebit
