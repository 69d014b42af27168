"""Recipes in files: YAML that is read without harm, in sections or flat as version 0.1.0 has it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from onebit.errors import RecipeError, shown
from onebit.paths import expand
from onebit.training.recipe.kinds import KINDS
from onebit.training.recipe.recipe import Recipe

# Of a recipe's file, in characters; those that come with the package have a hundredth of it.
LARGEST_RECIPE = 100_000
# Of what YAML may nest: the document, a list, and what is in it, with room to spare for a wrong one to be named by its key.
DEEPEST_YAML = 10


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = resources.files("onebit") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(source: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        source: the name of one that comes with the package, or a YAML file.

    Raises:
        RecipeError: the recipe does not exist, it is not YAML, or a key or value does not fit.
    """
    shipped = resources.files("onebit") / "recipes" / f"{source}.yaml"
    try:
        if str(source) in recipe_names():
            text = shipped.read_text("utf-8")
        else:
            with expand(source).open(encoding="utf-8") as file:
                text = file.read(LARGEST_RECIPE + 1)
    except IsADirectoryError:
        raise RecipeError(
            f"[{source}] is a folder: to train on own images use the recipe 'images' with --data {source}"
        ) from None
    except UnicodeDecodeError:
        raise RecipeError(f"[{source}] is not YAML: it is not UTF-8") from None
    except OSError:
        raise RecipeError(f"[{source}] no such recipe: use {', '.join(recipe_names())}, or a YAML file") from None
    if len(text) > LARGEST_RECIPE:
        raise RecipeError(f"[{source}] has more than {LARGEST_RECIPE:,} characters: that is not a recipe")
    try:
        tree = _read_yaml(text)
    except _YAML_ERRORS as error:
        raise RecipeError(f"[{source}] is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"[{source}] holds {type(tree).__name__}: needs keys with values, such as 'epochs: 10'")
    kind = tree.pop("kind", "images")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RecipeError(f"[{source}] kind={shown(kind)}: use {', '.join([*KINDS][:-1])} or {[*KINDS][-1]}")
    if kind not in ("images", "text"):
        return KINDS[kind]().override(tree, str(source))
    tree = _of_version_0_1_0(tree, kind == "images")
    if kind == "images":
        return KINDS[kind]().override(tree, str(source))
    try:
        return KINDS[kind](**{str(key): value for key, value in _with_form(tree).items()})
    except RecipeError as error:
        raise RecipeError(f"[{source}] {error}") from None


def parse_text(text: str) -> Any:
    """A flag's text as a recipe's value: YAML's notation, and `32,64` for a list."""
    if "(" in text:  # a scheme with options, as version 0.1.0 has it
        return text
    if "," in text and not text.startswith(("[", "{")):
        text = f"[{text}]"
    try:
        return _read_yaml(text)
    except _YAML_ERRORS:
        return text


# Keys that say something of the paper's schemes, with what version 0.1.0 had by default.
_OF_THE_PAPERS = {"values": ("unipolar", "01", 1), "normalize": ("channel",), "threshold": ("layer",)}
_OF_ANY = {"latent_spread": (1.0,), "latent_clip": ()}


def _of_version_0_1_0(tree: dict[Any, Any], images: bool) -> dict[Any, Any]:
    """A recipe that is flat means what it meant: other networks and schemes than the paper's passed over what it says of the paper's.

    Run folders of that version hold every key.
    """
    flat = {str(key).replace("-", "_"): value for key, value in tree.items()}
    named = _OF_THE_PAPERS.keys() | _OF_ANY.keys()
    scheme, model = flat.get("scheme"), flat.get("model")
    if isinstance(scheme, dict) or isinstance(model, dict) or not named & flat.keys():
        return tree
    papers = scheme is None or str(scheme).split("(")[0].strip() in ("Bipolar", "BinaryNormalized")
    own = model in (None, "classifier") if images else papers
    if images and scheme is None:
        flat["scheme"] = "BinaryNormalized"  # the only default then
    if own:
        return flat
    passed = {"values", "normalize"} if images else {"values", "threshold", "latent_clip"}
    passed |= {key for key, usual in (_OF_THE_PAPERS | _OF_ANY).items() if images and flat.get(key) in (None, *usual)}
    return {key: value for key, value in flat.items() if key not in passed}


def _with_form(tree: dict[Any, Any]) -> dict[Any, Any]:
    """A recipe of text without `form` is of the paper's where it was written before there were forms.

    Files of version 0.1.0 are flat. The run folders that came after it, before there were forms, hold every key.
    """
    model = tree.get("model")
    keys = {str(key).replace("-", "_") for key in (*tree, *(model if isinstance(model, dict) else ()))}
    flat = not any(isinstance(value, dict) for value in tree.values())
    if isinstance(model, dict) and {"form", "pre_norm", "hybrid"} <= keys and "positions" not in keys:
        return _with_the_forms_scheme(tree, model)
    if keys & {"form", "model.form"} or not (flat or {"warm_start", "hidden", "hybrid", "heads"} <= keys):
        return tree
    if isinstance(model, dict):
        return {**tree, "model": {**model, "form": "paper"}}
    return {**tree, "form": "paper"}


def _with_the_forms_scheme(tree: dict[Any, Any], model: dict[Any, Any]) -> dict[Any, Any]:
    """A run folder of when a form had one scheme: it holds the default scheme, which only the paper's form took."""
    if model["form"] == "paper":
        return tree
    return {key: value for key, value in tree.items() if key != "scheme"}


class _PlainYaml(yaml.SafeLoader):
    """YAML without references: a few hundred bytes of them stand for thousands of millions of values."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "references (*name) are not allowed: write the value out", mark
            )
        self.depth += 1
        if self.depth > DEEPEST_YAML:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "lists or keys within each other, many levels deep", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse a key that is there twice: YAML forbids it, and the first value would be lost without a word."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value).replace("-", "_")
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {shown(name)} is given twice: keep one", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


# Impossible dates and numbers, such as 2024-99-99, raise ValueError.
_YAML_ERRORS = (yaml.YAMLError, ValueError)


def _read_yaml(text: str) -> Any:
    return yaml.load(text, _PlainYaml)
