"""What a model is made of: for each layer its parameters, its bits, its bytes now and packed, and its multiply-accumulates."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from onebit.errors import OnebitError
from onebit.nn import BinaryLayer, BinaryRecurrence, BinaryTransposedLinear
from onebit.nn.wrapped import in_use, unwrapped
from onebit.packing.dry_run import PackedBytes, packed_bytes
from onebit.printable import printable
from onebit.tables import lay_out

_HEADINGS = (
    "layer",
    "kind",
    "parameters",
    "bits",
    "float32 bytes",
    "packed bytes",
    "1-bit MACs",
    "float MACs",
    "output",
)
_NUMBERS = (2, 3, 4, 5, 6, 7)


@dataclass(frozen=True)
class LayerSummary:
    """One layer.

    Args:
        name, kind: as in `model.named_modules()`, and its type.
        parameters: its own; one that it shares with a layer above counts there.
        bits: of each weight when packed.
        float_bytes: of its parameters at float32.
        packed_bytes: of its tensors in a packed file: bits in padded rows, and the floats that its scheme leaves. Scales that follow each other
            are one, which counts at the last of their layers. None where a program cannot express the layer.
        bit_macs: multiply-accumulates of one-bit weights; a weight of k bits counts k times. None where the model was not run.
        float_macs: those of float weights.
        output_shape: of its first output, batch included; None where it was not called.
    """

    name: str
    kind: str
    parameters: int
    bits: int
    float_bytes: int
    packed_bytes: int | None
    bit_macs: int | None = None
    float_macs: int | None = None
    output_shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Summary:
    """What `summary` found. `str` is a table; `print` shows it, in colours on a terminal that has `rich`.

    Args:
        model: its type.
        layers: those with parameters, in the model's order.
        other_float_macs: of products of activations, as in attention, which belong to no layer; None where the model was not run.
        other_packed_bytes: of constants between the layers.
        not_packed: why the model as a whole cannot be packed; its layers are then counted one by one. "" where it can be, or was not run.
    """

    model: str
    layers: tuple[LayerSummary, ...]
    other_float_macs: int | None = None
    other_packed_bytes: int = 0
    not_packed: str = ""

    @property
    def total(self) -> LayerSummary:
        """All layers in one."""
        ran = self.other_float_macs is not None
        packed = [layer.packed_bytes for layer in self.layers if layer.packed_bytes is not None]
        return LayerSummary(
            name="total",
            kind=self.model,
            parameters=sum(layer.parameters for layer in self.layers),
            bits=0,
            float_bytes=sum(layer.float_bytes for layer in self.layers),
            packed_bytes=sum(packed) + self.other_packed_bytes if len(packed) == len(self.layers) else None,
            bit_macs=sum(layer.bit_macs or 0 for layer in self.layers) if ran else None,
            float_macs=sum(layer.float_macs or 0 for layer in self.layers) + (self.other_float_macs or 0)
            if ran
            else None,
        )

    def rows(self) -> list[tuple[str, ...]]:
        """The table as text, heading first, total last."""
        rows = [_HEADINGS, *map(_row, self.layers)]
        if self.other_float_macs:
            other = f"{self.other_float_macs:,}"
            rows.append(("(products of activations)", "", "", "", "", "", "", other, ""))
        if self.other_packed_bytes:
            rows.append(("(constants between layers)", "", "", "", "", f"{self.other_packed_bytes:,}", "", "", ""))
        return [*rows, _row(self.total)]

    def __str__(self) -> str:
        total = self.total
        end = f"{total.float_bytes:,} bytes at float32"
        if total.packed_bytes:
            ratio = total.float_bytes / total.packed_bytes
            end += f", {total.packed_bytes:,} packed: {ratio:.1f} times smaller"
        if self.not_packed:
            end += f"\nthe model as a whole cannot be packed: {self.not_packed}"
        return f"{lay_out(self.rows(), right=_NUMBERS)}\n{end}"

    def __rich__(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(printable(self.model)))
        heading, *rows = self.rows()
        for i, name in enumerate(heading):
            table.add_column(name, justify="right" if i in _NUMBERS else "left")
        for row in rows[:-1]:
            # As texts: in plain strings rich looks for its markup.
            table.add_row(*(Text(printable(cell)) for cell in row), style="green" if row[3] not in ("", "32") else None)
        table.add_section()
        table.add_row(*(Text(printable(cell)) for cell in rows[-1]), style="bold")
        return table

    def print(self) -> None:
        """Print the table: by `rich` on a terminal where that is installed, else as plain text."""
        if sys.stdout.isatty():
            try:
                import rich
            except ImportError:
                pass
            else:
                rich.print(self)
                return
        print(self)

    def to_json(self) -> str:
        """Everything as JSON: the fields, and `total`."""
        total = {key: value for key, value in asdict(self.total).items() if key not in ("name", "kind", "bits")}
        return json.dumps(asdict(self) | {"total": {k: v for k, v in total.items() if k != "output_shape"}})

    def to_dataframe(self) -> Any:
        """A pandas data frame with a row for each layer.

        Raises:
            OnebitError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise OnebitError("[summary] to_dataframe needs pandas: pip install pandas, or use to_json") from None
        return pandas.DataFrame([asdict(layer) for layer in self.layers])


