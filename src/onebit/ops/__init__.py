"""The ops of packed programs, each defined once: what it takes, what is checked of it, what it computes in NumPy and what it weighs.

docs/program.md describes the same ops in words and formulas, and `tests/ops` compares its table with what the ops here declare.
"""

from onebit.ops import attention, conv, elementwise, embedding, layout, linear, normalize, pooling, recurrence
from onebit.ops.op import Op as Op

OPS: dict[str, Op] = {
    op.name: op
    for module in (attention, conv, elementwise, embedding, layout, linear, normalize, pooling, recurrence)
    for op in module.OPS
}
