// A product of many rows with bits by a processor's tile registers: 16 rows of 64 bytes each. Two tiles of rows times 32 outputs, a unit of the
// bits' layout, are summed in four of them; the layer (tile_layer.h) blocks over rows, outputs and inputs so that what is multiplied lies in caches.
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
// Inputs in 64 bytes of bits: a unit's step of the layout that sets with tiles have.
constexpr int tile_bit_inputs = 16;
constexpr int tile_bit_steps = tile_step_inputs / tile_bit_inputs;
constexpr std::ptrdiff_t tile_bit_panel_bytes = tile_panel_bytes / tile_bit_steps;

// Bits of some steps of one unit that become weights: 0 and 1, or -1 and 1.
struct TileExpansion {
    const std::uint8_t* bits = nullptr;
    std::ptrdiff_t step_stride = 0;  // bytes from a step of bits to the next
    int steps = 0;                   // of bits
    bool plus_minus = false;
    std::int8_t* panel = nullptr;
};

// to = from + levels * panel, of one or two tiles of rows and 32 outputs; exact. All levels are signed.
struct TileTask {
    const std::int8_t* levels = nullptr;  // [step][16 rows][64 inputs] of the first 16 rows
    std::ptrdiff_t next_rows = 0;         // bytes from there to the next 16 rows'
    int row_tiles = 0;                    // 1 or 2
    int steps = 0;                        // of 64 inputs, at least 1
    const std::int8_t* panel = nullptr;   // [step][16 groups][32 outputs][4 inputs]
    // Levels pass once for each panel: they need not drive it out of the first-level cache.
    bool stream_levels = false;
    const std::int32_t* from = nullptr;  // rows of 32 sums, or null for none
    std::ptrdiff_t from_stride = 0;      // in sums, from a row to the next; the same of `to`
    std::int32_t* to = nullptr;
    std::ptrdiff_t to_stride = 0;
    // What is expanded meanwhile: the tiles' multiplier leaves the other units free.
    TileExpansion next;
};

// Rows at one distance are loaded from where they lie, so a convolution's product ends where a line of its output ends, if that leaves at least so
// many rows: fewer would wait for the loads of their weights.
constexpr int tile_least_line = 12;

struct TileKernels {
    // A thread calls `begin` before its first call of `multiply`, and `end` after its last or after its last product_int8: a thread that keeps tiles
    // in use makes each switch to another one save 8 KiB more.
    void (*begin)();
    void (*end)();
    void (*multiply)(const TileTask& task);
    void (*expand)(const TileExpansion& expansion);
};

// Ends the use of tiles, also where a computation is interrupted. Null: there are none.
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
