"""A PyTorch model to the steps of a program, traced at the level of its layers by torch.fx."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from onebit.errors import PackError
from onebit.nn import BinaryLayer
from onebit.nn.binary import all_finite
from onebit.nn.wrapped import unwrapped
from onebit.packing.foreign import FOREIGN, LIBRARIES, NO_ATTENTION, what_lacks
from onebit.packing.functions import FUNCTIONS, KNOWN, Pair, Size, Value
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
        # A binary layer that no step expresses is a leaf too: then the error names it rather than something inside.
        return (
            handler_of(m) is not None or isinstance(m, BinaryLayer) or super().is_leaf_module(m, module_qualified_name)
        )

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        # A part of a model may be compiled, or shared out over devices, by itself.
        inner = unwrapped(m)
        return super().call_module(m, forward, args, kwargs) if inner is m else inner(*args, **kwargs)


def handler_of(layer: nn.Module) -> Callable[..., str] | None:
    """What turns a layer into steps. A class derived from a known layer is that layer only if it computes as that does."""
    if type(layer).__module__.split(".")[0] in LIBRARIES and type(layer).__name__ in FOREIGN:
        return FOREIGN[type(layer).__name__]
    for kind, handler in LAYERS.items():
        if isinstance(layer, kind) and type(layer).forward is kind.forward:
            return handler
    return None


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
    builder = Builder(model, Program("input", tuple(input_shape), (), "input", tokens), mean, std)
    if handler_of(model) is not None or isinstance(model, BinaryLayer):
        result = builder.layer("", model, builder.source)
        if isinstance(model, RECURRENT):
            raise builder.fail(Pair(type(model).__name__, Value(result)).misuse)
        return builder.finish(result)
    lack = what_lacks(model)
    if lack:
        raise PackError(f"[pack] {type(model).__name__}: {lack}")
    try:
        graph = _LayerTracer().trace(model)
    except Exception as error:  # torch.fx raises many kinds, all of them for control flow that depends on data
        reason = str(error).split("\n")[0]
        if isinstance(getattr(model, "module", None), nn.Module):
            raise PackError(
                f"[pack] {type(model).__name__} cannot be traced ({reason}): where it only stands for its module, pack model.module"
            ) from None
        raise PackError(
            f"[pack] {type(model).__name__} cannot be traced ({reason}): avoid control flow that depends on tensors in its forward"
        ) from None
    if any(node.target is F.scaled_dot_product_attention for node in graph.nodes):
        raise PackError(f"[pack] {type(model).__name__}: {NO_ATTENTION}")
    for node in reversed(list(graph.nodes)):
        # Nobody needs what has no user: checks of shapes, which are made here too, and what they look at.
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    *nodes, last = graph.nodes
    for node in nodes:
        builder.visit(node)
    return builder.finish(builder.output(last))


class Builder:
    """Collects steps, and knows each value's name and shape, from a traced graph."""

    def __init__(self, model: nn.Module, program: Program, mean: Sequence[float], std: Sequence[float]) -> None:
        self._model = model
        self._steps: list[Step] = []
        self._shapes: dict[str, tuple[int, ...]] = {program.input_name: program.input_shape}
        # A graph node's name to what it stands for: a Value, a Pair, a Size, a tensor or a number.
        self._named: dict[str, Any] = {}
        self._current = "input"
        self._tensors: dict[str, NDArray[Any]] = {}
        self._sound: set[int] = set()  # latents without NaN and infinity
        self._stored: dict[int, list[str]] = {}  # a parameter to the names of the tensors made of it
        self._trace = Trace(program, self._tensors)
        self._inputs = 0
        self.source = "input"
        if len(mean):
            scale = 1 / np.asarray(std, np.float32)
            shift = -np.asarray(mean, np.float32) * scale
            self.source = self.scale_shift("input", scale, shift, "input", "the scaling of the input")
        self._current = type(model).__name__

    def visit(self, node: fx.Node) -> None:
        """Turn one node of the graph into steps."""
        self._current = str(node.target) if isinstance(node.target, str) else node.name
        if node.op == "placeholder":
            self._inputs += 1
            if self._inputs == 1:
                self._named[node.name] = Value(self.source)
            elif node.args:
                self._named[node.name] = node.args[0]  # an argument that has a default keeps it
            else:
                raise self.fail("the model takes more than one input: pack models of one input")
        elif node.op == "call_module":
            self._named[node.name] = self._module(node)
        elif node.op in ("call_function", "call_method"):
            self._named[node.name] = self._function(node)
        else:
            found: Any = self._model
            for part in str(node.target).split("."):
                found = getattr(found, part)
            self._named[node.name] = found

    def output(self, node: fx.Node) -> str:
        """The value that the graph gives."""
        self._current = "output"
        result = self._resolved(node.args[0])
        self._refuse_pairs([result])
        if not isinstance(result, Value):
            raise self.fail("the model returns more than one tensor: return one")
        return result.name

    def _resolved(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: self._named[node.name])

    def finish(self, result: str) -> Trace:
        """The trace, its shapes checked."""
        steps = merge_scales(self._steps, self._tensors, self._trace.kept_float, result)
        program = replace(self._trace.program, steps=tuple(steps), output=result)
        self._current = "output"
        try:
            program.shapes(self._tensors)
        except ValueError as error:
            raise self._misfit(error) from None
        self._trace.program = program
        return self._trace

    def _misfit(self, error: ValueError) -> PackError:
        return self.fail(f"the model does not fit an input of shape {self._trace.program.input_shape}: {error}")

    def fail(self, message: str) -> PackError:
        return PackError(f"[pack] {self._current}: {message}")

    def step(self, op: str, inputs: Sequence[str], attributes: dict[str, Any] | None = None, **tensors: str) -> str:
        """Append a step; returns the name of its output."""
        name = f"v{len(self._steps)}"
        step = Step(op, tuple(inputs), name, attributes or {}, tensors)
        try:
            self._shapes[name] = self._trace.program.step_shape(len(self._steps), step, self._shapes, self._tensors)
        except ValueError as error:
            raise self._misfit(error) from None
        self._steps.append(step)
        return name

    def unique(self) -> str:
        """A name for tensors that no layer holds."""
        return f"v{len(self._steps)}"

    def float_tensor(self, name: str, values: Tensor | NDArray[Any], reason: str) -> str:
        """Store a tensor as float32; returns its name. A parameter that is stored already is not stored twice."""
        array = values.detach().float().cpu().numpy() if isinstance(values, Tensor) else values
        if not np.isfinite(array).all():
            raise self.fail(f"{name} holds NaN or infinity: train again, or pack an earlier checkpoint")
        array = np.ascontiguousarray(array, dtype=np.float32)
        known = self._known(values, array)
        if known is not None:
            return known
        self._tensors[name] = array
        self._trace.kept_float.append(FloatTensor(name, array.size, reason))
        self._stored.setdefault(id(values), []).append(name)
        return name

    def bit_tensor(self, name: str, latent: Tensor, bits: Tensor) -> str:
        """Store a matrix of bits, (rows, n); returns its name. The same bits of a latent that layers share are stored once."""
        if id(latent) not in self._sound and not all_finite(latent):
            raise self.fail(f"the latents of {name} hold NaN or infinity: train again, or pack an earlier checkpoint")
        self._sound.add(id(latent))
        packed = pack_rows(bits.cpu().numpy())
        known = self._known(latent, packed)
        if known is not None:
            return known
        self._tensors[name] = packed
        self._trace.bit_parameters += bits.numel()
        self._stored.setdefault(id(latent), []).append(name)
        return name

    def _known(self, values: Any, array: NDArray[Any]) -> str | None:
        """The name of a tensor that was made of the same parameter, and is the same; None where there is none."""
        if not isinstance(values, nn.Parameter):
            return None  # made for the occasion, so that its id means nothing
        for name in self._stored.get(id(values), []):
            if name in self._tensors and np.array_equal(self._tensors[name], array):
                return name
        return None

    def scale_shift(self, x: str, scale: NDArray[Any], shift: NDArray[Any], layer: str, reason: str) -> str:
        return self.step(
            "scale_shift",
            [x],
            scale=self.float_tensor(f"{layer}.scale", scale, reason),
            shift=self.float_tensor(f"{layer}.shift", shift, reason),
        )

    def _module(self, node: fx.Node) -> Value | Pair:
        layer = self._model.get_submodule(str(node.target))
        args, kwargs = (
            self._resolved(node.args),
            {k: v for k, v in self._resolved(node.kwargs).items() if v is not None},
        )
        self._refuse_pairs(args)
        if len(args) != 1 or kwargs or not isinstance(args[0], Value):
            raise self.fail("is called with more than one tensor: this layer takes one")
        value = Value(self.layer(str(node.target), layer, args[0].name))
        return Pair(str(node.target), value) if isinstance(layer, RECURRENT) else value

    def _refuse_pairs(self, arguments: Sequence[Any]) -> None:
        for argument in arguments:
            if isinstance(argument, Pair):
                raise self.fail(argument.misuse)

    def layer(self, name: str, layer: nn.Module, x: str) -> str:
        """Append the steps of a layer; returns the name of its output."""
        handler = handler_of(layer)
        if handler is not None:
            return handler(self, name, layer, x)
        known = ", ".join(sorted(kind.__name__ for kind in LAYERS))
        raise self.fail(f"a layer of type {type(layer).__name__} cannot be packed: use {known}")

    def _function(self, node: fx.Node) -> Any:
        args, kwargs = self._resolved(node.args), self._resolved(node.kwargs)
        function = FUNCTIONS.get(node.target)
        if not any(isinstance(self._named[source.name], (Value, Pair, Size)) for source in node.all_input_nodes):
            return self._constant(node, args, kwargs)
        name = getattr(node.target, "__name__", str(node.target))
        if function is None:
            raise self.fail(f"the function {name!r} cannot be packed: use a layer, or {KNOWN}")
        if name != "getitem":
            self._refuse_pairs([self._named[source.name] for source in node.all_input_nodes])
        try:
            return function(self, *args, **kwargs)
        except TypeError:
            raise self.fail(f"the function {name!r} cannot be packed with these arguments") from None

    def _constant(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """What a function makes of parameters and numbers alone."""
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def gelu(self, x: str, approximate: str = "none") -> str:
        """Append a GELU, exact or by PyTorch's formula with a tanh; returns the name of its output."""
        if approximate == "none":
            return self.step("gelu", [x])
        # (1 + tanh u) / 2 is the sigmoid of 2 u, and u = sqrt(2 / pi) (x + 0.044715 x^3).
        cubed = self.step("multiply", [self.step("multiply", [x, x]), x])
        inner = self.step("add", [x, self.step("scale", [cubed], {"factor": 0.044715})])
        share = self.step("sigmoid", [self.step("scale", [inner], {"factor": math.sqrt(8 / math.pi)})])
        return self.step("multiply", [x, share])

    def shape(self, value: str) -> tuple[int, ...]:
        """The shape of a value, without the batch axis."""
        return self._shapes[value]

    def flatten(self, x: str) -> str:
        """Append a flattening to one axis, in PyTorch's order; returns the name of its output."""
        return self.step("flatten", [x], {"order": "chw" if len(self.shape(x)) == 3 else "hwc"})
