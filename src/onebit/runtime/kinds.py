"""The sessions of kinds of tasks whose inputs are arrays, by the names of the kinds in files; a kind without one is run as arrays alone."""

from __future__ import annotations

from onebit.runtime.pictures import DetectionSession, SegmentationSession
from onebit.runtime.series import SeriesSession
from onebit.runtime.session import ArraySession
from onebit.runtime.sound import SoundSession
from onebit.runtime.text_classes import TextClassSession
from onebit.tasks.kinds import KINDS

SESSIONS: dict[str, type[ArraySession]] = dict.fromkeys(KINDS, ArraySession) | {
    "audio-classification": SoundSession,
    "series-classification": SeriesSession,
    "series-regression": SeriesSession,
    "detection": DetectionSession,
    "segmentation": SegmentationSession,
    "text-classification": TextClassSession,
}
