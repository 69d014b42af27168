"""Run a packed network with as many planes and layers as each input needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.early_exits import Spent, products_to_exits, spent_by
from onebit.errors import OnebitError
from onebit.fileformat import PackedModel
from onebit.nested_models import used_by
from onebit.ops.exit import certainty
from onebit.program import Program, Step

MakeEngine = Callable[[PackedModel], Any]


class Answers(list[list[tuple[str, float]]]):
    """What `ImageSession.classify` gives with a confidence: a list of labels with their probabilities for each image.

    Attributes:
        spent: what the images have cost.
    """

    spent: Spent


class Cascade:
    """A packed network with exits, or with models of fewer planes, or both: an input goes on while its answer is not probable enough.

    With exits the layers of the loaded planes are spent as needed. Without exits it begins with the fewest planes, and an input that this model is
    not sure of starts again with more. To do both was measured, and was worse than either.

    Args:
        model: of a file.
        make: makes an engine of a model; called once for each number of planes.

    Raises:
        OnebitError: the model has neither exits nor models of fewer planes.
    """

    def __init__(self, model: PackedModel, make: MakeEngine) -> None:
        models = passed_by(model)
        costs = [products_to_exits(m.program, m.shapes) for m in models]
        if len(models) == 1 and len(costs[0]) == 1:
            raise OnebitError(
                "[confidence] the network has neither exits nor fewer planes, so that all inputs cost the same: leave confidence out"
            )
        self._engines = [make(m) for m in models]
        self._whole = costs[-1][-1]
        self._stages: list[tuple[int, int, int]] = []
        self._first: list[int] = []  # the first stage of each model
        before = 0
        for m, own in zip(models, costs, strict=True):
            self._first.append(len(self._stages))
            last = len(own) - 1
            self._stages += [(m.planes, 0 if e == last else e + 1, before + cost) for e, cost in enumerate(own)]
            before += own[-1]
        self._alone = len(self._stages)  # the whole network without those before it

    def run(self, batch: NDArray[Any], confidence: float) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Logits (n, classes), and the index of the stage at which each input ended."""
        going_on = np.arange(len(batch))
        logits: NDArray[np.float32] | None = None
        places = np.zeros(len(batch), np.intp)
        certain = confidence >= 1  # nothing is: the whole network is asked at once
        for number, engine in enumerate(self._engines):
            if certain and number < len(self._engines) - 1:
                continue
            if not len(going_on) and logits is not None:
                break
            found, passed = engine.run_to_exits(np.ascontiguousarray(batch[going_on]), confidence)
            logits = np.zeros((len(batch), *found.shape[1:]), np.float32) if logits is None else logits
            logits[going_on] = found
            places[going_on] = self._alone if certain else self._first[number] + passed
            if number < len(self._engines) - 1:
                unsure = self._at_end(number, passed) & ~(certainty(found) > np.float32(confidence))
                going_on = going_on[unsure]
        assert logits is not None
        return logits, places

    @property
    def stages(self) -> list[tuple[int, int, int]]:
        """Planes, exit (0 is the end) and products of each stage, in the order in which an input passes them."""
        return list(self._stages)

    @property
    def whole(self) -> int:
        """The products of the whole network."""
        return self._whole

    def spent(self, places: NDArray[np.intp]) -> Spent:
        """What inputs that ended at these stages have cost."""
        if (places == self._alone).any():
            return spent_by(places.tolist(), [*self._stages, (self._stages[-1][0], 0, self._whole)], self._whole)
        return spent_by(places.tolist(), self._stages, self._whole)

    def _at_end(self, number: int, passed: NDArray[np.int32]) -> NDArray[np.bool_]:
        end = (
            (self._first[number + 1] if number + 1 < len(self._first) else len(self._stages)) - self._first[number] - 1
        )
        ended: NDArray[np.bool_] = passed == end
        return ended


def passed_by(model: PackedModel) -> tuple[PackedModel, ...]:
    """The models that an input passes, one after the other: this one alone if it has exits, else those of fewer planes first."""
    has_exits = any(step.op == "exit" for step in model.program.steps)
    return (model,) if has_exits else (*model.smaller, model)


def heads_of(model: PackedModel) -> list[PackedModel]:
    """A model for each stage of a cascade, which gives what that stage answers, without early ends."""
    found = []
    for one in passed_by(model):
        steps: list[Step] = []
        for step in one.program.steps:
            if step.op != "exit":
                steps.append(step)
                continue
            end = Step("scale", step.inputs, step.output, {"factor": 1.0})
            found.append(_with_program(one, replace(one.program, steps=(*steps, end), output=step.output)))
            steps.append(end)
        found.append(_with_program(one, replace(one.program, steps=tuple(steps))))
    return found


def _with_program(model: PackedModel, program: Program) -> PackedModel:
    return replace(model, program=program, tensors=used_by(program, model.tensors), smaller=())
