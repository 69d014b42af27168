// Dense layers of one input that follow each other, such as queries, keys and values: for few rows one round of the threads computes them all.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "dense_layer.h"

namespace onebit {

class DenseGroup {
  public:
    // Two layers or more, in their order; what the first one prepares of its input serves all of them.
    explicit DenseGroup(std::vector<const DenseLayer*> layers) : layers_(std::move(layers)) {}

    std::size_t size() const { return layers_.size(); }
    // Says what runs of so many rows will take of the scratch memory.
    void expect(std::int64_t rows, DenseScratch& scratch) const;
    // x (rows, inputs) to y[i] (rows, outputs of the layer i): the same numbers as the layers give alone. `again` as DenseLayer::run has it.
    void run(const float* x, std::int64_t rows, bool again, std::span<float* const> y, ThreadPool& pool, DenseScratch& scratch) const;

  private:
    // Whether each thread takes its part of every layer's outputs.
    bool joins(std::int64_t rows, std::size_t threads) const;
    // Of all layers, which lie one after the other.
    std::int64_t sums(std::int64_t rows) const;
    void finish(std::int64_t rows, std::span<float* const> y, ThreadPool& pool, DenseScratch& scratch) const;

    std::vector<const DenseLayer*> layers_;
};

}  // namespace onebit
