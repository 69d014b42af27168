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
from onebit.layer_bytes import ends_with_scale_shift, packed_bytes, starts_with_scale_shift
from onebit.nn import BinaryLayer, BinaryRecurrence, BinaryTransposedLinear
from onebit.nn.wrapped import unwrapped
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
        packed_bytes: of what a packed file holds of it: bits in padded rows, and the floats that its scheme leaves.
        bit_macs: multiply-accumulates of one-bit weights; a weight of k bits counts k times. None where the model was not run.
        float_macs: those of float weights.
        output_shape: of its first output, batch included; None where it was not called.
    """

    name: str
    kind: str
    parameters: int
    bits: int
    float_bytes: int
    packed_bytes: int
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
    """

    model: str
    layers: tuple[LayerSummary, ...]
    other_float_macs: int | None = None

    @property
    def total(self) -> LayerSummary:
        """All layers in one."""
        ran = self.other_float_macs is not None
        return LayerSummary(
            name="total",
            kind=self.model,
            parameters=sum(layer.parameters for layer in self.layers),
            bits=0,
            float_bytes=sum(layer.float_bytes for layer in self.layers),
            packed_bytes=sum(layer.packed_bytes for layer in self.layers),
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
        return [*rows, _row(self.total)]

    def __str__(self) -> str:
        total = self.total
        ratio = total.float_bytes / total.packed_bytes if total.packed_bytes else 1.0
        end = f"{total.float_bytes:,} bytes at float32, {total.packed_bytes:,} packed: {ratio:.1f} times smaller"
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
        """Everything as JSON: `model`, `layers`, `other_float_macs` and `total`."""
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
        A `Summary`; multiply-accumulates and shapes only where the model was run. Packed bytes are those of the file's tensors, scales that follow
        each other folded into one, which a file does where nothing else reads what lies between them.

    Raises:
        OnebitError: `input_size` is no size, or the model does not run on such an input.

    Example:
        >>> onebit.summary(onebit.models.conv_classifier(num_classes=2), (3, 32, 32)).total.parameters
        5106722
    """
    model = unwrapped(model)
    layers = [(name, module) for name, module in model.named_modules() if any(True for _ in _own(module))]
    run = _run(model, layers, _example(model, input_size, dtype, inputs))
    seen: set[int] = set()
    rows = []
    for name, module in layers:
        fresh = [(key, p) for key, p in _own(module) if id(p) not in seen]
        seen.update(id(p) for _, p in fresh)
        count = sum(p.numel() for _, p in fresh)
        row = LayerSummary(name or "(the model)", type(module).__name__, count, 32, 4 * count, 0)
        planes = module.scheme.weights.bits if isinstance(module, BinaryLayer) else 0
        folded = run is not None and module in run.folded
        packed = packed_bytes(module, [key for key, _ in fresh], folded)
        row = replace(row, bits=planes or 32, packed_bytes=packed)
        if run is not None:
            macs = run.macs.get(module, 0)
            row = replace(
                row,
                bit_macs=planes * macs,
                float_macs=0 if planes else macs,
                output_shape=run.shapes.get(module),
            )
        rows.append(row)
    return Summary(type(model).__name__, tuple(rows), None if run is None else run.other)


def _own(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(recurse=False))


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
    """What a run showed: of each layer its products and its output's shape, and whose first scale folds into one before it."""

    macs: dict[nn.Module, int]
    shapes: dict[nn.Module, tuple[int, ...]]
    folded: set[nn.Module]
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
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            try:
                # Shapes are all that is asked for, so nothing need be computed.
                empty, blank = _blank(model), tuple(x.to("meta") for x in inputs)
                # A module with two names would be swapped twice if ties were followed, and would stay without values.
                return _watch(lambda: torch.func.functional_call(model, empty, blank, tie_weights=False), model, layers)
            except Exception:
                # Values matter to some models, and some make tensors of their own on another device.
                return _watch(lambda: model(*inputs), model, layers)
    except Exception as error:  # a model may raise anything
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise OnebitError(
            f"[summary] {type(model).__name__} does not run on an input of shape {shapes}: {error}"
        ) from None
    finally:
        for module, state in training.items():
            module.training = state


def _blank(model: nn.Module) -> dict[str, Tensor]:
    """The shapes of all tensors of a model; of a module with several names under one, of a tensor in several modules under each."""
    blank: dict[str, Tensor] = {}
    for prefix, module in model.named_modules():
        parameters = module.named_parameters(prefix, recurse=False, remove_duplicate=False)
        buffers = module.named_buffers(prefix, recurse=False, remove_duplicate=False)
        blank |= {name: t.to("meta") for name, t in (*parameters, *buffers)}
    return blank


def _watch(call: Callable[[], Any], model: nn.Module, layers: list[tuple[str, nn.Module]]) -> _Run:
    result = _Run({}, {}, set())
    made: dict[int, Tensor] = {}  # what ends with a scale and a shift, held so that no other gets its place

    def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        y = output[0] if isinstance(output, (tuple, list)) else output
        if not args or not isinstance(args[0], Tensor) or not isinstance(y, Tensor):
            return
        for kinds, count in _MACS:
            if isinstance(module, kinds):
                result.macs[module] = result.macs.get(module, 0) + count(module, args, y)
        result.shapes[module] = tuple(y.shape)
        if id(args[0]) in made and starts_with_scale_shift(module):
            result.folded.add(module)
        if ends_with_scale_shift(module):
            made[id(y)] = y

    handles = [module.register_forward_hook(look) for _, module in layers]
    try:
        with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
            call()
    finally:
        for handle in handles:
            handle.remove()
    result.other = max(0, counter.get_total_flops() // 2 - sum(result.macs.values()))
    return result
