// Compares the kernels of dense layers with the machine's limits, in one run. Prints a line of JSON per measurement.
// docs/kernels.md explains them.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "bit_matrix.h"
#include "block.h"
#include "cpu.h"
#include "dense_layer.h"
#include "instructions.h"
#include "jobs.h"
#include "limits.h"
#include "tiles.h"

namespace {

using onebit::BitMatrix;
using onebit::DenseLayer;
using onebit::format;
using onebit::Job;
using onebit::Kernels;
using onebit::measure;
using onebit::Pages;
using onebit::ThreadPool;

constexpr std::size_t mega = 1000 * 1000;
constexpr std::size_t cold_bytes = 600 * mega;  // more than caches hold

struct Case {
    const char* where;  // the weights are
    std::int64_t outputs, inputs, rows;
    std::size_t working_set;  // bytes of weights that are cycled through; 0 for one layer's
    bool cold;
    std::size_t layer_bytes() const { return static_cast<std::size_t>(outputs * inputs / 8); }
    std::size_t layers() const { return std::max<std::size_t>(1, working_set / layer_bytes()); }
};

// Attention and feed-forward layers and a vocabulary of language models; small layers of a small one; a prompt.
const Case cases[] = {
    {"cache", 4096, 4096, 1, 0, false},           {"cache", 14336, 4096, 1, 0, false},          {"cache", 30522, 2048, 1, 0, false},
    {"cache", 768, 768, 1, 20 * mega, false},     {"cache", 1536, 768, 1, 20 * mega, false},    {"memory", 4096, 4096, 1, cold_bytes, true},
    {"memory", 14336, 4096, 1, cold_bytes, true}, {"memory", 30522, 2048, 1, cold_bytes, true}, {"cache", 4096, 4096, 256, 0, false},
};

struct Options {
    std::vector<int> threads = {1};
    std::vector<const Kernels*> sets;
    double seconds = 0.5;    // for each measurement
    std::vector<int> cases;  // the numbers of those to run; empty for all
};

// Layers that are run one after the other, and begun again at the end.
class Layers {
  public:
    Layers(const Case& c, const Kernels& kernels) {
        std::mt19937 generator(1);
        std::vector<std::uint8_t> bits(static_cast<std::size_t>(c.outputs * onebit::row_bytes(c.inputs) + onebit::slack_bytes));
        for (auto& byte : bits) byte = static_cast<std::uint8_t>(generator());
        onebit::ops::Layer layer;
        layer.bits.rows = layer.bias_bits = bits.data();
        const std::size_t before = onebit::huge_bytes();
        // One block for all, as a decoder has it.
        const std::size_t bytes = onebit::BitMatrix::bytes(c.inputs, c.outputs, kernels);
        memory_ = onebit::Block(bytes * c.layers(), true);
        for (std::size_t i = 0; i < c.layers(); ++i) {
            layers_.push_back(std::make_unique<DenseLayer>(layer, c.inputs, c.outputs, true, kernels, memory_.data() + i * bytes));
        }
        const auto found = static_cast<double>(onebit::huge_bytes()) - static_cast<double>(before);
        huge_share_ = std::clamp(found / static_cast<double>(c.layer_bytes() * c.layers()), 0.0, 1.0);
        const auto count = static_cast<std::size_t>(c.rows * c.inputs);
        x_.reserve(count);
        for (std::size_t i = 0; i < count; ++i) x_.data()[i] = std::normal_distribution<float>()(generator);
        y_.reserve(static_cast<std::size_t>(c.rows * c.outputs));
        rows_ = c.rows;
    }

    void run(std::size_t count, ThreadPool& pool) {
        scratch_.threads.resize(static_cast<std::size_t>(pool.threads()));
        for (std::size_t i = 0; i < count; ++i, next_ = (next_ + 1) % layers_.size()) {
            layers_[next_]->run(x_.data(), rows_, false, y_.data(), pool, scratch_);
        }
    }

    // Of the layers' memory, what the system gave as huge pages.
    double huge_share() const { return huge_share_; }

