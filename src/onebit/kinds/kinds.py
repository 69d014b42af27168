"""The kinds of tasks whose inputs are arrays, by their names in files."""

from __future__ import annotations

from typing import Any

from onebit.kinds.detection import Detection
from onebit.kinds.kind import Kind
from onebit.kinds.segmentation import Segmentation
from onebit.kinds.series import Series
from onebit.kinds.sound import SoundKind
from onebit.kinds.text_classes import TextClasses

KINDS: dict[str, Kind] = {
    "detection": Detection(),
    "segmentation": Segmentation(),
    "audio-classification": SoundKind(),
    "series-classification": Series(),
    "series-regression": Series(),
    "text-classification": TextClasses(),
}


def kind_of(task: Any) -> Kind:
    """The kind of a task."""
    return KINDS[task.kind]
