// Consecutive dense layers of one input, such as queries, keys and values. For few rows one round of the threads computes them all.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "dense_layer.h"

namespace onebit {

class DenseGroup {
  public:
    // Two or more layers, in order. All of them use the input that the first one prepares.
    explicit DenseGroup(std::vector<const DenseLayer*> layers) : layers_(std::move(layers)) {}

    std::size_t size() const { return layers_.size(); }
    // Announces the scratch memory for runs of this many rows.
    void expect(std::int64_t rows, DenseScratch& scratch) const;
    // x (rows, inputs) to y[i] (rows, outputs of layer i), with the same numbers as the separate layers. `again`: see DenseLayer::run.
    void run(const float* x, std::int64_t rows, bool again, std::span<float* const> y, ThreadPool& pool, DenseScratch& scratch) const;

  private:
    // Whether each thread takes its part of every layer's outputs.
    bool joins(std::int64_t rows, std::size_t threads) const;
    // Of all layers, one after the other.
    std::int64_t sums(std::int64_t rows) const;
    void finish(std::int64_t rows, std::span<float* const> y, ThreadPool& pool, DenseScratch& scratch) const;

    std::vector<const DenseLayer*> layers_;
};

}  // namespace onebit
