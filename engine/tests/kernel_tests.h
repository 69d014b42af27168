#pragma once

#include "kernels/kernels.h"

// Every kernel of an instruction set against the scalar one, or against plain sums, on random shapes with all remainders.
void test_kernels(const onebit::Kernels& fast);
// Every way in which a set counts bits that this CPU has, against the scalar one; and layers that count, with threads and without.
void test_counts(const onebit::Kernels& kernels);
void test_count_layers();
// The same of AMX's product, on an emulation of the tile registers.
void test_emulated_tiles();
