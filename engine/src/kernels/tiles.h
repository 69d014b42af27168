// A product of many rows with bits by a processor's tile registers, of 16 rows of 64 bytes each. Four tiles sum two tiles of rows times 32 outputs,
// which are a unit of the bits' layout. The layer (tile_layer.h) blocks over rows, outputs and inputs so that the operands stay in caches.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onebit {

// Rows of a tile, and the levels of one row in it. 32 rows of levels times 64 inputs times 32 outputs are one step.
constexpr int tile_step_rows = 16;
constexpr int tile_step_inputs = 64;
constexpr int tile_step_outputs = 32;
constexpr std::ptrdiff_t tile_bytes = std::ptrdiff_t{tile_step_rows} * tile_step_inputs;
// A step's weights as bytes: [16 groups of inputs][32 outputs][4 inputs].
constexpr std::ptrdiff_t tile_panel_bytes = std::ptrdiff_t{tile_step_inputs} * tile_step_outputs;
// The inputs in 64 bytes of bits: a unit's step in the layout of sets with tiles.
constexpr int tile_bit_inputs = 16;
constexpr int tile_bit_steps = tile_step_inputs / tile_bit_inputs;
constexpr std::ptrdiff_t tile_bit_panel_bytes = tile_panel_bytes / tile_bit_steps;

// Expands bits of some steps of one unit to weights: 0 and 1, or -1 and 1.
struct TileExpansion {
    const std::uint8_t* bits = nullptr;
    std::ptrdiff_t step_stride = 0;  // bytes from a step of bits to the next
    int steps = 0;                   // of bits
    bool plus_minus = false;
    std::int8_t* panel = nullptr;
};

// to = from + levels * panel, for one or two tiles of rows and 32 outputs. Exact. All levels are signed.
struct TileTask {
    const std::int8_t* levels = nullptr;  // [step][16 rows][64 inputs] of the first 16 rows
    std::ptrdiff_t next_rows = 0;         // bytes from there to the next 16 rows
    int row_tiles = 0;                    // 1 or 2
    int steps = 0;                        // of 64 inputs, at least 1
    const std::int8_t* panel = nullptr;   // [step][16 groups][32 outputs][4 inputs]
    // Levels pass once per panel, and should not evict it from the first-level cache.
    bool stream_levels = false;
    const std::int32_t* from = nullptr;  // rows of 32 sums, or null for none
    std::ptrdiff_t from_stride = 0;      // in sums, from a row to the next; the same of `to`
    std::int32_t* to = nullptr;
    std::ptrdiff_t to_stride = 0;
    // The expansion to do meanwhile: the tiles' multiplier leaves the other units free.
    TileExpansion next;
};

// Rows at a constant distance are loaded in place. So a convolution's product ends at the end of an output line, if at least this many rows are
// left: fewer would wait for the loads of their weights.
constexpr int tile_least_line = 12;

struct TileKernels {
    // A thread calls `begin` before its first `multiply`, and `end` after its last `multiply` or product_int8. While a thread uses tiles, each switch
    // to another thread saves 8 KiB more.
    void (*begin)();
    void (*end)();
    void (*multiply)(const TileTask& task);
    void (*expand)(const TileExpansion& expansion);
};

// Ends the use of tiles, also if a computation is interrupted. Null: there are no tiles.
class TilesInUse {
  public:
    explicit TilesInUse(const TileKernels* tiles) : tiles_(tiles) {}
    ~TilesInUse() {
        if (tiles_ != nullptr) tiles_->end();
    }
    TilesInUse(const TilesInUse&) = delete;
    TilesInUse& operator=(const TilesInUse&) = delete;

  private:
    const TileKernels* tiles_;
};

#if defined(ONEBIT_X86)
extern const TileKernels amx_tiles;
#endif

}  // namespace onebit
