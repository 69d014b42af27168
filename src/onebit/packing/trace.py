"""A PyTorch model to a program: torch.fx traces it at the level of its layers, and each layer and function goes to its handler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import fx, nn

from onebit.errors import PackError
from onebit.nn import BinaryLayer
from onebit.nn.wrapped import unwrapped
from onebit.packing import attending, foreign, functions, layers, shaping
from onebit.packing.called import called
from onebit.packing.following import first_input, follow
from onebit.packing.handlers import function_handler, handler_of, is_packed, pack_layer, value_handler_of
from onebit.packing.layers.recurrent import RECURRENT
from onebit.packing.layouts import channels_first, in_order, settled
from onebit.packing.recorder import Recorder, Recording
from onebit.packing.refusals import what_lacks
from onebit.packing.values import Pair, Scores, Size, Value
from onebit.program import Shape
from onebit.tasks.tensor_task import TensorInput

# Imported for what they enter into the tables of handlers.
# Functions that products of queries with keys may pass on their way to an attention.
TAKE_SCORES = ("add", "add_", "bmm", "div", "dropout", "float", "iadd", "imul", "masked_fill", "masked_fill_", "matmul", "mul", "mul_", "softmax",
               "to", "truediv", "type_as")  # fmt: skip
HANDLERS = (layers, foreign, functions, shaping, attending)


class _LayerTracer(fx.Tracer):
    """Traces through containers and stops at layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # A binary layer that no step expresses is a leaf too: then the error names it rather than something inside.
        return is_packed(m) or isinstance(m, BinaryLayer) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        # A part of a model may be compiled, or spread over devices, by itself.
        inner = unwrapped(m)
        return super().call_module(m, forward, args, kwargs) if inner is m else inner(*args, **kwargs)


def trace(
    model: nn.Module,
    input_shape: Sequence[int],
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    tokens: bool = False,
    temperature: float = 1.0,
) -> Recording:
    """Express a model as a program.

    Args:
        model: in evaluation mode; takes (batch, channels, height, width) for a 3-axis `input_shape`, (batch, channels, depth,
            height, width) for 4 axes, (batch, features) for one, integers
            (batch, time) for tokens.
        input_shape: (height, width, channels), (depth, height, width, channels) or (features,); (context,) for tokens.
        mean, std: of each channel; the program begins with ``(x - mean) / std`` where they are given.
        tokens: the model is one over tokens.
        temperature: the program ends with a division by it, unless it is 1.

    Raises:
        PackError: the model holds a layer or a function that a program cannot express; the message names it.
    """
    try:
        return _by_graph(model, tuple(input_shape), mean, std, tokens, temperature)
    except PackError as error:
        if tokens:
            raise
        shape = tuple(input_shape) if len(input_shape) != 3 else (input_shape[2], *input_shape[:2])
        alone = TensorInput(first_input(model), shape)
        try:
            return follow(model, (alone,), mean=mean, std=std, temperature=temperature, alone=True)
        except PackError as other:
            # Of a model that can be traced, the first error is where its graph and its layers do not fit.
            raise (other if isinstance(error, _NotTraceable) else error) from None


class _NotTraceable(PackError):
    """torch.fx cannot follow a model."""


def _by_graph(
    model: nn.Module, input_shape: Shape, mean: Sequence[float], std: Sequence[float], tokens: bool, temperature: float
) -> Recording:
    r = Recorder("input")
    source = r.begin(input_shape, tokens)
    if len(mean):
        scale = 1 / np.asarray(std, np.float32)
        shift = -np.asarray(mean, np.float32) * scale
        source = r.scale_shift(source, scale, shift, "input", "the scaling of the input")
    r.where = type(model).__name__
    if handler_of(model) is not None or isinstance(model, BinaryLayer):
        result = pack_layer(r, "", model, source)
        if isinstance(model, RECURRENT):
            raise r.fail(Pair(type(model).__name__, Value.of(r, result)).misuse)
    elif (as_called := value_handler_of(model)) is not None:
        result = settled(r, as_called(r, "", model, Value.of(r, source)))
    else:
        result = _Visitor(model, r, source).visit_all(_graph(model))
    return r.finish(result if temperature == 1 else r.step("scale", [result], {"factor": 1 / temperature}))


