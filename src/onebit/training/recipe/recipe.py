"""What a recipe of any kind is: sections, each key of which a flag overrides."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_type_hints

import yaml

from onebit.errors import RecipeError, shown
from onebit.training.recipe.section import Key, Section, keys_of
from onebit.training.recipe.shared import Data, Execution, Model, Optimizer, Schedule, SchemeParts, Teaching
from onebit.training.recipe.values import require

LONGEST_KEY = 100
Changes = dict[str, dict[str, Any]]


@dataclass(frozen=True, init=False)
class Recipe:
    """What decides a training run of any kind. A run with the same recipe on the same machine gives the same network.

    It is made from sections, or from keys by their short names: ``ImageRecipe(epochs=3)`` is
    ``ImageRecipe(schedule={"epochs": 3})``.

    Raises:
        RecipeError: a key is unknown, or a value does not fit.
    """

    kind: ClassVar[str]
    # Whether a sharded network of this kind is worth its traffic, and whether Adam's weight decay is decoupled from its gradients (AdamW).
    shardable: ClassVar[bool] = False
    decoupled_weight_decay: ClassVar[bool] = False

    data: Data
    model: Model
    scheme: SchemeParts
    optimizer: Optimizer
    schedule: Schedule
    teacher: Teaching
    run: Execution

    def __init__(self, **values: Any) -> None:
        changes = self._placed(values)
        for name, section in sections_of(type(self)).items():
            object.__setattr__(self, name, section(**changes.get(name, {})))
        self._check()

    def _check(self) -> None:
        """Refuse sections that do not go together; raises RecipeError."""
        _ = self.scheme.made, self.optimizer.made  # here, and not where a section is made: it needs PyTorch
        name, stage = self.optimizer.name, self.schedule.first_stage_epochs
        of_bits: dict[str, Any] = {
            "optimizer": name,
            "pull": self.optimizer.pull,
            "cage": self.optimizer.cage,
            "estimator": self.optimizer.estimator,
            "learned_scales": self.model.learned_scales,
            "first_stage_epochs": stage,
        }
        for key, value in of_bits.items():
            usual = value in ("adam", "sgd", "muon", "straight-through", 0)
            require(self.model.binary or usual, key, value, "it with binary=true only")
        fits = name != "bop" or not self.model.learned_scales
        require(fits, "learned_scales", True, "optimizer=adam with it: the bits of bop have no scales")
        fits = name != "bop" or not stage
        require(fits, "first_stage_epochs", stage, "optimizer=adam with it: bop has no float weights")

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            key = short_names(type(self)).get(name)
            where = f": it is .{key.section}.{key.name}" if key else ""
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{where}")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values: its kind, and every key in its section."""
        return {"kind": self.kind, **{one.name: getattr(self, one.name).to_dict() for one in fields(self)}}

    def to_yaml(self) -> str:
        """The recipe as YAML, every key."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def flat(self) -> dict[str, Any]:
        """Every key by its short name."""
        return {short: getattr(getattr(self, key.section), key.name) for short, key in short_names(type(self)).items()}

    def override(self, values: Mapping[str, Any], where: str = "recipe") -> Self:
        """The recipe with other values for some keys.

        Args:
            values: by short names (``epochs``), by names with their section (``schedule.epochs``), or whole sections as mappings.
            where: the command, for messages.

        Raises:
            RecipeError: a key is unknown, or a value does not fit.
        """
        if not isinstance(values, Mapping):
            raise RecipeError(
                f"[{where}] values of type {type(values).__name__}: give a dict of keys, such as {{'epochs': 10}}"
            )
        try:
            changes = self._placed(values)
            return type(self)(**{one.name: self._changed(one.name, changes) for one in fields(self)})
        except RecipeError as error:
            raise RecipeError(f"[{where}] {error}") from None

    def _changed(self, section: str, changes: Changes) -> Section:
        before: Section = getattr(self, section)
        values = {**self._dropped(section, changes), **changes.get(section, {})}
        if "options" in values and "name" not in values:
            values["options"] = {**self.scheme.options, **values["options"]}
        return replace(before, **values) if values else before

    def _dropped(self, section: str, changes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """What a section no longer says where others of its keys are changed."""
        return {}

    @classmethod
    def _elsewhere(cls, given: Any, name: str) -> str | None:
        """What is said of a key that these recipes do not have, but recipes of another kind or the options of schemes do."""
        from onebit.schemes import SCHEMES

        for other in Recipe.__subclasses__():
            if name in short_names(other):
                return f"unknown key {shown(given)}: it is of recipes of {other.kind}, and this is one of {cls.kind}"
        if any(name == one.name for scheme in SCHEMES.values() for one in fields(scheme)):
            return f"unknown key {shown(given)}: an option of the scheme is given as scheme.{name}"
        return None

    @classmethod
    def _placed(cls, values: Mapping[str, Any]) -> Changes:
        """Values by their sections, which take them by the names that they have there."""
        changes: Changes = {}
        for given, value in values.items():
            name = str(given)[:LONGEST_KEY].replace("-", "_")
            section, _, inner = name.partition(".")
            key = short_names(cls).get(name)
            if section not in sections_of(cls) or (key is not None and not isinstance(value, Mapping | Section)):
                if key is None:
                    raise RecipeError(cls._elsewhere(given, name) or _unknown(given, short_names(cls)))
                found = {key.name: value}
                section = key.section
            elif isinstance(value, Section):
                found = {one.name: getattr(value, one.name) for one in fields(value)}
            elif inner or isinstance(value, Mapping):
                found = _in_section(sections_of(cls)[section], {inner: value} if inner else value)
            else:
                raise RecipeError(f"{name}={shown(value)}: give its keys, such as {name}: {{seed: 0}}")
            held = changes.setdefault(section, {})
            if "options" in found and "options" in held:
                found = {**found, "options": {**held["options"], **found["options"]}}
            twice = sorted((held.keys() & found.keys()) - {"options"})
            if twice:
                raise RecipeError(
                    f"{section}.{twice[0]} is given twice, in its section and by its short name: keep one"
                )
            held.update(found)
        return changes


def _in_section(section: type[Section], values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a section by their names; what a scheme has beyond its own keys are options of it."""
    known = {key.short: key.name for key in keys_of(section)} | {key.name: key.name for key in keys_of(section)}
    found: dict[str, Any] = {}
    for given, value in values.items():
        name = str(given)[:LONGEST_KEY].replace("-", "_")
        if name in known:
            found[known[name]] = value
        elif issubclass(section, SchemeParts):
            found.setdefault("options", {})[name] = value
        else:
            raise RecipeError(_unknown(f"{section.section}.{name}", [key.name for key in keys_of(section)]))
    return found


def _unknown(given: Any, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(str(given)[:LONGEST_KEY].replace("-", "_").rpartition(".")[2], known, 1)
    meant = f"; did you mean {close[0]!r}?" if close else f": use one of {', '.join(known)}"
    return f"unknown key {shown(given)}{meant}"


def sections_of(recipe: type[Recipe]) -> dict[str, type[Section]]:
    """The sections of a kind of recipe by their names."""
    hints = get_type_hints(recipe)
    return {one.name: hints[one.name] for one in fields(recipe)}


def short_names(recipe: type[Recipe]) -> dict[str, Key]:
    """Every key of a kind of recipe by its short name."""
    return {key.short: key for section in sections_of(recipe).values() for key in keys_of(section)}
