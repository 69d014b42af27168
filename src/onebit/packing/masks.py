"""What a mask of an attention hides: keys that an input of the program leaves out, keys that come after a query, and what is added to scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from onebit.packing.recorder import Recorder

# Numbers that are added to scores from here on hide a key: its weight is 0 in float32.
HIDES = -1e4


@dataclass(frozen=True)
class KeyMask:
    """An input of the program that says which positions count.

    Args:
        name: of the input.
        padding: whether it is 1 where a position does not count.
        counts: bool (batch, positions), of the examples that a model is followed with: each position counts in one of them at least, if there are
            several.
    """

    name: str
    padding: bool
    counts: Tensor


@dataclass(frozen=True)
class Seen:
    """What the queries of an attention see.

    Args:
        mask: which keys count, by an input of the program; None for all.
        causal: whether a query sees the keys up to its own place only.
        bias: float32 (1 or heads, queries, keys), added to the scores.
    """

    mask: KeyMask | None = None
    causal: bool = False
    bias: Tensor | None = None

    def scaled(self, factor: float) -> Seen:
        """Of scores that are multiplied by a number."""
        return self if self.bias is None else replace(self, bias=self.bias * factor)


EVERYTHING = Seen()


def joined(r: Recorder, first: Seen, second: Seen) -> Seen:
    """Both together."""
    if first.mask is not None and second.mask is not None and first.mask.name != second.mask.name:
        raise r.fail("an attention with two masks of positions cannot be packed: use one")
    biases = [seen.bias for seen in (first, second) if seen.bias is not None]
    bias = sum(biases[1:], biases[0]) if biases else None
    return Seen(first.mask or second.mask, first.causal or second.causal, bias)


def seen_through(r: Recorder, given: Tensor, queries: int, keys: int) -> Seen:
    """What a mask shows, as models compute it of their inputs: bool (True is seen) or numbers that are added to the scores.

    Args:
        given: (..., queries, keys), of the examples that the model is followed with.

    Raises:
        PackError: it hides something else than a mask of keys, and what comes after a query.
    """
    whole = given.detach()
    while whole.dim() < 4:
        whole = whole[None]
    if whole.dim() > 4 or whole.shape[-1] not in (1, keys) or whole.shape[-2] not in (1, queries):
        raise r.fail(
            f"a mask of shape {tuple(given.shape)} does not fit an attention of {queries} queries and {keys} keys"
        )
    whole = whole.expand(*whole.shape[:2], queries, keys)
    if whole.dtype == torch.bool:
        seen, bias = whole, None
    else:
        added = whole.float()
        seen = added > HIDES
        bias = _bias(r, torch.where(seen, added, 0.0), seen)
    if not bool((seen == seen[:, :1]).all()):
        raise r.fail("a mask of an attention that differs between its heads cannot be packed")
    return replace(_pattern(r, seen[:, 0]), bias=bias)


def _pattern(r: Recorder, seen: Tensor) -> Seen:
    """The masks that show this, bool (batch or 1, queries, keys)."""
    queries, keys = seen.shape[1:]
    triangles: list[Tensor | None] = [None]
    if queries == keys:
        triangles.append(torch.ones(queries, keys, dtype=torch.bool, device=seen.device).tril())
    for mask in (None, *r.key_masks):
        if mask is not None and mask.counts.shape[1] != keys:
            continue
        for triangle in triangles:
            shown = torch.ones_like(seen[:1]) if triangle is None else triangle[None]
            shown = shown if mask is None else shown & mask.counts.to(seen.device)[:, None, :]
            alike = shown.shape[0] in (1, seen.shape[0]) or seen.shape[0] == 1
            if alike and bool((shown == seen).all()):
                return Seen(mask, triangle is not None and queries > 1)
    raise r.fail(
        "an attention with this mask cannot be packed: use a mask over the positions of keys that is an input of the model, a causal one, or both"
    )


def _bias(r: Recorder, added: Tensor, seen: Tensor) -> Tensor | None:
    """What is added to the scores of what is seen; the same for every example."""
    if not bool((added != 0).any()):
        return None
    common = torch.zeros_like(added[0])
    known = torch.zeros_like(seen[0])
    for of_example, shown in zip(added, seen, strict=True):
        if bool((known & shown & (of_example != common)).any()):
            raise r.fail("an attention whose scores are added to what depends on its input cannot be packed")
        common = torch.where(known, common, of_example)
        known = known | shown
    return common


def mask_value(r: Recorder, mask: KeyMask) -> str:
    """The name of the value that is 0 where a key is not seen."""
    if not mask.padding:
        return mask.name
    made = r.made_once.get(f"not {mask.name}")
    if made is None:
        ones = np.ones(r.shape(mask.name), np.float32)
        made = r.scale_shift(mask.name, -ones, ones, mask.name, "a mask the other way round")
        r.made_once[f"not {mask.name}"] = made
    return made


def bias_tensor(r: Recorder, bias: Tensor, heads: int, factor: float = 1.0) -> str:
    """The name of a tensor of what is added to scores, (heads, queries, keys)."""
    values = (bias * factor).expand(heads, *bias.shape[-2:]).float().cpu().numpy()
    name = f"{r.unique()}.bias"
    known = next((old for old, other in r.biases.items() if np.array_equal(other, values)), None)
    if known is not None:
        return known
    r.biases[name] = values
    return r.float_tensor(name, values, "what is added to an attention's scores")
