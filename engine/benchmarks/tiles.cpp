#include "tiles.h"

#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

#include "bit_matrix.h"
#include "block.h"
#include "buffer.h"
#include "cpu.h"
#include "jobs.h"
#include "limits.h"
#include "tile_layer.h"

namespace onebit {
namespace {

#if defined(ONEBIT_X86)

constexpr std::int64_t inputs = 4096, outputs = 4096, rows = 256;
constexpr double products = 1.0 * inputs * outputs * rows;

// All of a layer but its products: what the tiles' multiplier waits for if nothing else hides it.
void multiply_nothing(const TileTask& task) {
    amx_tiles.expand(task.next);
}
const TileKernels no_products = {[] {}, [] {}, multiply_nothing, amx_tiles.expand};

class Layer {
  public:
    Layer(const TilePlan& plan, bool with_products, int threads)
        : kernels_(amx_kernels),
          bits_(static_cast<std::size_t>(outputs * inputs / 8)),
          memory_(BitMatrix::bytes(inputs, outputs, amx_kernels), true),
          bias_(static_cast<std::size_t>(outputs)) {
        std::mt19937 generator(1);
        for (auto& byte : bits_) byte = static_cast<std::uint8_t>(generator());
        x_.reserve(static_cast<std::size_t>(rows * inputs));
        y_.reserve(static_cast<std::size_t>(rows * outputs));
        for (std::int64_t i = 0; i < rows * inputs; ++i) x_.data()[i] = std::normal_distribution<float>()(generator);
        if (!with_products) kernels_.tiles = &no_products;
        const BitMatrix matrix(kernels_, bits_.data(), inputs, outputs, memory_.data());
        const std::vector<std::int32_t> offsets(static_cast<std::size_t>(outputs));
        layer_ = std::make_unique<TileLayer>(kernels_, matrix, ops::Layer(), inputs, outputs, offsets.data(), plan);
        layer_->each_buffer(rows, false, threads, scratch_, reserve_buffer);
        epilogue_.norm = EpilogueArgs::Norm::channel;
        epilogue_.eps = 1e-5f;
        epilogue_.bias = bias_.data();
    }
    void run(ThreadPool& pool) { layer_->run(x_.data(), rows, false, epilogue_, y_.data(), pool, scratch_); }

  private:
    Kernels kernels_;
    std::vector<std::uint8_t> bits_;
    Block memory_;
    Buffer<float> x_, y_;
    std::vector<float> bias_;
    std::unique_ptr<TileLayer> layer_;
    TileScratch scratch_;
    EpilogueArgs epilogue_;
};

Job layer_job(const char* part, const TilePlan& plan, bool with_products, ThreadPool& pool) {
    const auto layer = std::make_shared<Layer>(plan, with_products, pool.threads());
    const auto run = [layer, &pool] { layer->run(pool); };
    const std::string text = format(R"("part": "%s", "chunk_steps": %d, "stream_levels": %s, "most_rows": %lld)", part, plan.chunk_steps,
                                    plan.stream_levels ? "true" : "false", static_cast<long long>(plan.most_rows));
    return {text, with_products ? products : 0, 0, run, run};
}

// Bytes of weights that one thread makes of bits, which stay in the first-level cache or reach the second one.
Job expand_job(std::int64_t bytes, const char* where) {
    struct Memory {
        std::vector<std::uint8_t> bits;
        Block panel;
    };
    const std::int64_t steps = bytes / tile_bit_panel_bytes;
    const auto memory = std::make_shared<Memory>(
        Memory{std::vector<std::uint8_t>(static_cast<std::size_t>(steps * unit_step_bytes), 0x35), Block(static_cast<std::size_t>(bytes), false)});
    auto* panel = reinterpret_cast<std::int8_t*>(memory->panel.data());
    const TileExpansion e{memory->bits.data(), unit_step_bytes, static_cast<int>(steps), false, panel};
    const auto run = [memory, e] {
        for (int i = 0; i < 16; ++i) amx_tiles.expand(e);
    };
    return {format(R"("part": "expansion, %s")", where), 0, 16.0 * static_cast<double>(bytes), run, run};
}

#endif

}  // namespace

void run_tiles(int threads, double seconds) {
#if defined(ONEBIT_X86)
    if (!supported(avx512_kernels)) throw std::invalid_argument("--tiles: this CPU lacks AVX-512 with VNNI, which all parts need");
    const bool tiles = supported(amx_kernels);
    ThreadPool pool(threads);
    std::vector<Job> jobs = {expand_job(32 << 10, "first-level cache"), expand_job(256 << 10, "second-level cache")};
    jobs.push_back(layer_job("layer without its products", TilePlan(), false, pool));
    Job peak;
    if (tiles) {
        const Peak found = peak_of("amx");
        const auto multiply = [&pool, found] { pool.parallel_for(pool.threads(), [&](std::int64_t, int) { found.multiply(); }); };
        peak = {R"("part": "peak")", found.products * threads, 0, multiply, multiply};
        peak.is_peak = true;
        jobs.push_back(peak);
        jobs.push_back(layer_job("layer", TilePlan(), true, pool));
        for (const int chunk_steps : {8, 12, 16, 24, 32, 64}) {
            for (const bool stream : {false, true}) {
                TilePlan plan;
                plan.chunk_steps = chunk_steps;
                plan.stream_levels = stream;
                jobs.push_back(layer_job("layer, cut otherwise", plan, true, pool));
            }
        }
        for (const std::int64_t most_rows : {32, 64, 128}) {
            TilePlan plan;
            plan.most_rows = most_rows;
            jobs.push_back(layer_job("layer, cut otherwise", plan, true, pool));
        }
    }
    measure(jobs, seconds);
    double best = 0;
    for (const Job& job : jobs) best = job.is_peak ? job.products / job.median() : best;
    for (const Job& job : jobs) {
        std::string line = format(R"({"kind": "tiles", %s, "threads": %d, "microseconds": %.1f)", job.text.c_str(), threads, job.median() * 1e6);
        if (job.bytes > 0) line += format(R"(, "gb_per_s": %.1f)", job.bytes / job.median() * 1e-9);
        if (job.products > 0)
            line += format(R"(, "gmac_per_s": %.1f, "share_of_peak": %.4f)", job.products / job.median() * 1e-9, job.products / job.median() / best);
        std::printf("%s}\n", line.c_str());
    }
    std::fflush(stdout);
#else
    (void)threads, (void)seconds;
    throw std::invalid_argument("--tiles: only x86-64 has tiles that the engine knows");
#endif
}

}  // namespace onebit
