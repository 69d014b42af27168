#include "decoder.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "cpu.h"
#include "memory_plan.h"

namespace onebit {
namespace {

// Tokens that pass through the program at once: enough to share each expanded weight, few enough to stay small.
constexpr std::size_t most_rows = 256;
// The same behind the last attention or recurrence, where values are widest.
constexpr std::size_t most_wanted_rows = 96;
// Sums of products of bytes over so many tokens fit in 32 bits: 2^16 * 255 * 127 < 2^31.
constexpr std::int64_t most_int8_tokens = std::int64_t{1} << 16;

std::size_t at(std::int64_t index) {
    return static_cast<std::size_t>(index);
}

// Numbers that a thread needs to attend to so many tokens.
std::int64_t scores_of(std::int64_t tokens) {
    return (tokens + token_block - 1) / token_block * token_block * most_queries;
}

// The eight numbers of each byte of bits.
struct Expansion {
    float of[256][8];

    explicit Expansion(float clear) {
        for (int byte = 0; byte < 256; ++byte) {
            for (int bit = 0; bit < 8; ++bit) of[byte][bit] = (byte >> bit & 1) != 0 ? 1.0f : clear;
        }
    }
};

}  // namespace

Decoder::Decoder(const std::string& text, const Tensors& tensors, const Options& options)
    : kernels_(choose_kernels(options.isa)),
      precision_(options.precision),
      numbers_(options.cache.value_or(precision_ == Precision::int8 ? CacheNumbers::bf16 : CacheNumbers::float32)),
      pool_(options.threads, options.pin) {
    if (precision_ == Precision::float32 && numbers_ != CacheNumbers::float32) {
        throw std::invalid_argument("[engine] precision='float32' keeps its cache in float32: leave cache out, or use precision='int8'");
    }
    Program program = read_program(text, tensors);
    if (!program.tokens) throw std::invalid_argument("[engine] the program's input is not tokens: an engine runs it");
    if (program.output == 0) throw std::invalid_argument("[engine] the program has no step");
    context_ = program.shapes.front()[0];
    if (numbers_ == CacheNumbers::int8 && context_ > most_int8_tokens) {
        throw std::invalid_argument("[engine] cache='int8' takes contexts of up to " + std::to_string(most_int8_tokens) + " tokens, this one has " +
                                    std::to_string(context_) + ": use cache='bf16'");
    }
    output_ = program.output;
    vocabulary_ = std::int64_t{1} << 24;
    for (const Shape& shape : program.shapes) widths_.push_back(shape.size() > 1 ? shape.back() : 1);
    std::vector<int> uses(widths_.size(), 0);
    for (const Step& step : program.steps) {
        for (const int input : step.inputs) {
            if (input >= 0) ++uses[at(input)];
        }
    }
    ++uses[at(output_)];
    names_ = std::move(program.names);
    const auto bytes_of = [&](const Step& step) {
        const auto planes = static_cast<std::int64_t>(step.planes.size());
        return BitMatrix::bytes(widths_[at(step.inputs[0])], planes * widths_[at(step.output)], kernels_);
    };
    const auto counts = [&](const Step& step) { return CountLayer::suits(step, widths_[at(step.inputs[0])], widths_[at(step.output)]); };
    std::uint64_t bits_bytes = 0, weight_bytes = 0;
    for (const Step& step : program.steps) {
        const std::int64_t input = widths_[at(step.inputs[0])], width = widths_[at(step.output)];
        if (step.op == Op::bit_linear || step.op == Op::linear) {
            weight_bytes += counts(step) ? CountLayer::weight_bytes(step, input, width) : DenseLayer::weight_bytes(step, input, width, kernels_);
        } else if (gates_of(step.op) > 0) {
            weight_bytes += RecurrentLayer::weight_bytes(step, kernels_);
        } else if (step.op == Op::bit_embedding) {
            weight_bytes += static_cast<std::uint64_t>(step.rows * row_bytes(width) + width * std::int64_t{sizeof(float)});
        } else if (step.op == Op::embedding) {
            weight_bytes += static_cast<std::uint64_t>(step.rows * width) * sizeof(float);
        } else if (step.op == Op::scale_shift || step.op == Op::prelu) {
            weight_bytes += 2 * at(width) * sizeof(float);
        }
        if (step.op == Op::bit_linear && !counts(step)) bits_bytes += bytes_of(step);
        bits_bytes += RecurrentLayer::bits_bytes(step, kernels_);
    }
    // Some layouts take many times the bytes of the file.
    check_memory(weight_bytes, options.memory_cap);
    weights_ = Block(static_cast<std::size_t>(bits_bytes), true);
    std::uint8_t* bits = weights_.data();
    for (std::size_t i = 0; i < program.steps.size(); ++i) {
        Task task;
        task.step = program.steps[i];
        const Step& step = program.steps[i];
        const std::int64_t width = widths_[at(step.output)];
        if (step.op == Op::bit_linear || step.op == Op::linear) {
            const bool quantize = step.bits != nullptr && (precision_ == Precision::int8 || step.input.given());
            const std::int64_t inputs = widths_[at(step.inputs[0])];
            if (counts(step)) {
                task.counts = std::make_unique<CountLayer>(step, program.shapes[at(step.inputs[0])], program.shapes[at(step.output)], kernels_);
            } else {
                task.layer = std::make_unique<DenseLayer>(step, inputs, width, quantize, kernels_, bits);
                if (step.op == Op::bit_linear) bits += bytes_of(step);
            }
            const auto fuse = [&](const Step& next) {
                return task.counts ? task.counts->fuse(next, program.shapes[at(next.output)]) : task.layer->fuse(next);
            };
            while (i + 1 < program.steps.size() && program.steps[i + 1].inputs[0] == task.step.output && uses[at(task.step.output)] == 1 &&
                   fuse(program.steps[i + 1])) {
                task.fused += std::string(" + ") + op_name(program.steps[++i].op);
                task.step.output = program.steps[i].output;
            }
        } else if (step.op == Op::bit_embedding) {
            task.bits.assign(step.bits, step.bits + step.rows * row_bytes(width));
            task.shift.assign(at(width), 0.0f);
            for (std::int64_t c = 0; step.bias_bits != nullptr && c < width; ++c) {
                task.shift[at(c)] = (step.bias_bits[c / 8] >> (c % 8) & 1) != 0 ? 1.0f : (step.plus_minus ? -1.0f : 0.0f);
            }
        } else if (step.op == Op::embedding) {
            task.table.assign(step.weight, step.weight + step.rows * width);
        } else if (step.op == Op::scale_shift) {
            task.scale.assign(step.weight, step.weight + width);
            task.shift.assign(step.bias, step.bias + width);
        } else if (step.op == Op::prelu) {
            task.scale.assign(step.weight, step.weight + width);
        } else if (step.op == Op::attention) {
            task.cache = static_cast<int>(caches_.size());
            caches_.emplace_back(numbers_, step.heads, width / step.heads, context_);
            last_carrier_ = tasks_.size() + 1;
        } else if (gates_of(step.op) > 0) {
            const bool quantize = step.bits != nullptr && (precision_ == Precision::int8 || step.input.given());
            task.recurrence = std::make_unique<RecurrentLayer>(step, quantize, kernels_, bits);
            bits += RecurrentLayer::bits_bytes(step, kernels_);
            task.states = static_cast<int>(states_.size());
            states_.emplace_back(task.recurrence->state_size());
            last_carrier_ = tasks_.size() + 1;
        }
        if ((step.op == Op::bit_embedding || step.op == Op::embedding) && !step.of_position) vocabulary_ = std::min(vocabulary_, step.rows);
        // What a task needs of its tensors it has copied: they are the caller's.
        task.step.bits = task.step.bias_bits = nullptr;
        task.step.weight = task.step.bias = nullptr;
        tasks_.push_back(std::move(task));
    }
    scratch_.threads.resize(at(pool_.threads()));
    count_scratch_.threads.resize(at(pool_.threads()));
    place_values(options.memory_cap);
}

void Decoder::place_values(std::uint64_t memory_cap) {
    std::vector<const Step*> steps;
    std::vector<bool> read(widths_.size(), false);
    for (const Task& task : tasks_) steps.push_back(&task.step);
    for (std::size_t i = last_carrier_; i < tasks_.size(); ++i) {
        for (const int input : tasks_[i].step.inputs) {
            if (input > 0) read[at(input)] = true;
        }
    }
    read[at(output_)] = true;
    for (std::size_t i = 0; i < last_carrier_; ++i) {
        if (read[at(tasks_[i].step.output)]) kept_.push_back(tasks_[i].step.output);
    }
    aside_.resize(kept_.size());
    std::vector<std::int64_t> sizes(widths_.size(), 0);
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
        const int value = tasks_[i].step.output;
        sizes[at(value)] = value_bytes(value, i < last_carrier_ ? most_rows : most_wanted_rows);
    }
    placed_ = plan_memory(steps, sizes, output_);
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
        const Task& task = tasks_[i];
        // Which way a layer takes depends on its rows: more need not be more memory.
        for (std::int64_t rows = 1; rows <= static_cast<std::int64_t>(i < last_carrier_ ? most_rows : most_wanted_rows); ++rows) {
            if (task.layer) task.layer->expect(rows, scratch_);
            if (task.counts) task.counts->expect(rows, count_scratch_);
            if (task.recurrence) task.recurrence->expect(rows, scratch_, recurrent_scratch_);
        }
    }
    for (std::size_t k = 0; k < kept_.size(); ++k) aside_[k].expect(most_rows * static_cast<std::uint64_t>(widths_[at(kept_[k])]));
    if (!caches_.empty()) scores_.expect(static_cast<std::uint64_t>(scores_of(context_) * pool_.threads()));
    std::uint64_t of_token = 0;
    for (const AttentionCache& cache : caches_) of_token += cache.block_bytes();
    for (const Task& task : tasks_) of_token += task.recurrence ? 2 * at(task.recurrence->state_size()) * sizeof(float) : 0;
    most_bytes_ = weight_bytes() + working_bytes().most + of_token + static_cast<std::uint64_t>(placed_.bytes);
    check_memory(most_bytes_, memory_cap);
    arena_ = Block(at(placed_.bytes));
}

