#include "engine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "cpu.h"
#include "memory_plan.h"

namespace onebit {
namespace {

// Expanded weights that are kept rather than expanded anew in each run: small networks become faster, large ones stay small.
constexpr std::size_t kept_panels_bytes = std::size_t{1} << 20;

bool is_product(Op op) {
    return op == Op::bit_conv2d || op == Op::bit_linear || op == Op::conv2d || op == Op::linear;
}

std::size_t at(int index) {
    return static_cast<std::size_t>(index);
}

}  // namespace

Engine::Engine(const std::string& text, const Tensors& tensors, Precision precision, int threads, const std::string& isa, std::size_t memory_cap)
    : kernels_(choose_kernels(isa)), precision_(precision), pool_(threads) {
    Program program = read_program(text, tensors);
    if (program.tokens) throw std::invalid_argument("[engine] a program over tokens: a decoder runs it");
    shapes_ = std::move(program.shapes);
    output_ = program.output;
    std::vector<int> uses(shapes_.size(), 0);
    for (const Step& step : program.steps) {
        for (const int input : step.inputs) {
            if (input >= 0) ++uses[at(input)];
        }
    }
    ++uses[at(output_)];

    std::size_t budget = kept_panels_bytes;
    for (std::size_t i = 0; i < program.steps.size(); ++i) {
        const Step& step = program.steps[i];
        Task task;
        task.step = step;
        if (is_product(step.op)) {
            const bool quantize = precision == Precision::int8 && step.bits != nullptr;
            task.layer = std::make_unique<ProductLayer>(step, shapes_[at(step.inputs[0])], shapes_[at(step.output)], quantize, kernels_, budget);
            // What follows and uses nothing else is computed while the layer's outputs are at hand.
            while (i + 1 < program.steps.size()) {
                const Step& next = program.steps[i + 1];
                if (next.inputs[0] != task.step.output || next.inputs[1] >= 0 || uses[at(task.step.output)] != 1) break;
                if (!task.layer->fuse(next, shapes_[at(next.output)])) break;
                task.step.output = next.output;
                ++i;
            }
        } else if (step.op == Op::scale_shift) {
            task.scale.assign(step.weight, step.weight + shapes_[at(step.inputs[0])].back());
            task.shift.assign(step.bias, step.bias + shapes_[at(step.inputs[0])].back());
        }
        tasks_.push_back(std::move(task));
    }
    scratch_.threads.resize(at(pool_.threads()));
    plan(memory_cap);
}

void Engine::plan(std::size_t memory_cap) {
    std::vector<const Step*> steps;
    for (const Task& task : tasks_) steps.push_back(&task.step);
    std::vector<std::int64_t> sizes;
    for (const Shape& shape : shapes_) sizes.push_back(elements(shape));
    const MemoryPlan plan = plan_memory(steps, sizes, output_);
    buffer_of_ = plan.buffer_of;
    std::size_t total = 0;
    for (const std::int64_t size : plan.sizes) {
        total += static_cast<std::size_t>(size) * sizeof(float);
        if (total > memory_cap) throw std::invalid_argument("[engine] the activations need more than " + std::to_string(memory_cap) + " bytes");
    }
    for (const std::int64_t size : plan.sizes) buffers_.emplace_back(static_cast<std::size_t>(size));
    ranges_.resize(shapes_.size());
    range_known_.resize(shapes_.size(), false);
}

std::size_t Engine::memory_bytes() const {
    std::size_t sum = scratch_.bytes();
    for (const auto& buffer : buffers_) sum += buffer.size() * sizeof(float);
    for (const Task& task : tasks_) sum += task.layer ? task.layer->bytes() : (task.scale.size() + task.shift.size()) * sizeof(float);
    return sum;
}

void Engine::run(const std::uint8_t* batch, std::int64_t count, float* out) {
    const std::lock_guard lock(mutex_);
    const std::int64_t size = elements(input_shape()), out_size = elements(output_shape());
    for (std::int64_t i = 0; i < count; ++i, batch += size, out += out_size) {
        float* x = value(0);
        for (std::int64_t k = 0; k < size; ++k) x[k] = static_cast<float>(batch[k]) / 255.0f;
        run_example(out);
    }
}

void Engine::run(const float* batch, std::int64_t count, float* out) {
    const std::lock_guard lock(mutex_);
    const std::int64_t size = elements(input_shape()), out_size = elements(output_shape());
    for (std::int64_t i = 0; i < count; ++i, batch += size, out += out_size) {
        std::copy(batch, batch + size, value(0));
        run_example(out);
    }
}

void Engine::run_example(float* out) {
    for (const Task& task : tasks_) run_task(task);
    const float* result = value(output_);
    std::copy(result, result + elements(output_shape()), out);
}

void Engine::run_task(const Task& task) {
    const Step& step = task.step;
    const Shape& shape = shapes_[at(step.inputs[0])];
    const std::int64_t n = elements(shape);
    const std::int64_t channels = shape.back();
    const float* x = value(step.inputs[0]);
    float* y = value(step.output);
    switch (step.op) {
        case Op::bit_conv2d:
        case Op::bit_linear:
        case Op::conv2d:
        case Op::linear: {
            const Range* known = range_known_[at(step.inputs[0])] ? &ranges_[at(step.inputs[0])] : nullptr;
            ranges_[at(step.output)] = task.layer->run(x, known, y, pool_, scratch_);
            range_known_[at(step.output)] = true;
            return;
        }
        case Op::add: kernels_.add(x, value(step.inputs[1]), n, y); return;
        case Op::relu: kernels_.relu(x, n, y); return;
        case Op::scale_shift: kernels_.scale_shift(x, n / channels, static_cast<int>(channels), task.scale.data(), task.shift.data(), y); return;
        case Op::normalize: {
            const std::int64_t row = step.over_channel ? channels : n;
            for (std::int64_t i = 0; i < n; i += row) kernels_.normalize(x + i, row, step.eps, y + i);
            return;
        }
        case Op::scale: kernels_.scale(x, n, step.factor, y); return;
        case Op::gelu: kernels_.gelu(x, n, y); return;
        case Op::softmax:
            for (std::int64_t i = 0; i < n; i += channels) kernels_.softmax(x + i, channels, y + i);
            return;
        case Op::flatten:
            if (!step.channels_first) {
                std::copy(x, x + n, y);
            } else {
                for (std::int64_t p = 0; p < n / channels; ++p) {
                    for (std::int64_t c = 0; c < channels; ++c) y[c * (n / channels) + p] = x[p * channels + c];
                }
            }
            return;
        case Op::mean_pool: {
            std::vector<double> sums(static_cast<std::size_t>(channels), 0.0);
            for (std::int64_t i = 0; i < n; i += channels) {
                for (std::int64_t c = 0; c < channels; ++c) sums[static_cast<std::size_t>(c)] += x[i + c];
            }
            for (std::int64_t c = 0; c < channels; ++c) {
                y[c] = static_cast<float>(sums[static_cast<std::size_t>(c)] / static_cast<double>(n / channels));
            }
            return;
        }
        case Op::max_pool2d: {
            const Window& w = step.window;
            const Shape& out = shapes_[at(step.output)];
            for (std::int64_t oy = 0; oy < out[0]; ++oy) {
                for (std::int64_t ox = 0; ox < out[1]; ++ox, y += channels) {
                    std::fill(y, y + channels, -std::numeric_limits<float>::infinity());
                    for (std::int64_t ky = 0; ky < w.kernel[0]; ++ky) {
                        for (std::int64_t kx = 0; kx < w.kernel[1]; ++kx) {
                            const std::int64_t iy = oy * w.stride[0] + ky - w.padding[0], ix = ox * w.stride[1] + kx - w.padding[2];
                            if (iy < 0 || iy >= shape[0] || ix < 0 || ix >= shape[1]) continue;
                            kernels_.maximum(x + (iy * shape[1] + ix) * channels, channels, y);
                        }
                    }
                }
            }
            return;
        }
        case Op::attention:
        case Op::bit_embedding:
        case Op::embedding: return;  // read_program lets them into programs over tokens only
    }
}

}  // namespace onebit
