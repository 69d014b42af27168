"""Load a packed model into the engine and run it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from onebit.early_exits import Spent, check_confidence
from onebit.errors import DataError, OnebitError
from onebit.fileformat import PackedModel, load_model
from onebit.image_task import ImageTask
from onebit.pretrained import find
from onebit.program import Program, Shape
from onebit.runtime.adaptive import Answers, Cascade
from onebit.runtime.answer import Answer, Labels
from onebit.runtime.threads import ThreadPool, thread_count
from onebit.task import TEXT_KINDS
from onebit.tasks.kinds import KINDS

if TYPE_CHECKING:
    from onebit.runtime.tensors import TensorSession
    from onebit.runtime.text import TextSession

Precision = Literal["int8", "float32"]
Cache = Literal["bf16", "int8"]


class Session:
    """A packed model in the engine: the common part of `ImageSession`, `TextSession` and those of other tasks. `load` returns one of these.

    Several Python threads may use one session; they take turns. Different sessions run at the same time, unless they share a `ThreadPool`.
    """

    program: Program
    _engine: Any

    @property
    def precision(self) -> str:
        """``"int8"`` or ``"float32"``."""
        return str(self._engine.precision)

    @property
    def threads(self) -> int:
        """The number of threads that the engine uses."""
        return int(self._engine.threads)

    @property
    def isa(self) -> str:
        """The instruction set of the kernels."""
        return str(self._engine.isa)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory in the engine: weights in its layouts, activations, and KV caches of texts."""
        return int(self._engine.memory_bytes)

    @property
    def arena_bytes(self) -> int:
        """Bytes of the memory block that holds all activations. Pages that no run has written yet do not take memory."""
        return int(self._engine.arena_bytes)

    @property
    def shareable(self) -> bool:
        """Deprecated: several Python threads may use any session; they take turns."""
        warnings.warn("Session.shareable is always true, and deprecated", DeprecationWarning, stacklevel=2)
        return True

    def answer(self, source: str | Path, top: int = 5) -> Answer:
        """What the model says of one file, as `onebit classify` prints it.

        Args:
            source: the path.
            top: the most labels.

        Raises:
            DataError: the file cannot be used.
            OnebitError: the model takes no files.
        """
        raise OnebitError("[classify] this model is not an image network: use generate, score or logits")

    def plan(self) -> list[dict[str, Any]]:
        """The steps that the engine runs, in order.

        Returns:
            A dictionary for each step: ``step`` (with the steps fused into it), ``value`` (the name of its result), ``shape``, ``how`` (its
            kernel and the layout of its weights, "" for plain loops), ``offset`` and ``bytes`` of its result in the block of activations,
            and ``weight_bytes``.
        """
        steps: list[dict[str, Any]] = self._engine.plan()
        return steps


# The default limit of bytes for a program's weights, activations and working memory.
MEMORY_CAP = 4 << 30
# Float32 pixels go from 0 to 1. Values at or above this limit have another scale.
_FLOAT_LIMIT = 16.0


def engine_options(
    precision: str,
    threads: int | ThreadPool | None,
    isa: str | None = None,
    memory_cap: int = MEMORY_CAP,
    pin_threads: bool = False,
) -> dict[str, Any]:
    """The checked arguments of an engine. None threads become one per core."""
    if not isinstance(precision, str) or precision not in ("int8", "float32"):
        raise OnebitError(f"[load] precision={precision!r}: use 'int8' or 'float32'")
    pool = threads._pool if isinstance(threads, ThreadPool) else None
    count = threads.threads if isinstance(threads, ThreadPool) else thread_count(threads, "load")
    if not isinstance(memory_cap, int) or not 1 <= memory_cap < 1 << 62:
        raise OnebitError(f"[load] memory_cap={memory_cap!r}: use a number of bytes from 1 up")
    if isa is not None and (not isinstance(isa, str) or not isa.isascii()):
        raise OnebitError(f"[load] isa={isa!r}: use the name of an instruction set, or None for the best of this CPU")
    if not isinstance(pin_threads, bool):
        raise OnebitError(f"[load] pin_threads={pin_threads!r}: use True or False")
    if pin_threads and pool is not None:
        raise OnebitError(
            "[load] pin_threads=True and a pool, whose threads run already: use onebit.ThreadPool(threads, pin_threads=True)"
        )
    return {
        "precision": precision,
        "threads": count,
        "isa": isa,
        "memory_cap": memory_cap,
        "pin": pin_threads,
        "pool": pool,
    }