def _graph(model: nn.Module) -> fx.Graph:
    """The graph of a model at the level of its layers, without unused nodes."""
    kind = type(model).__name__
    lack = what_lacks(model)
    if lack:
        raise _NotTraceable(f"[pack] {kind}: {lack}")
    try:
        graph = _LayerTracer().trace(model)
    except Exception as error:  # torch.fx raises many kinds, all of them for control flow that depends on data
        reason = str(error).split("\n")[0]
        advice = "avoid control flow that depends on tensors in its forward"
        if isinstance(getattr(model, "module", None), nn.Module):
            advice = "if it only wraps its module, pack model.module"
        raise _NotTraceable(f"[pack] {kind} cannot be traced ({reason}): {advice}") from None
    for node in reversed(list(graph.nodes)):
        # A node without a user is not needed: checks of shapes, which are made here too, and what they read.
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    return graph


class _Visitor:
    """Goes through a graph and gives each node to its handler.

    Args:
        source: the name of the value that the model's input is.
    """

    def __init__(self, model: nn.Module, r: Recorder, source: str) -> None:
        self._model = model
        self._r = r
        self._source = source
        # The name of each graph node to its meaning: a Value, a Pair, a Size, a tensor or a number.
        self._named: dict[str, Any] = {}
        self._inputs = 0

    def visit_all(self, graph: fx.Graph) -> str:
        """Record all steps; returns the name of the value that the graph gives."""
        *nodes, last = graph.nodes
        for node in nodes:
            self._r.where = str(node.target) if isinstance(node.target, str) else node.name
            self._named[node.name] = self._visit(node)
        self._r.where = "output"
        result = self._resolved(last.args[0])
        self._refuse_pairs([result])
        if not isinstance(result, Value):
            raise self._r.fail(
                Scores.MISUSE if isinstance(result, Scores) else "the model returns more than one tensor: return one"
            )
        return settled(self._r, _as_output(self._r, result))

    def _visit(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._input(node)
        if node.op == "call_module":
            return self._layer(node)
        if node.op in ("call_function", "call_method"):
            return self._function(node)
        found: Any = self._model
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return found

    def _input(self, node: fx.Node) -> Any:
        self._inputs += 1
        if self._inputs == 1:
            return Value.of(self._r, self._source)
        if node.args:
            return node.args[0]  # an argument that has a default keeps it
        raise self._r.fail("the model takes more than one input: pack models of one input")

    def _resolved(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: self._named[node.name])

    def _refuse_pairs(self, arguments: Sequence[Any]) -> None:
        for argument in arguments:
            if isinstance(argument, Pair):
                raise self._r.fail(argument.misuse)

    def _layer(self, node: fx.Node) -> Any:
        name = str(node.target)
        layer = self._model.get_submodule(name)
        args, given = self._resolved(node.args), self._resolved(node.kwargs)
        kwargs = {key: value for key, value in given.items() if value is not None}
        self._refuse_pairs(args)
        as_called = value_handler_of(layer)
        if as_called is not None:
            return as_called(self._r, name, layer, *args, **kwargs)
        if args and isinstance(args[0], Scores) and isinstance(layer, (nn.Dropout, nn.Identity)):
            return args[0]
        if args and isinstance(args[0], Scores):
            raise self._r.fail(Scores.MISUSE)
        if len(args) != 1 or kwargs or not isinstance(args[0], Value):
            raise self._r.fail("is called with more than one tensor: this layer takes one")
        value = called(self._r, name, layer, args[0])
        return Pair(name, value) if isinstance(layer, RECURRENT) else value

    def _function(self, node: fx.Node) -> Any:
        args, kwargs = self._resolved(node.args), self._resolved(node.kwargs)
        sources = [self._named[source.name] for source in node.all_input_nodes]
        if not any(isinstance(source, (Value, Pair, Scores, Size, list, tuple)) for source in sources):
            return _constant(node, args, kwargs)
        function = function_handler(self._r, node.target)
        name = getattr(node.target, "__name__", str(node.target))
        if name != "getitem":
            self._refuse_pairs(sources)
        if name not in TAKE_SCORES and any(isinstance(source, Scores) for source in sources):
            raise self._r.fail(Scores.MISUSE)
        try:
            return function(self._r, *args, **kwargs)
        except TypeError:
            raise self._r.fail(f"the function {name!r} cannot be packed with these arguments") from None


def _as_output(r: Recorder, value: Value) -> Value:
    """A result in the order that the program gives: images and volumes with channels last, all others as PyTorch has them."""
    if len(value.axes) in (4, 5):
        return channels_first(r, value)
    return in_order(r, value)


def _constant(node: fx.Node, args: Any, kwargs: Any) -> Any:
    """What a function makes of parameters and numbers alone."""
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]
