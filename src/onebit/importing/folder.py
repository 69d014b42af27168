"""Read folders of Hugging Face: config.json, safetensors in one file or in several, the tokenizer's files. Pickles are never read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebit.errors import ForeignModelError, FormatError
from onebit.importing.blocks import CODINGS, Coding
from onebit.importing.stored import Opened, SourceFile, StoredTensor
from onebit.paths import expand
from onebit.strict_json import excerpt, parse

# The largest headers of sharded models take some megabytes.
MAX_HEADER_BYTES = 100_000_000
MAX_JSON_BYTES = 1 << 26
MAX_FILES = 10_000
_MAX_AXES = 4


def _bytes_only(blocks: Any) -> Any:
    return blocks[..., 0]


# Packed weights, whose meaning the configuration tells.
U8 = Coding("U8", 1, 1, _bytes_only)
_CODINGS = {"F32": CODINGS[0], "F16": CODINGS[1], "BF16": CODINGS[30], "U8": U8}


@dataclass(frozen=True)
class Folder(Opened):
    """The contents of a folder of safetensors.

    Args:
        path: the folder.
        config: the values of config.json.
        tensors: by name.
        files: the files of safetensors.
    """

    path: Path
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]
    files: tuple[SourceFile, ...]


def read_folder(path: str | Path) -> Folder:
    """Read the heads of all files of a folder.

    Raises:
        ForeignModelError: there is no config.json or no safetensors file, a file is missing or damaged, or a tensor is of a type that is not known.
    """
    path = expand(path)
    config = read_json(path / "config.json", "a folder of a model has one")
    files: list[SourceFile] = []
    tensors: dict[str, StoredTensor] = {}
    try:
        for name in _names(path):
            file = SourceFile(path / name)
            files.append(file)
            for tensor in _read_head(file):
                if tensor.name in tensors:
                    raise tensor.fail(f"stands in {tensors[tensor.name].file.path.name} too: keep one of them")
                tensors[tensor.name] = tensor
    except BaseException:
        for file in files:
            file.close()
        raise
    return Folder(path, config, tensors, tuple(files))


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """The object in a file of JSON.

    Raises:
        ForeignModelError: the file is missing, too large, or not a JSON object.
    """
    file = SourceFile(path)
    try:
        if file.size > MAX_JSON_BYTES:
            raise file.fail(f"has {file.size} bytes: needs at most {MAX_JSON_BYTES}")
        value = json.loads(file.read(0, file.size))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ForeignModelError):
            raise
        raise file.fail(f"is not JSON: {excerpt(str(error))}; copy it again") from None
    finally:
        file.close()
    if not isinstance(value, dict):
        raise ForeignModelError(f"[{path}] is not a JSON object: {hint}")
    return value


def _names(path: Path) -> list[str]:
    """The files that hold the tensors."""
    index = path / "model.safetensors.index.json"
    if index.exists():
        places = read_json(index, "it names the file of each tensor").get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise ForeignModelError(f"[{index}] lacks its weight_map: copy it again")
        names = sorted(set(places.values()))
        if len(names) > MAX_FILES or any(Path(name).name != name for name in names):
            raise ForeignModelError(f"[{index}] names files outside its folder, or too many: copy it again")
        for name in names:
            if not (path / name).exists():
                raise ForeignModelError(
                    f"[{path / name}] is missing, and the index names it: put all files into one folder"
                )
        return names
    names = sorted(file.name for file in path.glob("*.safetensors"))
    if not names:
        pickles = [file.name for file in (*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth"))]
        if pickles:
            raise ForeignModelError(
                f"[{path}] holds its weights as {pickles[0]}, a pickle, which can run any code: save the model as safetensors"
            )
        raise ForeignModelError(f"[{path}] holds no .safetensors file: give a folder that has one, or a GGUF file")
    return names


def _read_head(file: SourceFile) -> list[StoredTensor]:
    length = int.from_bytes(file.read(0, 8), "little") if file.size >= 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, file.size - 8):
        raise file.fail(f"is truncated or not a safetensors file: its header claims {length} bytes of {file.size}")
    try:
        entries = parse(file.read(8, length).decode(), "header")
    except (FormatError, UnicodeDecodeError) as error:
        raise file.fail(f"damaged: {error}") from None
    if not isinstance(entries, dict):
        raise file.fail("damaged: its header is not an object; copy it again")
    return [_stored(file, name, entry, 8 + length) for name, entry in entries.items() if name != "__metadata__"]


def _stored(file: SourceFile, name: str, entry: Any, start: int) -> StoredTensor:
    where = f"tensor {excerpt(name)}"
    entry = entry if isinstance(entry, dict) else {}
    kind, shape, place = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(kind, str) or kind not in _CODINGS:
        raise file.fail(f"{where} is of type {excerpt(kind)}: onebit reads {', '.join(_CODINGS)}")
    for values, what, most in ((shape, "shape", 1 << 31), (place, "data_offsets", 1 << 53)):
        if not isinstance(values, list) or not all(type(n) is int and 0 <= n <= most for n in values):
            raise file.fail(f"damaged: {where} has the {what} {excerpt(values)}; copy it again")
    shape = tuple(shape) or (1,)
    if not 1 <= len(shape) <= _MAX_AXES or 0 in shape or len(place) != 2:
        raise file.fail(f"damaged: {where} has the shape {excerpt(list(shape))}; copy it again")
    coding = _CODINGS[kind]
    tensor = StoredTensor(name, shape, coding, file, start + place[0])
    if place[1] - place[0] != math.prod(shape) * coding.block_bytes:
        raise tensor.fail(f"takes {place[1] - place[0]} bytes, its shape needs {tensor.nbytes}; copy the file again")
    if start + place[1] > file.size:
        raise tensor.fail(f"ends at byte {start + place[1]}, the file has {file.size}: it is truncated; copy it again")
    return tensor
