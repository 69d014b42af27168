#include "rotary.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "index.h"

namespace onebit {
namespace {

constexpr double pi = 3.14159265358979323846;

// Slow pairs as `linear` has them, fast ones as without scaling, and a ramp between them.
void scale_yarn(const ops::RotaryScaling& scaling, double base, std::vector<double>& frequencies) {
    const auto pairs = static_cast<double>(frequencies.size()), rotated = 2 * pairs;
    const auto pair_that_turns = [&](double times) {
        return rotated * std::log(static_cast<double>(scaling.original_context) / (times * 2 * pi)) / (2 * std::log(base));
    };
    const double low = std::max(std::floor(pair_that_turns(static_cast<double>(scaling.fast))), 0.0);
    const double high = std::min(std::ceil(pair_that_turns(static_cast<double>(scaling.slow))), rotated - 1);
    for (std::size_t j = 0; j < frequencies.size(); ++j) {
        // A ramp of no length is a step.
        const double ramp = std::clamp((static_cast<double>(j) - low) / (high != low ? high - low : 0.001), 0.0, 1.0);
        frequencies[j] = frequencies[j] / static_cast<double>(scaling.factor) * ramp + frequencies[j] * (1 - ramp);
    }
}

// Waves longer than a part of the original context are slowed, with a ramp down to those that are not.
void scale_llama3(const ops::RotaryScaling& scaling, std::vector<double>& frequencies) {
    const auto low = static_cast<double>(scaling.slow), high = static_cast<double>(scaling.fast);
    for (double& frequency : frequencies) {
        const double turns = static_cast<double>(scaling.original_context) * frequency / (2 * pi);
        const double share = std::clamp((turns - low) / (high - low), 0.0, 1.0);
        frequency = (1 - share) * (frequency / static_cast<double>(scaling.factor)) + share * frequency;
    }
}

}  // namespace

Rotation rotation_by(double angle) {
    // pi/2 in three parts: the products of the first two with an integer below 2^24 are exact.
    constexpr double half_pi[3] = {0x1.921fb54p+0, 0x1.10b461p-30, 0x1.a62633145c06ep-58};
    constexpr double sines[] = {-1.0 / 6,        1.0 / 120,        -1.0 / 5040,          1.0 / 362880,
                                -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000};
    constexpr double cosines[] = {1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200, 1.0 / 20922789888000};
    const auto series = [](double z, const auto& terms) {
        double total = *(std::end(terms) - 1);
        for (auto term = std::rbegin(terms) + 1; term != std::rend(terms); ++term) total = total * z + *term;
        return total;
    };
    const double quarters = std::rint(angle * 0x1.45f306dc9c883p-1);
    const double r = ((angle - quarters * half_pi[0]) - quarters * half_pi[1]) - quarters * half_pi[2], z = r * r;
    const double sine = r + (r * z) * series(z, sines), cosine = (1 - 0.5 * z) + (z * z) * series(z, cosines);
    switch (static_cast<std::int64_t>(quarters) % 4) {
        case 0: return {cosine, sine};
        case 1: return {-sine, cosine};
        case 2: return {-cosine, -sine};
        default: return {sine, -cosine};
    }
}

RotaryTable::RotaryTable(const ops::Rotary& of) : base_(of.base), rotated_(of.rotated), scaling_(of.scaling) {
    const auto base = static_cast<double>(of.base);
    std::vector<double> exact;
    for (std::int64_t j = 0; j < rotated_ / 2; ++j) exact.push_back(std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(rotated_)));
    using Kind = ops::RotaryScaling::Kind;
    if (scaling_.kind == Kind::linear) {
        for (double& frequency : exact) frequency /= static_cast<double>(scaling_.factor);
    } else if (scaling_.kind == Kind::yarn) {
        scale_yarn(scaling_, base, exact);
        factor_ = scaling_.attention_factor.value_or(static_cast<float>(0.1 * std::log(static_cast<double>(scaling_.factor)) + 1));
    } else if (scaling_.kind == Kind::llama3) {
        scale_llama3(scaling_, exact);
    }
    for (const double frequency : exact) frequencies_.push_back(static_cast<float>(frequency));
}

void RotaryTable::reserve(std::int64_t positions) {
    const std::int64_t half = rotated_ / 2;
    for (auto first = static_cast<std::int64_t>(blocks_.size()) * block; first < positions; first += block) {
        auto rows = std::make_unique<float[]>(at(block * rotated_));
        for (std::int64_t p = 0; p < block; ++p) {
            float* row = rows.get() + p * rotated_;
            for (std::int64_t j = 0; j < half; ++j) {
                // The product of two numbers of 24 bits is exact.
                const Rotation turn = rotation_by(static_cast<double>(first + p) * static_cast<double>(frequencies_[at(j)]));
                row[j] = static_cast<float>(turn.cosine * static_cast<double>(factor_));
                row[half + j] = static_cast<float>(turn.sine * static_cast<double>(factor_));
            }
        }
        blocks_.push_back(std::move(rows));
    }
}

std::uint64_t RotaryTable::bytes(std::int64_t positions) const {
    return static_cast<std::uint64_t>((positions + block - 1) / block * block * rotated_) * sizeof(float);
}

void RotaryTables::expect(const ops::Rotary& of, std::int64_t positions) {
    positions_ = positions;
    if (std::none_of(tables_.begin(), tables_.end(), [&](const RotaryTable& table) { return table.is_of(of); })) tables_.emplace_back(of);
}

RotaryTable& RotaryTables::of(const ops::Rotary& of) {
    const auto found = std::find_if(tables_.begin(), tables_.end(), [&](const RotaryTable& table) { return table.is_of(of); });
    if (found == tables_.end()) throw std::logic_error("RotaryTables: a step that was not announced");
    return *found;
}

WorkingBytes RotaryTables::working_bytes() const {
    WorkingBytes sum;
    for (const RotaryTable& table : tables_) {
        sum.now += table.bytes();
        sum.most += table.bytes(positions_);
    }
    return sum;
}

}  // namespace onebit