def summary(
    model: nn.Module,
    input_size: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> Summary:
    """Say of each layer of a model how large it is, how large it will be packed, and what it computes.

    Args:
        model: any; binary layers and float ones. It is run in evaluation mode and stays as it is. What PyTorch puts around it is taken off, see
            `onebit.nn.wrapped.unwrapped`.
        input_size: of one example, without the batch axis, such as (3, 224, 224); the model is then run once, without data where it lets itself.
        dtype: of that input: torch.long for tokens; default that of the model's parameters.
        inputs: tensors to run the model on instead, one or several.

    Returns:
        A `Summary`; multiply-accumulates and shapes only where the model was run. Packed bytes are those of the tensors that `onebit.pack` would
        write: the model is recorded as for packing. Without an input, and where the model as a whole cannot be packed, its layers are recorded one
        by one; then no scales are merged across layers.

    Raises:
        OnebitError: `input_size` is not a size, or the model does not run on such an input.

    Example:
        >>> onebit.summary(onebit.models.conv_classifier(num_classes=2), (3, 32, 32)).total.parameters
        5106722
    """
    model = unwrapped(model)
    layers = [(name, module) for name, module in model.named_modules() if any(True for _ in _own(module))]
    example = _example(model, input_size, dtype, inputs)
    run = _run(model, layers, example)
    packed = _packed(model, example)
    seen: set[int] = set()
    rows = []
    for name, module in layers:
        fresh = [p for p in _own(module) if id(p) not in seen]
        seen.update(map(id, fresh))
        count = sum(p.numel() for p in fresh)
        planes = module.scheme.weights.bits if isinstance(module, BinaryLayer) else 0
        kind = type(module).__name__
        row = LayerSummary(name or "(the model)", kind, count, planes or 32, 4 * count, packed.layers[name])
        if run is not None:
            macs = run.macs.get(module, 0)
            row = replace(
                row,
                bit_macs=planes * macs,
                float_macs=0 if planes else macs,
                output_shape=run.shapes.get(module),
            )
        rows.append(row)
    return Summary(
        type(model).__name__,
        tuple(rows),
        None if run is None else run.other,
        packed.others,
        "" if run is None else packed.reason,
    )


def _packed(model: nn.Module, inputs: list[Tensor] | None) -> PackedBytes:
    """What the layers weigh in a file that takes such inputs."""
    if inputs is None or len(inputs) != 1:
        return packed_bytes(model, None, False)
    shape = tuple(inputs[0].shape[1:])
    if len(shape) == 3:
        shape = (*shape[1:], shape[0])  # a program has the channels last
    return packed_bytes(model, shape, not inputs[0].is_floating_point())


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _row(layer: LayerSummary) -> tuple[str, ...]:
    def number(value: int | None) -> str:
        return "" if value is None else f"{value:,}"

    return (
        layer.name,
        layer.kind,
        number(layer.parameters),
        str(layer.bits or ""),
        number(layer.float_bytes),
        number(layer.packed_bytes),
        number(layer.bit_macs),
        number(layer.float_macs),
        "" if layer.output_shape is None else " x ".join(map(str, layer.output_shape)),
    )


def _dense_macs(layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> int:
    return y.numel() * inputs[0].shape[-1]


def _conv_macs(layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> int:
    return y.numel() * math.prod(layer.weight.shape[1:])


def _transposed_conv_macs(layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> int:
    return inputs[0].numel() * math.prod(layer.weight.shape[1:])


def _attention_macs(layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> int:
    query, key, value = inputs[:3]
    return layer.embed_dim * (2 * query.numel() + key.numel() + value.numel())


def _recurrent_macs(layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> int:
    steps = inputs[0].numel() // inputs[0].shape[-1]
    return steps * sum(p.numel() for p in layer.parameters() if p.dim() == 2)


def _recurrence_macs(layer: Any, inputs: tuple[Tensor, ...], y: Tensor) -> int:
    return y.numel() // layer.hidden_size * layer.weight.numel()


def _attention_flops(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    batch, heads, target, width = query
    return 2 * batch * heads * target * key[2] * (width + value[3])


# PyTorch counts the floating-point operations of its attention on a GPU only.
_ATTENTION: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
# The products with a layer's weights. Binary layers derive from these, or are like them.
_MACS: tuple[tuple[tuple[type[nn.Module], ...], Callable[[Any, tuple[Tensor, ...], Tensor], int]], ...] = (
    ((nn.Linear, BinaryTransposedLinear), _dense_macs),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv_macs),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), _transposed_conv_macs),
    ((nn.MultiheadAttention,), _attention_macs),
    ((nn.LSTM, nn.GRU, nn.RNN), _recurrent_macs),
    ((BinaryRecurrence,), _recurrence_macs),
)


@dataclass
class _Run:
    """What a run showed: of each layer its products and its output's shape."""

    macs: dict[nn.Module, int]
    shapes: dict[nn.Module, tuple[int, ...]]
    other: int = 0


def _example(
    model: nn.Module, size: Sequence[int] | None, dtype: torch.dtype | None, inputs: Tensor | Sequence[Tensor] | None
) -> list[Tensor] | None:
    if inputs is not None:
        return [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if size is None:
        return None
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise OnebitError(f"[summary] input_size={size!r}: use integers from 1 up, without the batch")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return [torch.zeros((1, *size), dtype=dtype or like.dtype, device=like.device)]


def _run(model: nn.Module, layers: list[tuple[str, nn.Module]], inputs: list[Tensor] | None) -> _Run | None:
    if inputs is None:
        return None
    try:
        with in_use(model):
            try:
                # Shapes are all that is asked for, so nothing need be computed.
                empty, blank = _blank(model), tuple(x.to("meta") for x in inputs)
                # A module with two names would be swapped twice if ties were followed, and would stay without values.
                return _watch(lambda: torch.func.functional_call(model, empty, blank, tie_weights=False), layers)
            except Exception:
                # Values matter to some models, and some make tensors of their own on another device.
                return _watch(lambda: model(*inputs), layers)
    except Exception as error:  # a model may raise anything
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise OnebitError(
            f"[summary] {type(model).__name__} does not run on an input of shape {shapes}: {error}"
        ) from None


def _blank(model: nn.Module) -> dict[str, Tensor]:
    """The shapes of all tensors of a model; of a module with several names under one, of a tensor in several modules under each."""
    blank: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        parameters = module.named_parameters(prefix, recurse=False, remove_duplicate=False)
        buffers = module.named_buffers(prefix, recurse=False, remove_duplicate=False)
        blank |= {name: t.to("meta") for name, t in (*parameters, *buffers)}
    return blank


def _watch(call: Callable[[], Any], layers: list[tuple[str, nn.Module]]) -> _Run:
    result = _Run({}, {})

    def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        y = output[0] if isinstance(output, (tuple, list)) else output
        if not args or not isinstance(args[0], Tensor) or not isinstance(y, Tensor):
            return
        for kinds, count in _MACS:
            if isinstance(module, kinds):
                result.macs[module] = result.macs.get(module, 0) + count(module, args, y)
        result.shapes[module] = tuple(y.shape)

    handles = [module.register_forward_hook(look) for _, module in layers]
    try:
        with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
            call()
    finally:
        for handle in handles:
            handle.remove()
    result.other = max(0, counter.get_total_flops() // 2 - sum(result.macs.values()))
    return result
