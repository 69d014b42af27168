#include "token_model.h"

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "index.h"

namespace onebit {
namespace {

// Sums of products of bytes over so many tokens fit in 32 bits: 2^16 * 255 * 127 < 2^31.
constexpr std::int64_t most_int8_tokens = std::int64_t{1} << 16;
// The context from which on the cache is int8 unless something else is asked for: it takes more memory than the activations.
constexpr std::int64_t least_int8_context = 2048;
constexpr std::int64_t most_vocabulary = std::int64_t{1} << 24;

Program over_tokens(const std::string& text, const Tensors& tensors) {
    Program program = read_program(text, tensors);
    if (!program.tokens) throw std::invalid_argument("[engine] the program's input is not tokens: an engine runs it");
    if (program.outputs.front() == 0) throw std::invalid_argument("[engine] the program has no step");
    return program;
}

CacheNumbers cache_of(const Options& options, std::int64_t context) {
    const bool whole = options.precision == Precision::float32;
    const bool is_long = context >= least_int8_context && context <= most_int8_tokens;
    const CacheNumbers numbers = options.cache.value_or(whole ? CacheNumbers::float32 : is_long ? CacheNumbers::int8 : CacheNumbers::bf16);
    if (whole && numbers != CacheNumbers::float32) {
        throw std::invalid_argument("[engine] precision='float32' keeps its cache in float32: leave cache out, or use precision='int8'");
    }
    if (numbers == CacheNumbers::int8 && context > most_int8_tokens) {
        throw std::invalid_argument("[engine] cache='int8' takes contexts of up to " + std::to_string(most_int8_tokens) + " tokens, this one has " +
                                    std::to_string(context) + ": use cache='bf16'");
    }
    return numbers;
}

// Tokens for which every table has a row.
std::int64_t vocabulary_of(const Program& program) {
    std::int64_t least = most_vocabulary;
    for (const Step& step : program.steps) {
        const auto* embedding = step.find<ops::Embedding>();
        if (embedding != nullptr && !embedding->of_position) least = std::min(least, embedding->rows);
    }
    return least;
}

}  // namespace

TokenModel::TokenModel(const std::string& text, const Tensors& tensors, const Options& options) : TokenModel(over_tokens(text, tensors), options) {}

TokenModel::TokenModel(Program program, const Options& options)
    : numbers_(cache_of(options, program.shapes.front()[0])),
      context_(program.shapes.front()[0]),
      vocabulary_(vocabulary_of(program)),
      executor_(std::move(program), options, numbers_) {
    find_kept();
    std::uint64_t more = 0;
    for (const Kept& kept : kept_) more += kept.rows.working_bytes().most;
    for (std::size_t i = 0; i < executor_.remembering(); ++i) more += executor_.node(i).memory_bytes();
    executor_.place(more);
}

void TokenModel::find_kept() {
    std::vector<int> read = {executor_.output()};
    for (std::size_t i = executor_.remembering(); i < executor_.size(); ++i) {
        const std::vector<int>& inputs = executor_.node(i).inputs();
        read.insert(read.end(), inputs.begin(), inputs.end());
    }
    for (std::size_t i = 0; i < executor_.remembering(); ++i) {
        const int value = executor_.node(i).output();
        if (std::find(read.begin(), read.end(), value) == read.end()) continue;
        kept_.push_back({value, {}});
        kept_.back().rows.expect(static_cast<std::uint64_t>(executor_.rows_at_once() * executor_.shape(value).back()));
    }
}

std::size_t TokenModel::memory_bytes() const {
    const std::lock_guard turn(turn_);
    std::size_t sum = executor_.memory_bytes();
    for (const Kept& kept : kept_) sum += kept.rows.bytes();
    for (const Sequence& sequence : sequences_) {
        for (const auto& memory : sequence.memories) sum += memory->bytes();
    }
    return sum;
}

Sequence TokenModel::fresh() const {
    Sequence made;
    for (std::size_t i = 0; i < executor_.remembering(); ++i) {
        if (auto memory = executor_.node(i).new_memory()) made.memories.push_back(std::move(memory));
    }
    return made;
}

int TokenModel::open() {
    const std::lock_guard turn(turn_);
    return add(fresh());
}

std::vector<std::byte> TokenModel::save(int number) {
    const std::lock_guard turn(turn_);
    check(number);
    std::vector<std::byte> saved;
    for (const auto& memory : sequence(number).memories) {
        for (const std::span<std::byte> part : memory->contents(sequence(number).length)) saved.insert(saved.end(), part.begin(), part.end());
    }
    return saved;
}

int TokenModel::restore(std::int64_t length, std::span<const std::byte> saved) {
    const std::lock_guard turn(turn_);
    if (length < 0 || length > context_)
        throw std::invalid_argument("[engine] a state of " + std::to_string(length) + " tokens: the context is " + std::to_string(context_));
    Sequence made = fresh();
    for (const auto& memory : made.memories) {
        for (const std::span<std::byte> part : memory->contents(length)) {
            if (part.size() > saved.size()) throw std::invalid_argument("[engine] a state lacks bytes for its " + std::to_string(length) + " tokens");
            std::copy_n(saved.begin(), part.size(), part.begin());
            saved = saved.subspan(part.size());
        }
    }
    if (!saved.empty()) throw std::invalid_argument("[engine] a state has more bytes than its " + std::to_string(length) + " tokens need");
    made.length = length;
    return add(std::move(made));
}

int TokenModel::fork(int number, std::int64_t length) {
    const std::lock_guard turn(turn_);
    check(number);
    const Sequence& from = sequence(number);
    if (length < 0 || length > from.length) {
        throw std::invalid_argument("[engine] a sequence of " + std::to_string(from.length) + " tokens does not have " + std::to_string(length));
    }
    Sequence fresh;
    for (const auto& memory : from.memories) fresh.memories.push_back(memory->copy());
    fresh.length = length;
    return add(std::move(fresh));
}

int TokenModel::add(Sequence fresh) {
    fresh.open = true;
    auto free = std::find_if(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return !s.open; });
    if (free == sequences_.end()) free = sequences_.emplace(sequences_.end());
    *free = std::move(fresh);
    return static_cast<int>(free - sequences_.begin());
}

