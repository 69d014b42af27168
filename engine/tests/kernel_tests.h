#pragma once

#include "kernels/kernels.h"

// Every kernel of an instruction set against the scalar one, or against plain sums, on random shapes with all remainders.
void test_kernels(const onebit::Kernels& fast);
// The same of AMX's product, on an emulation of the tile registers.
void test_emulated_tiles();
