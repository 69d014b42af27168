"""The kinds of tasks whose inputs are arrays, by their names in files. docs/architecture.md says what else a new kind needs."""

from __future__ import annotations

from onebit.tasks.array_task import ArrayTask
from onebit.tasks.pictures import DetectionTask, SegmentationTask
from onebit.tasks.series import SeriesClassification, SeriesRegression
from onebit.tasks.sound import SoundTask
from onebit.tasks.text_classes import TextClassification

KINDS: dict[str, type[ArrayTask]] = {
    kind.kind: kind
    for kind in (SoundTask, DetectionTask, SegmentationTask, SeriesClassification, SeriesRegression, TextClassification)
}
