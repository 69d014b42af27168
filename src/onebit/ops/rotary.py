"""Rotary positions: pairs of features turn by an angle that grows with the token's place (arXiv 2104.09864).

The tables of cosines and sines are computed in float64 by operations that every machine rounds alike, and rounded to float32. docs/program.md
writes them down; `engine/src/rotary.cpp` is the twin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from onebit.ops.declared import Integer, Number, RotaryScaling, Shape
from onebit.ops.op import Array, Attributes, Op, Precision, Programs, StepReader, Tensors

# pi/2 in three parts: the products of the first two with an integer below 2^24 are exact.
_HALF_PI = (float.fromhex("0x1.921fb54p+0"), float.fromhex("0x1.10b461p-30"), float.fromhex("0x1.a62633145c06ep-58"))
_TWO_BY_PI = float.fromhex("0x1.45f306dc9c883p-1")
# 1/3!, 1/5!, ..., 1/17! and 1/4!, 1/6!, ..., 1/16!, with the signs of the series of the sine and of the cosine.
_SINE = tuple((-1) ** ((n - 1) // 2) / math.factorial(n) for n in range(3, 18, 2))
_COSINE = tuple((-1) ** (n // 2) / math.factorial(n) for n in range(4, 17, 2))


def _series(z: NDArray[np.float64], terms: tuple[float, ...]) -> NDArray[np.float64]:
    total = np.full_like(z, terms[-1])
    for term in reversed(terms[:-1]):
        total = total * z + term
    return total


def cosine_and_sine(angle: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The cosine and the sine of angles from 0 to 2^24, to 2^-52."""
    quarters = np.rint(angle * _TWO_BY_PI)
    r = ((angle - quarters * _HALF_PI[0]) - quarters * _HALF_PI[1]) - quarters * _HALF_PI[2]
    z = r * r
    sine = r + (r * z) * _series(z, _SINE)
    cosine = (1 - 0.5 * z) + (z * z) * _series(z, _COSINE)
    quarter = quarters.astype(np.int64) % 4
    return (
        np.choose(quarter, (cosine, -sine, -cosine, sine)),
        np.choose(quarter, (sine, cosine, -sine, -cosine)),
    )


def _yarn(scaling: Mapping[str, float], base: float, rotated: int, plain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slow pairs as `linear` does, fast ones not, and a ramp between them (arXiv 2309.00071, section 3.2)."""

    def pair_that_turns(times: float) -> float:
        return rotated * math.log(scaling["original_context"] / (times * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(pair_that_turns(scaling["beta_fast"])), 0)
    high = min(math.ceil(pair_that_turns(scaling["beta_slow"])), rotated - 1)
    # A ramp of no length is a step.
    ramp = np.clip((np.arange(rotated // 2) - low) / (high - low if high != low else 0.001), 0, 1)
    return plain / scaling["factor"] * ramp + plain * (1 - ramp)


def _llama3(scaling: Mapping[str, float], plain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Waves longer than a part of the original context are slowed, with a ramp down to those that are not."""
    turns = scaling["original_context"] * plain / (2 * math.pi)  # in the original context
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    share = np.clip((turns - low) / (high - low), 0, 1)
    return (1 - share) * (plain / scaling["factor"]) + share * plain


def frequencies(a: Attributes, rotated: int) -> tuple[NDArray[np.float32], np.float32]:
    """The angle that each pair turns by from token to token, float32 (rotated / 2), and the factor of cosines and sines."""
    base = float(np.float32(a["base"]))
    plain = np.array([base ** (-2.0 * j / rotated) for j in range(rotated // 2)])
    given = a.get("scaling")
    if given is None:
        return plain.astype(np.float32), np.float32(1)
    scaling = {name: float(np.float32(value)) for name, value in given.items() if name != "kind"}
    if given["kind"] == "linear":
        return (plain / scaling["factor"]).astype(np.float32), np.float32(1)
    if given["kind"] == "llama3":
        return _llama3(scaling, plain).astype(np.float32), np.float32(1)
    factor = scaling.get("attention_factor", 0.1 * math.log(scaling["factor"]) + 1)
    return _yarn(scaling, base, rotated, plain).astype(np.float32), np.float32(factor)


def tables(a: Attributes, rotated: int, time: int) -> tuple[Array, Array]:
    """The cosines and the sines of the tokens at 0 to `time` - 1, float32 (time, rotated / 2) each."""
    turns, factor = frequencies(a, rotated)
    # The product of two numbers of 24 bits is exact.
    cosine, sine = cosine_and_sine(np.arange(time, dtype=np.float64)[:, None] * turns.astype(np.float64))
    return (cosine * np.float64(factor)).astype(np.float32), (sine * np.float64(factor)).astype(np.float32)


class Rotary(Op):
    """Feature j of each head turns with feature j + rotated / 2 by the token's place times the pair's frequency."""

    name = "rotary"
    programs = Programs.TOKENS
    attributes = (
        Integer("heads"),
        Number("base", True),
        Integer("rotated", optional=True),
        RotaryScaling("scaling", optional=True),
    )

    def shape(self, step: StepReader, x: Shape) -> Shape:
        heads = step["heads"]
        if x[-1] % heads:
            raise step.fail(f"heads={heads} does not divide its {x[-1]} features")
        if not np.float32(step["base"]) > 1:
            raise step.fail(f"base={step['base']}: needs a number above 1")
        features = x[-1] // heads
        rotated = step.get("rotated", features)
        if rotated % 2 or rotated > features:
            raise step.fail(f"rotated={rotated}: needs an even number of the {features} features of a head")
        return x

    def run(self, a: Attributes, t: Tensors, precision: Precision, x: Array) -> Array:
        n, time, features = x.shape
        parts = x.reshape(n, time, a["heads"], features // a["heads"])
        rotated = a.get("rotated", parts.shape[-1])
        half = rotated // 2
        cosine, sine = (table[:, None] for table in tables(a, rotated, time))  # (time, 1, half)
        first, second = parts[..., :half], parts[..., half:rotated]
        turned = (first * cosine - second * sine, second * cosine + first * sine, parts[..., rotated:])
        return np.concatenate(turned, -1).reshape(x.shape)


OPS: tuple[Op, ...] = (Rotary(),)
