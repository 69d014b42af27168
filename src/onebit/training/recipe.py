"""Recipes: what to train, on what, and how; typed keys in YAML, each of which a flag overrides."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from onebit.errors import RecipeError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run. A run with the same recipe on the same machine gives the same network.

    The keys and their meaning:

    Args:
        data: digits, cifar10, food101, mnist, fashion-mnist, or a path to a folder of images or IDX files.
        image_size: [height, width] in pixels; null keeps the data's own.
        channels: 1 (grey) or 3 (RGB).
        validation_share: of the training images, to choose the best epoch by; 0: the last epoch counts, test images are only watched.
        train_limit: at most so many training images, balanced over the classes; null for all.
        augment: none, flip (left to right), or crop-flip (also shifted by up to an eighth of the side).
        kernel_size, widths, hidden, values, normalize, batch_norm, logit_scale, binary: of the network; see `onebit.models.conv_classifier`.
        epochs: how often each training image is seen.
        batch_size: images in a step.
        learning_rate: the highest of the schedule; Adam's.
        weight_decay: Adam's.
        warmup: steps (or epochs, see schedule_unit) in which the learning rate rises to its highest.
        schedule: constant, linear or cosine, after the warm-up.
        decay: steps (or epochs) from the start until the rate reaches 0; null: the end of training.
        schedule_unit: step or epoch, what warmup and decay count.
        precision: auto (bfloat16 where the machine computes in it), float32 or bf16.
        seed: of latents, order, augmentation and splits.
        threads: of PyTorch; null: one for each core.
    """

    data: str = "digits"
    image_size: tuple[int, int] | None = None
    channels: Literal[1, 3] = 3
    validation_share: float = 0.0
    train_limit: int | None = None
    augment: Literal["none", "flip", "crop-flip"] = "none"
    kernel_size: int = 3
    widths: str | tuple[int, ...] = "counted"
    hidden: tuple[int, ...] | None = None
    binary: bool = True
    values: Literal["01", "pm1"] = "01"
    normalize: Literal["channel", "example", "batch"] | None = "channel"
    batch_norm: bool = False
    logit_scale: float | None = None
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    decay: int | None = None
    schedule_unit: Literal["step", "epoch"] = "step"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("kernel_size", "epochs", "batch_size"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("train_limit", "threads", "decay"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "1 or more, or null")
        for name in ("weight_decay", "warmup", "seed"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        _require(0 <= self.validation_share < 1, "validation_share", self.validation_share, "0 or more, below 1")
        for name in ("image_size", "widths", "hidden"):
            value = getattr(self, name)
            sizes = value if isinstance(value, tuple) else (1,)
            _require(len(sizes) > 0 and all(size >= 1 for size in sizes), name, value, "numbers from 1 up")
        _require(self.widths in ("counted", "listed") or not isinstance(self.widths, str), "widths", self.widths,
                 "counted, listed or a list of channels")  # fmt: skip
        _require(
            self.logit_scale is None or self.logit_scale > 0,
            "logit_scale",
            self.logit_scale,
            "a number above 0, or null",
        )
        _require(
            not (self.binary and self.batch_norm),
            "batch_norm",
            True,
            "binary=false with it, or normalize=batch instead",
        )

    def to_yaml(self) -> str:
        """The recipe as YAML, every key."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return yaml.safe_dump(plain, sort_keys=False)

    def override(self, values: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """The recipe with other values for some keys; raises RecipeError where a key is unknown or a value does not fit."""
        hints = get_type_hints(Recipe)
        changes = {}
        for key, value in values.items():
            name = str(key).replace("-", "_")
            if name not in hints:
                close = difflib.get_close_matches(name, hints, 1)
                meant = f"; did you mean {close[0]!r}?" if close else f": use one of {', '.join(hints)}"
                raise RecipeError(f"[{where}] unknown key {key!r}{meant}")
            try:
                changes[name] = _coerce(value, hints[name])
            except (TypeError, ValueError):
                raise RecipeError(f"[{where}] {key}={value!r}: needs {describe_type(hints[name])}") from None
        try:
            return replace(self, **changes)
        except RecipeError as error:
            raise RecipeError(f"[{where}] {error}") from None


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = resources.files("onebit") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(source: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        source: the name of one that comes with the package, or a YAML file.

    Raises:
        RecipeError: there is none, it is not YAML, or a key or value does not fit.
    """
    shipped = resources.files("onebit") / "recipes" / f"{source}.yaml"
    try:
        if str(source) in recipe_names():
            text = shipped.read_text("utf-8")
        else:
            text = Path(source).read_text("utf-8")
    except IsADirectoryError:
        raise RecipeError(
            f"[{source}] is a folder: to train on own images use the recipe 'images' with --data {source}"
        ) from None
    except (OSError, UnicodeDecodeError):
        raise RecipeError(f"[{source}] no such recipe: use {', '.join(recipe_names())}, or a YAML file") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"[{source}] is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"[{source}] holds {type(tree).__name__}: needs keys with values, such as 'epochs: 10'")
    return Recipe().override(tree, str(source))


def parse_text(text: str) -> Any:
    """A flag's text as a recipe's value: YAML's notation, and `32,64` for a list."""
    if "," in text and not text.startswith("["):
        text = f"[{text}]"
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def describe_type(hint: Any) -> str:
    """A type in a user's words."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe_type(a) for a in arguments)
    if get_origin(hint) is Literal:
        return " or ".join(repr(a) for a in arguments)
    if get_origin(hint) is tuple:
        return f"a list of {'integers' if arguments[-1] is Ellipsis else f'{len(arguments)} integers'}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    return names[hint]


def _coerce(value: Any, hint: Any) -> Any:
    """`value` as the type `hint`, with no guessing beyond a text that spells a number."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        for argument in sorted(arguments, key=lambda a: a is str):  # a list is never meant as a text
            try:
                return _coerce(value, argument)
            except (TypeError, ValueError):
                continue
        raise ValueError
    if get_origin(hint) is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        # YAML reads an unquoted 01 as the number 1.
        if "01" in arguments and value == 1 and not isinstance(value, bool):
            return "01"
        raise ValueError
    if get_origin(hint) is tuple:
        if isinstance(value, int) and not isinstance(value, bool):
            value = [value] * (1 if arguments[-1] is Ellipsis else len(arguments))
        if not isinstance(value, (list, tuple)) or (arguments[-1] is not Ellipsis and len(value) != len(arguments)):
            raise TypeError
        return tuple(_coerce(v, int) for v in value)
    if hint is type(None):
        if value is None or value == "none":
            return None
        raise ValueError
    if hint is float:
        # YAML 1.1 reads 1e-3 as a text.
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not math.isfinite(float(value)):
            raise ValueError
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise TypeError
    return value


def _require(holds: bool, key: str, value: Any, allowed: str) -> None:
    if not holds:
        raise RecipeError(f"{key}={value!r}: use {allowed}")


KEYS = tuple(field.name for field in fields(Recipe))