std::int64_t Decoder::value_bytes(int index, std::size_t rows) const {
    return widths_[at(index)] * static_cast<std::int64_t>(rows * sizeof(float));
}

std::vector<PlanLine> Decoder::plan() const {
    std::vector<PlanLine> lines;
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
        const Task& task = tasks_[i];
        const int value = task.step.output;
        PlanLine line{op_name(task.step.op) + task.fused, names_[at(value)], {context_, widths_[at(value)]}, "", placed_.offsets[at(value)], 0, 0};
        line.bytes = value_bytes(value, i < last_carrier_ ? most_rows : most_wanted_rows);
        if (task.layer) line.how = task.layer->how(), line.weight_bytes = static_cast<std::int64_t>(task.layer->bytes());
        if (task.recurrence) line.how = task.recurrence->how(), line.weight_bytes = static_cast<std::int64_t>(task.recurrence->bytes());
        if (task.counts) line.how = task.counts->how(), line.weight_bytes = static_cast<std::int64_t>(task.counts->bytes());
        line.weight_bytes +=
            static_cast<std::int64_t>(task.bits.size() + sizeof(float) * (task.table.size() + task.scale.size() + task.shift.size()));
        lines.push_back(std::move(line));
    }
    return lines;
}

std::size_t Decoder::memory_bytes() const {
    const std::lock_guard lock(mutex_);
    std::size_t sum = weight_bytes() + working_bytes().now + arena_.bytes();
    for (const Sequence& sequence : sequences_) {
        for (const AttentionCache& cache : sequence.caches) sum += cache.bytes();
        for (const States& states : sequence.states) sum += states.bytes();
    }
    return sum;
}

