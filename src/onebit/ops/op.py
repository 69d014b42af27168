"""An op of a program: its declarations, the checks of its steps, and its computation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onebit.errors import FormatError
from onebit.ops.declared import Attribute, Bits, Halves, Shape, Sizes, Tensor
from onebit.strict_json import excerpt

Array = NDArray[np.float32]
Attributes = Mapping[str, Any]
Tensors = Mapping[str, NDArray[Any]]
Precision = Literal["int8", "float32"]


class Programs(Enum):
    """The programs that an op may be used in."""

    ANY = "any"
    ARRAYS = "arrays"  # it would mix tokens
    TOKENS = "tokens"  # its input has a row for each token
    TOKENS_THEMSELVES = "tokens themselves"


class StepReader(Mapping[str, Any]):
    """The attributes of a step, each checked when it is read, and the step's tensors."""

    def __init__(self, where: str, op: Op, attributes: Attributes, roles: Mapping[str, str], tensors: Tensors) -> None:
        self.where = where
        self.given = attributes
        self._declared: dict[str, Attribute] = {attribute.name: attribute for attribute in op.attributes}
        self._declared_tensors = op.tensors
        self._roles = roles
        self._tensors = tensors

    def fail(self, message: str) -> FormatError:
        return FormatError(f"[{self.where}] {message}")

    def __getitem__(self, name: str) -> Any:
        if name not in self.given:
            raise self.fail(f"lacks the attribute {name!r}")
        fault = self._declared[name].fault(self.given[name])
        if fault:
            raise self.fail(f"{name}={excerpt(self.given[name])}: {fault}")
        return self.given[name]

    def __contains__(self, name: object) -> bool:
        return name in self.given

    def __iter__(self) -> Iterator[str]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)

    def get(self, name: str, default: Any = None) -> Any:
        return default if name not in self.given else self[name]

    def tensor(self, role: str) -> NDArray[Any]:
        """A tensor that is checked already."""
        return self._tensors[self._roles[role]]

    def has_tensor(self, role: str) -> bool:
        return role in self._roles

    def check_attributes(self) -> None:
        """Read every declared attribute."""
        for attribute in self._declared.values():
            if attribute.name in self or not attribute.optional:
                self[attribute.name]

    def check_tensors(self, sizes: Sizes) -> None:
        """Compare every declared tensor with the one in the file."""
        for tensor in self._declared_tensors:
            if tensor.role in self._roles:
                self._check_tensor(tensor, sizes)
            elif not tensor.optional:
                raise self.fail(f"lacks its tensor {tensor.role!r}")

    def _check_tensor(self, tensor: Tensor, sizes: Sizes) -> None:
        name = self._roles[tensor.role]
        if name not in self._tensors:
            raise self.fail(f"its tensor {excerpt(name)} is not in the file")
        found, shape = self._tensors[name], tensor.shape(sizes)
        if found.dtype != tensor.dtype:
            raise self.fail(f"tensor {excerpt(name)} is {found.dtype}: needs {np.dtype(tensor.dtype)}")
        if found.shape != shape:
            raise self.fail(f"tensor {excerpt(name)} has shape {found.shape}: needs {shape}")
        if isinstance(tensor, Halves) and not _are_finite(found):
            raise self.fail(f"tensor {excerpt(name)} holds NaN or infinity; the file is damaged")
        if isinstance(tensor, Bits):
            n = tensor.lengths(sizes)[1]
            tail = found[:, n // 8 :]
            # Kernels read whole words, so a stray bit after the end of a row would count as a weight.
            if tail.size and (np.any(tail[:, 0] >> (n % 8)) or np.any(tail[:, 1:])):
                raise self.fail(f"tensor {excerpt(name)} has bits set beyond its {n} columns; the file is damaged")

    def refuse_unknown(self) -> None:
        """Refuse attributes and tensors that this version does not know. Ignoring them would give wrong numbers silently."""
        roles = {tensor.role for tensor in self._declared_tensors}
        extra = [name for name in self.given if name not in self._declared]
        extra += [f"tensor {role}" for role in self._roles if role not in roles]
        if extra:
            raise self.fail(f"has what this op does not take: {', '.join(excerpt(name) for name in sorted(extra))}")


class Op(ABC):
    """One op of docs/program.md. A subclass declares its inputs and defines its computation.

    name: its name in the program.
    inputs: the number of its input values, and how many more it may have.
    programs: the programs that it may be used in.
    attributes, tensors: the attributes and tensors of its steps, each with its limits.
    """

    name: str
    inputs: int = 1
    optional_inputs: int = 0
    programs: Programs = Programs.ANY
    attributes: tuple[Attribute, ...] = ()
    tensors: tuple[Tensor, ...] = ()

    def shape(self, step: StepReader, *inputs: Any) -> Shape:
        """The shape of the output, from those of the inputs, without the batch axis. By default it is the shape of the first input.

        Raises:
            FormatError: the inputs do not fit the attributes, or each other.
        """
        return tuple(inputs[0])

    def sizes(self, attributes: Attributes, x: Shape) -> Sizes:
        """The lengths of the axes of its tensors, by their names in `tensors`. `x` is the shape of the first input."""
        return {}

    @abstractmethod
    def run(self, attributes: Attributes, tensors: Tensors, precision: Precision, *inputs: Any) -> Array:
        """Compute the output from the inputs, each (n, *shape). `tensors` are given by their roles."""

    def mixes_tokens(self, attributes: Attributes) -> str:
        """A fault in unchecked attributes for a program over tokens; empty if there is none."""
        return ""

    @property
    def count_of_inputs(self) -> str:
        """How many inputs a step may have."""
        return " or ".join(str(self.inputs + more) for more in range(self.optional_inputs + 1))

    def check(self, step: StepReader, inputs: Sequence[Shape], tokens: bool, integers: Sequence[bool] = ()) -> Shape:
        """Check a step with the right number of inputs, and return the shape of its output. `integers`: which inputs are the program's integers.

        Raises:
            FormatError: the op cannot be used in such a program, or a shape, an attribute or a tensor does not fit.
        """
        self._check_place(step, inputs[0], tokens, any(integers))
        shape = self.shape(step, *inputs)
        step.check_attributes()
        step.check_tensors(self.sizes(step, inputs[0]))
        step.refuse_unknown()
        return shape

    def _check_place(self, step: StepReader, x: Shape, tokens: bool, integers: bool) -> None:
        if self.programs is Programs.TOKENS_THEMSELVES:
            if not integers and (not tokens or len(x) != 1):
                raise step.fail("its input is not the program's tokens or integers")
        elif integers:
            raise step.fail("its input is integers: embed them first")
        elif not tokens:
            if self.programs is Programs.TOKENS:
                raise step.fail("the program's input is not tokens")
        elif self.programs is Programs.ARRAYS:
            raise step.fail("has no meaning for tokens")
        elif len(x) != 2:
            raise step.fail("its input is tokens: embed them first")
        elif fault := self.mixes_tokens(step.given):
            raise step.fail(fault)

    def bits(self, attributes: Attributes, roles: Collection[str], x: Shape) -> int:
        """The number of one-bit parameters of a step with tensors of these roles and a first input of shape `x`."""
        sizes = self.sizes(attributes, x)
        return sum(t.parameters(sizes) for t in self.tensors if isinstance(t, Bits) and t.role in roles)

    def nbytes(self, sizes: Sizes, roles: Collection[str] | None = None) -> int:
        """The size in a file of the tensors with these roles (None for all required ones), given the sizes of their axes."""
        chosen = (t for t in self.tensors if (not t.optional if roles is None else t.role in roles))
        return sum(t.nbytes(sizes) for t in chosen)


def channels_of(step: StepReader, x: Shape) -> int:
    """The length of the last axis of an input."""
    if not x:
        raise step.fail("its input has no axes")
    return x[-1]


def need_image(step: StepReader, x: Shape) -> None:
    """Refuse an input that is not an image."""
    if len(x) != 3:
        raise step.fail(f"its input has shape {x}: needs (height, width, channels)")


def _are_finite(halves: NDArray[np.float16]) -> bool:
    """As `np.isfinite(halves).all()`, in a fifth of the time: imported models have many millions of scales."""
    exponent = 0x7C00
    return not bool(((halves.view(np.uint16) & exponent) == exponent).any())
