// The checks of ops. A function per family reads the attributes and tensors and returns the shape of the output. ops.def names them.
#pragma once

#include "step_checks.h"
#include "step_reader.h"

namespace onebit::op_checks {

#define OP(name, inputs, programs, check) Shape check(StepReader&, Step&, const Inputs&);
#include "ops.def"
#undef OP

}  // namespace onebit::op_checks
