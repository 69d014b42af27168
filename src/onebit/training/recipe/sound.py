"""Recipes for classifiers of sounds, such as keywords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from onebit.training.recipe.recipe import Recipe
from onebit.training.recipe.section import key
from onebit.training.recipe.shared import Data, Execution, Model, Optimizer, Schedule, SchemeParts, Teaching
from onebit.training.recipe.values import require


@dataclass(frozen=True)
class SoundData(Data):
    """The recordings, and how they are divided and changed."""

    source: str = key(
        "tones",
        "a folder with one folder of WAV files for each class, or with files whose names tell their class; or tones or words, which are made on "
        "the spot (words needs espeak-ng)",
        short="data",
    )
    file_names: str = key(
        "",
        "how the names of files are made, of {label}, {speaker} and {take}; empty: {label}_{speaker}_{take} where all lie in one folder",
    )
    test_speakers: tuple[str, ...] | None = key(
        None, "speakers that are kept out of training; null: a fifth of them, where there are three or more"
    )
    test_takes: tuple[int, ...] | None = key(
        None, "numbers of takes that are kept out of training instead, as in 0,1,2,3,4; null: none", least=0
    )
    seconds: float = key(1.0, "of each recording that is heard; its loudest part", above=0.05, most=10)
    validation_share: float = key(
        0.1, "share of the training recordings that chooses the best epoch; 0: the last epoch counts", least=0, below=1
    )
    augment: Literal["none", "shift", "all"] = key(
        "all",
        "shift: each spectrum is moved in time; all: noise is added too, bands are moved, and a strip of frames and one of bands are masked",
    )


@dataclass(frozen=True)
class SoundModel(Model):
    """The network, and its sizes."""

    name: str = key(
        "ds-cnn", "ds-cnn: separable convolutions, the depthwise of floats, the pointwise of bits", short="model"
    )
    width: int = key(64, "channels of every layer", least=1, most=4096)
    blocks: int = key(4, "depthwise and pointwise convolutions", least=1, most=64)
    hybrid: bool = key(True, "the first and the last layer stay float")
    calibrate: bool = key(True, "fits a temperature to the validation recordings at the end; needs a validation_share")

    def check(self) -> None:
        require(self.name == "ds-cnn", "model", self.name, "ds-cnn")


@dataclass(frozen=True)
class SoundScheme(SchemeParts):
    """The scheme of the binary layers, and parts of it that the recipe changes; any other option of the scheme is a key too."""

    name: str = key(
        "BinaryWeightNetwork", "the method that makes bits of latents, one of `onebit.schemes`", short="scheme"
    )


@dataclass(frozen=True, init=False)
class SoundRecipe(Recipe):
    """What decides the training of a classifier of sounds; optimised by Adam."""

    kind: ClassVar[str] = "sound"

    data: SoundData
    model: SoundModel
    scheme: SoundScheme
    optimizer: Optimizer
    schedule: Schedule
    teacher: Teaching
    run: Execution
