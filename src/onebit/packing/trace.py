"""A PyTorch model to the steps of a program, traced at the level of its layers by torch.fx."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from onebit.errors import PackError
from onebit.packing.layers import LAYERS, RECURRENT
from onebit.packing.merge import FloatTensor, merge_scales
from onebit.program import Program, Step, pack_rows


@dataclass
class Trace:
    """What became of a model: its program, its tensors, the number of its parameters in bits, and what stayed float."""

    program: Program
    tensors: dict[str, NDArray[Any]]
    bit_parameters: int = 0
    kept_float: list[FloatTensor] = field(default_factory=list)


class _LayerTracer(fx.Tracer):
    """Traces through containers and stops at layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, tuple(LAYERS)) or super().is_leaf_module(m, module_qualified_name)


def trace(
    model: nn.Module,
    input_shape: Sequence[int],
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    tokens: bool = False,
) -> Trace:
    """Express a model as a program.

    Args:
        model: in evaluation mode; takes (batch, channels, height, width) for a 3-axis `input_shape`, (batch, features) for one axis, integers
            (batch, time) for tokens.
        input_shape: (height, width, channels) or (features,); (context,) for tokens.
        mean, std: of each channel; the program begins with ``(x - mean) / std`` where they are given.
        tokens: the model is one over tokens.

    Raises:
        PackError: the model holds a layer or a function that a program cannot express; the message names it.
    """
    tracer = _LayerTracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:  # torch.fx raises many kinds, all of them for control flow that depends on data
        raise PackError(
            f"[pack] {type(model).__name__} cannot be traced ({error}): avoid control flow that depends on tensors in its forward"
        ) from None
    builder = Builder(model, Program("input", tuple(input_shape), (), "input", tokens), mean, std)
    for node in graph.nodes:
        builder.visit(node)
    return builder.finish()