  private:
    onebit::Block memory_;
    std::vector<std::unique_ptr<DenseLayer>> layers_;
    onebit::DenseScratch scratch_;
    onebit::Buffer<float> x_, y_;  // at lines of the cache, as values of a program are
    std::int64_t rows_ = 0;
    std::size_t next_ = 0;
    double huge_share_ = 0;
};

// The product with bits alone, over memory of the layout's size, divided among threads as a layer divides it.
class Product {
  public:
    Product(const Case& c, const Kernels& kernels) : kernels_(kernels), outputs_(c.outputs), inputs_(c.inputs) {
        const BitMatrix matrix(kernels, nullptr, c.inputs, c.outputs, nullptr);
        std::vector<std::int8_t> x(static_cast<std::size_t>(matrix.padded_inputs() + onebit::slack_bytes));
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<std::int8_t>(i * 37 % 255 - 127);
        prepared_.resize(static_cast<std::size_t>(matrix.prepared_bytes()));
        sums_.resize(static_cast<std::size_t>(matrix.padded_outputs()));
        kernels_.gemv.prepare(x.data(), matrix.steps(), prepared_.data());
    }

    std::size_t bytes() const { return BitMatrix::bytes(inputs_, outputs_, kernels_); }

    void run(const std::uint8_t* bits, ThreadPool& pool) {
        // It is only read.
        const BitMatrix matrix(kernels_, nullptr, inputs_, outputs_, const_cast<std::uint8_t*>(bits));
        const std::int64_t units = matrix.units(), pieces = std::min<std::int64_t>(units, pool.threads());
        onebit::parallel(pool, outputs_ * inputs_ / 8, pieces, [&](std::int64_t piece, int) {
            matrix.multiply(units * piece / pieces, units * (piece + 1) / pieces, prepared_.data(), 1, sums_.data(), matrix.padded_outputs());
        });
    }

  private:
    const Kernels& kernels_;
    std::int64_t outputs_, inputs_;
    std::vector<std::uint8_t> prepared_;
    std::vector<std::int32_t> sums_;
};

// Memory that all measurements read in pieces, in turns: none finds data in the cache that another has just read.
struct Cycle {
    const Pages& pages;
    std::size_t at = 0;

