// The functions of one number, by op.
#pragma once

#include "kernels/kernels.h"
#include "program.h"

namespace onebit {

// The op's kernel, or null if it is not a function of one number.
UnaryKernel unary_kernel(Op op, const Kernels& kernels);
bool is_unary(Op op);

}  // namespace onebit
