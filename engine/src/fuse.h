// Passes from program to program: steps that are computed together with the layer beside them. Results stay the same bits.
#pragma once

#include "program.h"

namespace onebit {

// All of them, in their order. Steps that were taken in stand in the `before` and `after` of those that took them.
Program fuse(Program program);

// A layer of signs takes a scale_shift before it in, where it is all that reads its result: what a sign is of, then needs no rounding of its own, for
// each channel has a threshold.
Program fold_scale_shift_into_signs(Program program);
// What follows a product and is all that reads its result goes to its epilogue: a normalisation, a ReLU and a max-pooling, in this order.
Program fuse_epilogues(Program program);

}  // namespace onebit
