"""The training of a classifier of sounds."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from onebit.answer_metrics import LabelMetrics
from onebit.data.arrays import ArraySplits
from onebit.data.sound import load_sounds
from onebit.models import ds_cnn
from onebit.sound import LogMel
from onebit.tasks.sound import SoundTask
from onebit.training.arrays import Augment
from onebit.training.jobs.arrays import ArrayJob
from onebit.training.recipe.sound import SoundRecipe

# Of a second: the furthest that a spectrum is moved, and the longest strip of frames that is masked.
_SHIFT = 0.1
_MASKED_FRAMES, _MASKED_BANDS = 0.2, 0.2
_MOVED_BANDS = 2


class SoundJob(ArrayJob):
    """Recordings and their classes."""

    recipe_kind: ClassVar = SoundRecipe
    task_kind: ClassVar = SoundTask
    calibrates: ClassVar = True

    @staticmethod
    def read(recipe: SoundRecipe) -> tuple[ArraySplits, SoundTask]:
        data = recipe.data
        how = LogMel(samples=round(data.seconds * LogMel.sample_rate))
        takes = tuple(str(number) for number in data.test_takes or ())
        splits, classes, kept_out = load_sounds(
            data.source,
            how,
            data.file_names,
            data.test_speakers,
            takes,
            data.validation_share,
            recipe.run.seed,
        )
        heard = splits.train.inputs
        mean, std = float(heard.mean(dtype=np.float64)), float(heard.std(dtype=np.float64))
        task = SoundTask(
            classes,
            samples=how.samples,
            mean=mean,
            std=std,
            file_names=data.file_names,
            test_speakers=kept_out,
            test_takes=takes,
        )
        return splits, task

    @staticmethod
    def network(recipe: SoundRecipe, task: SoundTask) -> nn.Module:
        model = recipe.model
        scheme = recipe.scheme.made if model.binary else None
        return ds_cnn(len(task.labels), scheme=scheme, **model.given("width", "blocks", "hybrid", "logit_scale"))

    @staticmethod
    def augment(recipe: SoundRecipe, task: SoundTask) -> Augment | None:
        how = recipe.data.augment
        if how == "none":
            return None

        def change(
            spectra: NDArray[Any], targets: NDArray[Any], random: np.random.Generator
        ) -> tuple[NDArray[Any], NDArray[Any]]:
            changed = shifted(spectra, round(_SHIFT * task.sample_rate / task.hop), 1, random)
            if how == "all":
                changed = shifted(changed, _MOVED_BANDS, 2, random)
                changed = masked(noisy(changed, random), task.mean, random)
            return changed, targets

        return change

    @staticmethod
    def metrics(task: SoundTask) -> LabelMetrics:
        return LabelMetrics(task.labels)

    @staticmethod
    def told(result: dict[str, Any]) -> str:
        return f"accuracy {100 * result['test_accuracy']:.2f} % on {result['test_inputs']} test recordings"


def shifted(spectra: NDArray[Any], most: int, axis: int, random: np.random.Generator) -> NDArray[Any]:
    """Spectra (batch, frames, bands, 1), each moved along an axis by up to `most`; what is at the edge is repeated."""
    size = spectra.shape[axis]
    moves = random.integers(-most, most + 1, len(spectra))
    places = np.clip(np.arange(size) + moves[:, None], 0, size - 1)  # (batch, size)
    shape = [1] * spectra.ndim
    shape[0], shape[axis] = len(spectra), size
    return np.take_along_axis(spectra, places.reshape(shape), axis)


def noisy(spectra: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Spectra, half of them with noise of any level below their loudest band, of a slope over the bands of its own."""
    count, frames, bands = spectra.shape[:3]
    loudest = spectra.max((1, 2), keepdims=True)
    level = loudest - random.uniform(6, 18, (count, 1, 1, 1))  # in nats: 26 to 78 dB
    slope = random.uniform(-2, 2, (count, 1, 1, 1)) * np.linspace(-1, 1, bands)[None, None, :, None]
    noise = level + slope + 0.5 * random.normal(size=(count, frames, bands, 1))
    chosen = random.random((count, 1, 1, 1)) < 0.5
    return np.where(chosen, np.logaddexp(spectra, noise), spectra).astype(np.float32)


def masked(spectra: NDArray[Any], value: float, random: np.random.Generator) -> NDArray[Any]:
    """Spectra with a strip of frames and a strip of bands set to a value.

    Source: Park et al., SpecAugment, arXiv 1904.08779, section 2.
    """
    changed = spectra.copy()
    for axis, share in ((1, _MASKED_FRAMES), (2, _MASKED_BANDS)):
        size = spectra.shape[axis]
        widths = random.integers(0, max(1, round(share * size)) + 1, len(spectra))
        starts = (random.random(len(spectra)) * (size - widths + 1)).astype(np.int64)
        places = np.arange(size)
        hidden = (places >= starts[:, None]) & (places < (starts + widths)[:, None])  # (batch, size)
        changed = np.where(
            hidden[:, :, None, None] if axis == 1 else hidden[:, None, :, None], np.float32(value), changed
        )
    return changed