void TokenModel::check(int number) const {
    if (number < 0 || at(number) >= sequences_.size() || !sequences_[at(number)].open) {
        throw std::invalid_argument("[engine] sequence " + std::to_string(number) + " is not open");
    }
}

void TokenModel::close(int number) {
    const std::lock_guard turn(turn_);
    check(number);
    sequence(number) = Sequence();
}

void TokenModel::time_nodes() {
    const std::lock_guard turn(turn_);
    executor_.time_nodes();
}

std::vector<std::int64_t> TokenModel::nanoseconds() const {
    const std::lock_guard turn(turn_);
    return executor_.nanoseconds();
}

std::int64_t TokenModel::length(int number) const {
    const std::lock_guard turn(turn_);
    check(number);
    return sequences_[at(number)].length;
}

void TokenModel::cut(int number, std::int64_t length) {
    const std::lock_guard turn(turn_);
    check(number);
    Sequence& s = sequence(number);
    if (length < 0 || length > s.length)
        throw std::invalid_argument("[engine] a sequence of " + std::to_string(s.length) + " tokens cannot be cut there");
    s.length = length;
}

std::vector<Row> TokenModel::rows_of(const std::vector<int>& sequences, const std::vector<std::int64_t>& counts, const std::int32_t* tokens,
                                     bool all) {
    if (sequences.size() != counts.size()) throw std::invalid_argument("[engine] a count for each sequence is needed");
    std::vector<Row> rows;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
        check(sequences[i]);
        if (std::count(sequences.begin(), sequences.end(), sequences[i]) > 1) throw std::invalid_argument("[engine] a sequence is named twice");
        Sequence& s = sequence(sequences[i]);
        if (counts[i] < 1) throw std::invalid_argument("[engine] a sequence without a new token");
        if (s.length + counts[i] > context_) {
            throw std::invalid_argument("[engine] " + std::to_string(s.length + counts[i]) + " tokens: the context is " + std::to_string(context_));
        }
        s.awaited = s.length + counts[i];
        for (std::int64_t k = 0; k < counts[i]; ++k, ++tokens) {
            if (*tokens < 0 || *tokens >= vocabulary_) {
                throw std::invalid_argument("[engine] token " + std::to_string(*tokens) + " is out of range: use 0 to " +
                                            std::to_string(vocabulary_ - 1));
            }
            rows.push_back({&s, s.length + k, *tokens, all || k + 1 == counts[i]});
        }
    }
    return rows;
}

void TokenModel::extend(const std::vector<int>& sequences, const std::vector<std::int64_t>& counts, const std::int32_t* tokens, bool all, float* out,
                        const Ask& ask) {
    const auto turn = take_turn(turn_, ask);
    const ThreadPool::Use use(executor_.pool(), ask);
    const std::vector<Row> rows = rows_of(sequences, counts, tokens, all);
    try {
        const std::size_t at_once = at(executor_.rows_at_once());
        for (std::size_t first = 0; first < rows.size(); first += at_once) {
            const std::span<const Row> part(rows.data() + first, std::min(at_once, rows.size() - first));
            out += run_rows(part, out) * outputs();
            for (const Row& row : part) ++row.sequence->length;
        }
    } catch (...) {
        // A long text goes in in parts, of which some may be in. Rows come in the order of their positions.
        for (auto row = rows.rbegin(); row != rows.rend(); ++row) row->sequence->length = std::min(row->sequence->length, row->position);
        throw;
    }
}

std::int64_t TokenModel::run_rows(std::span<const Row> rows, float* out) {
    executor_.run(0, executor_.remembering(), {nullptr, nullptr, rows});
    std::vector<Row> wanted;
    std::vector<std::int64_t> places;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        if (!rows[r].wanted) continue;
        wanted.push_back(rows[r]);
        places.push_back(static_cast<std::int64_t>(r));
    }
    // Only the rows that are asked for go on, a piece at a time: their values are set aside, because the pieces share buffers.
    for (Kept& kept : kept_) {
        const std::int64_t width = executor_.shape(kept.value).back();
        float* to = kept.rows.reserve(wanted.size() * at(width));
        for (const std::int64_t place : places) to = std::copy_n(executor_.value(kept.value) + place * width, width, to);
    }
    const auto count = static_cast<std::int64_t>(wanted.size());
    // Logits of a whole text are tens of megabytes: the node that makes them writes them where they are wanted.
    const bool in_place = executor_.remembering() < executor_.size() && executor_.node(executor_.size() - 1).output() == executor_.output();
    for (std::int64_t first = 0; first < count; first += most_wanted_rows) {
        const std::int64_t some = std::min(most_wanted_rows, count - first);
        for (const Kept& kept : kept_) {
            const std::int64_t width = executor_.shape(kept.value).back();
            std::copy_n(kept.rows.data() + first * width, some * width, executor_.value(kept.value));
        }
        executor_.run(executor_.remembering(), executor_.size(), {nullptr, in_place ? out : nullptr, {wanted.data() + first, at(some)}});
        if (!in_place) std::copy_n(executor_.value(executor_.output()), some * outputs(), out);
        out += some * outputs();
    }
    return count;
}

}  // namespace onebit
