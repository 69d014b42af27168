"""Recipes for classifiers of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from onebit.training.recipe.recipe import Recipe
from onebit.training.recipe.section import key
from onebit.training.recipe.shared import Data, Execution, Model, Optimizer, Schedule, SchemeParts, Teaching
from onebit.training.recipe.values import require


@dataclass(frozen=True)
class TextClassesData(Data):
    """The texts with their classes, and how they become tokens."""

    source: str = key(
        "code-or-prose",
        "a CSV file, or a folder with a folder of .txt files for each class; or code-or-prose, which is made of Python's own modules",
        short="data",
    )
    text_column: str = key("text", "the column of a CSV file that holds the texts")
    label_column: str = key("label", "the column of a CSV file that holds their classes")
    unit: Literal["file", "paragraph"] = key("file", "what of a text file is one text")
    vocabulary: int = key(1024, "how many WordPiece tokens to make from the training texts", least=259)
    validation_share: float = key(
        0.1, "share of the training texts that chooses the best epoch; 0: the last epoch counts", least=0, below=1
    )


@dataclass(frozen=True)
class TextClassesModel(Model):
    """The network, and its sizes."""

    name: str = key("decoder", "decoder: causal blocks, and a dense layer of floats at the last token", short="model")
    context: int = key(64, "tokens that the network looks at at once", least=1, most=1 << 20)
    blocks: int = key(2, "blocks of the decoder", least=1)
    features: int = key(64, "features of each token", least=1)
    heads: int = key(4, "heads of attention, a divisor of features", least=1)

    def check(self) -> None:
        require(self.name == "decoder", "model", self.name, "decoder")


@dataclass(frozen=True)
class TextClassesScheme(SchemeParts):
    """The scheme of the binary layers, and parts of it that the recipe changes; any other option of the scheme is a key too."""

    name: str = key(
        "BinaryWeightNetwork", "the method that makes bits of latents, one of `onebit.schemes`", short="scheme"
    )


@dataclass(frozen=True, init=False)
class TextClassesRecipe(Recipe):
    """What decides the training of a classifier of texts; optimised by Adam."""

    kind: ClassVar[str] = "text-classes"

    data: TextClassesData
    model: TextClassesModel
    scheme: TextClassesScheme
    optimizer: Optimizer
    schedule: Schedule
    teacher: Teaching
    run: Execution