class Builder:
    """Collects steps, and knows each value's name and shape, from a traced graph."""

    def __init__(self, model: nn.Module, program: Program, mean: Sequence[float], std: Sequence[float]) -> None:
        self._model = model
        self._steps: list[Step] = []
        self._named: dict[str, str] = {}  # a graph node's name to a value's name
        self._pairs: dict[str, str] = {}  # likewise of nodes that are (output, state), to the name of the output
        self._result: str | None = None
        self._current = "input"
        self._tensors: dict[str, NDArray[Any]] = {}
        self._trace = Trace(program, self._tensors)
        self._source = "input"
        if len(mean):
            scale = 1 / np.asarray(std, np.float32)
            shift = -np.asarray(mean, np.float32) * scale
            self._source = self.scale_shift("input", scale, shift, "input", "the scaling of the input")

    def visit(self, node: fx.Node) -> None:
        """Turn one node of the graph into steps."""
        self._current = str(node.target)
        if node.op == "placeholder":
            if self._source in self._named.values():
                raise self.fail("the model takes more than one input: pack models of one input")
            self._named[node.name] = self._source
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise self.fail("the model returns more than one tensor: return one")
            self._result = self._value(node.args[0])
        elif node.op == "call_module":
            recurrent = isinstance(self._model.get_submodule(self._current), RECURRENT)
            (self._pairs if recurrent else self._named)[node.name] = self._module(node)
        elif node.target is operator.getitem:
            self._named[node.name] = self._item(*node.args)
        elif node.op in ("call_function", "call_method"):
            self._named[node.name] = self._function(node)
        else:
            raise self.fail(f"uses the tensor {node.target!r} directly: put it into a layer")

    def finish(self) -> Trace:
        """The trace, its shapes checked."""
        assert self._result is not None
        steps = merge_scales(self._steps, self._tensors, self._trace.kept_float, self._result)
        program = replace(self._trace.program, steps=tuple(steps), output=self._result)
        try:
            program.shapes(self._tensors)
        except ValueError as error:
            raise PackError(f"[pack] the model does not fit an input of shape {program.input_shape}: {error}") from None
        self._trace.program = program
        return self._trace

    def fail(self, message: str) -> PackError:
        return PackError(f"[pack] {self._current}: {message}")

    def step(self, op: str, inputs: Sequence[str], attributes: dict[str, Any] | None = None, **tensors: str) -> str:
        """Append a step; returns the name of its output."""
        name = f"v{len(self._steps)}"
        self._steps.append(Step(op, tuple(inputs), name, attributes or {}, tensors))
        return name

    def float_tensor(self, name: str, values: Tensor | NDArray[Any], reason: str) -> str:
        """Store a tensor as float32; returns its name."""
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        if not np.isfinite(array).all():
            raise self.fail(f"{name} holds NaN or infinity: train again, or pack an earlier checkpoint")
        self._tensors[name] = np.ascontiguousarray(array, dtype=np.float32)
        self._trace.kept_float.append(FloatTensor(name, array.size, reason))
        return name

    def bit_tensor(self, name: str, latent: Tensor, bits: Tensor) -> str:
        """Store a matrix of bits, (rows, n); returns its name."""
        if not bool(torch.isfinite(latent).all()):
            raise self.fail(f"the latents of {name} hold NaN or infinity: train again, or pack an earlier checkpoint")
        self._tensors[name] = pack_rows(bits.cpu().numpy())
        self._trace.bit_parameters += bits.numel()
        return name

    def scale_shift(self, x: str, scale: NDArray[Any], shift: NDArray[Any], layer: str, reason: str) -> str:
        return self.step(
            "scale_shift",
            [x],
            scale=self.float_tensor(f"{layer}.scale", scale, reason),
            shift=self.float_tensor(f"{layer}.shift", shift, reason),
        )

    def _module(self, node: fx.Node) -> str:
        layer = self._model.get_submodule(str(node.target))
        if len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
            raise self.fail("is called with more than one tensor: this layer takes one")
        return self.layer(str(node.target), layer, self._value(node.args[0]))

    def _value(self, node: fx.Node) -> str:
        """The value that a node of the graph is."""
        if node.name in self._pairs:
            raise self.fail(f"takes the output and the state of {node.target} together: take the output, [0]")
        return self._named[node.name]

    def _item(self, source: Any, index: Any) -> str:
        """The output of a recurrent layer, or the last step of a sequence."""
        if source.name in self._pairs:
            if index != 0:
                raise self.fail(
                    f"takes the state of {source.target}, which a program does not give: take the output, [0]"
                )
            return self._pairs[source.name]
        x = self._value(source)
        if index == (slice(None), -1) and len(self.shape(x)) == 2:
            return self.step("last", [x])
        raise self.fail(f"the index {index} cannot be packed: use [:, -1] of a sequence, or [0] of a recurrent layer")

    def layer(self, name: str, layer: nn.Module, x: str) -> str:
        """Append the steps of a layer; returns the name of its output."""
        for kind, handler in LAYERS.items():
            if isinstance(layer, kind):
                return handler(self, name, layer, x)
        known = ", ".join(sorted(kind.__name__ for kind in LAYERS))
        raise self.fail(f"a layer of type {type(layer).__name__} cannot be packed: use {known}")

    def _function(self, node: fx.Node) -> str:
        target = node.target
        tensors = [a for a in node.args if isinstance(a, fx.Node)]
        others = [a for a in node.args if not isinstance(a, fx.Node)]
        inputs = [self._value(a) for a in tensors]
        kwargs = dict(node.kwargs)
        if target in (operator.add, operator.iadd, torch.add, "add", "add_") and len(inputs) == 2 and not kwargs:
            return self.step("add", inputs)
        if (
            target in (operator.mul, torch.mul, "mul")
            and len(inputs) == 1
            and len(others) == 1
            and type(others[0]) in (int, float)
        ):
            return self._constant_scale(inputs[0], float(others[0]))  # type: ignore[arg-type]
        if target in (torch.relu, F.relu, "relu", "relu_"):
            return self.step("relu", inputs)
        if target is F.gelu and kwargs.get("approximate", "none") == "none":
            return self.step("gelu", inputs)
        if target in (torch.flatten, "flatten") and (others == [1] or kwargs == {"start_dim": 1}):
            return self.flatten(inputs[0])
        if (
            target in (torch.mean, "mean")
            and [tuple(o) for o in others if isinstance(o, (list, tuple))] in ([(2, 3)], [(-2, -1)])
            and not kwargs
        ):
            return self.step("mean_pool", inputs)
        if target in (torch.softmax, F.softmax, "softmax") and [*others, kwargs.get("dim")][0] in [1, -1]:
            return self.step("softmax", inputs)
        name = getattr(target, "__name__", str(target))
        raise self.fail(
            f"the function {name!r} cannot be packed: use a layer, or add, mul by a number, relu, gelu, flatten(1), mean((2, 3)), softmax(1)"
        )

    def _constant_scale(self, x: str, factor: float) -> str:
        if not 0 < factor < float("inf"):
            raise self.fail(f"a product with {factor} cannot be packed: use a number above 0")
        return self.step("scale", [x], {"factor": factor})

    def shape(self, value: str) -> tuple[int, ...]:
        """The shape of a value, without the batch axis."""
        return replace(self._trace.program, steps=tuple(self._steps), output=value).shapes(self._tensors)[value]

    def flatten(self, x: str) -> str:
        """Append a flattening to one axis, in PyTorch's order; returns the name of its output."""
        return self.step("flatten", [x], {"order": "chw" if len(self.shape(x)) == 3 else "hwc"})
