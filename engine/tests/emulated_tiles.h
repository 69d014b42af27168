// AMX's tile registers in plain C++, as strict as the processor: an illegal instruction or a fault there is an exception here. Any machine, and
// the sanitizers, can run amx_product.h with it.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>

#include "kernels/amx_gemm.h"
#include "kernels/amx_product.h"

namespace {

class EmulatedTiles {
  public:
    static void configure(const onebit::TileConfig& config) {
        require(config.palette == 1 && config.start_row == 0, "palette 1 from row 0");
        for (const auto byte : config.reserved) require(byte == 0, "reserved bytes of 0");
        for (int t = 0; t < 16; ++t) {
            require(config.rows[t] <= 16 && config.row_bytes[t] <= 64, "at most 16 rows of 64 bytes");
            require((config.rows[t] == 0) == (config.row_bytes[t] == 0), "both rows and bytes or neither");
            require(t < 8 || config.rows[t] == 0, "8 tiles");
        }
        shapes_ = config;
        std::memset(tiles_, 0, sizeof tiles_);
    }
    static void release() { shapes_.reset(); }
    static bool released() { return !shapes_.has_value(); }

    template <int tile>
    static void zero() {
        shape(tile);
        std::memset(tiles_[tile], 0, sizeof tiles_[tile]);
    }
    template <int tile>
    static void load(const void* from, std::ptrdiff_t stride) {
        const Shape s = shape(tile);
        std::memset(tiles_[tile], 0, sizeof tiles_[tile]);
        for (int r = 0; r < s.rows; ++r) std::memcpy(tiles_[tile][r], static_cast<const std::uint8_t*>(from) + r * stride, s.bytes);
    }
    template <int tile, bool>
    static void load_levels(const void* from, std::ptrdiff_t stride) {
        load<tile>(from, stride);
    }
    template <int tile>
    static void store(void* to, std::ptrdiff_t stride) {
        const Shape s = shape(tile);
        for (int r = 0; r < s.rows; ++r) std::memcpy(static_cast<std::uint8_t*>(to) + r * stride, tiles_[tile][r], s.bytes);
    }
    template <int sums, int inputs, int weights>
    static void multiply() {
        multiply_as<sums, inputs, weights, std::uint8_t>();
    }
    template <int sums, int inputs, int weights>
    static void multiply_signed() {
        multiply_as<sums, inputs, weights, std::int8_t>();
    }

  private:
    struct Shape {
        int rows;
        std::size_t bytes;
    };

    template <int sums, int inputs, int weights, class Input>
    static void multiply_as() {
        static_assert(sums != inputs && sums != weights && inputs != weights);
        const Shape c = shape(sums), a = shape(inputs), b = shape(weights);
        require(a.bytes % 4 == 0 && b.bytes % 4 == 0 && c.bytes % 4 == 0, "whole groups");
        require(c.rows == a.rows && c.bytes == b.bytes && a.bytes == 4 * static_cast<std::size_t>(b.rows), "shapes that fit each other");
        for (int r = 0; r < c.rows; ++r) {
            for (std::size_t o = 0; o < c.bytes; o += 4) {
                std::int32_t sum;
                std::memcpy(&sum, tiles_[sums][r] + o, 4);
                for (std::size_t i = 0; i < a.bytes; ++i) {
                    sum += static_cast<Input>(tiles_[inputs][r][i]) * static_cast<std::int8_t>(tiles_[weights][i / 4][o + i % 4]);
                }
                std::memcpy(tiles_[sums][r] + o, &sum, 4);
            }
        }
    }
    static void require(bool holds, const char* what) {
        if (!holds) throw std::logic_error(std::string("emulated tiles: not ") + what);
    }
    static Shape shape(int tile) {
        require(shapes_.has_value() && tile < 8 && shapes_->rows[tile] > 0, "a configured tile");
        return {shapes_->rows[tile], shapes_->row_bytes[tile]};
    }

    // Each thread has its own.
    static inline thread_local std::optional<onebit::TileConfig> shapes_;
    static inline thread_local std::uint8_t tiles_[8][16][64];
};

// A unit's bits to bytes as tiles.h has them, one by one.
class PlainBits {
  public:
    explicit PlainBits(const onebit::TileExpansion& e) : e_(e) {}
    bool left() const { return done_ < e_.steps; }
    void expand() {
        const std::uint8_t* bits = e_.bits + done_ * e_.step_stride;
        std::int8_t* to = e_.panel + done_ * onebit::tile_bit_panel_bytes;
        for (int o = 0; o < onebit::tile_step_outputs; ++o) {
            for (int i = 0; i < onebit::tile_bit_inputs; ++i) {
                const bool set = (bits[2 * o + i / 8] >> (i % 8) & 1) != 0;
                to[(i / 4 * onebit::tile_step_outputs + o) * 4 + i % 4] = static_cast<std::int8_t>(set ? 1 : e_.plus_minus ? -1 : 0);
            }
        }
        ++done_;
    }

  private:
    onebit::TileExpansion e_;
    int done_ = 0;
};

void emulated_product(const std::uint8_t* const* rows, int count, const onebit::Segments& segments, const std::int8_t* panel, int blocks,
                      std::int32_t* out, std::ptrdiff_t out_stride) {
    onebit::product_tiles<EmulatedTiles>(rows, count, segments, panel, blocks, out, out_stride);
}

constexpr onebit::TileKernels emulated_tile_kernels = {onebit::begin_tiles<EmulatedTiles>, onebit::release_tiles<EmulatedTiles>,
                                                       onebit::multiply_by_tiles<EmulatedTiles, PlainBits>, onebit::expand_for_tiles<PlainBits>};

// As amx_kernels, on what every machine has.
onebit::Kernels emulated_amx() {
    onebit::Kernels kernels = onebit::scalar_kernels;
    kernels.name = "amx_emulated";
    kernels.gemv.layout.chunk_steps = 32;
    kernels.tiles = &emulated_tile_kernels;
    kernels.gemm.rows_at_once = onebit::max_rows;
    kernels.gemm.product_int8 = emulated_product;
    return kernels;
}

}  // namespace
