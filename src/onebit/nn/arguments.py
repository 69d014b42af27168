"""Choose a layer's scheme from its arguments, including those of version 0.1.0."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from onebit.quantizers import MeanThreshold
from onebit.schemes import BinaryNormalized, Scheme

# Keyword arguments of layers that are now parts of a scheme, with their old defaults.
_OLD: dict[str, Any] = {"values": "01", "normalize": "channel", "eps": 1e-5, "latent_spread": 1.0}


def chosen_scheme(layer: str, scheme: Scheme | None, old: Mapping[str, Any]) -> Scheme:
    """The scheme of a layer: the one given, or the paper's.

    Args:
        layer: the layer's name, for messages.
        scheme: the caller's argument.
        old: further keyword arguments: `values`, `normalize`, `eps` and `latent_spread` of version 0.1.0. They give a DeprecationWarning that says
            what to write.

    Raises:
        ValueError: the scheme is not a scheme, an option is out of range, or old options contradict a scheme.
        TypeError: the keyword argument is unknown.
    """
    if scheme is not None and not isinstance(scheme, Scheme):
        raise ValueError(f"[{layer}] scheme={scheme!r}: use one of onebit.schemes, such as BinaryNet()")
    unknown = [key for key in old if key not in _OLD]
    if unknown:
        raise TypeError(f"[{layer}] unknown argument {unknown[0]!r}: use the arguments of PyTorch's layer, and scheme")
    if not old:
        return BinaryNormalized() if scheme is None else scheme
    given = {key: value for key, value in old.items() if value != _OLD[key]}
    if scheme is None:
        made: Scheme = BinaryNormalized(MeanThreshold(given.pop("values", "unipolar")), **given)
    elif given.keys() - {"latent_spread"}:
        name = type(scheme).__name__
        raise ValueError(f"[{layer}] values, normalize and eps are parts of the scheme: give {name}(...) them")
    else:
        made = replace(scheme, **given)
    warnings.warn(f"[{layer}] {', '.join(old)}: write scheme={made!r}", DeprecationWarning, stacklevel=3)
    return made
