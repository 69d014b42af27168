// The parts of a layer of 4096 x 4096 bits with 256 rows by tiles: each that needs no tiles on any processor with AVX-512, and all of it, cut in
// several ways, where there are tiles.
#pragma once

namespace onebit {

// Prints a line of JSON for each part.
void run_tiles(int threads, double seconds);

}  // namespace onebit