    const std::uint8_t* take(std::size_t bytes, std::size_t working_set) {
        if (at + bytes > working_set) at = 0;
        const std::uint8_t* from = pages.data() + at;
        at += bytes;
        return from;
    }
};

// Lines of the limits, then of the measurements to compare with them.
void print(const Case& c, int threads, const std::vector<Job>& jobs) {
    double limit = 0, best_peak = 0;
    for (const Job& job : jobs) {
        const double seconds = job.median();
        if (job.is_limit) limit = std::max(limit, job.bytes / seconds);
        if (job.is_peak) best_peak = std::max(best_peak, job.products / seconds);
    }
    for (const Job& job : jobs) {
        const double seconds = job.median(), fastest = *std::min_element(job.seconds.begin(), job.seconds.end());
        std::string line =
            format(R"({%s, "threads": %d, "samples": %zu, "spread": %.3f)", job.text.c_str(), threads, job.seconds.size(), seconds / fastest);
        line +=
            format(R"(, "where": "%s", "outputs": %lld, "inputs": %lld, "rows": %lld, "working_set_bytes": %zu)", c.where,
                   static_cast<long long>(c.outputs), static_cast<long long>(c.inputs), static_cast<long long>(c.rows), c.layers() * c.layer_bytes());
        if (job.products > 0) line += format(R"(, "gmac_per_s": %.2f)", job.products / seconds * 1e-9);
        if (job.bytes > 0) line += format(R"(, "gb_per_s": %.2f)", job.bytes / seconds * 1e-9);
        if (!job.is_limit && !job.is_peak) {
            line += format(R"(, "microseconds": %.2f)", seconds * 1e6 * static_cast<double>(c.outputs * c.inputs * c.rows) / job.products);
            if (limit > 0) line += format(R"(, "limit_gb_per_s": %.2f, "share_of_reading": %.4f)", limit * 1e-9, job.bytes / seconds / limit);
            for (const Job& peak : jobs) {
                if (!peak.is_peak || peak.kernels != job.kernels) continue;
                const double own = peak.products / peak.median();
                line += format(R"(, "peak_gmac_per_s": %.2f, "share_of_peak": %.4f, "share_of_best_peak": %.4f)", own * 1e-9,
                               job.products / seconds / own, job.products / seconds / best_peak);
            }
        }
        std::printf("%s}\n", line.c_str());
    }
    std::fflush(stdout);
}

Job read_job(const char* pages, bool prefetch, Cycle& cycle, std::size_t bytes, const Case& c, ThreadPool& pool) {
    // Whole loops of each thread; what is left out is too little to matter.
    const std::size_t threads = static_cast<std::size_t>(pool.threads()), part = bytes / threads / 256 * 256;
    const std::size_t times = c.cold ? 1 : std::max<std::size_t>(1, 8 * mega / bytes);
    const auto read = [&cycle, prefetch, part, threads, times, bytes, cold = c.cold, &pool](std::size_t rounds) {
        const std::uint8_t* from = cold ? cycle.take(bytes, cold_bytes) : cycle.pages.data();
        pool.parallel_for(static_cast<std::int64_t>(threads), [&](std::int64_t index, int) {
            for (std::size_t i = 0; i < rounds * times; ++i) onebit::read_all(from + static_cast<std::size_t>(index) * part, part, prefetch);
        });
    };
    const auto wake = [&pool, threads] { pool.parallel_for(static_cast<std::int64_t>(threads), [](std::int64_t, int) {}); };
    Job job{format(R"("kind": "limit", "pages": "%s", "prefetch": %s)", pages, prefetch ? "true" : "false"), 0,
            static_cast<double>(part * threads * times), [read] { read(1); }, [read] { read(1); }};
    if (c.cold) job.before = wake;
    job.is_limit = true;
    return job;
}

Job peak_job(const Kernels& kernels, ThreadPool& pool) {
    const onebit::Peak peak = onebit::peak_of(kernels.name);
    const auto multiply = [&pool, peak] { pool.parallel_for(pool.threads(), [&](std::int64_t, int) { peak.multiply(); }); };
    Job job{format(R"("kind": "peak", "isa": "%s", "instructions": "%s")", kernels.name, peak.instructions), peak.products * pool.threads(), 0,
            multiply, multiply};
    job.is_peak = true;
    job.kernels = &kernels;
    return job;
}

std::string describe(const Kernels& kernels, const char* part, double huge_share) {
    return format(R"("kind": "dense", "isa": "%s", "part": "%s", "huge_pages": %.2f)", kernels.name, part, huge_share);
}

// The product with a panel alone, of so many rows as a layer takes at once; all stays in the second-level cache.
Job panel_job(const Case& c, const Kernels& kernels, ThreadPool& pool) {
    constexpr int width = onebit::max_blocks * onebit::block_outputs;
    // Lines of the cache begin where registers do, as a layer's memory has it.
    struct Memory {
        onebit::Buffer<std::int8_t> panel;
        std::vector<onebit::Buffer<std::uint8_t>> x;
        std::vector<onebit::Buffer<std::int32_t>> sums;
    };
    const auto memory = std::make_shared<Memory>();
    const auto inputs = static_cast<std::size_t>(c.inputs), rows = static_cast<std::size_t>(kernels.gemm.rows_at_once);
    std::memset(memory->panel.reserve(inputs * width), 1, inputs * width);
    memory->x.resize(static_cast<std::size_t>(pool.threads()));
    memory->sums.resize(static_cast<std::size_t>(pool.threads()));
    for (auto& x : memory->x) std::memset(x.reserve(rows * inputs + onebit::slack_bytes), 3, rows * inputs + onebit::slack_bytes);
    for (auto& sums : memory->sums) sums.reserve(rows * width);
    const int times = 8;
    const auto multiply = [&kernels, &pool, memory, inputs, rows] {
        pool.parallel_for(pool.threads(), [&](std::int64_t index, int) {
            const std::uint8_t* from[onebit::max_rows];
            const auto own = static_cast<std::size_t>(index);
            for (std::size_t r = 0; r < rows; ++r) from[r] = memory->x[own].data() + r * inputs;
            const std::ptrdiff_t no_offset = 0;
            const onebit::Segments segments{&no_offset, 1, static_cast<int>(inputs)};
            const onebit::TilesInUse in_use(kernels.tiles);
            for (int i = 0; i < times; ++i) {
                kernels.gemm.product_int8(from, static_cast<int>(rows), segments, memory->panel.data(), onebit::max_blocks, memory->sums[own].data(),
                                          width);
            }
        });
    };
    Job job{describe(kernels, "panel product", 0), static_cast<double>(inputs * rows * width) * times * pool.threads(), 0, multiply, multiply};
    job.kernels = &kernels;
    return job;
}

// The product with bits where bits, tables and sums fit in the first-level cache: what the instructions alone allow.
Job first_level_job(const Kernels& kernels, ThreadPool& pool, const Pages& pages) {
    static const Case small{"first-level cache", 256, 512, 1, 0, false};
    const auto product = std::make_shared<std::vector<Product>>(static_cast<std::size_t>(pool.threads()), Product(small, kernels));
    const auto multiply = [&pages, &pool, product] {
        pool.parallel_for(pool.threads(), [&](std::int64_t index, int) {
            ThreadPool alone(1);
            for (int i = 0; i < 500; ++i) (*product)[static_cast<std::size_t>(index)].run(pages.data(), alone);
        });
    };
    const double products = 256.0 * 512 * 500 * pool.threads();
    Job job{describe(kernels, "product", 1), products, products / 8, multiply, multiply};
    job.kernels = &kernels;
    return job;
}

void run_case(const Case& c, const Options& options, const Pages& huge, const Pages& small) {
    std::vector<std::unique_ptr<Layers>> layers;
    std::vector<const Kernels*> sets;
    for (const Kernels* kernels : options.sets) {
        // Plain C++ is a specification: it takes minutes for what the others do in a second.
        if (kernels == &onebit::scalar_kernels && (c.cold || c.rows > 1 || c.layers() > 1)) continue;
        sets.push_back(kernels);
        layers.push_back(std::make_unique<Layers>(c, *kernels));
    }
    for (const int threads : options.threads) {
        ThreadPool pool(threads);
        Cycle in_huge{huge}, in_small{small};
        std::vector<Job> jobs;
        // A sample passes through all layers of a cache, or through so many of the memory's that waking threads does not count.
        const std::size_t layer_bytes = c.layer_bytes();
        const std::size_t count = c.cold ? 64 * mega / layer_bytes : c.rows > 1 ? 1 : std::max(c.layers(), 8 * mega / layer_bytes);
        const std::size_t read_bytes = c.cold ? count * layer_bytes : c.layers() * layer_bytes;
        if (c.rows == 1) {
            for (const bool prefetch : {false, true}) {
                jobs.push_back(read_job("huge", prefetch, in_huge, read_bytes, c, pool));
                jobs.push_back(read_job("small", prefetch, in_small, read_bytes, c, pool));
            }
        }
        for (std::size_t i = 0; i < sets.size(); ++i) {
            const Kernels& kernels = *sets[i];
            Layers* own = layers[i].get();
            const std::size_t times = &kernels == &onebit::scalar_kernels ? 1 : count;
            const double products = static_cast<double>(times) * static_cast<double>(c.outputs * c.inputs * c.rows);
            const double bytes = c.rows == 1 ? static_cast<double>(times * layer_bytes) : 0;
            const auto run_layers = [own, times, &pool] { own->run(times, pool); };
            const auto run_one = [own, &pool] { own->run(1, pool); };
            jobs.push_back({describe(kernels, "layer", own->huge_share()), products, bytes, run_layers, run_layers});
            if (c.cold) jobs.back().before = run_one;
            jobs.back().kernels = &kernels;
            if (c.rows > 1) {
                jobs.push_back(panel_job(c, kernels, pool));
                if (onebit::peak_of(kernels.name).multiply != nullptr) jobs.push_back(peak_job(kernels, pool));
                continue;
            }
            const auto product = std::make_shared<Product>(c, kernels);
            const auto run_products = [&in_huge, product, &pool, &c](std::size_t repeats) {
                const std::size_t piece = product->bytes(), set = c.cold ? cold_bytes : c.layers() * piece;
                for (std::size_t k = 0; k < repeats; ++k) product->run(in_huge.take(piece, set), pool);
            };
            const auto all = [run_products, times] { run_products(times); };
            jobs.push_back({describe(kernels, "product", 1), products, bytes, all, all});
            if (c.cold) jobs.back().before = [run_products] { run_products(1); };
            jobs.back().kernels = &kernels;
        }
        measure(jobs, options.seconds);
        print(c, threads, jobs);
    }
}

void run_first_level(const Options& options, const Pages& huge) {
    const Case c{"first-level cache", 256, 512, 1, 0, false};
    for (const int threads : options.threads) {
        ThreadPool pool(threads);
        std::vector<Job> jobs;
        for (const Kernels* kernels : options.sets) jobs.push_back(first_level_job(*kernels, pool, huge));
        measure(jobs, options.seconds);
        print(c, threads, jobs);
    }
}

void print_machine(const Options& options) {
    std::string features, sets;
    for (const auto& name : onebit::feature_names(onebit::cpu_features())) features += (features.empty() ? "\"" : ", \"") + name + "\"";
    for (const Kernels* kernels : options.sets) sets += (sets.empty() ? "\"" : ", \"") + std::string(kernels->name) + "\"";
    std::printf(R"({"kind": "machine", "features": [%s], "isas": [%s], "compiler": "%s"})"
                "\n",
                features.c_str(), sets.c_str(),
#if defined(__clang__)
                "clang " __clang_version__
#else
                "gcc " __VERSION__
#endif
    );
    std::fflush(stdout);
}

int run_work(const std::string& name, const Kernels& kernels, int times, bool single_steps) {
    for (const onebit::Work& work : onebit::all_work()) {
        if (name != work.kernel) continue;
        const long long counted = single_steps ? onebit::count_single_steps(work, kernels, times) : -1;
        if (!single_steps) work.run(kernels, times);
        std::printf(R"({"kind": "work", "isa": "%s", "kernel": "%s", "size": "%s", "products": %.0f, "times": %d, "instructions": %lld})"
                    "\n",
                    kernels.name, work.kernel, work.size, work.products, times, counted);
        return 0;
    }
    throw std::invalid_argument("--work " + name + ": use a kernel that --list names");
}

constexpr const char* usage =
    "usage: engine_benchmarks [--threads N,N...] [--isa NAME,NAME...] [--seconds S] [--cases NUMBER,NUMBER...]\n"
    "       engine_benchmarks --tiles [--threads N,N...] [--seconds S]\n"
    "       engine_benchmarks --list\n"
    "       engine_benchmarks --work KERNEL --isa NAME --times N [--single-steps]\n";

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts(1);
    for (const char letter : text) {
        if (letter == ',') {
            parts.emplace_back();
        } else {
            parts.back() += letter;
        }
    }
    return parts;
}

