// Whole layers as pieces of work whose instructions are counted: quantising, preparing, multiplying, normalising.
#include <optional>
#include <random>
#include <vector>

#include "bit_matrix.h"
#include "block.h"
#include "dense_layer.h"
#include "instructions.h"
#include "product_layer.h"
#include "xnor_layer.h"

namespace onebit {
namespace {

// A layer is made once in a process, which counts one piece of work: where instructions are counted one by one, making it must not count.
template <class Layer>
Layer& only(const Kernels& kernels) {
    static Layer layer(kernels);
    return layer;
}

// Channels are normalised over each position or row and pass a ReLU, as in the paper's networks.
ops::Layer layer_of(std::int64_t inputs, std::int64_t outputs, std::vector<std::uint8_t>& bits) {
    std::mt19937 generator(1);
    bits.resize(static_cast<std::size_t>(outputs * row_bytes(inputs) + slack_bytes));
    for (auto& byte : bits) byte = static_cast<std::uint8_t>(generator());
    ops::Layer layer;
    layer.bits.rows = layer.bias_bits = bits.data();
    layer.after.normalize = {true, 1e-5f};
    layer.after.relu = true;
    return layer;
}

void fill(Buffer<float>& x, std::int64_t count) {
    std::mt19937 generator(2);
    std::normal_distribution<float> numbers;
    x.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) x.data()[i] = numbers(generator);
}

template <std::int64_t outputs, std::int64_t inputs, std::int64_t rows>
struct Dense {
    explicit Dense(const Kernels& kernels)
        : bits_(BitMatrix::bytes(inputs, outputs, kernels), true),
          layer_(layer_of(inputs, outputs, file_), inputs, outputs, true, kernels, bits_.data()) {
        fill(x_, rows * inputs);
        y_.reserve(rows * outputs);
        scratch_.threads.resize(1);
    }
    void run() { layer_.run(x_.data(), rows, false, y_.data(), pool_, scratch_); }

  private:
    std::vector<std::uint8_t> file_;
    Block bits_;
    DenseLayer layer_;
    Buffer<float> x_, y_;
    ThreadPool pool_{1};
    DenseScratch scratch_;
};

// A square image and a kernel of `side`, padded so that both images have one size.
template <std::int64_t side, std::int64_t channels, std::int64_t outputs, std::int64_t size>
ops::Layer convolution_of(std::vector<std::uint8_t>& bits) {
    ops::Layer layer = layer_of(side * side * channels, outputs, bits);
    layer.convolution = true;
    layer.window.kernel[0] = layer.window.kernel[1] = side;
    for (auto& padding : layer.window.padding) padding = side / 2;
    return layer;
}

template <std::int64_t side, std::int64_t channels, std::int64_t outputs, std::int64_t size>
struct Convolution {
    explicit Convolution(const Kernels& kernels)
        : layer_(convolution_of<side, channels, outputs, size>(file_), {size, size, channels}, {size, size, outputs}, true, kernels, budget_) {
        fill(x_, size * size * channels);
        y_.reserve(size * size * outputs);
        scratch_.threads.resize(1);
    }
    void run() { layer_.run(x_.data(), nullptr, y_.data(), pool_, scratch_); }

  private:
    std::vector<std::uint8_t> file_;
    std::size_t budget_ = std::size_t{64} << 20;
    ProductLayer layer_;
    Buffer<float> x_, y_;
    ThreadPool pool_{1};
    Scratch scratch_;
};

struct Signs {
    Signs(const ops::Layer& layer, const Shape& input, const Shape& output, const Kernels& kernels) {
        ops::Layer own = layer;
        own.bits.plus_minus = true;
        own.bits.input = {InputLevels::Quantizer::sign, 1};
        layer_.emplace(own, input, output, kernels);
        fill(x_, elements(input));
        y_.reserve(static_cast<std::size_t>(elements(output)));
        scratch_.threads.resize(1);
    }
    void run() { layer_->run(x_.data(), 1, y_.data(), pool_, scratch_); }

  private:
    std::optional<XnorLayer> layer_;
    Buffer<float> x_, y_;
    ThreadPool pool_{1};
    XnorScratch scratch_;
};

struct SignConvolution : Signs {
    explicit SignConvolution(const Kernels& kernels) : SignConvolution(kernels, {}) {}

  private:
    SignConvolution(const Kernels& kernels, std::vector<std::uint8_t> bits)
        : Signs(convolution_of<3, 64, 64, 32>(bits), {32, 32, 64}, {32, 32, 64}, kernels) {}
};

struct SignDense : Signs {
    explicit SignDense(const Kernels& kernels) : SignDense(kernels, {}) {}

  private:
    SignDense(const Kernels& kernels, std::vector<std::uint8_t> bits) : Signs(layer_of(4096, 4096, bits), {4096}, {4096}, kernels) {}
};

template <class Layer>
void run_layer(const Kernels& kernels, int times) {
    Layer& layer = only<Layer>(kernels);
    for (int i = 0; i < times; ++i) layer.run();
}

constexpr double image = 32.0 * 32;

}  // namespace

const std::vector<Work>& layer_work() {
    static const std::vector<Work> work = {
        {"layer, 1 row, 768", "768 outputs, 768 inputs", 768.0 * 768, run_layer<Dense<768, 768, 1>>},
        {"layer, 1 row, 4096", "4096 outputs, 4096 inputs", 4096.0 * 4096, run_layer<Dense<4096, 4096, 1>>},
        {"layer, 256 rows", "256 rows, 768 outputs, 768 inputs", 256.0 * 768 * 768, run_layer<Dense<768, 768, 256>>},
        {"first layer, 3x3", "3 to 32 channels, 32 x 32", image * 9 * 3 * 32, run_layer<Convolution<3, 3, 32, 32>>},
        {"first layer, 5x5", "3 to 32 channels, 32 x 32", image * 25 * 3 * 32, run_layer<Convolution<5, 3, 32, 32>>},
        {"convolution, 3x3", "64 to 64 channels, 32 x 32", image * 9 * 64 * 64, run_layer<Convolution<3, 64, 64, 32>>},
        {"convolution, 5x5", "64 to 64 channels, 32 x 32", image * 25 * 64 * 64, run_layer<Convolution<5, 64, 64, 32>>},
        {"convolution of signs, 3x3", "64 to 64 channels, 32 x 32", image * 9 * 64 * 64, run_layer<SignConvolution>},
        {"layer of signs, 1 row", "4096 outputs, 4096 inputs", 4096.0 * 4096, run_layer<SignDense>},
    };
    return work;
}

}  // namespace onebit
