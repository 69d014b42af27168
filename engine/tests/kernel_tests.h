#pragma once

#include <string>

#include "check.h"
#include "cpu.h"
#include "kernels/kernels.h"

// Every kernel of each instruction set against the scalar one, or against plain sums, on random shapes with all remainders; and AMX's product on an
// emulation of the tile registers.
void add_kernel_tests(Tests& tests);
// Products of weights with scales for groups of inputs, against the formula.
void add_grouped_tests(Tests& tests);
// Rows of floats: the functions of rows.h or faster versions, at every length and at the ends of a float's range.
void add_row_tests(Tests& tests);
// Compares every method of counting bits on this CPU with the scalar one, and tests layers that count, with and without threads.
void add_xnor_tests(Tests& tests);
// Dense layers of many rows, each set's against the scalar one's, and the product by tiles on the emulation.
void add_tile_tests(Tests& tests);
// The pool of threads, and dense layers that threads divide.
void add_thread_tests(Tests& tests);
// Encoding and decoding of texts.
void add_text_tests(Tests& tests);

// The choices of calibration and their file. All choices give the same bits.
void add_calibration_tests(Tests& tests);

// A test for each instruction set; those that this CPU lacks are listed as skipped.
template <class Test>
void add_for_each_set(Tests& tests, const char* what, Test test) {
    int count = 0;
    const onebit::Kernels* const* all = onebit::all_kernels(&count);
    for (int i = 0; i < count; ++i) {
        const onebit::Kernels& kernels = *all[i];
        const std::string name = std::string(kernels.name) + ": " + what;
        if (onebit::supported(kernels)) {
            tests.add(name, [&kernels, test] { test(kernels); });
        } else {
            tests.skip(name, "not supported by this CPU");
        }
    }
}
