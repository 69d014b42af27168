"""A PyTorch model to a program by following it as it runs, for what torch.fx cannot trace.

That is several inputs, masks, and control flow that depends on shapes, flags or constants, as Hugging Face's models have it. The model computes a
few random examples. Each layer, and each function of a tensor that depends on the inputs, goes to its handler. What depends on parameters and
constants alone is computed and stored. Every result is compared with the shape that the handler says. Masks are recognised by what they hide from
the examples.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from onebit.errors import OnebitError, PackError
from onebit.nn import BinaryLayer
from onebit.nn.wrapped import unwrapped
from onebit.packing.called import called
from onebit.packing.handlers import is_packed, known_function, value_handler_of
from onebit.packing.layers.embedding import positions_or_none
from onebit.packing.layers.recurrent import RECURRENT
from onebit.packing.layouts import channels_first, in_order, settled
from onebit.packing.masks import KeyMask
from onebit.packing.recorder import Recorder, Recording
from onebit.packing.values import Pair, Scores, Size, Value, standard_axes
from onebit.program import Input
from onebit.tasks.tensor_task import TensorInput

# How many examples: a prime that no layer's size is likely to be, so that the batch's axis is known by its length.
EXAMPLES = 5
# Functions that give a tensor's numbers to Python: control flow that depends on them is not the same for all inputs.
READ_NUMBERS = (
    "__bool__",
    "__contains__",
    "__float__",
    "__index__",
    "__int__",
    "allclose",
    "equal",
    "is_nonzero",
    "item",
    "numpy",
    "tolist",
)
RANDOM = ("bernoulli", "bernoulli_", "multinomial", "normal", "normal_", "poisson", "rand", "rand_like", "randint", "randint_like", "randn",
          "randn_like", "randperm", "uniform_", "exponential_", "random_", "rrelu", "dropout_", "feature_dropout", "alpha_dropout")  # fmt: skip
# The first of their sizes is the batch's.
SIZED = ("expand", "repeat", "reshape", "view")
Meaning = Value | Pair | Scores


def follow(
    model: nn.Module,
    inputs: Sequence[TensorInput],
    outputs: Sequence[str] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    temperature: float = 1.0,
    alone: bool = False,
) -> Recording:
    """Express a model as a program.

    Args:
        model: in evaluation mode.
        inputs: what its forward is called with, by name.
        outputs: the names of what is taken of its result; see `onebit.TensorTask`.
        mean, std, temperature: see `trace`; of a model that is taken alone.
        alone: the model takes one input, which the program calls "input", and gives one tensor: its only one, or its logits.

    Raises:
        PackError: the model does what a program cannot express; the message names the layer and the function.
    """
    r = Recorder(type(model).__name__)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise r.fail("it has no values: its parameters are on the device meta")
    taken = inspect.signature(model.forward).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    for source in inputs:
        if source.name not in taken and not open_ended and not alone:
            raise r.fail(f"its forward has no argument {source.name!r}: it takes {', '.join(taken)}")
    return _Follower(model, r, inputs, alone, mean, std).run(outputs, temperature)


def first_input(model: nn.Module) -> str:
    """The name of the first argument of a model's forward."""
    return next(iter(inspect.signature(model.forward).parameters), "input")


