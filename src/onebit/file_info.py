"""What is in a packed file, without running it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onebit.fileformat import FORMAT_VERSION, load_model
from onebit.ops import OPS
from onebit.pretrained import find
from onebit.printable import printable
from onebit.subwords import KIND, SubwordTask, is_byte_level

_LABELS_SHOWN = 8


@dataclass(frozen=True)
class FileInfo:
    """What is in a packed file. `str` describes it in a few lines.

    Args:
        file: its path.
        format_version: the version of its format.
        task: the task in the file; a language model has `vocabulary_size` in place of its vocabulary.
        input_shape, output_shape: without the batch axis; the input of a language model is (context,).
        steps: the op of each step, in order.
        bit_parameters: the number of one-bit parameters; a parameter of k bits counts k times.
        float_values: the number of float32 values.
        tensor_bytes: the size of all tensors.
        file_bytes: the size of the file.
        inputs, outputs: of a program with several of them, or of integers: each by its name, its shape and what it holds.
    """

    file: str
    format_version: str
    task: dict[str, Any]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    steps: tuple[str, ...]
    bit_parameters: int
    float_values: int
    tensor_bytes: int
    file_bytes: int
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        labels = [printable(label) for label in self.task.get("labels", [])]
        shown = ", ".join(labels[:_LABELS_SHOWN]) + (", ..." if len(labels) > _LABELS_SHOWN else "")
        steps = ", ".join(f"{count} {op}" for op, count in Counter(self.steps).most_common())
        tokens = "vocabulary_size" in self.task
        taken = "; ".join(map(printable, self.inputs)) or " x ".join(map(str, self.input_shape))
        given = "; ".join(map(printable, self.outputs)) or " x ".join(map(str, self.output_shape))
        lines = [
            f"{printable(self.file)}: {printable(self.task['kind'])}, format {self.format_version}",
            f"  input       {taken}" + (" tokens" if tokens else ""),
            f"  output      {given}" + (f": {shown}" if labels else ""),
            f"  steps       {len(self.steps)}: {steps}",
            f"  parameters  {self.bit_parameters:,} of one bit; {self.float_values:,} values of float32",
            f"  bytes       {self.tensor_bytes:,} of tensors, {self.file_bytes:,} in all",
        ]
        if "vocabulary_size" in self.task:
            lines.insert(2, f"  tokenizer   {_tokenizer(self.task)}")
        return "\n".join(lines)


def info(file: str | Path) -> FileInfo:
    """Describe what is in a packed file.

    Args:
        file: a `.onebit` file, or the name of one that comes with the package.

    Raises:
        FormatError: the file is damaged, foreign or of an unknown version.

    Example:
        >>> onebit.info("books").task["kind"]
        'text-generation'
    """
    path = find(file)
    model = load_model(path)
    bits = sum(
        OPS[step.op].bits(step.attributes, step.tensors, model.shapes[step.inputs[0]]) for step in model.program.steps
    )
    plain = model.program.tokens or model.program.takes_one_array
    inputs = [
        f"{source.name} {' x '.join(map(str, source.shape))}" + (" integers" if source.integers else "")
        for source in model.program.inputs
    ]
    outputs = [f"{name} {' x '.join(map(str, model.shapes[name]))}" for name in model.program.outputs]
    return FileInfo(
        file=str(path),
        format_version=FORMAT_VERSION,
        task=_short(model.task),
        input_shape=tuple(model.program.input_shape),
        output_shape=tuple(model.shapes[model.program.output]),
        steps=tuple(step.op for step in model.program.steps),
        bit_parameters=bits,
        float_values=sum(tensor.size for tensor in model.tensors.values() if tensor.dtype.kind == "f"),
        tensor_bytes=sum(tensor.nbytes for tensor in model.tensors.values()),
        file_bytes=path.stat().st_size,
        inputs=() if plain else tuple(inputs),
        outputs=() if plain else tuple(outputs),
    )


def _tokenizer(task: dict[str, Any]) -> str:
    """The tokenizer of a short task in a few words."""
    size = f"{task['vocabulary_size']:,} tokens"
    if "alphabet" in task:
        return f"WordPiece over {printable(task['alphabet'])}, {size}"
    return f"{task['tokenizer']}, {size}" + (", with a template for chats" if "chat_template" in task else "")


def _short(task: dict[str, Any]) -> dict[str, Any]:
    """A task without its vocabulary, which is by far its longest part."""
    if task["kind"] == KIND:
        subwords = SubwordTask.from_json(task)
        kind = "byte-level BPE" if is_byte_level(subwords.tree) else "sentencepiece-type BPE"
        return task | {"tokenizer": kind, "vocabulary_size": len(subwords.vocabulary)}
    if "vocabulary" not in task:
        return task
    tokens = str(task["vocabulary"]).count("\n") + 1
    return {key: value for key, value in task.items() if key != "vocabulary"} | {"vocabulary_size": tokens}
