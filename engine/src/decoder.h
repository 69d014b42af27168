// Runs a program over tokens: prompts in one pass, then a token after the other, with the keys and values, or the states, of each sequence kept.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "attention_cache.h"
#include "count_layer.h"
#include "dense_layer.h"
#include "engine.h"
#include "kernels/kernels.h"
#include "memory_plan.h"
#include "options.h"
#include "program.h"
#include "recurrent_layer.h"
#include "thread_pool.h"

namespace onebit {

class Decoder {
  public:
    // As Engine's; the program must be one over tokens. Precision::float32 takes no cache but one of float32.
    Decoder(const std::string& program, const Tensors& tensors, const Options& options);

    std::int64_t context() const { return context_; }
    // Numbers that the program gives for each token.
    std::int64_t outputs() const { return widths_[static_cast<std::size_t>(output_)]; }
    const Kernels& kernels() const { return kernels_; }
    int threads() const { return pool_.threads(); }
    Precision precision() const { return precision_; }
    CacheNumbers cache() const { return numbers_; }
    std::size_t memory_bytes() const;
    // What that will be at most with one sequence of one token: it was compared with the cap at load. What further tokens take is the caller's to
    // limit.
    std::uint64_t most_bytes() const { return most_bytes_; }
    std::size_t arena_bytes() const { return arena_.bytes(); }
    std::vector<PlanLine> plan() const;

    // A new, empty sequence; its number is free again after `close`.
    int open();
    void close(int sequence);
    std::int64_t length(int sequence) const;
    // Forget the tokens from `length` on.
    void cut(int sequence, std::int64_t length);

    // Append counts[i] tokens to sequences[i], all in one pass. Writes the outputs that follow each token (`all`), or only the last of each
    // sequence. Throws std::invalid_argument for an unknown or repeated sequence, a token out of range, or more tokens than the context. Where it
    // throws, for this or any other reason (what `ask` throws included), nothing is appended.
    void extend(const std::vector<int>& sequences, const std::vector<std::int64_t>& counts, const std::int32_t* tokens, bool all, float* out,
                const Ask& ask = {});

  private:
    struct Task {
        Step step;
        std::unique_ptr<DenseLayer> layer;
        std::unique_ptr<RecurrentLayer> recurrence;
        std::unique_ptr<CountLayer> counts;      // in its stead where inputs are signs, or levels of few bits
        std::string fused;                       // the names of the steps that it took in
        std::vector<float> table, scale, shift;  // of an embedding, or of a scale_shift on its own; the slope of a prelu
        std::vector<std::uint8_t> bits;          // of a binary embedding
        int cache = -1;                          // of an attention
        int states = -1;                         // of a recurrence
    };
    struct Sequence {
        bool open = false;
        std::int64_t length = 0;
        std::vector<AttentionCache> caches;
        std::vector<States> states;
    };
    struct Row {
        int sequence;
        std::int64_t position;
        std::int32_t token;
        bool wanted;  // its outputs are asked for
    };

    // Room for all values in one block.
    void place_values(std::uint64_t memory_cap);
    std::uint64_t weight_bytes() const;
    WorkingBytes working_bytes() const;
    void check(int sequence) const;
    // Returns how many rows of outputs it wrote.
    std::int64_t run_rows(const std::vector<Row>& rows, float* out);
    void run_task(const Task& task, const std::vector<Row>& rows);
    void embed(const Task& task, const std::vector<Row>& rows, float* y) const;
    void attend(const Task& task, const std::vector<Row>& rows, float* y);
    void recur(const Task& task, const std::vector<Row>& rows, float* y);
    float* value(int index) const { return reinterpret_cast<float*>(arena_.data() + placed_.offsets[static_cast<std::size_t>(index)]); }
    std::int64_t value_bytes(int index, std::size_t rows) const;

    const Kernels& kernels_;
    Precision precision_;
    CacheNumbers numbers_;
    std::int64_t context_ = 0, vocabulary_ = 0;
    std::vector<std::int64_t> widths_;  // of each value
    int output_ = 0;
    std::vector<Task> tasks_;
    std::size_t last_carrier_ = 0;        // the end of the last attention or recurrence: behind it only the rows that are asked for are computed
    std::vector<int> kept_;               // values that are read behind it
    std::vector<AttentionCache> caches_;  // empty ones, of each attention
    std::vector<States> states_;          // the same of each recurrence
    std::vector<std::string> names_;      // of values
    MemoryPlan placed_;
    std::uint64_t most_bytes_ = 0;
    Block arena_;    // all values, for as many rows as one pass takes
    Block weights_;  // bits of all layers, in the order in which they are read
    std::vector<Buffer<float>> aside_;
    Buffer<float> scores_;
    std::vector<Sequence> sequences_;
    ThreadPool pool_;
    DenseScratch scratch_;
    RecurrentScratch recurrent_scratch_;
    CountScratch count_scratch_;
    const Task* prepared_ = nullptr;  // whose input stands quantised in scratch_
    mutable std::timed_mutex mutex_;
};

}  // namespace onebit
