"""The op that ends a program early."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.ops.declared import Number, Shape
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors


def certainty(logits: NDArray[Any]) -> NDArray[np.float64]:
    """The probability of each answer: the largest of softmax(logits), (n, classes) to (n). NaN where a logit is NaN or all are infinite."""
    wide = logits.astype(np.float64)
    with np.errstate(all="ignore"):
        found: NDArray[np.float64] = 1 / np.exp(wide - wide.max(-1, keepdims=True)).sum(-1)
    return found


class Exit(Op):
    """y = x. The program ends, with x as its output, for an example whose answer has a probability above the threshold."""

    name = "exit"
    programs = Programs.ARRAYS
    attributes = (Number("threshold", True),)

    def shape(self, step: StepReader, x: Shape) -> Shape:
        if len(x) != 1:
            raise step.fail(f"its input has shape {x}: needs (classes,)")
        return x

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        return x

    def ends(self, a: Attributes, x: Array, threshold: float | None = None) -> NDArray[np.bool_]:
        """For which examples the program ends here, (n). `threshold` takes the place of the attribute's."""
        limit = np.float32(a["threshold"] if threshold is None else threshold)
        ends: NDArray[np.bool_] = certainty(x) > limit
        return ends


OPS: tuple[Op, ...] = (Exit(),)
