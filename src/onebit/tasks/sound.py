"""The task of a classifier of sounds: its labels, and all that decides how a recording becomes numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from onebit.strict_json import excerpt
from onebit.task_fields import is_above, is_list, labels_fault, names_fault, whole_fault
from onebit.tasks.array_task import ArrayTask, Shape

# Ten seconds at the highest rate, which bounds what a hostile file can ask for.
MAX_SAMPLES = 1 << 20
MAX_BANDS = 256
_WHOLE = {
    "sample_rate": (1_000, 192_000),
    "samples": (16, MAX_SAMPLES),
    "frame": (16, 1 << 14),
    "hop": (1, 1 << 14),
    "bands": (1, MAX_BANDS),
}


@dataclass(frozen=True)
class SoundTask(ArrayTask):
    """The task of a classifier of sounds, such as keywords. A run folder and a packed file contain it.

    Args:
        labels: one name per class, in the order of the logits.
        sample_rate: in Hz, that recordings are brought to.
        samples: of the window of time that is heard: one second by default.
        frame, hop: samples of each frame of the spectrum, and from one frame to the next.
        bands: bands of the mel scale, from `low_hz` to `high_hz`.
        floor: added to each band's power before the logarithm.
        mean, std: one number each. The network sees ``(log-mel - mean) / std``.
        file_names: how the names of files are made, such as ``"{label}_{speaker}_{take}"``; empty: speakers are not known.
        test_speakers, test_takes: those that were kept out of training; empty: a share of the recordings was.

    Raises:
        DataError: a field does not fit the others.
    """

    kind: ClassVar[str] = "audio-classification"

    labels: tuple[str, ...]
    sample_rate: int = 16_000
    samples: int = 16_000
    frame: int = 400
    hop: int = 160
    bands: int = 40
    low_hz: float = 20.0
    high_hz: float = 7_600.0
    floor: float = 1e-6
    mean: float = 0.0
    std: float = 1.0
    file_names: str = ""
    test_speakers: tuple[str, ...] = ()
    test_takes: tuple[str, ...] = ()

    @property
    def input_shape(self) -> Shape:
        """(frames, bands, 1)."""
        return 1 + (self.samples - self.frame) // self.hop, self.bands, 1

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (self.mean,), (self.std,)

    @classmethod
    def fault(cls, values: dict[str, Any]) -> str | None:
        labels = values.get("labels")
        if not is_list(labels):
            return "lacks its labels: needs a list of texts"
        found = labels_fault(labels) or next(
            filter(None, (whole_fault(values, n, *of) for n, of in _WHOLE.items())), None
        )
        if found:
            return found
        if values["frame"] > values["samples"]:
            return f"frame={values['frame']}: needs at most the {values['samples']} samples that are heard"
        for name, least in (("mean", -math.inf), ("std", 0.0), ("floor", 0.0), ("low_hz", -1e-9), ("high_hz", 0.0)):
            if not is_above(values.get(name), least):
                return f"{name}={excerpt(values.get(name))}: needs a finite number above {max(least, 0) if least > -1 else least}"
        if not values["low_hz"] < values["high_hz"] <= values["sample_rate"] / 2:
            return f"bands from {values['low_hz']} to {values['high_hz']} Hz: needs them below half of sample_rate"
        for name in ("test_speakers", "test_takes"):
            given = values.get(name)
            if not is_list(given):
                return f"{name}={excerpt(given)}: needs a list of texts"
            if fault := names_fault(given, name, "name"):
                return fault
        if not isinstance(values.get("file_names"), str):
            return f"file_names={excerpt(values.get('file_names'))}: needs a text"
        return None

    def output_fault(self, shape: Shape) -> str | None:
        if shape == (len(self.labels),):
            return None
        return f"names {len(self.labels)} labels, but the model gives {list(shape)} for a recording"
