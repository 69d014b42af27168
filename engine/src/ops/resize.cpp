#include <algorithm>
#include <vector>

#include "index.h"
#include "ops/families.h"
#include "parallel.h"

namespace onebit {
namespace {

// The places of the input that an output place is made of, in floats as docs/program.md defines them.
struct Place {
    std::int64_t first, second;
    float share;  // of the second
};

std::vector<Place> places_of(std::int64_t inputs, std::int64_t outputs, const ops::Resize& of) {
    std::vector<Place> places(at(outputs));
    const bool aligned = of.align_corners;
    const auto above = static_cast<float>(aligned ? inputs - 1 : inputs), below = static_cast<float>(aligned ? outputs - 1 : outputs);
    const float scale = below > 0 ? above / below : 0.0f;
    for (std::int64_t p = 0; p < outputs; ++p) {
        const auto place = static_cast<float>(p);
        const float centre = (place + 0.5f) * scale - 0.5f;
        const float source = !of.bilinear || aligned ? place * scale : centre < 0 ? 0.0f : centre;
        const auto first = std::min(static_cast<std::int64_t>(source), inputs - 1);
        const float share = source - static_cast<float>(first);
        places[at(p)] = {first, std::min(first + 1, inputs - 1), share > 1 ? 1.0f : share};
    }
    return places;
}

class ResizeNode : public Node {
  public:
    explicit ResizeNode(const NodeSource& source)
        : Node(source.step),
          bilinear_(source.step.as<ops::Resize>().bilinear),
          width_(source.input()[1]),
          channels_(source.input()[2]),
          lines_(places_of(source.input()[0], source.output()[0], source.step.as<ops::Resize>())),
          columns_(places_of(width_, source.output()[1], source.step.as<ops::Resize>())) {}

    TensorBytes tensor_bytes() const override { return {(lines_.size() + columns_.size()) * sizeof(Place), 0}; }

    void run(std::span<const In> in, Out& out, const RunContext& context) override {
        const auto across = static_cast<std::int64_t>(columns_.size());
        parallel_rows(context.pool, static_cast<std::int64_t>(lines_.size()), across * channels_, [&](std::int64_t first, std::int64_t count) {
            for (std::int64_t r = first; r < first + count; ++r) {
                const Place& line = lines_[at(r)];
                const float *upper = in[0].data + line.first * width_ * channels_, *lower = in[0].data + line.second * width_ * channels_;
                float* y = out.data + r * across * channels_;
                for (const Place& column : columns_) {
                    if (bilinear_) {
                        mix(upper, lower, line.share, column, y);
                    } else {
                        std::copy_n(upper + column.first * channels_, channels_, y);
                    }
                    y += channels_;
                }
            }
        });
    }

  private:
    void mix(const float* upper, const float* lower, float down, const Place& column, float* y) const {
        const float across = column.share, left = 1.0f - across, up = 1.0f - down;
        const std::int64_t a = column.first * channels_, b = column.second * channels_;
        for (std::int64_t c = 0; c < channels_; ++c) {
            const float top = left * upper[a + c] + across * upper[b + c], bottom = left * lower[a + c] + across * lower[b + c];
            y[c] = up * top + down * bottom;
        }
    }

    bool bilinear_;
    std::int64_t width_, channels_;
    std::vector<Place> lines_, columns_;
};

}  // namespace

std::unique_ptr<Node> make_resize(const NodeSource& source) {
    return std::make_unique<ResizeNode>(source);
}

}  // namespace onebit