WorkingBytes Decoder::working_bytes() const {
    WorkingBytes sum = scratch_.working_bytes();
    sum += count_scratch_.working_bytes();
    sum += recurrent_scratch_.working_bytes();
    sum += scores_.working_bytes();
    for (const auto& buffer : aside_) sum += buffer.working_bytes();
    return sum;
}

std::uint64_t Decoder::weight_bytes() const {
    std::uint64_t sum = 0;
    for (const Task& task : tasks_) {
        if (task.recurrence) sum += task.recurrence->bytes();
        sum += (task.layer    ? task.layer->bytes()
                : task.counts ? task.counts->bytes()
                              : 0) +
               task.bits.size() + sizeof(float) * (task.table.size() + task.scale.size() + task.shift.size());
    }
    return sum;
}

int Decoder::open() {
    const std::lock_guard lock(mutex_);
    auto free = std::find_if(sequences_.begin(), sequences_.end(), [](const Sequence& s) { return !s.open; });
    if (free == sequences_.end()) free = sequences_.emplace(sequences_.end());
    free->caches = caches_;  // may fail: the place is taken behind it
    free->states = states_;
    free->open = true;
    free->length = 0;
    return static_cast<int>(free - sequences_.begin());
}

void Decoder::check(int sequence) const {
    if (sequence < 0 || at(sequence) >= sequences_.size() || !sequences_[at(sequence)].open) {
        throw std::invalid_argument("[engine] sequence " + std::to_string(sequence) + " is not open");
    }
}

