// The cosines and sines of rotary positions, in the form that docs/program.md writes down: operations that every machine rounds alike.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "attributes.h"
#include "buffer.h"

namespace onebit {

// The cosine and the sine of an angle from 0 to 2^24, to 2^-52.
struct Rotation {
    double cosine, sine;
};
Rotation rotation_by(double angle);

// Of one base and scaling, for positions from 0 on. It grows with the longest sequence.
class RotaryTable {
  public:
    explicit RotaryTable(const ops::Rotary& of);

    bool is_of(const ops::Rotary& of) const { return of.base == base_ && of.rotated == rotated_ && of.scaling == scaling_; }
    // Makes the rows of the positions below `positions`.
    void reserve(std::int64_t positions);
    // rotated / 2 cosines, then as many sines.
    const float* row(std::int64_t position) const { return blocks_[static_cast<std::size_t>(position / block)].get() + position % block * rotated_; }
    std::uint64_t bytes(std::int64_t positions) const;
    std::uint64_t bytes() const { return bytes(static_cast<std::int64_t>(blocks_.size()) * block); }

  private:
    static constexpr std::int64_t block = 64;

    float base_;
    std::int64_t rotated_;
    ops::RotaryScaling scaling_;
    std::vector<float> frequencies_;
    float factor_ = 1;
    std::vector<std::unique_ptr<float[]>> blocks_;
};

// The tables of a program: all its steps of one base and scaling share one.
class RotaryTables {
  public:
    // Announces at load the longest sequence.
    void expect(const ops::Rotary& of, std::int64_t positions);
    // The table of a step that was announced.
    RotaryTable& of(const ops::Rotary& of);
    WorkingBytes working_bytes() const;

  private:
    std::vector<RotaryTable> tables_;
    std::int64_t positions_ = 0;
};

}  // namespace onebit
