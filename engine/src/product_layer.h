// A convolution or a dense layer, binary or float, with the steps fused into it: normalisation, ReLU, max-pooling.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bit_convolution.h"
#include "buffer.h"
#include "epilogue.h"
#include "kernels/kernels.h"
#include "parallel.h"
#include "program.h"
#include "quantizer.h"

namespace onebit {

// Working memory that layers share, because they run one after the other.
struct Scratch {
    Buffer<std::uint8_t> levels;  // quantised and padded input
    Buffer<std::uint8_t> upper;   // its upper digits, if it has two
    Buffer<float> padded;         // padded float input
    Buffer<std::int8_t> panels8;  // expanded weights
    Buffer<float> panels;
    struct Thread {
        Buffer<std::int32_t> sums8;
        Buffer<std::int32_t> upper;  // of the upper digits of levels
        Buffer<float> sums;
        Buffer<float> finished;  // rows waiting to be pooled
        BitConvolution::Rows rows;
        Range range;  // of the outputs of this thread
    };
    std::vector<Thread> threads;

    WorkingBytes working_bytes() const;
};

class ProductLayer {
  public:
    // Copies the tensors of the step and of the fused steps. `output` is the step's own. `quantize`: inputs become integers (binary layers only).
    // `budget`: the bytes left for keeping expanded weights; the used bytes are subtracted.
    ProductLayer(const ops::Layer& layer, const Shape& input, const Shape& output, bool quantize, const Kernels& kernels, std::size_t& budget);

    // The most bytes of its copy of the step's tensors, not counting what `budget` pays for.
    static std::uint64_t weight_bytes(const ops::Layer& layer, const Shape& input, const Shape& output, bool quantize, const Kernels& kernels);

    // Whether max-pooling of adjacent windows may be fused: the sums of this many outputs, in rows this wide, wait for it.
    static bool can_pool(const Window& window, std::int64_t width, std::int64_t outputs);
    // Announces the scratch memory for runs.
    void expect(Scratch& scratch) const;

    // x of the input's shape to y of the (last fused) output's shape. `known`: x's range if its producer gave it, or null. Returns y's range, which
    // is computed while y is still in the cache.
    Range run(const float* x, const Range* known, float* y, ThreadPool& pool, Scratch& scratch) const;
    std::size_t bytes() const;
    // A description of the kernel and of the layout of its weights.
    std::string kernel() const;

  private:
    struct Part {   // up to 64 outputs of one group: a panel
        int first;  // output
        int outputs;
        int blocks;
        std::ptrdiff_t input_offset;  // of the group's first channel
        std::size_t panel;            // the start of its panel, in weights
    };

    // The steps of the constructor, in order: the parts of the weights, the layer's tensors, kept expanded weights.
    void cut_into_parts();
    void take_weights(const ops::Layer& layer, bool by_bits);
    void keep_panels(std::size_t& budget);
    // The padded input: convert(from, n, to) makes n numbers, with `zero` around them.
    template <class Input, class Convert>
    void prepare(const float* x, Input* padded, Input zero, const Convert& convert, ThreadPool& pool) const;
    // `upper`: the upper digits of two-digit levels, otherwise null.
    template <class Input, class Weight, class Sum>
    void convolve(const Input* padded, const Input* upper, const Weight* panels, float scale, float* y, ThreadPool& pool, Scratch& scratch) const;
    void convolve_bits(const QuantizedImage& image, float scale, float* y, ThreadPool& pool, Scratch& scratch) const;
    // Calls f(buffer, size) for each buffer that a run takes.
    template <class Function>
    void each_buffer(Scratch& scratch, const Function& f) const;
    // Whether the input levels suit a product with bits.
    static bool reads_bits(const ops::Layer& layer, const Shape& input, const Shape& output, bool quantize, const Kernels& kernels);
    // The division of a chunk of the output among threads: units, each a row of the output, to which several rows of the convolution are pooled.
    std::int64_t units_at_once(std::int64_t most, std::size_t threads) const;
    std::int64_t units_of_chunk(std::size_t threads) const;
    std::int64_t unit_positions() const { return epilogue_.pool_height() * out_width_; }
    std::int64_t size() const { return slices_ * height_ * width_ * channels_; }
    std::int64_t padded_size() const { return padded_slices_ * padded_height_ * padded_width_ * channels_; }
    // Where the window of a line's first position begins in the padded input, in pixels.
    std::int64_t line_start(std::int64_t line) const {
        const std::int64_t slice = line / out_slice_height_, y = line % out_slice_height_;
        return (slice * depth_.stride * padded_height_ + y * window_.stride[0]) * padded_width_;
    }
    std::int64_t sum_stride() const;
    // The columns of the output that a product with bits computes at once.
    std::int64_t strip() const;
    // Writes the finished sums of columns `first` to `end` of a unit to their place in y.
    template <class Sum>
    void finish(Sum* sums, std::int64_t sum_stride, float scale, const EpilogueArgs& epilogue, std::int64_t unit, std::int64_t first,
                std::int64_t end, float* y, Scratch::Thread& own) const;
    // Each channel has an output of its own.
    bool depthwise() const { return channels_ > 1 && window_.groups == channels_ && outputs_ == channels_; }
    template <class Weight>
    void expand_depthwise(const Part& part, Weight* panel) const;
    // The sums of positions `first` to before `end`.
    template <class Input, class Weight, class Sum>
    void multiply_depthwise(const Input* from, const Weight* panels, std::int64_t first, std::int64_t end, Sum* to, ThreadPool& pool,
                            int thread) const;
    void expand(const Part& part, std::int8_t* panel) const;
    void expand(const Part& part, float* panel) const;
    template <class Weight>
    const Weight* panels(const std::vector<Weight>& kept, Buffer<Weight>& scratch, ThreadPool& pool) const;
    float weight(std::int64_t output, std::int64_t input) const;
    Range range_of(const float* x, std::int64_t n, ThreadPool& pool) const;

    const Kernels& kernels_;
    bool quantize_;
    bool plus_minus_;
    std::vector<int> planes_;
    InputLevels levels_;
    Window window_;
    Depth depth_;  // of an image one slice
    // The input as an image: the rows of a dense layer are images of one pixel, (rows, 1, 1, channels).
    std::int64_t images_ = 1, slices_ = 1, height_ = 1, width_ = 1, channels_ = 1;
    std::int64_t out_slice_height_ = 1, out_width_ = 1, outputs_ = 1;
    std::int64_t out_height_ = 1;     // lines of all slices
    std::int64_t plane_outputs_ = 1;  // outputs of all planes: rows of weights
    std::int64_t padded_slices_ = 1, padded_height_ = 1, padded_width_ = 1;
    std::vector<std::ptrdiff_t> offsets_;
    Segments segments_{};
    int raw_length_ = 0;
    std::vector<Part> parts_;
    std::size_t panel_weights_ = 0;

    std::unique_ptr<BitConvolution> by_bits_;  // otherwise panels are used
    std::vector<std::uint8_t> bits_;
    std::vector<float> weights_;                // of float layers
    std::vector<std::int32_t> offset_sums_;     // 128 * sum of the weights, of each row of them
    std::vector<std::int32_t> output_offsets_;  // the same per output, over its planes
    std::vector<std::int8_t> kept8_;
    std::vector<float> kept_;
    Epilogue epilogue_;
};

}  // namespace onebit
