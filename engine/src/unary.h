// The functions of a single number, by op.
#pragma once

#include "kernels/kernels.h"
#include "program.h"

namespace onebit {

// The op's kernel, or null where it is not a function of a single number.
UnaryKernel unary_kernel(Op op, const Kernels& kernels);
bool is_unary(Op op);

}  // namespace onebit
