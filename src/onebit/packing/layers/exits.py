"""Places where a network may end early."""

from __future__ import annotations

from onebit.nn import AfterExits, Exit
from onebit.packing.handlers import packs, packs_value
from onebit.packing.recorder import Recorder
from onebit.packing.values import Value


@packs(Exit)
def _exit(r: Recorder, name: str, layer: Exit, x: str) -> str:
    if layer.temperature != 1:
        x = r.step("scale", [x], {"factor": 1 / layer.temperature})
    return r.step("exit", [x], {"threshold": layer.threshold})


@packs_value(AfterExits)
def _last(r: Recorder, name: str, layer: AfterExits, *logits: Value) -> Value:
    if layer.temperature == 1:
        return logits[-1]
    return logits[-1].renamed(r.step("scale", [logits[-1].name], {"factor": 1 / layer.temperature}))