int run(int argc, char** argv) {
    Options options;
    std::string work;
    int times = 1;
    bool single_steps = false, list = false, tiles = false;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--single-steps") {
            single_steps = true;
            continue;
        }
        if (word == "--list" || word == "--tiles") {
            (word == "--list" ? list : tiles) = true;
            continue;
        }
        if (i + 1 == argc) throw std::invalid_argument(usage);
        const std::string value = argv[++i];
        if (word == "--threads") {
            options.threads.clear();
            for (const auto& part : split(value)) options.threads.push_back(std::clamp(std::stoi(part), 1, 256));
        } else if (word == "--isa") {
            for (const auto& part : split(value)) options.sets.push_back(&onebit::choose_kernels(part));
        } else if (word == "--seconds") {
            options.seconds = std::stod(value);
        } else if (word == "--cases") {
            for (const auto& part : split(value)) options.cases.push_back(std::stoi(part));
        } else if (word == "--work") {
            work = value;
        } else if (word == "--times") {
            times = std::stoi(value);
        } else {
            throw std::invalid_argument(usage);
        }
    }
    if (options.sets.empty()) {
        int count = 0;
        const Kernels* const* all = onebit::all_kernels(&count);
        for (int i = 0; i < count; ++i) {
            if (onebit::supported(*all[i])) options.sets.push_back(all[i]);
        }
    }
    if (!work.empty()) return run_work(work, *options.sets.front(), times, single_steps);
    print_machine(options);
    if (list) {
        for (const onebit::Work& each : onebit::all_work())
            std::printf(R"({"kind": "kernel", "kernel": "%s"})"
                        "\n",
                        each.kernel);
        return 0;
    }
    if (tiles) {
        for (const int threads : options.threads) onebit::run_tiles(threads, options.seconds);
        return 0;
    }
    // The largest layers' last piece may end behind the working set.
    const Pages huge(cold_bytes + 64 * mega, true), small(cold_bytes + 64 * mega, false);
    run_first_level(options, huge);
    for (int number = 0; number < static_cast<int>(sizeof cases / sizeof *cases); ++number) {
        const bool wanted = options.cases.empty() || std::find(options.cases.begin(), options.cases.end(), number) != options.cases.end();
        if (wanted) run_case(cases[number], options, huge, small);
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "engine_benchmarks: %s\n", error.what());
        return 1;
    }
}
