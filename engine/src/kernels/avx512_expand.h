// Expands the bits of 16 inputs of 32 outputs to bytes, with AVX-512. A part of avx512.cpp and amx.cpp; bits.h has the plain loops.
#pragma once

#include <immintrin.h>

#include "four_weights.h"
#include "tiles.h"

namespace onebit {
namespace {

constexpr struct WeightTables {
    std::uint32_t words[2][16];  // of weights 0 and 1, and of -1 and 1
} weight_tables = [] {
    WeightTables t{};
    for (unsigned i = 0; i < 16; ++i) t.words[0][i] = four_weights(i, false), t.words[1][i] = four_weights(i, true);
    return t;
}();

// A look-up that turns four bits into four bytes, for 16 outputs at once: one permutation and, except for the first group, one shift per 64 bytes.
class FourWeights {
  public:
    explicit FourWeights(bool plus_minus) : table_(_mm512_loadu_si512(weight_tables.words[plus_minus ? 1 : 0])) {}
    // Expands 16 bits of 16 outputs to four groups of four inputs, `group_stride` bytes apart.
    [[gnu::always_inline]] void expand(const std::uint8_t* bits, std::int8_t* to, std::ptrdiff_t group_stride) const {
        __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits)));
        // The look-up uses the lowest four bits of each index.
        for (int g = 0; g < 4; ++g, words = _mm512_srli_epi32(words, 4)) {
            _mm512_storeu_si512(to + g * group_stride, _mm512_permutexvar_epi32(words, table_));
        }
    }

  private:
    __m512i table_;
};

// The steps of an expansion, one after the other.
class UnitBits {
  public:
    explicit UnitBits(const TileExpansion& e)
        : weights_(e.plus_minus), bits_(e.bits), step_stride_(e.step_stride), panel_(e.panel), end_(e.panel + e.steps * tile_bit_panel_bytes) {}
    [[gnu::always_inline]] bool left() const { return panel_ != end_; }
    [[gnu::always_inline]] void expand() {
        weights_.expand(bits_, panel_, 128);
        weights_.expand(bits_ + 32, panel_ + 64, 128);
        bits_ += step_stride_;
        panel_ += tile_bit_panel_bytes;
    }

  private:
    FourWeights weights_;
    const std::uint8_t* bits_;
    std::ptrdiff_t step_stride_;
    std::int8_t* panel_;
    std::int8_t* end_;
};

}  // namespace
}  // namespace onebit