def engine_of(model: PackedModel, options: dict[str, Any]) -> Any:
    """An engine for arrays. Raises OnebitError if the program does not fit this machine or the options."""
    # Imported here so that the NumPy reference and `info` work without the engine.
    from onebit._engine import Engine

    try:
        return Engine(model.program.to_json(), model.tensors, **options)
    except ValueError as error:
        raise OnebitError(str(error)) from None


def decoder_of(model: PackedModel, options: dict[str, Any], cache: Cache | None) -> Any:
    """An engine for tokens. Raises OnebitError if the program does not fit this machine or the options."""
    # Imported here so that `info` works without the engine.
    from onebit._engine import Decoder

    try:
        return Decoder(model.program.to_json(), model.tensors, **options, cache=cache)
    except ValueError as error:
        raise OnebitError(str(error)) from None


class ArraySession(Session):
    """A packed network of arrays in the engine: the common part of `ImageSession` and those of other kinds of tasks.

    Call it with a batch for the network's outputs:

    Args:
        batch: ``(n, *input_shape)``: float32, or uint8 of which 255 stands for 1.

    Returns:
        float32 ``(n, *output_shape)``.

    Raises:
        DataError: the batch has another shape or type.

    Several threads may share a session; their calls run one after the other.
    """

    task: Any

    def __init__(
        self,
        model: PackedModel,
        precision: Precision = "int8",
        threads: int | ThreadPool | None = None,
        isa: str | None = None,
        memory_cap: int = MEMORY_CAP,
        pin_threads: bool = False,
        device: str = "cpu",
    ) -> None:
        options = engine_options(precision, threads, isa, memory_cap, pin_threads)
        if on_gpu(device):
            # Imported here because only a GPU needs PyTorch.
            from onebit.gpu.engine import GpuEngine

            self._engine = GpuEngine(model, precision, device)
        else:
            self._engine = engine_of(model, options)
        self._model = model
        self._options = options
        self._cascade: Cascade | None = None
        self._cascade_lock = threading.Lock()
        self.program = model.program
        self.task = self._task_of(model.task)
        self.input_shape: Shape = model.program.input_shape
        self.output_shape: Shape = model.shapes[model.program.output]

    @staticmethod
    def _task_of(values: dict[str, Any]) -> Any:
        """The task of a file; None where it is not known."""
        kind = KINDS.get(values["kind"])
        return None if kind is None else kind.from_json(values)

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        self._check_batch(batch)
        try:
            return self._engine.run(batch)
        except ValueError as error:  # inside a signal handler, while this session computes
            raise OnebitError(str(error)) from None

    def whole(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The outputs of the whole network, of which no input ends early; arguments and errors as for a call."""
        if not any(step.op == "exit" for step in self.program.steps):
            return self(batch)
        self._check_batch(batch)
        outputs: NDArray[np.float32] = self._engine.run_to_exits(batch, 1.0)[0]
        return outputs

    def _check_batch(self, batch: NDArray[Any]) -> None:
        if not isinstance(batch, np.ndarray) or batch.dtype not in (np.uint8, np.float32):
            found = batch.dtype if isinstance(batch, np.ndarray) else type(batch).__name__
            raise DataError(f"[Session] a batch of {found}: give a NumPy array of uint8 (0 to 255) or float32 (0 to 1)")
        if batch.shape[1:] != self.input_shape or batch.ndim != 1 + len(self.input_shape):
            raise DataError(
                f"[Session] a batch of shape {batch.shape}: give (n, {', '.join(map(str, self.input_shape))})"
            )
        self._check_values(batch)

    def _check_values(self, batch: NDArray[Any]) -> None:
        """Refuse values that this kind of task cannot have; raises DataError."""


class ImageSession(ArraySession):
    """A packed image network in the engine. `load` returns it.

    Call it with a batch of images for logits:

    Args:
        batch: (n, height, width, channels) in the model's own size: uint8 pixels, or float32 from 0 to 1.

    Returns:
        float32 logits (n, classes).

    Raises:
        DataError: the batch has another shape or type, or the batch for an image classifier contains NaN or values of 16 and more, such as
            float32 pixels from 0 to 255.

    Several threads may share a session; their calls run one after the other.
    """

    task: ImageTask | None

    @staticmethod
    def _task_of(values: dict[str, Any]) -> ImageTask | None:
        return ImageTask.from_json(values) if values["kind"] == "image-classification" else None

    def _check_values(self, batch: NDArray[Any]) -> None:
        if self.task is not None and batch.dtype == np.float32 and batch.size:
            # Scaling may leave values a little outside 0 to 1. NaN fails this test too.
            least, most = float(batch.min()), float(batch.max())
            if not (least > -_FLOAT_LIMIT and most < _FLOAT_LIMIT):
                raise DataError(
                    f"[Session] a batch of float32 from {least:g} to {most:g}: give uint8 (0 to 255), or divide by 255 (0 to 1)"
                )

    def answer(self, source: str | Path, top: int = 5) -> Labels:
        return Labels(tuple(self.classify([source], top)[0]))

    def run_adaptively(
        self, batch: NDArray[Any], confidence: float
    ) -> tuple[NDArray[np.float32], NDArray[np.intp], Callable[[NDArray[np.intp]], Spent]]:
        """Logits of a batch, with planes and layers spent only where an answer is not probable enough; see `classify`.

        Args:
            batch: as for a call of the session.
            confidence: the probability of an answer above which an input ends, above 0 and at most 1.

        Returns:
            The logits (n, classes), the stage at which each input ended (n), and a function from stages to what such inputs cost.

        Raises:
            DataError: the batch has another shape or type.
            OnebitError: the confidence is out of range, or the network has neither exits nor models of fewer planes.
        """
        limit = check_confidence("Session.classify", confidence)
        with self._cascade_lock:
            if self._cascade is None:
                self._cascade = Cascade(self._model, self._engine_for)
        self._check_batch(batch)
        try:
            logits, places = self._cascade.run(batch, limit)
        except ValueError as error:  # inside a signal handler, while this session computes
            raise OnebitError(str(error)) from None
        return logits, places, self._cascade.spent

    def _engine_for(self, model: PackedModel) -> Any:
        """The session's own engine, or one for a model of fewer planes."""
        if not hasattr(self._engine, "run_to_exits"):
            raise OnebitError("[Session.classify] confidence: a GPU runs the whole network: load with device='cpu'")
        return self._engine if model is self._model else engine_of(model, self._options)

    def classify(
        self, images: Sequence[str | Path | NDArray[np.uint8]], top: int = 5, confidence: float | None = None
    ) -> list[list[tuple[str, float]]]:
        """Classify images of any size.

        Args:
            images: paths, or uint8 arrays (height, width[, channels]).
            top: the number of labels per image.
            confidence: of a network with exits or planes: the probability of an answer above which no more is spent on an image, above 0 and at
                most 1. None: the network ends where its file says.

        Returns:
            For each image, its most probable labels with their probabilities, the most probable first. With a confidence the list has an
            attribute `spent`, which says what the images cost (`onebit.early_exits.Spent`).

        Raises:
            DataError: an image does not decode.
            OnebitError: the model is not an image classifier, or the confidence does not fit.
        """
        if self.task is None:
            raise OnebitError(
                "[Session.classify] this model is not an image classifier: call the session with its input"
            )
        # Only image files need Pillow; arrays do not.
        from onebit.images import load_image

        if top < 1:
            raise OnebitError(f"[Session.classify] top={top}: use 1 or more")
        if isinstance(images, (str, Path, np.ndarray)):
            raise DataError("[Session.classify] give a list of images, even for one")
        answers = Answers()
        places = []
        for image in images:  # one at a time, because a folder of photos may not fit in memory
            pixels = load_image(image, self.task.image_size, self.task.channels)[None]
            if confidence is None:
                logits = self(pixels)
            else:
                logits, place, spent = self.run_adaptively(pixels, confidence)
                places.append(int(place[0]))
            answers.append(best_labels(softmax(logits)[0], self.task.labels, top))
        if places:
            answers.spent = spent(np.array(places))
        return answers


def best_labels(probabilities: NDArray[np.float32], labels: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The most probable labels with their probabilities, the most probable first."""
    best = np.argsort(-probabilities, kind="stable")[:top]
    return [(labels[i], float(probabilities[i])) for i in best]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities: NDArray[np.float32] = powers / powers.sum(-1, keepdims=True)
    return probabilities


class LoadOptions(TypedDict, total=False):
    """The keyword arguments of `load`."""

    precision: Precision
    threads: int | ThreadPool | None
    isa: str | None
    cache: Cache | None
    memory_cap: int
    pin_threads: bool
    device: str
    planes: int | None
    prefix: bool


def on_gpu(device: str) -> bool:
    """Whether a session computes on a GPU. Triton's interpreter takes the place of one in tests.

    Raises:
        OnebitError: it is not the name of a device, or a GPU cannot be used.
    """
    if device == "cpu":
        return False
    if not isinstance(device, str):
        raise OnebitError(f"[load] device={device!r}: use 'cpu', 'cuda' or 'cuda:N'")
    from onebit.gpu import device_for

    device_for(device)
    return True


def load(
    path: str | Path,
    precision: Precision = "int8",
    threads: int | ThreadPool | None = None,
    isa: str | None = None,
    cache: Cache | None = None,
    memory_cap: int = MEMORY_CAP,
    pin_threads: bool = False,
    device: str = "cpu",
    planes: int | None = None,
    prefix: bool = False,
) -> ImageSession | TextSession | ArraySession | TensorSession:
    """Load a packed model to run it.

    `load_image_session` and `load_text_session` take the same keywords. Use them if you know the kind of model.

    Args:
        path: a `.onebit` file, or the name of a network that comes with the package: ``"books"``, which writes English.
        precision: ``"int8"`` (activations quantised to 8 bits, exact integer sums, fast) or ``"float32"`` (as in PyTorch).
        threads: the number of threads (default one per core), or a `ThreadPool` to share with other sessions.
        isa: the instruction set. The default is the environment variable ONEBIT_ISA, or else the best that this CPU supports.
        cache: the number type of a language model's KV cache: ``"bf16"`` or ``"int8"`` (about half the memory, with one scale per token and
            head). The default is int8 for contexts of 2,048 to 65,536 tokens and bf16 for others. ``precision="float32"`` uses float32 and
            does not take `cache`.
        memory_cap: the most bytes for weights, activations and working memory. A program that needs more is refused before they are
            allocated. The KV cache beyond a text's first token is not counted, because it grows with the text.
        pin_threads: keep each thread that the engine starts on its own core, if the system supports that.
        device: ``"cpu"``, or ``"cuda"`` (``"cuda:1"``, ...) for a GPU, which needs the extra ``gpu``. There `threads`, `isa`, `memory_cap` and
            `pin_threads` have no effect, and the KV cache is bf16.
        planes: the number of bits of a weight that are used, of a file that holds models of several numbers; None for all. Fewer cost fewer
            products.
        prefix: the file may be only the beginning of such a file: the largest model that is whole in it is loaded.

    Returns:
        An `ImageSession` for an image network, a `TextSession` for a language model, or the session of another kind of task.

    Raises:
        FormatError: the file is damaged, foreign or of an unknown version.
        OnebitError: the program needs more memory than the cap, an argument is out of range, the CPU lacks the instruction set, or the GPU
            does not exist or does not run an op of the program.

    Example:
        >>> session = onebit.load("digits.onebit")
        >>> session.classify(["three.png"], top=1)
        [[('...', 0...)]]
        >>> "".join(onebit.load("books").generate("It was", temperature=0, max_new_tokens=3))
        '...'
    """
    model = load_model(find(path), planes, prefix)
    if model.task["kind"] in TEXT_KINDS:
        # Imported here because images do not need it.
        from onebit.runtime.text import TextSession

        return TextSession(model, precision, threads, isa, cache, memory_cap, pin_threads, device)
    if cache is not None:
        raise OnebitError(
            f"[load] cache={cache!r}: this model is not a language model and has no KV cache: leave cache out"
        )
    # Imported here because these build on the classes above.
    from onebit.runtime.kinds import SESSIONS
    from onebit.runtime.tensors import TensorSession

    if model.task["kind"] not in SESSIONS and (model.task["kind"] == "tensors" or not model.program.takes_one_array):
        if on_gpu(device):
            raise OnebitError(
                f"[load] device={device!r}: a model of several inputs, or of integers, runs on the CPU only"
            )
        return TensorSession(model, precision, threads, isa, memory_cap, pin_threads)
    kind = SESSIONS.get(model.task["kind"], ImageSession)
    return kind(model, precision, threads, isa, memory_cap, pin_threads, device)


def load_image_session(path: str | Path, **options: Unpack[LoadOptions]) -> ImageSession:
    """`load` for an image network. Raises OnebitError if the file contains a language model."""
    session = load(path, **options)
    if isinstance(session, ImageSession):
        return session
    if isinstance(session, ArraySession):
        raise OnebitError(
            f"[{path}] this model is not an image network: its task is {session.task.kind}; use onebit.load"
        )
    if not session.program.tokens:
        raise OnebitError(f"[{path}] this model is not an image network: it takes tensors; use onebit.load and run")
    raise OnebitError(f"[{path}] this model is not an image network: use generate, score or logits")


def load_text_session(path: str | Path, **options: Unpack[LoadOptions]) -> TextSession:
    """`load` for a language model. Raises OnebitError if the file contains an image network."""
    session = load(path, **options)
    if isinstance(session, ArraySession):
        raise OnebitError(f"[{path}] this model is not a language model: use classify, or call the session with images")
    from onebit.runtime.text import TextSession

    if isinstance(session, TextSession):
        return session
    raise OnebitError(f"[{path}] this model is not a language model: it takes tensors; use onebit.load and run")