class _Follower(TorchFunctionMode):
    """Sees each call of a function and of a layer while a model runs."""

    def __init__(
        self,
        model: nn.Module,
        r: Recorder,
        inputs: Sequence[TensorInput],
        alone: bool,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self._model = model
        self._r = r
        self._names = {id(module): name for name, module in model.named_modules()}
        # Tensors that depend on the inputs: what each is in the program. They are kept, so that no other gets their number.
        self._known: dict[int, tuple[Tensor, Meaning]] = {}
        self._kept = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()] if not t.is_meta}
        self._where = [type(model).__name__]
        self._paused = False
        self._inputs = inputs
        self._alone = alone
        programs = [_program_input(source) for source in inputs]
        r.begin_with([replace(source, name="input") for source in programs] if alone else programs)
        scaled = _scaled(r, "input", mean, std) if alone and len(mean) else ""
        self._arguments = self._examples(_device_of(model), scaled or ("input" if alone else ""))

    def run(self, outputs: Sequence[str], temperature: float) -> Recording:
        """Run the model, and record what it does."""
        try:
            with torch.no_grad(), self._sees_layers(), self:
                result = self._model(*self._arguments.values()) if self._alone else self._model(**self._arguments)
        except OnebitError:
            raise
        except Exception as error:  # of the model, with our examples
            raise PackError(
                f"[pack] {self._place()} cannot be followed ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
            ) from None
        self._r.where = "output"
        named = self._named_outputs(result, outputs)
        values = [self._as_output(value) for value in named.values()]
        if not self._alone:
            return self._r.finish(*values, names=list(named))
        if len(values) != 1:
            raise self._r.fail(
                f"the model gives {', '.join(named)}: let it return one tensor, or give an onebit.TensorTask"
            )
        if temperature != 1:
            values = [self._r.step("scale", values, {"factor": 1 / temperature})]
        return self._r.finish(*values)

    def _examples(self, device: torch.device, alone: str) -> dict[str, Tensor]:
        """Random inputs. `alone`: the value of the program that the only one is, where it has not its own name."""
        random = torch.Generator().manual_seed(0)
        made = {}
        for source in self._inputs:
            shape = (EXAMPLES, *source.shape)
            if source.kind == "numbers":
                x = torch.randn(shape, generator=random)
                self._remember(
                    x := x.to(device), Value.of(self._r, alone or source.name, standard_axes(len(source.shape)))
                )
            elif source.kind == "integers":
                x = torch.randint(0, 2, shape, generator=random)
                self._remember(x := x.to(device), Value.of(self._r, source.name))
            else:
                counts = _patterns(source.shape[0], random).to(device)
                self._r.key_masks.append(KeyMask(source.name, source.kind == "padding", counts))
                x = ~counts if source.kind == "padding" else counts.long()
            made[source.name] = x
        return made

    # What is known of tensors

    def _remember(self, tensor: Tensor, meaning: Meaning) -> None:
        self._known[id(tensor)] = (tensor, meaning)

    def _meaning(self, tensor: Any) -> Meaning | None:
        known = self._known.get(id(tensor)) if isinstance(tensor, Tensor) else None
        return None if known is None else known[1]

    def _depends(self, arguments: Any) -> bool:
        return any(self._meaning(tensor) is not None for tensor in _tensors(arguments))

    def _translated(self, argument: Any) -> Any:
        """An argument as handlers take it: tensors that depend on the input as values, constants without their batch."""
        if isinstance(argument, Tensor):
            meaning = self._meaning(argument)
            return self._constant(argument) if meaning is None else meaning
        if isinstance(argument, (list, tuple)):
            made = [self._translated(part) for part in argument]
            return made if isinstance(argument, list) else tuple(made)
        if isinstance(argument, dict):
            return {key: self._translated(part) for key, part in argument.items()}
        if isinstance(argument, slice):
            return slice(*(self._translated(part) for part in (argument.start, argument.stop, argument.step)))
        return argument

    def _constant(self, tensor: Tensor) -> Tensor:
        if (
            tensor.dim() < 2
            or tensor.shape[0] != EXAMPLES
            or (tensor.untyped_storage().data_ptr() in self._kept and tensor.stride(0) != 0)
        ):
            return tensor
        return tensor[:1] if bool((tensor == tensor[:1]).all()) else tensor

    def _attach(self, result: Any, meaning: Any) -> None:
        """Note what a result is, part by part."""
        if (
            meaning is None
            or isinstance(result, (int, float, bool, str, torch.dtype, torch.device, torch.Size))
            or result is None
        ):
            return
        if isinstance(meaning, Pair) and isinstance(result, (tuple, list)):
            meaning = (meaning.output, None)
        if isinstance(result, (tuple, list)) and isinstance(meaning, (tuple, list)):
            for part, of_part in zip(result, meaning, strict=False):
                self._attach(part, of_part)
        elif isinstance(result, Tensor) and isinstance(meaning, (Value, Scores)):
            if isinstance(meaning, Value):
                lengths = tuple(EXAMPLES if n is None else n for n in meaning.lengths)
                # Rows of positions are there once for all examples.
                if lengths != tuple(result.shape) and lengths[1:] != (*result.shape[1:],)[: len(lengths)]:
                    raise self._r.fail(
                        f"gives a tensor of shape {tuple(result.shape)} that the program holds as {lengths}, which cannot be packed"
                    )
            self._remember(result, meaning)

    # Functions

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if self._paused:
            return func(*args, **kwargs)
        word = getattr(func, "__name__", str(func))
        if word in RANDOM or (word.endswith("dropout") and _is_training(func, args, kwargs)):
            self._r.where = self._place()
            raise self._r.fail(
                f"{word!r} draws random numbers in use, which cannot be packed: leave it out in evaluation"
            )
        if not self._depends((args, kwargs)):
            return func(*args, **kwargs)
        if word == "__get__":
            return self._property(func, args)
        if word == "__set__":
            return func(*args, **kwargs)
        self._r.where = self._place()
        if word in READ_NUMBERS:
            raise self._r.fail(
                f"reads numbers that depend on its input ({word}), which cannot be packed: avoid control flow that depends on them"
            )
        result = func(*args, **kwargs)
        if not _holds_tensors(result):
            return result  # of shapes and types
        self._attach(result, self._handled(func, word, args, kwargs, result))
        return result

    def _property(self, func: Callable[..., Any], args: Sequence[Any]) -> Any:
        result = func(*args)
        word = getattr(getattr(func, "__self__", None), "__name__", "")
        if isinstance(result, Tensor):
            meaning = self._meaning(args[0])
            if word in ("T", "mT", "H", "mH") and isinstance(meaning, Value):
                axes = list(meaning.axes)
                axes[-1], axes[-2] = axes[-2], axes[-1]
                meaning = Value(meaning.name, meaning.shape, tuple(axes))
            elif word != "data":
                return result
            self._attach(result, meaning)
        return result

    def _handled(self, func: Any, word: str, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Any:
        if word in ("to", "type", "type_as", "float", "long", "int", "half", "double", "bool", "bfloat16"):
            return self._cast(word, args, result)
        handler = known_function(self._r, func)
        translated, options = [self._translated(argument) for argument in args], self._translated(kwargs)
        self._refuse_examples(word, args, kwargs)
        if word in SIZED and translated and isinstance(translated[0], Value):
            translated = _with_batch(translated)
        if any(isinstance(part, Scores) for part in _flat(translated)) and word not in TAKE_SCORES:
            raise self._r.fail(Scores.MISUSE)
        if word in REVERSED:
            translated = [translated[1], translated[0]]
        options.pop("out", None)
        try:
            return handler(self._r, *translated, **options)
        except (TypeError, AttributeError):
            raise self._r.fail(f"the function {word!r} cannot be packed with these arguments") from None

    def _cast(self, word: str, args: Sequence[Any], result: Any) -> Any:
        meaning = self._meaning(args[0])
        floating = args[0].is_floating_point()
        if meaning is None or result.is_floating_point() != floating:
            raise self._r.fail(f"a change of type ({word}) from {args[0].dtype} to {result.dtype} cannot be packed")
        return meaning

    def _refuse_examples(self, word: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """What differs between the examples but is not a value depends on a mask: only attentions take that."""
        if word in ("scaled_dot_product_attention", "masked_fill", "masked_fill_") or any(
            isinstance(self._meaning(t), Scores) for t in _tensors((args, kwargs))
        ):
            return
        for tensor in _tensors((args, kwargs)):
            if self._meaning(tensor) is None and self._differs(tensor):
                raise self._r.fail(f"{word!r} with what a mask gives cannot be packed: only attentions take masks")

    def _differs(self, tensor: Tensor) -> bool:
        constant = self._constant(tensor)
        stored = tensor.untyped_storage().data_ptr() in self._kept
        return not stored and tensor.dim() > 1 and constant.shape[0] == EXAMPLES

    # Layers

    @contextmanager
    def _sees_layers(self) -> Iterator[None]:
        original = nn.Module.__call__

        def seen(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return original(module, *args, **kwargs) if self._paused else self._layer(original, module, args, kwargs)

        nn.Module.__call__ = seen  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = original  # type: ignore[method-assign]

    def _place(self) -> str:
        return next((name for name in reversed(self._where) if name), type(self._model).__name__)

    def _layer(
        self, original: Callable[..., Any], module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        inner = unwrapped(module)
        if inner is not module:
            return inner(*args, **kwargs)
        name = self._names.get(id(module))
        depends = self._depends((args, kwargs))
        whole = (
            (is_packed(module) or isinstance(module, BinaryLayer)) and name is not None and module is not self._model
        )
        self._where.append(name or "")
        try:
            if isinstance(module, nn.Embedding) and not depends and name is not None:
                return self._positions(original, name, module, args, kwargs)
            if not depends or not whole:
                return original(module, *args, **kwargs)
            self._r.where = self._place()
            made = self._recorded(name or "", module, args, kwargs)
            result = self._computed(original, module, args, kwargs)
            self._attach(result, made)
            return result
        finally:
            self._where.pop()

    def _computed(
        self, original: Callable[..., Any], module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        self._paused = True
        try:
            if isinstance(module, (nn.TransformerEncoder, nn.TransformerEncoderLayer)):
                return torch.zeros_like(args[0] if args else kwargs["src"])  # its fast path leaves out what is padding
            if isinstance(module, nn.Embedding):
                return original(module, args[0].clamp(max=module.num_embeddings - 1), *args[1:], **kwargs)
            return original(module, *args, **kwargs)
        finally:
            self._paused = False

    def _recorded(self, name: str, layer: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        given, options = [self._translated(argument) for argument in args], self._translated(kwargs)
        options = {key: value for key, value in options.items() if value is not None}
        as_called = value_handler_of(layer)
        if as_called is not None:
            return as_called(self._r, name, layer, *given, **options)
        given += list(options.values())
        if given and isinstance(given[0], Scores):
            if isinstance(layer, (nn.Dropout, nn.Identity)):
                return given[0]
            raise self._r.fail(Scores.MISUSE)
        if len(given) != 1 or not isinstance(given[0], Value):
            raise self._r.fail("is called with more than one tensor: this layer takes one")
        value = called(self._r, name, layer, given[0])
        return Pair(name, value) if isinstance(layer, RECURRENT) else value

    def _positions(
        self, original: Callable[..., Any], name: str, layer: nn.Embedding, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Rows of an embedding that do not depend on the input: those of positions stay bits, others become constants."""
        result = self._computed(original, layer, args, kwargs)
        indices = args[0] if args else next(iter(kwargs.values()))
        source = next((s for s in self._inputs if s.kind == "integers" and s.shape == tuple(indices.shape[-1:])), None)
        if source is not None and isinstance(result, Tensor) and result.dim() == 3:
            self._r.where = self._place()
            made = positions_or_none(self._r, name, layer, source.name, indices[0].cpu().numpy())
            if made is not None:
                self._remember(result, Value.of(self._r, made))
        return result

    # Results

    def _named_outputs(self, result: Any, wanted: Sequence[str]) -> dict[str, Value]:
        found: dict[str, Any]
        if isinstance(result, Tensor):
            found = {"output": result}
        elif isinstance(result, Mapping):
            found = {str(key): part for key, part in result.items()}
        elif isinstance(result, (tuple, list)):
            fields = getattr(result, "_fields", None)
            tensors = [(i, part) for i, part in enumerate(result) if isinstance(part, Tensor)]
            found = {fields[i] if fields else f"output{i or ''}": part for i, part in tensors}
            if self._alone and len(found) > 1:  # one of them may be a state, which no program gives
                raise self._r.fail(
                    f"the model gives {', '.join(found)}: let it return one tensor, or give an onebit.TensorTask"
                )
        else:
            raise self._r.fail(f"the model returns {type(result).__name__}: return tensors, in a tuple or a dictionary")
        if wanted and not isinstance(result, Mapping):
            found = dict(zip(wanted, found.values(), strict=False))
        missing = next((name for name in wanted if not isinstance(found.get(name), Tensor)), None)
        if missing is not None:
            raise self._r.fail(f"the model gives no tensor {missing!r}: it gives {', '.join(found)}")
        named = {}
        if self._alone and "logits" in found:
            found = {"logits": found["logits"]}
        for name in wanted or found:
            meaning = self._meaning(found[name])
            if isinstance(meaning, Value):
                named[name] = meaning
            elif isinstance(found[name], Tensor) and (wanted or isinstance(meaning, Scores)):
                raise self._r.fail(
                    Scores.MISUSE if isinstance(meaning, Scores) else f"{name} does not depend on the input"
                )
        if not named:
            raise self._r.fail("the model returns nothing that depends on its input")
        return named

    def _as_output(self, value: Value) -> str:
        value = channels_first(self._r, value) if len(value.axes) == 4 else in_order(self._r, value)
        return settled(self._r, value)


TAKE_SCORES = ("__add__", "__iadd__", "__imul__", "__mul__", "__matmul__", "__radd__", "__rmul__", "__truediv__", "add", "add_", "bmm", "div",
               "dropout", "masked_fill", "masked_fill_", "matmul", "mul", "mul_", "softmax", "contiguous", "clone")  # fmt: skip
# Written with the second operand first.
REVERSED = ("__rsub__", "rsub", "__rtruediv__", "__rdiv__", "__rmatmul__", "__rpow__")


def _program_input(source: TensorInput) -> Input:
    shape = source.shape
    if len(shape) == 3:
        shape = (*shape[1:], shape[0])
    return Input(source.name, shape, source.kind == "integers")


def _scaled(r: Recorder, x: str, mean: Sequence[float], std: Sequence[float]) -> str:
    scale = 1 / np.asarray(std, np.float32)
    return r.scale_shift(x, scale, -np.asarray(mean, np.float32) * scale, "input", "the scaling of the input")


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _patterns(positions: int, random: torch.Generator) -> Tensor:
    """Masks of the examples, bool (examples, positions): all differ where they can, and each position counts somewhere."""
    counts = torch.rand(EXAMPLES, positions, generator=random) < 0.5
    counts[0, 0] = True
    if positions > 1:
        counts[0, -1] = False
    counts[1] = ~counts[0]
    return counts


def _tensors(arguments: Any) -> Iterator[Tensor]:
    if isinstance(arguments, Tensor):
        yield arguments
    elif isinstance(arguments, (list, tuple)):
        for part in arguments:
            yield from _tensors(part)
    elif isinstance(arguments, dict):
        for part in arguments.values():
            yield from _tensors(part)
    elif isinstance(arguments, slice):
        yield from _tensors((arguments.start, arguments.stop, arguments.step))


def _flat(arguments: Any) -> Iterator[Any]:
    if isinstance(arguments, (list, tuple)):
        for part in arguments:
            yield from _flat(part)
    else:
        yield arguments


def _holds_tensors(result: Any) -> bool:
    return next(_tensors(result), None) is not None


def _with_batch(arguments: list[Any]) -> list[Any]:
    """Sizes whose first is the number of examples, with the batch in its place."""
    value, *sizes = arguments
    if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)):
        sizes = list(sizes[0])
    if sizes and sizes[0] == EXAMPLES and not isinstance(sizes[0], bool):
        sizes[0] = Size(value, 0)
    return [value, *sizes]


def _is_training(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    training = kwargs.get(
        "training", kwargs.get("train", args[2] if len(args) > 2 else func.__module__ == "torch.nn.functional")
    )
    probability = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    return bool(training) and probability != 0
