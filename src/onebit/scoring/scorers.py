"""Score records with a model. There is one scorer per kind of model. A record that cannot be scored gives the reason instead."""

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

# A zero among this many first bytes marks a binary file, as in training.
_TEXT_START_BYTES = 8192
Scores = dict[str, Any]


class Scorer(Protocol):
    """Scores records. `fields` are the columns of its scores."""

    fields: list[pa.Field]

    def score(self, records: Sequence[Record]) -> list[Scores | str]:
        """The scores of each record, or the reason why it has none."""


def make_scorer(session: Session, top: int = 5, logits: bool = False) -> Scorer:
    """The scorer for a model. Raises DataError if the model is neither an image classifier nor a language model."""
    if isinstance(session, TextSession):
        return TextScorer(session)
    if isinstance(session, ImageSession) and session.task is not None:
        return ImageScorer(session, top, logits)
    raise DataError(
        "[score] this model is neither an image classifier nor a language model, and cannot score: give another model"
    )


class ImageScorer:
    """Labels and probabilities of images, the same as from `ImageSession.classify`.

    Args:
        session: an image classifier.
        top: the most labels per image.
        logits: whether to return the logits too.
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
        """See `Scorer`. The images that decode run as one batch."""
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
    """The log-probabilities of texts.

    A text follows a separator. A text longer than the context is divided into windows that do not overlap, as in `onebit evaluate`. A token then
    has half a context before it on average. Shorter texts get the scores of `TextSession.score`.

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
    """An encoded image with a name for error messages."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _text(record: Record) -> str:
    content = record.content
    if isinstance(content, Path):
        content = content.read_bytes()
    if isinstance(content, bytes):
        if b"\0" in content[:_TEXT_START_BYTES]:
            raise DataError("is binary and not text: it contains zero bytes")
        try:
            content = content.decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8 at byte {error.start}: convert it") from None
    assert isinstance(content, str)
    if not content.strip():
        raise DataError("empty text")
    return content


def _guarded(work: Any, record: Record) -> Any:
    """The result of `work` for a record, or the reason why it failed."""
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
    ) as error:  # decoders raise all kinds of errors on damaged input, and one record must not end a run of millions
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
