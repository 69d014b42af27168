#include "array_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "decimal.h"
#include "index.h"
#include "json.h"
#include "step_checks.h"

namespace onebit {
namespace {

Program over_arrays(const std::string& text, const Tensors& tensors) {
    Program program = read_program(text, tensors);
    if (program.tokens) throw std::invalid_argument("[engine] a program over tokens: a decoder runs it");
    return program;
}

std::vector<std::int64_t> limits_of(const Program& program) {
    std::vector<std::int64_t> limits(program.inputs(), 0);
    for (std::size_t i = 0; i < limits.size(); ++i) {
        if (program.integers[i]) limits[i] = max_axis;
    }
    for (const Step& step : program.steps) {
        const auto* table = step.find<ops::Embedding>();
        if (table == nullptr || table->of_position) continue;
        std::int64_t& limit = limits[at(step.inputs[0])];
        limit = std::min(limit, table->rows);
    }
    return limits;
}

}  // namespace

ArrayModel::ArrayModel(const std::string& text, const Tensors& tensors, const Options& options) : ArrayModel(over_arrays(text, tensors), options) {}

ArrayModel::ArrayModel(Program program, const Options& options)
    : limits_(limits_of(program)), executor_(std::move(program), options, CacheNumbers::float32) {
    executor_.place(0);
    std::vector<int> inputs(limits_.size());
    std::iota(inputs.begin(), inputs.end(), 0);
    const auto whole_shape = [&](const std::vector<int>& values) {
        if (values.size() == 1) return executor_.shape(values[0]);
        std::int64_t sum = 0;
        for (const int value : values) sum += elements(executor_.shape(value));
        return Shape{sum};
    };
    input_shape_ = whole_shape(inputs);
    output_shape_ = whole_shape(executor_.outputs());
}

std::vector<ArrayModel::Place> ArrayModel::inputs() const {
    std::vector<Place> all;
    for (std::size_t i = 0; i < limits_.size(); ++i) {
        const int value = static_cast<int>(i);
        all.push_back({executor_.name_of(value), executor_.shape(value), limits_[i] > 0});
    }
    return all;
}

std::vector<ArrayModel::Place> ArrayModel::outputs() const {
    std::vector<Place> all;
    for (const int value : executor_.outputs()) all.push_back({executor_.name_of(value), executor_.shape(value), false});
    return all;
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
    if (!plain()) throw std::invalid_argument("[engine] integers, and examples of several inputs, are given as float32");
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
        if (!plain()) {
            run_several(batch, out);
            continue;
        }
        if (!in_place) std::memcpy(executor_.value(0), batch, static_cast<std::size_t>(size) * sizeof(float));
        run_example(i, in_place ? batch : nullptr, out, early);
    }
}

void ArrayModel::run_example(std::int64_t index, const float* given, float* out, const Early& early) {
    if (executor_.output() == 0) std::copy_n(given != nullptr ? given : executor_.value(0), elements(output_shape()), out);
    const int passed = executor_.run(0, executor_.size(), {given, out, {}, early.threshold});
    if (early.passed != nullptr) early.passed[index] = passed;
}

void ArrayModel::run_several(const float* given, float* out) {
    for (std::size_t i = 0; i < limits_.size(); ++i) {
        float* x = executor_.value(static_cast<int>(i));
        const std::int64_t size = elements(executor_.shape(static_cast<int>(i)));
        std::memcpy(x, given, at(size) * sizeof(float));
        given += size;
        const auto limit = static_cast<float>(limits_[i]);
        for (std::int64_t k = 0; limits_[i] > 0 && k < size; ++k) {
            if (x[k] >= 0 && x[k] < limit && x[k] == std::floor(x[k])) continue;
            throw std::invalid_argument("[engine] the input " + excerpt(executor_.name_of(static_cast<int>(i))) + " holds " + to_decimal(x[k]) +
                                        ": needs integers from 0 to " + std::to_string(limits_[i] - 1));
        }
    }
    executor_.run(0, executor_.size(), {});
    for (const int value : executor_.outputs()) out = std::copy_n(executor_.value(value), elements(executor_.shape(value)), out);
}

}  // namespace onebit
