#include "recurrent_layer.h"

#include <algorithm>

namespace onebit {

namespace {

// The product of the state with the recurrent weights. A float GRU adds its bias to these sums. A binary one adds its shift after the
// normalisation.
ops::Layer product_of(const ops::Recurrence& recurrence) {
    ops::Layer layer;
    layer.bits = recurrence.bits;
    layer.weight = recurrence.weight;
    if (!recurrence.binary()) layer.bias = recurrence.shift;
    return layer;
}

}  // namespace

RecurrentLayer::RecurrentLayer(const ops::Recurrence& recurrence, bool quantize, const Kernels& kernels, std::uint8_t* bits)
    : kernels_(kernels),
      cells_(recurrence.gates == 4),
      reverse_(recurrence.reverse),
      hidden_(recurrence.hidden),
      outputs_(recurrence.outputs()),
      product_(product_of(recurrence), hidden_, outputs_, quantize, kernels, bits),
      eps_(recurrence.eps) {
    if (!recurrence.binary()) return;
    scale_.assign(recurrence.scale, recurrence.scale + outputs_);
    shift_.assign(recurrence.shift, recurrence.shift + outputs_);
}

std::uint64_t RecurrentLayer::bits_bytes(const ops::Recurrence& recurrence, const Kernels& kernels) {
    if (!recurrence.binary()) return 0;
    return BitMatrix::bytes(recurrence.hidden, recurrence.bits.plane_count() * recurrence.outputs(), kernels);
}

std::uint64_t RecurrentLayer::weight_bytes(const ops::Recurrence& recurrence, const Kernels& kernels) {
    const std::int64_t outputs = recurrence.outputs();
    return DenseLayer::weight_bytes(product_of(recurrence), recurrence.hidden, outputs, kernels) +
           static_cast<std::uint64_t>(2 * outputs) * sizeof(float);
}

WorkingBytes RecurrentScratch::working_bytes() const {
    WorkingBytes sum;
    for (const Buffer<float>* buffer : {&hidden, &sums, &state}) sum += buffer->working_bytes();
    return sum;
}

template <class Function>
void RecurrentLayer::each_buffer(std::int64_t sequences, RecurrentScratch& scratch, const Function& f) const {
    f(scratch.hidden, sequences * hidden_);
    f(scratch.sums, sequences * outputs_);
}

void RecurrentLayer::expect(std::int64_t sequences, DenseScratch& dense, RecurrentScratch& scratch) const {
    each_buffer(sequences, scratch, expect_buffer);
    scratch.state.expect(static_cast<std::uint64_t>(state_size()));
    product_.expect(sequences, dense);
}

void RecurrentLayer::run(const std::vector<Part>& parts, ThreadPool& pool, DenseScratch& dense, RecurrentScratch& scratch) const {
    std::int64_t longest = 0;
    for (const Part& part : parts) longest = std::max(longest, part.steps);
    each_buffer(static_cast<std::int64_t>(parts.size()), scratch, reserve_buffer);
    float *hidden = scratch.hidden.data(), *sums = scratch.sums.data();
    std::vector<const Part*> active;
    active.reserve(parts.size());
    for (std::int64_t t = 0; t < longest; ++t) {
        if (t % calls_of_check == 0) pool.check(0);
        const auto before = [t](const Part& part) { return t == 0 ? part.before : part.states + (t - 1) * part.states_stride; };
        active.clear();
        for (const Part& part : parts) {
            if (t < part.steps) active.push_back(&part);
        }
        const auto count = static_cast<std::int64_t>(active.size());
        for (std::int64_t i = 0; i < count; ++i) std::copy_n(before(*active[static_cast<std::size_t>(i)]), hidden_, hidden + i * hidden_);
        product_.run(hidden, count, false, sums, pool, dense);
        parallel(pool, count * outputs_ * 16, count, [&](std::int64_t i, int) {
            const Part& part = *active[static_cast<std::size_t>(i)];
            const float* gates = part.gates + t * part.gates_stride;
            float* own = sums + i * outputs_;
            float* after = part.states + t * part.states_stride;
            for (std::int64_t g = 0; eps_ > 0 && g < outputs_; g += hidden_) kernels_.rows.normalize(own + g, hidden_, eps_, own + g);
            if (!scale_.empty()) kernels_.rows.scale_shift(own, 1, static_cast<int>(outputs_), scale_.data(), shift_.data(), own);
            if (cells_) {
                lstm(gates, before(part), own, after);
            } else {
                gru(gates, before(part), own, after);
            }
            std::copy_n(after, hidden_, part.y + t * part.y_stride);
        });
    }
}

void RecurrentLayer::run_whole(const float* gates, std::int64_t time, float* y, ThreadPool& pool, DenseScratch& dense,
                               RecurrentScratch& scratch) const {
    float* state = scratch.state.reserve(static_cast<std::size_t>(state_size()));
    std::fill_n(state, state_size(), 0.0f);
    const std::int64_t first = reverse_ ? time - 1 : 0, by = reverse_ ? -1 : 1;
    const auto gates_stride = static_cast<std::ptrdiff_t>(by * outputs_), y_stride = static_cast<std::ptrdiff_t>(by * hidden_);
    run({{time, gates + first * outputs_, gates_stride, state, state, 0, y + first * hidden_, y_stride}}, pool, dense, scratch);
}

void RecurrentLayer::lstm(const float* gates, const float* before, float* sums, float* after) const {
    const std::int64_t n = hidden_;
    float *i = sums, *f = sums + n, *g = sums + 2 * n, *o = sums + 3 * n;
    kernels_.rows.add(sums, gates, 4 * n, sums);
    kernels_.rows.sigmoid(i, 2 * n, i);
    kernels_.rows.tanh(g, n, g);
    kernels_.rows.sigmoid(o, n, o);
    for (std::int64_t k = 0; k < n; ++k) after[n + k] = f[k] * before[n + k] + i[k] * g[k];
    kernels_.rows.tanh(after + n, n, g);
    kernels_.rows.multiply(o, g, n, after);
}

void RecurrentLayer::gru(const float* gates, const float* before, float* sums, float* after) const {
    const std::int64_t n = hidden_;
    float *r = sums, *z = sums + n, *m = sums + 2 * n;
    kernels_.rows.add(sums, gates, 2 * n, sums);
    kernels_.rows.sigmoid(r, 2 * n, r);
    kernels_.rows.multiply(r, m, n, m);
    kernels_.rows.add(m, gates + 2 * n, n, m);
    kernels_.rows.tanh(m, n, m);
    for (std::int64_t k = 0; k < n; ++k) after[k] = (1.0f - z[k]) * m[k] + z[k] * before[k];
}

}  // namespace onebit
