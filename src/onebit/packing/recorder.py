"""Records the steps and the tensors of a program. It does not know what a layer becomes: that is for the handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from onebit.errors import PackError
from onebit.nn.binary import all_finite
from onebit.packing.merge import FloatTensor, merge_scales
from onebit.program import Input, Program, Shape, Step, pack_rows


@dataclass(frozen=True)
class Recording:
    """What became of a model.

    Args:
        program, tensors: of its file.
        bit_parameters: how many of its parameters are bits.
        kept_float: tensors that stay float32, and why.
    """

    program: Program
    tensors: dict[str, NDArray[Any]]
    bit_parameters: int
    kept_float: tuple[FloatTensor, ...]


class Recorder:
    """Collects steps over named values and knows the shape of each.

    Args:
        where: what an error names as its place: the layer or the function that is being recorded. Change it on the way.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._program = Program("input", (), (), "input")
        self._steps: list[Step] = []
        self._shapes: dict[str, Shape] = {}
        self._tensors: dict[str, NDArray[Any]] = {}
        self._kept_float: list[FloatTensor] = []
        self._bit_parameters = 0
        self._sound: set[int] = set()  # latents without NaN and infinity
        self._stored: dict[int, list[str]] = {}  # a parameter to the names of the tensors made of it
        self.key_masks: list[Any] = []  # inputs that say which positions count, see `masks.KeyMask`
        self.made_once: dict[str, str] = {}  # values that several steps may read, by what they are
        self.biases: dict[str, NDArray[Any]] = {}  # of attentions, which layers may share

    @property
    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """The tensors so far, by their names."""
        return self._tensors

    @property
    def tokens(self) -> bool:
        """Whether the program is one over tokens."""
        return self._program.tokens

    def begin(self, shape: Shape, tokens: bool) -> str:
        """Start from an input of a shape without the batch axis, channels last; returns its name. What was stored so far stays."""
        self._program = Program("input", shape, (), "input", tokens)
        self._steps.clear()
        self._shapes = {"input": shape}
        return "input"

    def begin_with(self, inputs: Sequence[Input]) -> None:
        """Start from several inputs of a program over arrays, or from integers; their values have their names."""
        first, *more = inputs
        self._program = Program(first.name, first.shape, (), first.name, False, first.integers, tuple(more))
        self._steps.clear()
        self._shapes = {source.name: source.shape for source in inputs}

    def finish(self, *results: str, names: Sequence[str] = ()) -> Recording:
        """The program that gives these values: its scales merged, its shapes checked.

        Args:
            names: those that the values get; by default they keep their own.
        """
        steps = merge_scales(self._steps, self._tensors, self._kept_float, results)
        if names:
            results, steps = tuple(names), self._renamed(steps, results, names)
        program = replace(self._program, steps=tuple(steps), output=results[0], more_outputs=tuple(results[1:]))
        self.where = "output"
        try:
            program.shapes(self._tensors)
        except ValueError as error:
            raise self._misfit(error) from None
        return Recording(program, self._tensors, self._bit_parameters, tuple(self._kept_float))

    def _renamed(self, steps: list[Step], results: Sequence[str], names: Sequence[str]) -> list[Step]:
        """The steps, with other names for some values. An input, and a value of a second name, is copied."""
        inputs = {source.name for source in self._program.inputs}
        taken: dict[str, str] = {}
        copies = []
        for result, name in zip(results, names, strict=True):
            if name in inputs:
                raise self.fail(f"an output of the name {name!r} of an input: give it another name")
            if result in inputs or result in taken:
                copies.append(Step("scale", (result,), name, {"factor": 1.0}))
            else:
                taken[result] = name
        others = {step.output for step in steps} - set(taken)
        spare = {name: f"{name}_" for name in others & set(names)}
        named = taken | spare
        return [
            replace(
                step, inputs=tuple(named.get(x, x) for x in step.inputs), output=named.get(step.output, step.output)
            )
            for step in [*steps, *copies]
        ]

    def fail(self, message: str) -> PackError:
        """An error that names the place."""
        return PackError(f"[pack] {self.where}: {message}")

    def _misfit(self, error: ValueError) -> PackError:
        return self.fail(f"the model does not fit {self._spelled_inputs()}: {error}")

    def _spelled_inputs(self) -> str:
        if not self._program.more_inputs:
            return f"an input of shape {self._program.input_shape}"
        return "inputs of shapes " + ", ".join(str(source.shape) for source in self._program.inputs)

    def shape(self, value: str) -> Shape:
        """The shape of a value, without the batch axis."""
        return self._shapes[value]

    def step(self, op: str, inputs: Sequence[str], attributes: dict[str, Any] | None = None, **tensors: str) -> str:
        """Append a step; returns the name of its output."""
        name = f"v{len(self._steps)}"
        while name in self._shapes:  # an input's
            name += "_"
        step = Step(op, tuple(inputs), name, attributes or {}, tensors)
        try:
            self._shapes[name] = self._program.step_shape(len(self._steps), step, self._shapes, self._tensors)
        except ValueError as error:
            raise self._misfit(error) from None
        self._steps.append(step)
        return name

    def scale_shift(self, x: str, scale: NDArray[Any], shift: NDArray[Any] | None, layer: str, reason: str) -> str:
        """Append a scale and a shift of each channel, or a scale alone, stored under the layer's name; returns the name of the output."""
        tensors = {"scale": self.float_tensor(f"{layer}.scale", scale, reason)}
        if shift is not None:
            tensors["shift"] = self.float_tensor(f"{layer}.shift", shift, reason)
        return self.step("scale_shift", [x], None, **tensors)

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
        self._kept_float.append(FloatTensor(name, array.size, reason))
        self._stored.setdefault(id(values), []).append(name)
        return name

    def mask_tensor(self, name: str, ones: NDArray[Any]) -> str:
        """Store where a matrix (rows, n) has weights, as bits that are no parameters; returns its name."""
        self._tensors[name] = pack_rows(ones)
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
        self._bit_parameters += bits.numel()
        self._stored.setdefault(id(latent), []).append(name)
        return name

    def _known(self, values: Any, array: NDArray[Any]) -> str | None:
        """The name of a tensor that was made of the same parameter and has the same values; None if no tensor was."""
        if not isinstance(values, nn.Parameter):
            return None  # a temporary tensor, whose id means nothing
        for name in self._stored.get(id(values), []):
            if name in self._tensors and np.array_equal(self._tensors[name], array):
                return name
        return None
