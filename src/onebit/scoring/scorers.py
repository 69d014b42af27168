"""What a model says of records: one scorer for each kind of model. A record that cannot be scored gives the reason in place of its scores."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onebit.errors import DataError
from onebit.images import load_image
from onebit.metrics import nats_of
from onebit.runtime.session import ImageSession, Session, softmax
from onebit.runtime.text import TextSession
from onebit.scoring.records import Record

# Bytes in which a zero tells a binary file from text, as where text is read to train on.
_TEXT_START_BYTES = 8192
Scores = dict[str, Any]


class Scorer(Protocol):
    """Scores records; `fields` are the columns that it fills."""

    fields: list[pa.Field]

    def score(self, records: Sequence[Record]) -> list[Scores | str]:
        """For each record its scores, or why it has none."""


def make_scorer(session: Session, top: int = 5, logits: bool = False) -> Scorer:
    """The scorer for a model; raises DataError where it neither classifies images nor judges text."""
    if isinstance(session, TextSession):
        return TextScorer(session)
    if isinstance(session, ImageSession) and session.task is not None:
        return ImageScorer(session, top, logits)
    raise DataError(
        "[score] this model is neither a classifier of images nor a language model: it has no scores to give"
    )


class ImageScorer:
    """Labels and probabilities of images, those that `ImageSession.classify` gives.

    Args:
        session: a classifier.
        top: how many labels; as many as there are where there are fewer.
        logits: whether they are given too.
    """

    def __init__(self, session: ImageSession, top: int = 5, logits: bool = False) -> None:
        assert session.task is not None
        self._session, self._task = session, session.task
        self._top, self._logits = top, logits
        self.fields = [
            pa.field("label", pa.string()),
            pa.field("label_index", pa.int32()),
            pa.field("probability", pa.float32()),
            pa.field("top_labels", pa.list_(pa.string())),
            pa.field("top_probabilities", pa.list_(pa.float32())),
            *([pa.field("logits", pa.list_(pa.float32()))] if logits else []),
        ]

    def score(self, records: Sequence[Record]) -> list[Scores | str]:
        """See `Scorer`; the images that decode run as one batch."""
        decoded = [_guarded(self._pixels, record) for record in records]
        good = [pixels for pixels in decoded if not isinstance(pixels, str)]
        rows = iter(self._session(np.stack(good)) if good else ())
        return [pixels if isinstance(pixels, str) else self._scores(next(rows)) for pixels in decoded]

    def _pixels(self, record: Record) -> NDArray[np.uint8]:
        content = record.content
        source = _NamedBytes(content, record.id) if isinstance(content, bytes) else content
        assert isinstance(source, (Path, io.BytesIO))
        return load_image(source, self._task.image_size, self._task.channels)

    def _scores(self, logits: NDArray[np.float32]) -> Scores:
        probabilities = softmax(logits)
        best = np.argsort(-probabilities, kind="stable")[: self._top]
        labels = [self._task.labels[i] for i in best]
        scores = {
            "label": labels[0],
            "label_index": int(best[0]),
            "probability": float(probabilities[best[0]]),
            "top_labels": labels,
            "top_probabilities": probabilities[best].tolist(),
        }
        return {**scores, "logits": logits.tolist()} if self._logits else scores


class TextScorer:
    """How probable texts are.

    A text follows a separator. One that is longer than the context is judged in windows that do not overlap, as `onebit evaluate` does, so that a
    token of it has half a context before it on average; shorter ones get what `TextSession.score` gives.

    Args:
        session: a language model.
    """

    def __init__(self, session: TextSession) -> None:
        self._session = session
        self.fields = [
            pa.field("tokens", pa.int64()),
            pa.field("log_probability", pa.float64()),
            pa.field("bits_per_byte", pa.float64()),
            pa.field("perplexity", pa.float64()),
        ]

    def score(self, records: Sequence[Record]) -> list[Scores | str]:
        """See `Scorer`."""
        return [_guarded(self._scores, record) for record in records]

    def _scores(self, record: Record) -> Scores:
        text = _text(record)
        ids = np.array([self._session.tokenizer.separator, *self._session.tokenizer.encode(text)], np.int64)
        count = len(ids) - 1
        if not count:
            raise DataError("the text has no token")
        nats = 0.0
        for start in range(0, count, self._session.context):
            end = min(start + self._session.context, count)
            logits = self._session.logits(ids[start:end].tolist())
            nats += float(nats_of(logits, ids[start + 1 : end + 1])[0].sum(dtype=np.float64))
        mean = nats / count
        return {
            "tokens": count,
            "log_probability": -nats,
            "bits_per_byte": nats / math.log(2) / len(text.encode()),
            "perplexity": math.exp(mean) if mean < 700 else math.inf,
        }


class _NamedBytes(io.BytesIO):
    """An encoded image with the name that messages about it have."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _text(record: Record) -> str:
    content = record.content
    if isinstance(content, Path):
        content = content.read_bytes()
    if isinstance(content, bytes):
        if b"\0" in content[:_TEXT_START_BYTES]:
            raise DataError("binary, no text: it holds zero bytes")
        try:
            content = content.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8 at byte {error.start}: convert it") from None
    assert isinstance(content, str)
    if not content.strip():
        raise DataError("empty text")
    return content


def _guarded(work: Any, record: Record) -> Any:
    """What `work` makes of a record, or why nothing came of it."""
    if record.content is None:
        return record.problem
    try:
        return work(record)
    except DataError as error:
        return " ".join(str(error).split())
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except (
        Exception
    ) as error:  # decoders raise what they like on damaged input, and one record must not end a run of millions
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
