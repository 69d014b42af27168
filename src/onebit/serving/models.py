"""The models of a server: loaded when first asked for, put away when memory is short, and replaced when their files were."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onebit.errors import OnebitError
from onebit.fileformat import PackedModel, load_model
from onebit.pretrained import find
from onebit.program import Shape
from onebit.runtime import ImageSession, ThreadPool, load
from onebit.runtime.session import MEMORY_CAP
from onebit.runtime.text import TextSession
from onebit.serving.embeddings import Embedder
from onebit.serving.image_worker import ImageWorker
from onebit.serving.job import Event
from onebit.serving.metrics import Metrics
from onebit.serving.refusal import Refusal
from onebit.serving.settings import Settings
from onebit.serving.text_worker import TextWorker
from onebit.task import TEXT_KINDS

Worker = TextWorker | ImageWorker


@dataclass(eq=False)
class Model:
    """A file that is served.

    Args:
        name: by which clients ask for it.
        path: the file.
        kind: its task's kind.
        task: its task, as the file has it, without the vocabulary.
        bytes: the file's size.
        created: when the file was written, in seconds since 1970.
        input_shape: of its program.
        outputs: logits for each image, or after each token.
        worker: what runs it, while it is in memory.
        embedder: the same for texts as vectors.
        used: when it was last asked for.
    """

    name: str
    path: Path
    kind: str
    task: dict[str, Any]
    bytes: int
    created: int
    input_shape: Shape
    outputs: int
    worker: Worker | None = None
    embedder: Embedder | None = None
    used: float = 0.0
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def writes(self) -> bool:
        """Whether it is a language model."""
        return self.kind in TEXT_KINDS


class Models:
    """All models of a server.

    Args:
        files: paths, or names of networks that come with the package.
        settings: the server's.
        metrics: where workers count.

    Raises:
        FormatError: a file is damaged.
        OnebitError: there is no file, or two have one name.
    """

    def __init__(self, files: Iterable[str | Path], settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._pool = ThreadPool(settings.engine_threads)
        self._all = describe_all(files)
        self._retired: list[Worker] = []
        metrics.gauges |= {
            "onebit_texts_live": lambda: sum(w.live for w in self._workers() if isinstance(w, TextWorker)),
            "onebit_prefixes_kept": lambda: sum(w.kept for w in self._workers() if isinstance(w, TextWorker)),
            "onebit_queue_length": lambda: sum(worker.waiting for worker in self._workers()),
            "onebit_models_loaded": lambda: sum(model.worker is not None for model in self),
            "onebit_model_memory_bytes": self.memory_bytes,
        }

    def __iter__(self) -> Any:
        return iter(self._all.values())

    def _workers(self) -> list[Worker]:
        self._retired = [worker for worker in self._retired if worker.busy]
        return [model.worker for model in self if model.worker is not None] + self._retired

    def memory_bytes(self) -> int:
        """Bytes of all models in memory."""
        vectors = sum(model.embedder.memory_bytes for model in self if model.embedder is not None)
        return vectors + sum(worker.session.memory_bytes for worker in self._workers())

    def find(self, name: str | None, writes: bool) -> Model:
        """A model by its name, or the first that does what is asked for. Raises Refusal if there is none."""
        if name is None:
            found = next((model for model in self if model.writes == writes), None)
            if found is None:
                raise Refusal(404, f"no model here {'writes text' if writes else 'takes images'}", "model")
            return found
        model = self._all.get(name)
        if model is None:
            known = ", ".join(self._all)
            raise Refusal(404, f"there is no model {name[:80]!r}: use {known}", "model", "model_not_found")
        if model.writes != writes:
            does = "writes text: use /v1/completions" if model.writes else "takes images: use /v1/classify"
            raise Refusal(400, f"the model {model.name} {does}", "model", "wrong_model")
        return model

    async def text_worker(self, model: Model) -> TextWorker:
        """The worker of a language model, which is loaded where it is not in memory."""
        worker = await self._worker(model)
        assert isinstance(worker, TextWorker)
        return worker

    async def image_worker(self, model: Model) -> ImageWorker:
        """The worker of an image network, which is loaded where it is not in memory."""
        worker = await self._worker(model)
        assert isinstance(worker, ImageWorker)
        return worker

    async def embedder(self, model: Model) -> Embedder:
        """What makes vectors of texts with a language model. Raises OnebitError if the model gives none."""
        model.used = time.monotonic()
        async with model.loading:
            if model.embedder is None:
                settings = self._settings
                options = settings.precision, self._pool, _cap(settings)
                model.embedder = await asyncio.to_thread(Embedder, model.path, *options)
                self._put_away(model)
        return model.embedder

    async def _worker(self, model: Model) -> Worker:
        model.used = time.monotonic()
        if model.worker is None:
            async with model.loading:
                if model.worker is None:
                    try:
                        model.worker = await self._load(model.path)
                    except (OnebitError, OSError, MemoryError) as error:
                        raise Refusal(503, f"the model {model.name} cannot be loaded: {error}") from None
                    self._put_away(model)
        return model.worker

    async def _load(self, path: Path) -> Worker:
        settings, loop = self._settings, asyncio.get_running_loop()
        session = await asyncio.to_thread(_load, path, settings, self._pool)
        if isinstance(session, ImageSession):
            return ImageWorker(session, settings.max_queue, self._metrics)
        post = _poster(loop)
        most = settings.max_concurrent, settings.max_queue, settings.prefixes
        return TextWorker(session, *most, self._metrics, post)

    def _put_away(self, kept: Model) -> None:
        """Free models until the others fit, those first that were not used for longest."""
        for model in sorted(self, key=lambda model: model.used):
            if self.memory_bytes() <= self._settings.memory << 20:
                return
            if model is not kept and not (model.worker is not None and model.worker.busy):
                self._retire(model)

    def _retire(self, model: Model) -> None:
        model.embedder = None
        if model.worker is not None:
            model.worker.close(wait=False)
            self._retired.append(model.worker)
            model.worker = None

    async def reload(self) -> list[str]:
        """Take files that were replaced, each whole or not at all. Texts that are being written end with the old one.

        Returns:
            A line for each model.
        """
        lines = []
        for model in self:
            async with model.loading:
                try:
                    fresh = await asyncio.to_thread(describe, model.path)
                    if fresh.kind != model.kind:
                        raise OnebitError(f"it is {fresh.kind} now, and was {model.kind}")
                    worker = await self._load(model.path) if model.worker is not None else None
                except (OnebitError, OSError, MemoryError) as error:
                    lines.append(f"{model.name}: the old one goes on: {error}")
                    continue
                self._retire(model)
                model.task, model.bytes, model.created = fresh.task, fresh.bytes, fresh.created
                model.input_shape, model.outputs, model.worker = fresh.input_shape, fresh.outputs, worker
                lines.append(f"{model.name}: read again, {fresh.bytes} bytes")
        return lines

    def end_by(self, moment: float) -> None:
        """End texts that still go on at a moment on the clock of `time.monotonic`, because the server ends."""
        for worker in self._workers():
            if isinstance(worker, TextWorker):
                worker.end_by(moment)

    def close(self) -> None:
        """Finish what was taken, and end all threads."""
        for worker in self._workers():
            worker.close()
        for model in self:
            model.worker = None


def describe_all(files: Iterable[str | Path]) -> dict[str, Model]:
    """Models by their names. Raises OnebitError if a file is damaged, there is none, or two have one name."""
    found: dict[str, Model] = {}
    for file in files:
        model = describe(find(file))
        if model.name in found:
            raise OnebitError(f"[serve] two files are named {model.name}: rename one")
        found[model.name] = model
    if not found:
        raise OnebitError("[serve] no file to serve: name one or more")
    return found


def describe(path: Path) -> Model:
    """What a file holds. Raises FormatError if it is damaged."""
    packed: PackedModel = load_model(path)
    status = path.stat()
    kind = str(packed.task["kind"])
    task = {name: value for name, value in packed.task.items() if name not in ("vocabulary", "tokenizer")}
    outputs = packed.shapes[packed.program.output][-1]
    written = int(status.st_mtime)
    return Model(path.stem, path, kind, task, status.st_size, written, packed.program.input_shape, outputs)


def _load(path: Path, settings: Settings, pool: ThreadPool) -> TextSession | ImageSession:
    cache: Any = settings.cache or None
    precision: Any = settings.precision
    is_text = describe(path).kind in TEXT_KINDS
    session = load(path, precision, pool, cache=cache if is_text else None, memory_cap=_cap(settings))
    if isinstance(session, TextSession | ImageSession):
        return session
    kind = describe(path).kind
    raise OnebitError(f"[{path}] its task, {kind}, is not served: use onebit.load, or classify")


def _cap(settings: Settings) -> int:
    """The most bytes of one model: a small --memory puts models away, and refuses none."""
    return max(MEMORY_CAP, settings.memory << 20)


def _poster(loop: asyncio.AbstractEventLoop) -> Callable[[list[Event]], None]:
    """Hand events to their requests in the thread of a loop."""

    def spread(events: list[Event]) -> None:
        for event in events:
            event.job.send(event)

    def post(events: list[Event]) -> None:
        if events and not loop.is_closed():
            loop.call_soon_threadsafe(spread, events)

    return post
