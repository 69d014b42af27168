"""Import a classifier of images of larq or Keras as a `.onebit` file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onebit.errors import ForeignModelError, FormatError
from onebit.fileformat import PackedModel, save_model
from onebit.image_task import ImageTask
from onebit.importing.keras.layers import WRITERS, Chain, Unknown
from onebit.importing.keras.reading import KerasLayer, read_keras
from onebit.paths import expand
from onebit.printable import printable
from onebit.program import Program

Pixels = Literal["symmetric", "unit", "raw"]
# A pixel of 0 to 1 becomes what the network was trained with: scale, shift, and the task's mean and deviation.
SCALINGS: dict[str, tuple[float, float]] = {"symmetric": (2.0, -1.0), "unit": (1.0, 0.0), "raw": (255.0, 0.0)}


@dataclass(frozen=True)
class KerasReport:
    """The result of `import_keras`.

    Args:
        source, out: the files; `out` is None if nothing was written.
        layers: the number of layers read.
        bit_parameters, float_parameters: what one bit each became, and what stayed float.
        bytes: of the file that was written.
    """

    source: str
    out: str | None
    layers: int
    bit_parameters: int
    float_parameters: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        where = "nothing written" if self.out is None else f"{printable(self.out)}: {self.bytes:,} bytes"
        return (
            f"{where}\n  from {printable(self.source)}: {self.layers} layers, {self.bit_parameters:,} weights of bits, "
            f"{self.float_parameters:,} floats"
        )


def import_keras(
    source: str | Path, out: str | Path | None = None, *, pixels: Pixels = "symmetric", write_file: bool = True
) -> KerasReport:
    """Import a classifier of images of larq or Keras.

    Args:
        source: a file of Keras 2 (``.h5``) or Keras 3 (``.keras``), with its layers.
        out: the file to write; by default it has the source's name, in the current folder.
        pixels: what the network was trained with: ``"symmetric"`` for -1 to 1, ``"unit"`` for 0 to 1, ``"raw"`` for 0 to 255.
        write_file: whether to write the file; otherwise everything is only read and checked.

    Raises:
        ForeignModelError: the file is damaged, or has layers that onebit lacks: all are named.
        OSError: the file cannot be written.
    """
    path = expand(source)
    if pixels not in SCALINGS:
        raise ForeignModelError(f"[import] pixels={pixels!r}: use {', '.join(map(repr, SCALINGS))}")
    layers = read_keras(path)
    model = packed(path, layers, pixels)
    target = (expand(out) if out is not None else Path(f"{path.stem}.onebit")) if write_file else None
    size = 0 if target is None else save_model(model, target)
    bits = sum(
        8 * model.tensors[name].size
        for step in model.program.steps
        for role, name in step.tensors.items()
        if role == "weight" and step.op.startswith("bit_")
    )
    floats = sum(tensor.size for tensor in model.tensors.values() if tensor.dtype == np.float32)
    return KerasReport(str(path), None if target is None else str(target), len(layers), bits, floats, size)


def packed(path: Path, layers: list[KerasLayer], pixels: str) -> PackedModel:
    """The layers as a packed model. Raises ForeignModelError like `import_keras`."""
    shape = _input_shape(path, layers)
    c = Chain(shape)
    scale, shift = SCALINGS[pixels]
    start = "input"
    if pixels != "unit":
        start = c.scaled("input", "input", np.full(shape[2], scale), np.full(shape[2], shift))
    values: dict[str, str] = {}
    faults = []
    for layer in layers:
        read = [values.get(name, start) for name in layer.inputs] or [start]
        values[layer.name] = read[0]
        try:
            if layer.kind == "InputLayer":
                values[layer.name] = start
            elif layer.kind == "Add" and len(read) == 2:
                values[layer.name] = c.step("add", (read[0], read[1]), {})
            elif layer.kind not in WRITERS or len(read) != 1:
                raise Unknown("")
            else:
                values[layer.name] = WRITERS[layer.kind](c, layer, read[0])
        except Unknown as fault:
            faults.append(f"{layer.kind} {layer.name!r}" + (f": {fault}" if str(fault) else ""))
        except (FormatError, ValueError, KeyError, TypeError) as error:
            if not faults:  # what follows a layer that is not known has other shapes
                faults.append(f"{layer.kind} {layer.name!r}: {error}")
    if faults:
        raise ForeignModelError(
            f"[{printable(path)}] has what onebit does not run, and nothing was written: {printable('; '.join(faults))}"
        )
    output = values[layers[-1].name]
    classes = c.shapes[output][-1]
    mean, deviation = {"symmetric": (0.5, 0.5), "unit": (0.0, 1.0), "raw": (0.0, 1 / 255)}[pixels]
    task = ImageTask(
        tuple(str(i) for i in range(classes)),
        (shape[0], shape[1]),
        shape[2],
        (mean,) * shape[2],
        (deviation,) * shape[2],
    )
    return PackedModel(Program("input", shape, tuple(c.steps), output), c.tensors, task.to_json())


def _input_shape(path: Path, layers: list[KerasLayer]) -> tuple[int, int, int]:
    for layer in layers:
        shape = layer.config.get("batch_input_shape") or layer.config.get("batch_shape")
        if shape is not None:
            if len(shape) != 4 or not all(isinstance(side, int) for side in shape[1:]) or shape[3] not in (1, 3):
                raise ForeignModelError(
                    f"[{printable(path)}] its input has shape {shape}: needs (batch, height, width, 1 or 3)"
                )
            return shape[1], shape[2], shape[3]
    raise ForeignModelError(
        f"[{printable(path)}] does not say the shape of its input: build the model before it is saved"
    )