void Decoder::close(int sequence) {
    const std::lock_guard lock(mutex_);
    check(sequence);
    sequences_[at(sequence)] = Sequence();
}

std::int64_t Decoder::length(int sequence) const {
    const std::lock_guard lock(mutex_);
    check(sequence);
    return sequences_[at(sequence)].length;
}

void Decoder::cut(int sequence, std::int64_t length) {
    const std::lock_guard lock(mutex_);
    check(sequence);
    Sequence& s = sequences_[at(sequence)];
    if (length < 0 || length > s.length)
        throw std::invalid_argument("[engine] a sequence of " + std::to_string(s.length) + " tokens cannot be cut there");
    s.length = length;
}

void Decoder::extend(const std::vector<int>& sequences, const std::vector<std::int64_t>& counts, const std::int32_t* tokens, bool all, float* out,
                     const Ask& ask) {
    const auto lock = take_turn(mutex_, ask);
    const ThreadPool::Asking asking(pool_, ask);
    if (sequences.size() != counts.size()) throw std::invalid_argument("[engine] a count for each sequence is needed");
    std::vector<Row> rows;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
        check(sequences[i]);
        if (std::count(sequences.begin(), sequences.end(), sequences[i]) > 1) throw std::invalid_argument("[engine] a sequence is named twice");
        const std::int64_t length = sequences_[at(sequences[i])].length;
        if (counts[i] < 1) throw std::invalid_argument("[engine] a sequence without a new token");
        if (length + counts[i] > context_) {
            throw std::invalid_argument("[engine] " + std::to_string(length + counts[i]) + " tokens: the context is " + std::to_string(context_));
        }
        for (std::int64_t k = 0; k < counts[i]; ++k, ++tokens) {
            if (*tokens < 0 || *tokens >= vocabulary_) {
                throw std::invalid_argument("[engine] token " + std::to_string(*tokens) + " is out of range: use 0 to " +
                                            std::to_string(vocabulary_ - 1));
            }
            rows.push_back({sequences[i], length + k, *tokens, all || k + 1 == counts[i]});
        }
    }
    try {
        for (std::size_t first = 0; first < rows.size(); first += most_rows) {
            const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(first);
            const std::vector<Row> part(begin, begin + static_cast<std::ptrdiff_t>(std::min(most_rows, rows.size() - first)));
            out += run_rows(part, out) * outputs();
            for (const Row& row : part) ++sequences_[at(row.sequence)].length;
        }
    } catch (...) {
        // A long text goes in in parts, of which some may be in. Rows come in the order of their positions.
        for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
            std::int64_t& length = sequences_[at(row->sequence)].length;
            length = std::min(length, row->position);
        }
        throw;
    }
}

std::int64_t Decoder::run_rows(const std::vector<Row>& rows, float* out) {
    std::vector<std::size_t> wanted;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        if (rows[r].wanted) wanted.push_back(r);
    }
    const std::size_t piece = std::min(wanted.size(), most_wanted_rows);
    prepared_ = nullptr;
    for (std::size_t i = 0; i < last_carrier_; ++i) run_task(tasks_[i], rows);

    // Behind the last attention or recurrence only the rows that are asked for go on, a piece at a time: their values are set aside, because the
    // pieces share buffers.
    std::vector<float*> aside;
    for (std::size_t k = 0; k < kept_.size(); ++k) {
        const std::int64_t width = widths_[at(kept_[k])];
        aside.push_back(aside_[k].reserve(wanted.size() * at(width)));
        for (std::size_t w = 0; w < wanted.size(); ++w) {
            const float* from = value(kept_[k]) + static_cast<std::int64_t>(wanted[w]) * width;
            std::copy(from, from + width, aside[k] + static_cast<std::int64_t>(w) * width);
        }
    }
    for (std::size_t first = 0; first < wanted.size(); first += piece) {
        const std::size_t count = std::min(piece, wanted.size() - first);
        std::vector<Row> some;
        for (std::size_t w = first; w < first + count; ++w) some.push_back(rows[wanted[w]]);
        for (std::size_t k = 0; k < kept_.size(); ++k) {
            const float* from = aside[k] + static_cast<std::int64_t>(first) * widths_[at(kept_[k])];
            std::copy(from, from + static_cast<std::int64_t>(count) * widths_[at(kept_[k])], value(kept_[k]));
        }
        prepared_ = nullptr;
        for (std::size_t i = last_carrier_; i < tasks_.size(); ++i) run_task(tasks_[i], some);
        const float* result = value(output_);
        out = std::copy(result, result + static_cast<std::int64_t>(count) * outputs(), out);
    }
    return static_cast<std::int64_t>(wanted.size());
}

