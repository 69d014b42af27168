#include "engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "cpu.h"
#include "image_ops.h"

namespace onebit {
namespace {

// Expanded weights that are kept rather than expanded anew in each run: small networks become faster, large ones stay small.
constexpr std::size_t kept_panels_bytes = std::size_t{1} << 20;
// Numbers of a plain step that are computed between two looks at whether to go on: a few milliseconds' work.
constexpr std::int64_t piece_numbers = std::int64_t{1} << 20;

bool is_product(Op op) {
    return op == Op::bit_conv2d || op == Op::bit_linear || op == Op::conv2d || op == Op::linear;
}

std::size_t at(std::int64_t index) {
    return static_cast<std::size_t>(index);
}

}  // namespace

Engine::Engine(const std::string& text, const Tensors& tensors, const Options& options)
    : kernels_(choose_kernels(options.isa)), precision_(options.precision), pool_(options.threads, options.pin) {
    Program program = read_program(text, tensors);
    if (program.tokens) throw std::invalid_argument("[engine] a program over tokens: a decoder runs it");
    shapes_ = std::move(program.shapes);
    names_ = std::move(program.names);
    output_ = program.output;
    std::vector<int> uses(shapes_.size(), 0);
    std::uint64_t dense_bytes = 0, weight_bytes = 0;
    const auto quantizes = [&](const Step& step) { return step.bits != nullptr && (precision_ == Precision::int8 || step.input.given()); };
    const auto counts = [&](const Step& step) {
        return CountLayer::suits(step, shapes_[at(step.inputs[0])].back(), shapes_[at(step.output)].back());
    };
    const auto reads_bits = [&](const Step& step) { return step.op == Op::bit_linear && quantizes(step) && !counts(step); };
    const auto bytes_of = [&](const Step& step) {
        const auto planes = static_cast<std::int64_t>(step.planes.size());
        return BitMatrix::bytes(shapes_[at(step.inputs[0])].back(), planes * shapes_[at(step.output)].back(), kernels_);
    };
    for (const Step& step : program.steps) {
        for (const int input : step.inputs) {
            if (input >= 0) ++uses[at(input)];
        }
        if (reads_bits(step)) dense_bytes += bytes_of(step);
        dense_bytes += RecurrentLayer::bits_bytes(step, kernels_);
        const Shape &input = shapes_[at(step.inputs[0])], &output = shapes_[at(step.output)];
        if (is_product(step.op)) {
            weight_bytes += counts(step)       ? CountLayer::weight_bytes(step, input.back(), output.back())
                            : reads_bits(step) ? DenseLayer::weight_bytes(step, input.back(), output.back(), kernels_)
                                               : ProductLayer::weight_bytes(step, input, output, quantizes(step), kernels_);
        } else if (gates_of(step.op) > 0) {
            weight_bytes += RecurrentLayer::weight_bytes(step, kernels_);
        } else if (step.op == Op::scale_shift || step.op == Op::prelu) {
            weight_bytes += 2 * sizeof(float) * static_cast<std::uint64_t>(input.back());
        }
    }
    ++uses[at(output_)];
    // Some layouts take many times the bytes of the file.
    check_memory(weight_bytes, options.memory_cap);

    // Whether a layer of signs, which comes next, is all that reads a scale_shift: it may take it in, and signs are then those of two roundings.
    const auto only_signs_follow = [&](std::size_t i) {
        if (program.steps[i].op != Op::scale_shift || i + 1 >= program.steps.size() || uses[at(program.steps[i].output)] != 1) return false;
        const Step& next = program.steps[i + 1];
        return next.inputs[0] == program.steps[i].output && next.input.quantizer == InputLevels::Quantizer::sign && counts(next);
    };
    weights_ = Block(static_cast<std::size_t>(dense_bytes), true);
    std::uint8_t* bits = weights_.data();
    std::size_t budget = kept_panels_bytes;
    for (std::size_t i = 0; i < program.steps.size(); ++i) {
        Task task;
        if (only_signs_follow(i)) {
            const Step& next = program.steps[i + 1];
            task.counts = std::make_unique<CountLayer>(next, shapes_[at(next.inputs[0])], shapes_[at(next.output)], kernels_);
            if (task.counts->fold(program.steps[i])) {
                task.before = std::string(op_name(program.steps[i].op)) + " + ";
                ++i;
            } else {
                task.counts.reset();
            }
        }
        const Step& step = program.steps[i];
        task.step = step;
        if (task.counts) task.step.inputs[0] = program.steps[i - 1].inputs[0];
        if (is_product(step.op)) {
            const bool quantize = quantizes(step);
            if (task.counts) {
                // It took a scale_shift in, and is made.
            } else if (counts(step)) {
                task.counts = std::make_unique<CountLayer>(step, shapes_[at(step.inputs[0])], shapes_[at(step.output)], kernels_);
            } else if (reads_bits(step)) {
                const std::int64_t inputs = shapes_[at(step.inputs[0])].back(), outputs = shapes_[at(step.output)].back();
                task.dense = std::make_unique<DenseLayer>(step, inputs, outputs, true, kernels_, bits);
                bits += bytes_of(step);
            } else {
                task.layer = std::make_unique<ProductLayer>(step, shapes_[at(step.inputs[0])], shapes_[at(step.output)], quantize, kernels_, budget);
            }
            // What follows and uses nothing else is computed while the layer's outputs are at hand.
            while (i + 1 < program.steps.size()) {
                const Step& next = program.steps[i + 1];
                if (next.inputs[0] != task.step.output || next.inputs[1] >= 0 || uses[at(task.step.output)] != 1) break;
                if (only_signs_follow(i + 1)) break;
                const Shape& shape = shapes_[at(next.output)];
                if (task.dense ? !task.dense->fuse(next) : task.counts ? !task.counts->fuse(next, shape) : !task.layer->fuse(next, shape)) break;
                task.step.output = next.output;
                task.fused += std::string(" + ") + op_name(next.op);
                ++i;
            }
        } else if (gates_of(step.op) > 0) {
            task.recurrence = std::make_unique<RecurrentLayer>(step, quantizes(step), kernels_, bits);
            bits += RecurrentLayer::bits_bytes(step, kernels_);
        } else if (step.op == Op::scale_shift) {
            task.scale.assign(step.weight, step.weight + shapes_[at(step.inputs[0])].back());
            task.shift.assign(step.bias, step.bias + shapes_[at(step.inputs[0])].back());
        } else if (step.op == Op::prelu) {
            task.scale.assign(step.weight, step.weight + shapes_[at(step.inputs[0])].back());
        }
        // What a task needs of its tensors it has copied: they are the caller's.
        task.step.bits = task.step.bias_bits = nullptr;
        task.step.weight = task.step.bias = nullptr;
        tasks_.push_back(std::move(task));
    }
    scratch_.threads.resize(at(pool_.threads()));
    dense_scratch_.threads.resize(at(pool_.threads()));
    count_scratch_.threads.resize(at(pool_.threads()));
    place_values(options.memory_cap);
}

void Engine::place_values(std::uint64_t memory_cap) {
    std::vector<const Step*> steps;
    for (const Task& task : tasks_) steps.push_back(&task.step);
    std::vector<std::int64_t> sizes;
    for (const Shape& shape : shapes_) sizes.push_back(elements(shape) * static_cast<std::int64_t>(sizeof(float)));
    placed_ = plan_memory(steps, sizes, output_);
    std::uint64_t of_step = 0;
    for (const Task& task : tasks_) {
        const Shape& input = shapes_[at(task.step.inputs[0])];
        if (task.layer) task.layer->expect(scratch_);
        if (task.dense) task.dense->expect(elements(input) / input.back(), dense_scratch_);
        if (task.counts) task.counts->expect(elements(input) / input.back(), count_scratch_);
        if (task.recurrence) task.recurrence->expect(1, dense_scratch_, recurrent_scratch_);
        of_step = std::max(of_step, step_bytes(task.step));
    }
    most_bytes_ = weight_bytes() + working_bytes().most + of_step + static_cast<std::uint64_t>(placed_.bytes);
    check_memory(most_bytes_, memory_cap);
    arena_ = Block(static_cast<std::size_t>(placed_.bytes));
    ranges_.resize(shapes_.size());
    range_known_.resize(shapes_.size(), false);
}

std::vector<PlanLine> Engine::plan() const {
    std::vector<PlanLine> lines;
    for (const Task& task : tasks_) {
        const std::size_t value = at(task.step.output);
        PlanLine line{task.before + op_name(task.step.op) + task.fused, names_[value], shapes_[value], "", placed_.offsets[value], 0, 0};
        line.bytes = elements(shapes_[value]) * static_cast<std::int64_t>(sizeof(float));
        if (task.layer) line.how = task.layer->how(), line.weight_bytes = static_cast<std::int64_t>(task.layer->bytes());
        if (task.dense) line.how = task.dense->how(), line.weight_bytes = static_cast<std::int64_t>(task.dense->bytes());
        if (task.recurrence) line.how = task.recurrence->how(), line.weight_bytes = static_cast<std::int64_t>(task.recurrence->bytes());
        if (task.counts) line.how = task.counts->how(), line.weight_bytes = static_cast<std::int64_t>(task.counts->bytes());
        lines.push_back(std::move(line));
    }
    return lines;
}

std::size_t Engine::memory_bytes() const {
    return weight_bytes() + working_bytes().now + arena_.bytes();
}

WorkingBytes Engine::working_bytes() const {
    WorkingBytes sum = scratch_.working_bytes();
    sum += dense_scratch_.working_bytes();
    sum += recurrent_scratch_.working_bytes();
    sum += count_scratch_.working_bytes();
    return sum;
}

std::uint64_t Engine::step_bytes(const Step& step) const {
    const Shape& shape = shapes_[at(step.inputs[0])];
    switch (step.op) {
        case Op::mean_pool: return static_cast<std::uint64_t>(shape.back()) * sizeof(double);
        case Op::group_normalize: return shape.size() == 3 ? static_cast<std::uint64_t>(shape.back()) * 2 * (sizeof(double) + sizeof(float)) : 0;
        case Op::mean_magnitude:
            return step.windowed ? static_cast<std::uint64_t>(shape[0] * shape[1]) * sizeof(float) +
                                       pool_bytes(step.window, {shape[0], shape[1], 1}, shapes_[at(step.output)])
                                 : 0;
        case Op::avg_pool2d:
        case Op::max_pool2d: return pool_bytes(step.window, shape, shapes_[at(step.output)]);
        default: return 0;
    }
}

std::uint64_t Engine::weight_bytes() const {
    std::uint64_t sum = 0;
    for (const Task& task : tasks_) {
        if (task.recurrence) sum += task.recurrence->bytes();
        if (task.counts) sum += task.counts->bytes();
        sum += task.layer ? task.layer->bytes() : task.dense ? task.dense->bytes() : (task.scale.size() + task.shift.size()) * sizeof(float);
    }
    return sum;
}

void Engine::run(const std::uint8_t* batch, std::int64_t count, float* out, const Ask& ask) {
    const auto lock = take_turn(mutex_, ask);
    const ThreadPool::Asking asking(pool_, ask);
    const std::int64_t size = elements(input_shape()), out_size = elements(output_shape());
    for (std::int64_t i = 0; i < count; ++i, batch += size, out += out_size) {
        float* x = placed(0);
        for (std::int64_t k = 0; k < size; ++k) x[k] = static_cast<float>(batch[k]) / 255.0f;
        run_example({nullptr, out});
    }
}

void Engine::run(const float* batch, std::int64_t count, float* out, const Ask& ask) {
    const auto lock = take_turn(mutex_, ask);
    const ThreadPool::Asking asking(pool_, ask);
    const std::int64_t size = elements(input_shape()), out_size = elements(output_shape());
    // Arrays in Python may begin at any byte.
    const bool in_place = reinterpret_cast<std::uintptr_t>(batch) % alignof(float) == 0;
    for (std::int64_t i = 0; i < count; ++i, batch += size, out += out_size) {
        if (!in_place) std::memcpy(placed(0), batch, static_cast<std::size_t>(size) * sizeof(float));
        run_example({in_place ? batch : nullptr, out});
    }
}

float* Engine::value(int index, const Call& call) const {
    // No step writes the input.
    if (index == 0) return call.given != nullptr ? const_cast<float*>(call.given) : placed(0);
    return index == output_ ? call.taken : placed(index);
}

void Engine::run_example(const Call& call) {
    if (output_ == 0) {
        std::copy_n(value(0, call), elements(output_shape()), call.taken);
        return;
    }
    for (const Task& task : tasks_) {
        pool_.check(0);
        run_task(task, call);
    }
}

void Engine::run_task(const Task& task, const Call& call) {
    const Step& step = task.step;
    const Shape& shape = shapes_[at(step.inputs[0])];
    const std::int64_t n = elements(shape);
    const std::int64_t channels = shape.back();
    const float* x = value(step.inputs[0], call);
    float* y = value(step.output, call);
    // f(from, how many) for rows of `row` numbers, so many at a time that Ctrl-C is heard between them.
    const auto rows = [&](std::int64_t row, const auto& f) {
        const std::int64_t some = std::max<std::int64_t>(1, piece_numbers / row), all = n / row;
        for (std::int64_t r = 0; r < all; r += some) {
            pool_.check(0);
            f(r, std::min(some, all - r));
        }
    };
    const auto numbers = [&](const auto& f) { rows(1, f); };
    switch (step.op) {
        case Op::bit_conv2d:
        case Op::bit_linear:
        case Op::conv2d:
        case Op::linear: {
            if (task.dense) {
                task.dense->run(x, n / channels, false, y, pool_, dense_scratch_);
                range_known_[at(step.output)] = false;
                return;
            }
            if (task.counts) {
                ranges_[at(step.output)] = task.counts->run(x, n / channels, y, pool_, count_scratch_);
                range_known_[at(step.output)] = true;
                return;
            }
            const Range* known = range_known_[at(step.inputs[0])] ? &ranges_[at(step.inputs[0])] : nullptr;
            ranges_[at(step.output)] = task.layer->run(x, known, y, pool_, scratch_);
            range_known_[at(step.output)] = true;
            return;
        }
        case Op::add: {
            const float* other = value(step.inputs[1], call);
            numbers([&](std::int64_t i, std::int64_t count) { kernels_.add(x + i, other + i, count, y + i); });
            return;
        }
        case Op::relu: numbers([&](std::int64_t i, std::int64_t count) { kernels_.relu(x + i, count, y + i); }); return;
        case Op::scale_shift:
            rows(channels, [&](std::int64_t r, std::int64_t count) {
                kernels_.scale_shift(x + r * channels, count, static_cast<int>(channels), task.scale.data(), task.shift.data(), y + r * channels);
            });
            return;
        case Op::normalize: {
            const std::int64_t row = step.over_channel ? channels : n;
            rows(row, [&](std::int64_t r, std::int64_t count) {
                for (std::int64_t i = r * row; i < (r + count) * row; i += row) kernels_.normalize(x + i, row, step.eps, y + i);
            });
            return;
        }
        case Op::scale: numbers([&](std::int64_t i, std::int64_t count) { kernels_.scale(x + i, count, step.factor, y + i); }); return;
        case Op::gelu: numbers([&](std::int64_t i, std::int64_t count) { kernels_.gelu(x + i, count, y + i); }); return;
        case Op::sigmoid: numbers([&](std::int64_t i, std::int64_t count) { kernels_.sigmoid(x + i, count, y + i); }); return;
        case Op::silu: numbers([&](std::int64_t i, std::int64_t count) { kernels_.silu(x + i, count, y + i); }); return;
        case Op::tanh: numbers([&](std::int64_t i, std::int64_t count) { kernels_.tanh(x + i, count, y + i); }); return;
        case Op::clip: numbers([&](std::int64_t i, std::int64_t count) { kernels_.clip(x + i, count, step.low, step.high, y + i); }); return;
        case Op::prelu:
            rows(channels, [&](std::int64_t r, std::int64_t count) {
                kernels_.prelu(x + r * channels, count, static_cast<int>(channels), task.scale.data(), y + r * channels);
            });
            return;
        case Op::multiply: {
            const float* factors = value(step.inputs[1], call);
            if (shapes_[at(step.inputs[1])] == shape) {
                numbers([&](std::int64_t i, std::int64_t count) { kernels_.multiply(x + i, factors + i, count, y + i); });
                return;
            }
            rows(channels, [&](std::int64_t first, std::int64_t count) {
                for (std::int64_t r = first; r < first + count; ++r) kernels_.scale(x + r * channels, channels, factors[r], y + r * channels);
            });
            return;
        }
        case Op::mean_magnitude:
            if (step.windowed) return mean_magnitude(kernels_, step.window, x, shape, y, shapes_[at(step.output)], pool_);
            rows(channels, [&](std::int64_t first, std::int64_t count) {
                for (std::int64_t r = first; r < first + count; ++r) y[r] = kernels_.mean_magnitude(x + r * channels, channels);
            });
            return;
        case Op::avg_pool2d: return average_pool(kernels_, step.window, step.counts_padding, x, shape, y, shapes_[at(step.output)], pool_);
        case Op::max_pool2d: return max_pool(kernels_, step.window, x, shape, y, shapes_[at(step.output)], pool_);
        case Op::group_normalize: {
            if (shape.size() == 3) return group_normalize(step.groups, step.eps, x, n / channels, channels, y, pool_);
            const std::int64_t group = channels / step.groups;
            rows(group, [&](std::int64_t r, std::int64_t count) {
                for (std::int64_t i = r * group; i < (r + count) * group; i += group) kernels_.normalize(x + i, group, step.eps, y + i);
            });
            return;
        }
        case Op::bit_gru:
        case Op::bit_lstm:
        case Op::gru:
        case Op::lstm: task.recurrence->run_whole(x, shape[0], y, pool_, dense_scratch_, recurrent_scratch_); return;
        case Op::last: std::copy(x + n - channels, x + n, y); return;
        case Op::rows: std::copy(x, x + n, y); return;
        case Op::softmax:
            rows(channels, [&](std::int64_t r, std::int64_t count) {
                for (std::int64_t i = r * channels; i < (r + count) * channels; i += channels) kernels_.softmax(x + i, channels, y + i);
            });
            return;
        case Op::flatten:
            if (!step.channels_first) {
                std::copy(x, x + n, y);
            } else {
                rows(channels, [&](std::int64_t first, std::int64_t count) {
                    for (std::int64_t p = first; p < first + count; ++p) {
                        for (std::int64_t c = 0; c < channels; ++c) y[c * (n / channels) + p] = x[p * channels + c];
                    }
                });
            }
            return;
        case Op::mean_pool: {
            std::vector<double> sums(static_cast<std::size_t>(channels), 0.0);
            rows(channels, [&](std::int64_t r, std::int64_t count) {
                for (std::int64_t i = r * channels; i < (r + count) * channels; i += channels) {
                    for (std::int64_t c = 0; c < channels; ++c) sums[static_cast<std::size_t>(c)] += x[i + c];
                }
            });
            for (std::int64_t c = 0; c < channels; ++c) {
                y[c] = static_cast<float>(sums[static_cast<std::size_t>(c)] / static_cast<double>(n / channels));
            }
            return;
        }
        case Op::attention:
        case Op::bit_embedding:
        case Op::embedding: return;  // read_program lets them into programs over tokens only
    }
}

}  // namespace onebit
