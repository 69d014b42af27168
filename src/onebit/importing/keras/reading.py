"""Read a model of Keras: its layers with their options, what each reads, and its weights. Files of Keras 2 (.h5) and Keras 3 (.keras)."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import ForeignModelError
from onebit.printable import printable

EXTRA = 'pip install "onebit[keras]"'
SUFFIXES = (".h5", ".hdf5", ".keras")


@dataclass(frozen=True)
class KerasLayer:
    """A layer.

    Args:
        kind, name: its class, and its name in the model.
        config: its options.
        inputs: the names of the layers that it reads.
        weights: in the order of Keras.
    """

    kind: str
    name: str
    config: dict[str, Any]
    inputs: tuple[str, ...]
    weights: tuple[NDArray[np.float32], ...]


def read_keras(path: Path) -> list[KerasLayer]:
    """The layers of a model in the order in which they run.

    Raises:
        ForeignModelError: h5py is missing, or the file is damaged or holds no model.
    """
    try:
        import h5py
    except ImportError:
        raise ForeignModelError(f"[import] files of Keras need the package h5py: {EXTRA}") from None
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
                stored = io.BytesIO(archive.read("model.weights.h5"))
            with h5py.File(stored, "r") as file:
                return list(_layers(config, lambda kinds, layer: _keras3(file, kinds, layer)))
        with h5py.File(path, "r") as file:
            if "model_config" not in file.attrs:
                raise ForeignModelError(f"[{printable(path)}] has weights and no layers: save the whole model")
            return list(_layers(json.loads(file.attrs["model_config"]), lambda _, layer: _keras2(file, layer)))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, zipfile.BadZipFile) as error:
        if isinstance(error, ForeignModelError):
            raise
        raise ForeignModelError(
            f"[{printable(path)}] is not a model of Keras, or it is damaged: {printable(str(error))}"
        ) from None


def _layers(model: dict[str, Any], weights_of: Any) -> Iterator[KerasLayer]:
    config = model["config"]
    items = config["layers"] if isinstance(config, dict) else config
    kinds: Counter[str] = Counter()
    before: tuple[str, ...] = ()
    for item in items:
        kind, own = item["class_name"].rpartition(">")[2], item["config"]
        name = item.get("name") or own["name"]
        inputs = tuple(_sources(item.get("inbound_nodes", []))) or (() if kind == "InputLayer" else before)
        weights = weights_of(kinds, (kind, name))
        yield KerasLayer(kind, name, own, inputs, tuple(np.asarray(weight, np.float32) for weight in weights))
        before = (name,)


def _sources(node: Any) -> Iterator[str]:
    """The names of the layers that a node reads: Keras 2 has lists that begin with a name, Keras 3 tensors with a history."""
    if isinstance(node, dict):
        if "keras_history" in node:
            yield node["keras_history"][0]
            return
        for value in node.values():
            yield from _sources(value)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
            yield node[0]
            return
        for value in node:
            yield from _sources(value)


def _keras2(file: Any, layer: tuple[str, str]) -> list[Any]:
    group = file.get("model_weights", file)
    if layer[1] not in group:
        return []
    own = group[layer[1]]
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in own.attrs.get("weight_names", [])]
    return [own[name][()] for name in names]


def _keras3(file: Any, kinds: Counter[str], layer: tuple[str, str]) -> list[Any]:
    """Keras 3 calls the folder of a layer after its class, with a number from the second on."""
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer[0])).lower()
    number = kinds[name]
    kinds[name] += 1
    folder = f"layers/{name}_{number}/vars" if number else f"layers/{name}/vars"
    if folder not in file:
        return []
    return [file[folder][key][()] for key in sorted(file[folder], key=int)]