void Decoder::run_task(const Task& task, const std::vector<Row>& rows) {
    const Step& step = task.step;
    const auto count = static_cast<std::int64_t>(rows.size());
    const std::int64_t width = widths_[at(step.output)], n = count * width;
    pool_.check(0);
    const float* x = value(step.inputs[0]);
    float* y = value(step.output);
    const auto each_row = [&](const auto& body) { parallel(pool_, n * 8, count, [&](std::int64_t r, int) { body(x + r * width, y + r * width); }); };
    switch (step.op) {
        case Op::bit_linear:
        case Op::linear: {
            if (task.counts) {
                task.counts->run(x, count, y, pool_, count_scratch_);
                return;
            }
            // Queries, keys and values have one input, which is quantised once.
            const bool again = prepared_ != nullptr && prepared_->step.inputs[0] == step.inputs[0] && prepared_->layer->prepares_for(*task.layer);
            task.layer->run(x, count, again, y, pool_, scratch_);
            if (task.layer->quantizes()) prepared_ = &task;
            return;
        }
        case Op::bit_embedding:
        case Op::embedding: embed(task, rows, y); return;
        case Op::attention: attend(task, rows, y); return;
        case Op::bit_gru:
        case Op::bit_lstm:
        case Op::gru:
        case Op::lstm: recur(task, rows, y); return;
        case Op::add: {
            const float* other = value(step.inputs[1]);
            parallel(pool_, n * 8, count, [&](std::int64_t r, int) { kernels_.add(x + r * width, other + r * width, width, y + r * width); });
            return;
        }
        case Op::multiply: {
            const float* factors = value(step.inputs[1]);
            const bool equal = widths_[at(step.inputs[1])] == width;
            parallel(pool_, n * 8, count, [&](std::int64_t r, int) {
                if (equal) return kernels_.multiply(x + r * width, factors + r * width, width, y + r * width);
                kernels_.scale(x + r * width, width, factors[r], y + r * width);
            });
            return;
        }
        case Op::mean_magnitude: {
            const std::int64_t features = widths_[at(step.inputs[0])];
            for (std::int64_t r = 0; r < count; ++r) y[r] = kernels_.mean_magnitude(x + r * features, features);
            return;
        }
        case Op::group_normalize: {
            const std::int64_t group = width / step.groups;
            each_row([&](const float* from, float* to) {
                for (std::int64_t i = 0; i < width; i += group) kernels_.normalize(from + i, group, step.eps, to + i);
            });
            return;
        }
        case Op::clip: each_row([&](const float* from, float* to) { kernels_.clip(from, width, step.low, step.high, to); }); return;
        case Op::prelu: kernels_.prelu(x, count, static_cast<int>(width), task.scale.data(), y); return;
        case Op::sigmoid: each_row([&](const float* from, float* to) { kernels_.sigmoid(from, width, to); }); return;
        case Op::silu: each_row([&](const float* from, float* to) { kernels_.silu(from, width, to); }); return;
        case Op::tanh: each_row([&](const float* from, float* to) { kernels_.tanh(from, width, to); }); return;
        case Op::gelu: each_row([&](const float* from, float* to) { kernels_.gelu(from, width, to); }); return;
        case Op::normalize: each_row([&](const float* from, float* to) { kernels_.normalize(from, width, step.eps, to); }); return;
        case Op::relu: each_row([&](const float* from, float* to) { kernels_.relu(from, width, to); }); return;
        case Op::scale: each_row([&](const float* from, float* to) { kernels_.scale(from, width, step.factor, to); }); return;
        case Op::scale_shift: kernels_.scale_shift(x, count, static_cast<int>(width), task.scale.data(), task.shift.data(), y); return;
        case Op::softmax: each_row([&](const float* from, float* to) { kernels_.softmax(from, width, to); }); return;
        default: return;  // read_program lets nothing else into a program over tokens
    }
}

