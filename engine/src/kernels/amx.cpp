// AMX's 8-bit tiles, for products with many rows. Everything else is AVX-512's, also the table, which is in avx512.cpp.
#include "amx_gemm.h"
#include "amx_product.h"
#include "avx512_expand.h"

namespace onebit {
namespace {

// In assembler instead of intrinsics. gcc 12's intrinsics declare only 8 of the configuration's 64 bytes, so the compiler may drop stores to the
// others, and they do not take a template argument as a tile. "memory" keeps writes before the tiles' reads, and reads after the tiles'
// writes. Compilers do not use tiles on their own, so no tile is named as changed.
struct HardwareTiles {
    static void configure(const TileConfig& config) { asm volatile("ldtilecfg %0" : : "m"(config) : "memory"); }
    static void release() { asm volatile("tilerelease" : : : "memory"); }
    template <int tile>
    static void zero() {
        asm volatile("tilezero %%tmm%c0" : : "i"(tile));
    }
    template <int tile>
    static void load(const void* from, std::ptrdiff_t stride) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(tile) : "memory");
    }
    template <int tile>
    static void store(void* to, std::ptrdiff_t stride) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(tile) : "memory");
    }
    // `once`: the data are read once and need not stay in the first-level cache.
    template <int tile, bool once>
    static void load_levels(const void* from, std::ptrdiff_t stride) {
        if constexpr (once) {
            asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(tile) : "memory");
        } else {
            load<tile>(from, stride);
        }
    }
    // sums += unsigned inputs * signed weights
    template <int sums, int inputs, int weights>
    static void multiply() {
        asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(inputs), "i"(weights));
    }
    // sums += signed inputs * signed weights
    template <int sums, int inputs, int weights>
    static void multiply_signed() {
        asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(inputs), "i"(weights));
    }
};

}  // namespace

void amx_product_int8(const std::uint8_t* const* rows, int count, const Segments& segments, const std::int8_t* panel, int blocks, std::int32_t* out,
                      std::ptrdiff_t out_stride) {
    product_tiles<HardwareTiles>(rows, count, segments, panel, blocks, out, out_stride);
}

constinit const TileKernels amx_tiles = {begin_tiles<HardwareTiles>, release_tiles<HardwareTiles>, multiply_by_tiles<HardwareTiles, UnitBits>,
                                         expand_for_tiles<UnitBits>};

}  // namespace onebit
