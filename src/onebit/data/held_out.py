"""The data to measure a trained network on: the part held out in its training, if that is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onebit.data.images import ImageSet
from onebit.data.load import has_test_part, load_parts, load_test_images, match_classes
from onebit.data.record import DataRecord, fingerprint_images, fingerprint_text
from onebit.data.text import WIKITEXT, load_evaluation_text, load_validation_text
from onebit.data.tokens import TextSet, Unit
from onebit.images import ImageTask
from onebit.subwords import AnyTextTask

_UNKNOWN = "the network has no record of what it was trained on"
_OTHER = "it is not what the network was trained on, or has changed since"


class ImagesToMeasure(NamedTuple):
    """Images, and whether all of them are known to be held out from training.

    Args:
        images: the images, with the classes of the network.
        part: "test", or "all" if they may include images from training.
        notes: what a user should know, one sentence each.
    """

    images: ImageSet
    part: str
    notes: list[str]


def images_to_measure(data: str, task: ImageTask, record: DataRecord | None) -> ImagesToMeasure:
    """The images of `data` to measure a trained network on.

    Data with a test part give that part. The data that the network was trained on give the part that was held out then. Any other data give
    all images.

    Args:
        data: see `onebit.data.load_images`.
        task: the task of the network.
        record: the record of its training; None if there is none.

    Raises:
        DataError: the data cannot be used, or contain a class that the network does not know.
    """
    if has_test_part(data):
        images = load_test_images(data, task, 0)
        return ImagesToMeasure(images, "test", list(images.notes))
    if record is not None and fingerprint_images(data) == record.data:
        images = load_test_images(data, task, record.seed)
        return ImagesToMeasure(images, "test", list(images.notes))
    first, second = load_parts(data, task.image_size, task.channels, least_classes=1)
    both = ImageSet(
        np.concatenate([first.pixels, second.pixels]), np.concatenate([first.labels, second.labels]), first.classes
    )
    why = _UNKNOWN if record is None else _OTHER
    note = f"{data}: {why}. All {len(both)} images are measured and may include images from training"
    return ImagesToMeasure(match_classes(both, task, data), "all", [note, *first.notes])


def text_to_measure(source: str, task: AnyTextTask, unit: Unit, record: DataRecord | None) -> tuple[TextSet, list[str]]:
    """The text of a source to measure a trained language model on, and notes for the user.

    A named data set gives its test part. The text that the model was trained on gives the part that was held out then. Any other text is used
    as a whole.

    Args:
        source: see `onebit.data.text.load_text`.
        task: the task of the model.
        unit: what separators divide: documents or lines.
        record: the record of its training; None if there is none.

    Raises:
        DataError: the source cannot be used, or does not contain text.
    """
    known = None if record is None else fingerprint_text(source)
    if source in WIKITEXT or (record is not None and known is not None and known == record.validation):
        return load_evaluation_text(source, task, unit)
    if record is not None and known == record.data and record.validation is None:
        text, notes = load_validation_text(source, task, unit, None, record.share, record.seed)
        return text, [f"{source}: the model was trained on it. Its held-out part is measured", *notes]
    if record is not None and known == record.data:
        why = "the model was trained on all of it"
    else:
        why = f"{_UNKNOWN if record is None else _OTHER}. All of it is measured and may include text from training"
    text, notes = load_evaluation_text(source, task, unit)
    return text, [f"{source}: {why.replace('network', 'model')}", *notes]