void Decoder::embed(const Task& task, const std::vector<Row>& rows, float* y) const {
    const Step& step = task.step;
    const std::int64_t width = widths_[at(step.output)];
    for (const Row& row : rows) {
        const std::int64_t index = step.of_position ? row.position : row.token;
        if (step.op == Op::embedding) {
            const float* from = task.table.data() + index * width;
            std::copy(from, from + width, y);
        } else {
            static const Expansion zero_one(0.0f), plus_minus(-1.0f);
            const Expansion& expansion = step.plus_minus ? plus_minus : zero_one;
            const std::uint8_t* bits = task.bits.data() + index * row_bytes(width);
            std::int64_t c = 0;
            for (; c + 8 <= width; c += 8) {
                for (int i = 0; i < 8; ++i) y[c + i] = expansion.of[bits[c / 8]][i] + task.shift[at(c + i)];
            }
            for (; c < width; ++c) y[c] = expansion.of[bits[c / 8]][c % 8] + task.shift[at(c)];
        }
        y += width;
    }
}

void Decoder::recur(const Task& task, const std::vector<Row>& rows, float* y) {
    const auto gates = static_cast<std::ptrdiff_t>(widths_[at(task.step.inputs[0])]),
               hidden = static_cast<std::ptrdiff_t>(widths_[at(task.step.output)]);
    const auto size = static_cast<std::ptrdiff_t>(task.recurrence->state_size());
    const float* x = value(task.step.inputs[0]);
    std::vector<RecurrentLayer::Part> parts;
    for (std::size_t r = 0; r < rows.size();) {
        std::size_t end = r + 1;
        while (end < rows.size() && rows[end].sequence == rows[r].sequence) ++end;
        States& states = sequences_[at(rows[r].sequence)].states[at(task.states)];
        states.reserve(rows[end - 1].position + 1);
        const std::int64_t first = rows[r].position, row = static_cast<std::int64_t>(r);
        parts.push_back(
            {static_cast<std::int64_t>(end - r), x + row * gates, gates, states.at(first - 1), states.at(first), size, y + row * hidden, hidden});
        r = end;
    }
    task.recurrence->run(parts, pool_, scratch_, recurrent_scratch_);
    prepared_ = nullptr;  // scratch_ holds this product's input now
}

void Decoder::attend(const Task& task, const std::vector<Row>& rows, float* y) {
    const std::int64_t width = widths_[at(task.step.output)], heads = task.step.heads, features = width / heads;
    const float* q = value(task.step.inputs[0]);
    const float* k = value(task.step.inputs[1]);
    const float* v = value(task.step.inputs[2]);
    std::int64_t work = 0, longest = 0;
    // From the last on, so that a prompt's cache grows once.
    for (std::size_t r = rows.size(); r-- > 0;) {
        const std::int64_t tokens = rows[r].position + 1;
        longest = std::max(longest, tokens);
        sequences_[at(rows[r].sequence)].caches[at(task.cache)].reserve(tokens);
        work += 2 * tokens * width;
    }
    parallel(pool_, static_cast<std::int64_t>(rows.size()) * width * 16, static_cast<std::int64_t>(rows.size()), [&](std::int64_t r, int) {
        const Row& row = rows[at(r)];
        sequences_[at(row.sequence)].caches[at(task.cache)].put(kernels_, row.position, k + r * width, v + r * width);
    });
    // Rows that stand behind each other in one text read the same keys and values.
    std::vector<std::pair<std::int64_t, int>> groups;  // first row, how many
    for (std::size_t r = 0; r < rows.size(); ++r) {
        // Where nothing behind it looks back, only the rows whose outputs are asked for go on.
        if (&task == &tasks_[last_carrier_ - 1] && !rows[r].wanted) continue;
        const bool joins = !groups.empty() && groups.back().first + groups.back().second == static_cast<std::int64_t>(r) &&
                           groups.back().second < most_queries && rows[r].sequence == rows[r - 1].sequence;
        if (joins) {
            ++groups.back().second;
        } else {
            groups.emplace_back(r, 1);
        }
    }
    const std::int64_t of_thread = scores_of(longest), room = of_thread / most_queries;
    scores_.reserve(at(of_thread * pool_.threads()));
    const auto count = static_cast<std::int64_t>(groups.size());
    // A head's queries one after the other, so that its keys and values stay in the cache.
    parallel(pool_, work, count * heads, [&](std::int64_t unit, int thread) {
        const auto [first, queries] = groups[at(unit % count)];
        const std::int64_t head = unit / count, offset = first * width + head * features;
        Attended a{};
        a.rows = queries;
        a.tokens = rows[at(first)].position + 1;
        a.row_stride = width;
        a.score_stride = room;
        const AttentionCache& cache = sequences_[at(rows[at(first)].sequence)].caches[at(task.cache)];
        cache.attend(kernels_, head, a, q + offset, scores_.data() + of_thread * thread, y + offset);
    });
}

}  // namespace onebit
