"""A section of a recipe: keys that belong together, each with its meaning, its default and its limits in one place."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, get_type_hints

from onebit.training.recipe.values import describe_type, fitting, require


def key(
    default: Any,
    meaning: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    short: str | None = None,
) -> Any:
    """A key of a section.

    Args:
        default: where a recipe says nothing.
        meaning: what it decides, for the documentation and the command's help.
        least, above, most, below: limits of a number, or of each number of a list.
        short: its name outside of its section, as flags and flat files have it; None: its own.
    """
    limits = {"least": least, "above": above, "most": most, "below": below}
    return field(default=default, metadata={"meaning": meaning, "short": short, "limits": limits})


@dataclass(frozen=True)
class Section:
    """Keys that belong together; a subclass adds checks of what does not go together in `check`.

    Raises:
        RecipeError: a value is of another type, or out of its limits.
    """

    section: ClassVar[str]

    def __post_init__(self) -> None:
        for one in keys_of(type(self)):
            value = fitting(one.short, getattr(self, one.name), one.hint)
            object.__setattr__(self, one.name, value)
            one.check(value)
        self.check()

    def check(self) -> None:
        """Refuse keys that do not go together; raises RecipeError."""

    def to_dict(self) -> dict[str, Any]:
        """The keys as plain values."""
        values = {one.name: getattr(self, one.name) for one in keys_of(type(self))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def given(self, *names: str) -> dict[str, Any]:
        """The values of some keys, those that are not null, as keywords of what takes them by the same names."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Key:
    """A key as its section declares it.

    Args:
        section, name: where it is in a recipe.
        short: its name outside of its section.
        hint: its type.
        default, meaning: as declared.
        limits: of numbers, those that are set.
    """

    section: str
    name: str
    short: str
    hint: Any
    default: Any
    meaning: str
    limits: dict[str, float]

    def check(self, value: Any) -> None:
        """Refuse numbers beyond the limits; null passes where the key's type lets it."""
        if not self.limits:
            return
        numbers = value if isinstance(value, tuple) else (value,)
        numbers = tuple(number for number in numbers if isinstance(number, int | float))
        holds = all(self._holds(number) for number in numbers) and (bool(numbers) or not isinstance(value, tuple))
        require(holds, self.short, value, self.allowed(isinstance(value, tuple)))

    def _holds(self, number: float) -> bool:
        limits = self.limits
        return (
            number >= limits.get("least", number)
            and number <= limits.get("most", number)
            and ("above" not in limits or number > limits["above"])
            and ("below" not in limits or number < limits["below"])
        )

    def allowed(self, many: bool = False) -> str:
        """The limits in a user's words; empty where there are none."""
        limits = {name: f"{limit:,g}" for name, limit in self.limits.items()}
        low = f"{limits['least']} or more" if "least" in limits else ""
        low = f"a number above {limits['above']}" if "above" in limits else low
        high = f"at most {limits['most']}" if "most" in limits else ""
        high = f"below {limits['below']}" if "below" in limits else high
        if many:
            return f"numbers from {limits['least']} up"
        return ", ".join(filter(None, (low, high)))

    @property
    def values(self) -> str:
        """What it may be, in a user's words: its type and its limits."""
        limits = self.allowed().removeprefix("a number ")
        return ", ".join(filter(None, (describe_type(self.hint).replace("'", ""), limits)))


def keys_of(section: type[Section]) -> tuple[Key, ...]:
    """The keys that a section declares, first the one that goes by the section's own name."""
    hints = get_type_hints(section)
    keys = [_key(section.section, one, hints[one.name]) for one in fields(section) if "meaning" in one.metadata]
    return tuple(sorted(keys, key=lambda key: key.short != section.section))


def _key(section: str, one: Field[Any], hint: Any) -> Key:
    limits = {name: limit for name, limit in one.metadata["limits"].items() if limit is not None}
    short = one.metadata["short"] or one.name
    return Key(section, one.name, short, hint, one.default, one.metadata["meaning"], limits)
