#include "dense_group.h"

#include <algorithm>

#include "trace.h"

namespace onebit {

bool DenseGroup::joins(std::int64_t rows, std::size_t threads) const {
    const std::int64_t parts = layers_[0]->bits_.parts();
    return parts > 1 && std::all_of(layers_.begin(), layers_.end(), [&](const DenseLayer* layer) {
               return layer->way_of(rows, threads).alone && layer->worth_dividing(rows * layer->digits_) && layer->bits_.parts() == parts;
           });
}

std::int64_t DenseGroup::sums(std::int64_t rows) const {
    std::int64_t sum = 0;
    for (const DenseLayer* layer : layers_) sum += rows * layer->digits_ * layer->sums_stride();
    return sum;
}

void DenseGroup::expect(std::int64_t rows, DenseScratch& scratch) const {
    if (joins(rows, scratch.threads.size())) scratch.sums8.expect(static_cast<std::uint64_t>(sums(rows)));
}

void DenseGroup::run(const float* x, std::int64_t rows, bool again, std::span<float* const> y, ThreadPool& pool, DenseScratch& scratch) const {
    if (!joins(rows, scratch.threads.size())) {
        for (std::size_t i = 0; i < layers_.size(); ++i) layers_[i]->run(x, rows, again || i > 0, y[i], pool, scratch);
        return;
    }
    const DenseLayer& first = *layers_[0];
    // Allocate memory here, before threads begin.
    scratch.sums8.reserve(static_cast<std::size_t>(sums(rows)));
    first.reserve(rows, again, scratch);
    if (!again) ++scratch.input;
    for (std::int64_t r = 0; r < rows && !again; ++r) first.quantize_row(x, r, true, scratch);
    const std::int64_t lines = rows * first.digits_;
    pool.parallel_for(first.bits_.parts(), [&](std::int64_t part, int thread) {
        // Prefetch the next layer's first bits while the row is prepared or a layer is multiplied.
        first.bits_.fetch(part);
        const std::uint8_t* tables = first.own_tables(rows, thread, scratch);
        std::int32_t* to = scratch.sums8.data();
        const trace::Span span("product");
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            const BitMatrix& bits = layers_[i]->bits_;
            if (i + 1 < layers_.size()) layers_[i + 1]->bits_.fetch(part);
            bits.multiply(bits.first_unit(part), bits.first_unit(part + 1), tables, lines, to, layers_[i]->sums_stride());
            to += lines * layers_[i]->sums_stride();
        }
    });
    finish(rows, y, pool, scratch);
}

void DenseGroup::finish(std::int64_t rows, std::span<float* const> y, ThreadPool& pool, DenseScratch& scratch) const {
    const auto count = static_cast<std::int64_t>(layers_.size()), pieces = std::min<std::int64_t>(count, pool.threads());
    pool.parallel_for(pieces, [&](std::int64_t piece, int) {
        std::int32_t* sums = scratch.sums8.data();
        for (std::int64_t i = 0; i < count * (piece + 1) / pieces; ++i) {
            const DenseLayer& layer = *layers_[static_cast<std::size_t>(i)];
            const EpilogueArgs e = layer.epilogue_.args();
            for (std::int64_t r = 0; r < rows && i >= count * piece / pieces; ++r) {
                layer.finish_row(r, true, e, sums, scratch, y[static_cast<std::size_t>(i)]);
            }
            sums += rows * layer.digits_ * layer.sums_stride();
        }
    });
}

}  // namespace onebit
