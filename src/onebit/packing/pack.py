"""Pack a model into a `.onebit` file, and report its size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from onebit.data.record import DataRecord
from onebit.errors import PackError
from onebit.fileformat import PackedModel, save_model
from onebit.nn.planes import most_planes, planes_in_use, use_planes
from onebit.nn.wrapped import in_use, unwrapped
from onebit.packing.check import Task, check_task, checked
from onebit.packing.following import follow
from onebit.packing.merge import FloatTensor
from onebit.packing.trace import trace
from onebit.paths import expand
from onebit.printable import printable
from onebit.tasks.array_task import ArrayTask
from onebit.tasks.tensor_task import TensorTask
from onebit.text import TextTask

# More lines than a screen has are not read; `PackReport.kept_float` has all tensors.
_SHOWN_TENSORS = 16


@dataclass(frozen=True)
class PackReport:
    """What packing did. `str(report)` is the text that the command prints.

    Args:
        path: the file.
        parameters: of the model, as trained.
        bit_parameters: those of them that take one bit each.
        bytes_before: of the model's parameters at float32.
        parameter_bytes: of all tensors in the file, the rows' padding included.
        file_bytes: of the file.
        kept_float: tensors that stay float32, and why.
    """

    path: Path
    parameters: int
    bit_parameters: int
    bytes_before: int
    parameter_bytes: int
    file_bytes: int
    kept_float: tuple[FloatTensor, ...]

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the model's float32 parameters."""
        return self.bytes_before / self.file_bytes

    def __str__(self) -> str:
        bits = "all" if self.bit_parameters == self.parameters else f"{self.bit_parameters:,}"
        lines = [
            f"{printable(self.path)}: {self.parameters:,} parameters, {bits} of them one bit each",
            f"  parameters at float32  {self.bytes_before:>13,} bytes",
            f"  parameters packed      {self.parameter_bytes:>13,} bytes",
            f"  the file               {self.file_bytes:>13,} bytes, {self.ratio:.1f} times smaller",
        ]
        if self.kept_float:
            lines.append("  kept as float32 (4 bytes each):")
            lines += [f"    {printable(t.name)}: {t.elements:,} ({t.reason})" for t in self.kept_float[:_SHOWN_TENSORS]]
            rest = self.kept_float[_SHOWN_TENSORS:]
            if rest:
                lines.append(f"    and {len(rest)} more tensors: {sum(t.elements for t in rest):,}")
        else:
            lines.append("  kept as float32: nothing")
        return "\n".join(lines)


def to_packed_model(model: nn.Module, task: Task) -> PackedModel:
    """The packed form of a classifier of images or of a language model, in memory.

    Args:
        model: takes (batch, channels, height, width) scaled by the task's mean and std, gives logits (batch, classes); or takes integers (batch,
            time), gives logits (batch, time, vocabulary), and has a `context`. Wrappers such as torch.compile's are removed,
            see `onebit.nn.wrapped.unwrapped`.
        task: labels, image size, channels and scaling; or the tokenizer.

    Raises:
        PackError: the model holds what a program cannot express, or `onebit.load` would refuse what is made.
    """
    return _trace(unwrapped(model), task)[0]


def pack(model: nn.Module, path: str | Path, task: Task, training: dict[str, Any] | None = None) -> PackReport:
    """Pack a classifier of images or a language model into a file that needs no PyTorch: latents dropped, one bit a binary parameter.

    Args:
        model: as for `to_packed_model`.
        path: the `.onebit` file to write; an existing one is replaced only when the new one is complete.
        task: labels, image size, channels and scaling; or the tokenizer.
        training: a record of the data that the model was trained on (`Run.training`), so that `onebit evaluate` does not measure on it. None: no
            record.

    Returns:
        The report: bytes before and after, and what stayed float.

    Raises:
        PackError: the model holds what a program cannot express, and the message names the layer; or `onebit.load` would refuse the file, for
            example because of a label too many.
        OnebitError: the model is not an nn.Module, or `training` is not such a record.
        OSError: the file cannot be written.

    Example:
        >>> task = onebit.ImageTask(labels=("cat", "dog"), image_size=(32, 32))
        >>> print(onebit.pack(onebit.models.conv_classifier(num_classes=2), "pets.onebit", task))
        pets.onebit: 5,106,722 parameters, all of them one bit each
        ...
    """
    if training is not None:
        DataRecord.from_json(training)
    model = unwrapped(model)
    packed, bit_parameters, kept_float = _trace(model, task)
    file_bytes = save_model(replace(packed, training=training), path)
    parameters = sum(p.numel() for p in model.parameters())
    return PackReport(
        path=expand(path),
        parameters=parameters,
        bit_parameters=bit_parameters,
        bytes_before=4 * parameters,
        parameter_bytes=sum(t.nbytes for t in packed.tensors.values()),
        file_bytes=file_bytes,
        kept_float=kept_float,
    )


def _trace(model: nn.Module, task: Task) -> tuple[PackedModel, int, tuple[FloatTensor, ...]]:
    """The packed model, of all planes with those of fewer; the parameters of one bit; what stays float."""
    check_task(task)
    most, before = most_planes(model), planes_in_use(model)
    if most == 1:
        return _traced(model, task)
    try:
        smaller = []
        for planes in range(1, most):
            use_planes(model, planes)
            # The temperature of the task is that of all planes; the heads have one for fewer.
            own = task if isinstance(task, (TextTask, TensorTask)) else replace(task, temperature=1.0)
            smaller.append(replace(_traced(model, own)[0], planes=planes))
        use_planes(model, most)
        whole, bits, kept_float = _traced(model, task)
    finally:
        use_planes(model, before)
    return replace(whole, planes=most, smaller=tuple(smaller)), bits, kept_float


def _traced(model: nn.Module, task: Task) -> tuple[PackedModel, int, tuple[FloatTensor, ...]]:
    with in_use(model):
        if isinstance(task, TextTask):
            context = _context_of(model)
            if context is None:
                raise PackError("[pack] a language model needs a `context`: the most tokens that it can look at")
            result = trace(model, (context,), tokens=True)
        elif isinstance(task, TensorTask):
            result = follow(model, task.inputs, task.outputs)
        elif isinstance(task, ArrayTask):
            result = trace(model, task.input_shape, *task.scaling, tokens=task.tokens, temperature=task.temperature)
        else:
            result = trace(model, (*task.image_size, task.channels), task.mean, task.std, temperature=task.temperature)
    packed = checked(result.program, result.tensors, task)
    return packed, result.bit_parameters, result.kept_float


def _context_of(model: nn.Module) -> int | None:
    """The most tokens that a language model can look at, from its attribute or its configuration."""
    config = getattr(model, "config", None)
    context = getattr(model, "context", getattr(config, "max_position_embeddings", None))
    return context if type(context) is int and context >= 1 else None
