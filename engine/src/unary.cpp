#include "unary.h"

namespace onebit {

UnaryKernel unary_kernel(Op op, const Kernels& kernels) {
#define UNARY(name, formula) \
    if (op == Op::name) return kernels.rows.name;
#include "kernels/unary.def"
#undef UNARY
    return nullptr;
}

bool is_unary(Op op) {
#define UNARY(name, formula) \
    if (op == Op::name) return true;
#include "kernels/unary.def"
#undef UNARY
    return false;
}

}  // namespace onebit
