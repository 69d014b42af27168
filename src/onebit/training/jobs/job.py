"""What training needs to know of a kind of recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from torch import nn

from onebit.image_task import ImageTask
from onebit.tasks.array_task import ArrayTask
from onebit.text import TextTask
from onebit.training.batches import TrainingData
from onebit.training.objective import Objective
from onebit.training.recipe import Recipe

Note = Callable[[str], object]
AnyTask = ImageTask | TextTask | ArrayTask


class Job(Protocol):
    """One training of one kind: made from a recipe, it holds everything that is not the same for all kinds.

    To add a kind: a recipe, a class of this form, and a row of `onebit.training.jobs.which.JOBS`.

    Args:
        recipe: what to train, on what, and how.
        note: takes lines for the user.

    Raises:
        DataError: the data cannot be used.
        OnebitError: the network cannot be built, or does not fit the data.
    """

    recipe_kind: ClassVar[type[Recipe]]
    task_kind: ClassVar[type[ImageTask] | type[TextTask] | type[ArrayTask]]

    task: AnyTask
    """Goes with the run and into the packed file."""
    model: nn.Module
    """Fresh, from the recipe's seed."""
    data: TrainingData
    """Batches to train on and to validate on."""
    objective: Objective
    """The loss, and the figures of an epoch."""
    monitor: str | None
    """The figure that chooses the best epoch; None: the last one counts."""

    def __init__(self, recipe: Any, note: Note) -> None: ...

    @staticmethod
    def prepare(recipe: Any) -> None:
        """Make once what several processes read."""

    @staticmethod
    def build(recipe: Any, task: Any) -> nn.Module:
        """The network that a recipe describes, for the classes or the vocabulary of a task."""
        ...

    def check_start(self, task: AnyTask, path: str) -> None:
        """Refuse to start from the weights of a run with this task; raises OnebitError."""

    @staticmethod
    def told(result: dict[str, Any]) -> str:
        """The figures of a finished run's result.json in words."""
        ...

    def test(self, trained: nn.Module) -> dict[str, Any]:
        """The figures of the finished network, for result.json."""
        ...
