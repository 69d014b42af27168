// A convolution with a product that reads its weights as bits. An instruction set prepares each input once (as tables of sums). All positions and
// outputs of the kernel that read the input share this.
#pragma once

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "kernels/kernels.h"
#include "program.h"

namespace onebit {

// How an image of floats becomes 8-bit levels: signed bytes. Levels that are never negative are stored less signed_shift.
struct QuantizedImage {
    const float* x;
    std::int64_t height, width;
    float inverse, low, high;
    int shift;  // also the value of 0 in the padding
};

class BitConvolution {
  public:
    // The window's kernel is the convolution's. Weights are rows of bits, one per output. `out_width`: the convolution's output width.
    BitConvolution(const std::uint8_t* bits, bool plus_minus, const Window& window, std::int64_t channels, std::int64_t outputs,
                   std::int64_t out_width, const Kernels& kernels);
    // Bytes of the weights in this layout.
    static std::uint64_t weight_bytes(const Window& window, std::int64_t channels, std::int64_t outputs, const Kernels& kernels);

    // Whether this is possible and faster than a product with panels.
    static bool suits(const Window& window, std::int64_t channels, std::int64_t outputs, const Kernels& kernels);

    // Working memory of a thread. It contains the prepared rows of the padded image that a row of outputs needs. Each is prepared once as the kernel
    // moves down, and together they stay in the second-level cache.
    struct Rows {
        Buffer<std::uint8_t> levels;
        Buffer<std::uint8_t> prepared;
        Buffer<std::int32_t> totals;  // of the levels of each pixel
        Buffer<std::int32_t> offsets;
        std::int64_t next = 0;  // row to prepare

        WorkingBytes working_bytes() const;
    };
    // Calls f(buffer, size) for each buffer of a thread.
    template <class Function>
    void each_buffer(std::int64_t strip, Rows& rows, const Function& f) const {
        const std::int64_t columns = columns_of(strip);
        f(rows.levels, pixels_of(strip) * channels_ + slack_bytes);
        f(rows.prepared, reach(0) * columns * inputs_.groups * kernels_.gemv.layout.prepared_bytes);
        f(rows.offsets, steps_);
        if (plus_minus_) f(rows.totals, reach(0) * columns);
    }

    // The number of output columns in a strip of the image, so few that the strip's rows stay in the cache.
    std::int64_t strip_width() const { return strip_width_; }
    // Sums of one row of outputs, columns `first` to `end` of a strip: (end - first, sum_stride()). Rows of a strip come one after the other from
    // the top; `rows.next` is 0 before the first.
    void sums_of_row(const QuantizedImage& image, std::int64_t row, std::int64_t first, std::int64_t end, Rows& rows, std::int32_t* sums) const;
    std::int64_t sum_stride() const { return units_ * kernels_.gemv.layout.unit_outputs; }
    // The amount to subtract from the sums of shifted levels.
    const std::int32_t* offset_sums() const { return offset_sums_.data(); }
    std::size_t bytes() const { return bits_.bytes() + sizeof(std::int32_t) * offset_sums_.size(); }

  private:
    // The unit of preparation in a row of an image: a pixel's channels, which all taps of a row of the kernel share; or, if channels do not fill
    // steps, everything that a row of the kernel reads at a position, as one run.
    struct Inputs {
        Inputs(const Window& window, std::int64_t channels, const BitLayout& layout);
        bool runs;
        std::int64_t taps;    // of a row of the kernel, which read the same tables at other places
        std::int64_t length;  // inputs of a tap, or of a run
        std::int64_t groups;  // steps that they fill
    };

    // Write a row of weights, with its steps in the order of the products, into zeroed bytes.
    void order_row(const std::uint8_t* bits, std::uint8_t* to) const;
    void prepare_row(const QuantizedImage& image, std::int64_t row, std::int64_t first_pixel, std::int64_t positions, Rows& rows) const;
    void subtract_totals(std::int64_t row, std::int64_t positions, Rows& rows, std::int32_t* sums) const;
    // The pixels that some positions of a row reach, the prepared units (pixels or runs) for them, and the distance from a position to the next.
    std::int64_t pixels_of(std::int64_t positions) const { return (positions - 1) * window_.stride[1] + reach(1); }
    std::int64_t columns_of(std::int64_t positions) const { return inputs_.runs ? positions : pixels_of(positions); }
    std::int64_t column_step() const { return inputs_.runs ? 1 : window_.stride[1]; }
    std::int64_t first_step(std::int64_t block) const { return steps_ * block / blocks_; }
    std::int64_t reach(int axis) const { return (window_.kernel[axis] - 1) * window_.dilation[axis] + 1; }

    const Kernels& kernels_;
    Window window_;
    Inputs inputs_;
    bool plus_minus_;
    std::int64_t channels_, outputs_;
    std::int64_t steps_, units_, blocks_;
    std::int64_t strip_width_;
    std::int64_t positions_ = image_positions;  // of a call
    // Tiles of up to image_units units by a block of up to image_steps steps, in the order in which a position needs them. A step is 16 inputs of one
    // tap; a row of the kernel goes first through the taps, which share inputs, then through the channels.
    Buffer<std::uint8_t> bits_;
    std::vector<std::int32_t> offset_sums_;
};

}  // namespace onebit
