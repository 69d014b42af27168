"""The ops of packed programs. Each is defined once: its inputs and attributes, its checks, its NumPy computation, and its size.

docs/program.md describes the same ops in words and formulas. `tests/ops` compares its table with the declarations here.
"""

from onebit.ops import (
    attention,
    conv,
    conv_transpose,
    elementwise,
    embedding,
    exit,
    layout,
    linear,
    normalize,
    pooling,
    recurrence,
    resize,
    rotary,
    sparse,
    volume,
)
from onebit.ops.op import Op as Op

OPS: dict[str, Op] = {
    op.name: op
    for module in (
        attention,
        conv,
        conv_transpose,
        elementwise,
        embedding,
        exit,
        layout,
        linear,
        normalize,
        pooling,
        recurrence,
        resize,
        rotary,
        sparse,
        volume,
    )
    for op in module.OPS
}
