"""The tables of what can be packed: kinds of layers, layers of other libraries, and functions. A decorator enters a handler into one of them.

A handler of a layer takes the recorder, the layer's name, the layer and the name of its input. It records steps and returns the name of its output.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from onebit.packing.recorder import Recorder

LayerHandler: TypeAlias = Callable[[Recorder, str, Any, str], str]
Handler = TypeVar("Handler", bound=Callable[..., Any])

# The first part of the names of other libraries' modules.
LIBRARIES = ("timm", "torchvision", "transformers")

_LAYERS: dict[type[nn.Module], LayerHandler] = {}
_VALUE_LAYERS: dict[type[nn.Module], Callable[..., Any]] = {}
_FOREIGN: dict[str, LayerHandler] = {}
_FUNCTIONS: dict[Any, Callable[..., Any]] = {}
_FUNCTION_WORDS: list[str] = []


def packs(*kinds: type[nn.Module]) -> Callable[[Handler], Handler]:
    """Enter a handler for kinds of layers."""

    def enter(handler: Handler) -> Handler:
        _LAYERS.update(dict.fromkeys(kinds, handler))
        return handler

    return enter


def packs_value(*kinds: type[nn.Module]) -> Callable[[Handler], Handler]:
    """Enter a handler for layers that change how a tensor is seen, or take or give several.

    It takes the recorder, the layer's name, the layer, and what the layer is called with as values; it gives what the layer gives.
    """

    def enter(handler: Handler) -> Handler:
        _VALUE_LAYERS.update(dict.fromkeys(kinds, handler))
        return handler

    return enter


def value_handler_of(layer: nn.Module) -> Callable[..., Any] | None:
    """What records a layer that is called with values; see `packs_value`."""
    return _own_or_inherited(layer, _VALUE_LAYERS)


def packs_foreign(*names: str) -> Callable[[Handler], Handler]:
    """Enter a handler for layers or models of other libraries. Types are recognised by name, so that no library need be installed."""

    def enter(handler: Handler) -> Handler:
        _FOREIGN.update(dict.fromkeys(names, handler))
        return handler

    return enter


def packs_function(word: str, *calls: Any) -> Callable[[Handler], Handler]:
    """Enter a handler for functions that a model calls between its layers.

    Args:
        word: what an error calls it; "" where an error need not name it.
        calls: what a graph calls: functions by themselves, methods by their names.
    """

    def enter(handler: Handler) -> Handler:
        _FUNCTIONS.update(dict.fromkeys(calls, handler))
        if word:
            _FUNCTION_WORDS.append(word)
        return handler

    return enter


def handler_of(layer: nn.Module) -> LayerHandler | None:
    """What turns a layer into steps. A class derived from a known layer is that layer only if it computes as that does."""
    own = type(layer)
    if is_foreign(own):
        return _FOREIGN[own.__name__]
    return _own_or_inherited(layer, _LAYERS)


def _own_or_inherited(layer: nn.Module, table: dict[type[nn.Module], Any]) -> Any:
    own = type(layer)
    for kind in own.__mro__:
        if kind in table and own.forward is kind.forward:  # type: ignore[attr-defined]
            return table[kind]
    return None


def is_foreign(kind: type[nn.Module]) -> bool:
    """Whether it is a known type of another library."""
    return kind.__module__.split(".")[0] in LIBRARIES and kind.__name__ in _FOREIGN


def pack_layer(r: Recorder, name: str, layer: nn.Module, x: str) -> str:
    """Record the steps of a layer; returns the name of its output."""
    handler = handler_of(layer)
    if handler is None:
        known = ", ".join(sorted(kind.__name__ for kind in _LAYERS))
        raise r.fail(f"a layer of type {type(layer).__name__} cannot be packed: use {known}")
    return handler(r, name, layer, x)


def is_packed(layer: nn.Module) -> bool:
    """Whether a handler takes a layer as a whole."""
    return handler_of(layer) is not None or value_handler_of(layer) is not None


# How operators are called where a model runs.
_OPERATORS = {
    "__add__": "add", "__radd__": "add", "__iadd__": "add", "__sub__": "sub", "__rsub__": "sub", "__isub__": "sub", "rsub": "sub",
    "__mul__": "mul", "__rmul__": "mul", "__imul__": "mul", "__truediv__": "div", "__rtruediv__": "div", "__itruediv__": "div", "true_divide": "div",
    "__matmul__": "matmul", "__rmatmul__": "matmul", "__neg__": "neg", "__getitem__": operator.getitem, "masked_fill_": "masked_fill",
}  # fmt: skip


def known_function(r: Recorder, call: Any) -> Callable[..., Any]:
    """As `function_handler`, of what runs: methods come as functions, and some functions by another name."""
    name = getattr(call, "__name__", "")
    for key in (call, _OPERATORS.get(name), name, getattr(torch, name, None), getattr(F, name, None)):
        if isinstance(key, Hashable) and key in _FUNCTIONS:
            return _FUNCTIONS[key]
    return function_handler(r, call)


def function_handler(r: Recorder, call: Any) -> Callable[..., Any]:
    """What turns a function into steps; raises PackError, with those that are known, where there is nothing."""
    if call in _FUNCTIONS:
        return _FUNCTIONS[call]
    name = getattr(call, "__name__", str(call))
    raise r.fail(f"the function {name!r} cannot be packed: use a layer, or {', '.join(_FUNCTION_WORDS)}")
