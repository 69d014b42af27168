#include "array_model.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace onebit {
namespace {

Program over_arrays(const std::string& text, const Tensors& tensors) {
    Program program = read_program(text, tensors);
    if (program.tokens) throw std::invalid_argument("[engine] a program over tokens: a decoder runs it");
    return program;
}

}  // namespace

ArrayModel::ArrayModel(const std::string& text, const Tensors& tensors, const Options& options)
    : executor_(over_arrays(text, tensors), options, CacheNumbers::float32) {
    executor_.place(0);
}

void ArrayModel::time_nodes() {
    const std::lock_guard turn(turn_);
    executor_.time_nodes();
}

std::vector<std::int64_t> ArrayModel::nanoseconds() const {
    const std::lock_guard turn(turn_);
    return executor_.nanoseconds();
}

void ArrayModel::run(const std::uint8_t* batch, std::int64_t count, float* out, const Ask& ask, const Early& early) {
    const auto turn = take_turn(turn_, ask);
    const ThreadPool::Use use(executor_.pool(), ask);
    const std::int64_t size = elements(input_shape()), out_size = elements(output_shape());
    for (std::int64_t i = 0; i < count; ++i, batch += size, out += out_size) {
        float* x = executor_.value(0);
        for (std::int64_t k = 0; k < size; ++k) x[k] = static_cast<float>(batch[k]) / 255.0f;
        run_example(i, nullptr, out, early);
    }
}

void ArrayModel::run(const float* batch, std::int64_t count, float* out, const Ask& ask, const Early& early) {
    const auto turn = take_turn(turn_, ask);
    const ThreadPool::Use use(executor_.pool(), ask);
    const std::int64_t size = elements(input_shape()), out_size = elements(output_shape());
    // Arrays in Python may begin at any byte.
    const bool in_place = reinterpret_cast<std::uintptr_t>(batch) % alignof(float) == 0;
    for (std::int64_t i = 0; i < count; ++i, batch += size, out += out_size) {
        if (!in_place) std::memcpy(executor_.value(0), batch, static_cast<std::size_t>(size) * sizeof(float));
        run_example(i, in_place ? batch : nullptr, out, early);
    }
}

void ArrayModel::run_example(std::int64_t index, const float* given, float* out, const Early& early) {
    if (executor_.output() == 0) std::copy_n(given != nullptr ? given : executor_.value(0), elements(output_shape()), out);
    const int passed = executor_.run(0, executor_.size(), {given, out, {}, early.threshold});
    if (early.passed != nullptr) early.passed[index] = passed;
}

}  // namespace onebit
