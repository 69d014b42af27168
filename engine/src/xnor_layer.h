// A binary layer (convolution or dense, over rows or an image) with inputs of signs or of levels of few bits. Inputs are packed to bits, and the bits
// that differ (or are both set) are counted. It fuses the same steps as other layers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "buffer.h"
#include "epilogue.h"
#include "kernels/kernels.h"
#include "kernels/xnor.h"
#include "program.h"
#include "quantizer.h"
#include "thread_pool.h"

namespace onebit {

// Working memory that all such layers of a program share.
struct XnorScratch {
    Buffer<std::uint64_t> bits;   // packed and padded inputs
    Buffer<std::int32_t> totals;  // of the levels of each pixel
    Buffer<std::int32_t> sums;    // of rows with outputs that are divided between threads
    struct Thread {
        Buffer<std::uint8_t> levels;  // of a row of an image
        Buffer<std::int32_t> sums;
        Buffer<float> waiting;
        Range range;
    };
    std::vector<Thread> threads;

    WorkingBytes working_bytes() const;
};

class XnorLayer {
  public:
    // Whether a step can be computed in this way, and is faster than with bytes. `channels`: the channels of its input.
    static bool suits(const ops::Layer& layer, std::int64_t channels, std::int64_t outputs);
    // Whether a scale_shift before the layer can be folded into it. This is possible if inputs are signs: a threshold per channel then decides the
    // sign of the scaled and shifted value.
    static bool folds(const ops::Layer& layer, const ops::ScaleShift& scale_shift, std::int64_t channels);
    // Copies the tensors of the step and of the fused steps. `output` is the step's own.
    XnorLayer(const ops::Layer& layer, const Shape& input, const Shape& output, const Kernels& kernels);

    // Bytes of its copy of the step's tensors.
    static std::uint64_t weight_bytes(const ops::Layer& layer, std::int64_t channels, std::int64_t outputs);

    // Announces the scratch memory for runs of this many rows (1 for an image).
    void expect(std::int64_t rows, XnorScratch& scratch) const;
    // x to y: an image (`rows` is 1), or rows of a matrix. Returns the range of y.
    Range run(const float* x, std::int64_t rows, float* y, ThreadPool& pool, XnorScratch& scratch) const;
    std::string kernel() const;
    std::size_t bytes() const;

  private:
    // The taps of a kernel inside the image at a position: from the first to before the last.
    struct Taps {
        std::int64_t first[2], end[2];
    };

    // Calls f(buffer, size) for each buffer that a run takes.
    template <class Function>
    void each_buffer(std::int64_t rows, XnorScratch& scratch, const Function& f) const;
    // The rows that a thread computes at once if each thread has its own rows, otherwise 0.
    static std::int64_t rows_of_piece(std::int64_t rows, std::size_t threads);
    void lay_out(const std::uint8_t* bits);
    void take_thresholds(const ops::ScaleShift& scale_shift);
    Range run_rows(const float* x, std::int64_t rows, float* y, ThreadPool& pool, XnorScratch& scratch) const;
    Range run_image(const float* x, float* y, ThreadPool& pool, XnorScratch& scratch) const;
    // Packs the pixels of one row to words, and computes their totals if needed.
    void pack(const float* x, std::int64_t pixels, std::uint64_t* words, std::int32_t* totals, XnorScratch::Thread& own) const;
    // The sums of neighbouring positions, for the outputs of some tiles.
    void multiply(const std::uint64_t* words, std::ptrdiff_t position_stride, std::int64_t positions, std::int64_t first_tile, std::int64_t end_tile,
                  std::int32_t* sums, ThreadPool& pool, int thread) const;
    Taps taps(std::int64_t row, std::int64_t column) const;
    // Corrects the sums of a row of positions for the padding, and for weights of -1 with levels of 0 and 1.
    void correct(std::int64_t row, const std::int32_t* totals, std::int32_t* sums) const;
    std::int64_t tiles() const { return (units_ + xnor_units - 1) / xnor_units; }
    std::int64_t sum_stride() const { return units_ * xnor_outputs; }

    const Kernels& kernels_;
    const XnorKernels& xnor_;
    bool plus_minus_, signs_, dense_;
    InputLevels levels_;
    Window window_;
    std::int64_t height_ = 1, width_ = 1, channels_, outputs_;
    std::int64_t out_height_ = 1, out_width_ = 1;
    std::int64_t padded_height_ = 1, padded_width_ = 1;
    std::int64_t inner_first_ = 0, inner_end_ = 0;  // columns of the output without padding at the left and right
    std::int64_t plane_outputs_;                    // outputs of all planes of weights
    std::int64_t level_bits_;                       // planes of inputs
    std::int64_t plane_words_;                      // words of a pixel's plane
    std::int64_t steps_, units_;
    Buffer<std::uint64_t> weights_;
    std::vector<std::int32_t> offsets_;  // of each step, in words
    std::vector<std::int32_t> base_;     // the start values of counts
    // For a scale_shift before the layer: the number from which on each channel is a 1. Its sign is turned first if the scale is negative.
    std::vector<float> least_;
    std::vector<std::uint32_t> flips_;
    // The set bits of the weights of the taps above and left of each tap, which give those of any rectangle of taps: (kernel + 1) * (kernel + 1) rows
    // of outputs. Only with padding that would count as signs.
    std::vector<std::int32_t> ones_;
    Epilogue epilogue_;
};

}  // namespace onebit
