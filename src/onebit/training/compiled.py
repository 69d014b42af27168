"""torch.compile of the network that trains: when it is done, when it is not, and what goes on uncompiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from onebit.nn import BinaryRecurrence
from onebit.training.latents import follows_progress


def why_not(model: nn.Module) -> str | None:
    """Why a network is trained uncompiled whatever its recipe says; None where nothing is in the way."""
    if any(follows_progress(module) for module in model.modules()):
        return "the gradient of its scheme changes at every step, and each change would be compiled anew"
    if any(isinstance(module, BinaryRecurrence | nn.RNNBase) for module in model.modules()):
        return "a recurrence is a loop over time, which would be compiled step by step"
    return None


class Compiled:
    """A network's forward pass, compiled when it is first called. It is not a module: the network's own state, names and checkpoints stay.

    Only what has the shape of a whole batch may be given to it: other shapes would be compiled anew, one after the other. Hooks that a layer gets
    after the first call are not seen.

    Args:
        model: what computes.
        note: is told once, in one line, where the network goes on uncompiled, and why.
        accumulates: whether gradients of several calls are summed before a step.

    `unproven`: whether it has computed, and nobody has looked at its gradients yet.
    """

    def __init__(self, model: nn.Module, note: Callable[[str], object], accumulates: bool = False) -> None:
        self._model = model
        self._note = note
        self._forward: Callable[[Tensor], Tensor] | None = None
        self._works = False
        self.unproven = False
        reason = why_not(model)
        if reason is not None:
            note(f"[compile] {reason}: training goes on uncompiled")
            return
        # CUDA graphs spare a GPU the wait for the launch of each kernel. They need one shape, and write where the call before wrote: into gradients
        # that are still being summed.
        graphs = not accumulates and any(p.is_cuda for p in model.parameters())
        options: dict[str, Any] = {"mode": "reduce-overhead"} if graphs else {}
        self._forward = torch.compile(model.forward, dynamic=False, **options)

    def __call__(self, x: Tensor) -> Tensor:
        if self._forward is None:
            eager: Tensor = self._model(x)
            return eager
        if self._works:
            return self._forward(x)
        # What a machine lacks shows at the first call only, in as many kinds of error as there are compilers.
        try:
            y = self._forward(x)
            self.unproven = True
        except Exception as error:
            self._forward = None
            y = self._model(x)  # raises what is not the compiler's fault
            self._note(f"[compile] {_reason(error)}: training goes on uncompiled")
        self._works = True
        return y


def _reason(error: Exception) -> str:
    """One line about what torch.compile raised."""
    text = str(error)
    if "InvalidCxxCompiler" in text:
        return "no C++ compiler found (install g++, or name one in CXX)"
    # What the compiler said, which may lack its linker or the headers of Python.
    said = [line.strip() for line in text.partition("Output:")[2].splitlines() if "error" in line]
    if "CppCompileError" in text and said:
        return f"the C++ compiler fails ({said[0][:150]})"
    return f"torch.compile failed ({' '.join(text.split())[:150]})"
