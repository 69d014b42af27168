"""Recipes for classes and numbers of sensors' measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from onebit.training.recipe.recipe import Recipe
from onebit.training.recipe.section import key
from onebit.training.recipe.shared import Data, Execution, Model, Optimizer, Schedule, SchemeParts, Teaching
from onebit.training.recipe.values import require


@dataclass(frozen=True)
class SeriesData(Data):
    """The measurements, and how they are cut into windows and divided."""

    source: str = key(
        "vibration",
        "a CSV file, a folder of them, or a folder with a folder of them for each class; or vibration, which is made on the spot",
        short="data",
    )
    task: Literal["classification", "regression"] = key(
        "classification", "what is said of a window: a class, or a number"
    )
    columns: tuple[str, ...] | None = key(
        None, "columns of numbers to look at; null: all but the target and those that tell the time"
    )
    target: str | None = key(
        None,
        "the column that says each row's class, or the number to predict; null: the folders' names are the classes",
    )
    length: int = key(128, "rows of a window", least=1, most=1 << 20)
    stride: int | None = key(
        None, "rows from the start of a window to that of the next; null: half of length", least=1, most=1 << 20
    )
    validation_share: float = key(
        0.1,
        "share of the recordings that are not for tests, which chooses the best epoch; 0: the last epoch counts",
        least=0,
        below=1,
    )


@dataclass(frozen=True)
class SeriesModel(Model):
    """The network, and its sizes."""

    name: str = key(
        "conv1d", "conv1d: convolutions over time, and their mean (`onebit.models.series_network`)", short="model"
    )
    widths: tuple[int, ...] = key((32, 64, 64), "channels of each convolution", least=1)
    kernel_size: int = key(5, "steps that a convolution sees, odd", least=1)
    hybrid: bool = key(True, "the first convolution and the last layer stay float")
    calibrate: bool = key(True, "fits a temperature of the classes at the end; needs a validation_share")

    def check(self) -> None:
        require(self.name == "conv1d", "model", self.name, "conv1d")


@dataclass(frozen=True)
class SeriesScheme(SchemeParts):
    """The scheme of the binary layers, and parts of it that the recipe changes; any other option of the scheme is a key too."""

    name: str = key(
        "BinaryWeightNetwork", "the method that makes bits of latents, one of `onebit.schemes`", short="scheme"
    )


@dataclass(frozen=True, init=False)
class SeriesRecipe(Recipe):
    """What decides the training of a network of sensors' measurements; optimised by Adam."""

    kind: ClassVar[str] = "series"

    data: SeriesData
    model: SeriesModel
    scheme: SeriesScheme
    optimizer: Optimizer
    schedule: Schedule
    teacher: Teaching
    run: Execution
