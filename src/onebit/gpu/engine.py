"""What sessions use in place of the engine: programs on a GPU, with the same calls."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onebit.errors import OnebitError
from onebit.fileformat import PackedModel
from onebit.gpu.network import Network, Place
from onebit.gpu.setup import device_for


class _Runner:
    """The common part: a network on a device, and what a session asks of an engine."""

    arena_bytes = 0
    threads = 1

    def __init__(self, model: PackedModel, precision: str, device: str) -> None:
        self.device = device_for(device)
        self.precision = precision
        self.isa = self._name()
        self._network = Network(model.program, model.tensors, model.shapes, precision, self.device)
        self._lock = threading.Lock()

    @property
    def memory_bytes(self) -> int:
        """Bytes of the weights on the device."""
        return self._network.memory_bytes

    def plan(self) -> list[dict[str, Any]]:
        """Nothing: steps are not fused, and PyTorch places their results."""
        return []

    def time_nodes(self) -> None:
        """Raises OnebitError: only the engine times its steps."""
        raise OnebitError("[session] the times of steps are measured on the CPU only: load the file without device")

    def _name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "Triton's interpreter"


class GpuEngine(_Runner):
    """A program over arrays on a GPU. Its sums of levels are the engine's; other ops differ by roundings.

    Args:
        model: a packed model.
        precision: ``"int8"`` or ``"float32"``.
        device: as in `onebit.load`.

    Raises:
        OnebitError: the device does not exist, or the program has steps that a GPU does not run here.
    """

    @torch.no_grad()
    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Compute a batch, uint8 or float32 (n, *input shape), to float32 (n, *output shape)."""
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        with self._lock:
            found: NDArray[np.float32] = self._network.run(x).cpu().numpy()
        return found


class GpuDecoder(_Runner):
    """A program over tokens on a GPU, with the keys and values of any number of sequences. As `GpuEngine`.

    A single token is computed by a CUDA graph, which is recorded for each sequence at its first one.
    """

    def __init__(self, model: PackedModel, precision: str, device: str) -> None:
        super().__init__(model, precision, device)
        self.context = self._network.context
        self.outputs = model.shapes[model.program.output][-1]
        self.cache = "float32" if precision == "float32" else "bf16"
        self._texts: dict[int, _Text] = {}
        self._free: list[_Text] = []

    def open(self) -> int:
        """A new, empty sequence. The memory and the graph of a closed one serve again."""
        with self._lock:
            number = next(n for n in range(len(self._texts) + 1) if n not in self._texts)
            text = self._free.pop() if self._free else _Text(self._network)
            text.length = 0
            self._texts[number] = text
            return number

    def close(self, sequence: int) -> None:
        """Forget a sequence; its number may be given again."""
        with self._lock:
            self._free.append(self._texts.pop(sequence))

    def length(self, sequence: int) -> int:
        """How many tokens it has."""
        return self._texts[sequence].length

    def cut(self, sequence: int, length: int) -> None:
        """Forget its tokens from `length` on."""
        text = self._texts[sequence]
        if not 0 <= length <= text.length:
            raise ValueError(f"[cut] length={length}: the sequence has {text.length} tokens")
        text.length = length

    def fork(self, sequence: int, length: int) -> int:
        """A new sequence with a copy of the first `length` tokens of one."""
        return self.restore(length, np.frombuffer(self._texts[sequence].saved(length), np.uint8))

    def save(self, sequence: int) -> bytes:
        """The keys and values of a sequence's tokens."""
        text = self._texts[sequence]
        return text.saved(text.length)

    def restore(self, length: int, saved: NDArray[np.uint8]) -> int:
        """A new sequence of `length` tokens, of what `save` gave."""
        number = self.open()
        try:
            self._texts[number].take(length, saved)
        except ValueError:
            self.close(number)
            raise
        return number

    def extend(
        self, sequences: Sequence[int], counts: Sequence[int], tokens: NDArray[np.int32], all: bool = False
    ) -> NDArray[np.float32]:
        """Append counts[i] of the tokens to sequences[i]; the outputs after each token (`all`), or after the last of each sequence."""
        texts = [self._texts[number] for number in sequences]
        for text, count in zip(texts, counts, strict=True):
            if text.length + count > self.context:
                raise ValueError(
                    f"[extend] {text.length} and {count} more tokens do not fit in a context of {self.context}"
                )
        parts = np.split(np.asarray(tokens, np.int64), np.cumsum(counts)[:-1])
        with self._lock, torch.no_grad():
            found = [text.extend(torch.from_numpy(part)) for text, part in zip(texts, parts, strict=True)]
            rows = [y if all else y[-1:] for y in found]
            outputs: NDArray[np.float32] = torch.cat(rows).cpu().numpy()
        return outputs


class _Text:
    """The keys and values of one sequence, and the graph that appends one token to it."""

    def __init__(self, network: Network) -> None:
        self._network, self._device = network, network.device
        self._caches = network.caches()
        self._graph: Any = None
        self.length = 0

    def extend(self, tokens: Tensor) -> Tensor:
        """The outputs (tokens, vocabulary) after each of the tokens."""
        first, self.length = self.length, self.length + len(tokens)
        if len(tokens) == 1 and self._device.type == "cuda":
            return self._by_graph(tokens, first)
        positions = torch.arange(first, self.length, device=self._device)
        place = Place(positions, self._caches, self.length)
        return self._network.run(tokens[None].to(self._device), place)[0]

    def _by_graph(self, token: Tensor, position: int) -> Tensor:
        if self._graph is None:
            self._record()
        self._token.copy_(token[None])
        self._position.fill_(position)
        self._graph.replay()
        return self._output.clone()

    def _record(self) -> None:
        self._token = torch.zeros(1, 1, dtype=torch.int64, device=self._device)
        self._position = torch.zeros(1, dtype=torch.int64, device=self._device)
        # The recorded token writes its keys and values at a place that is not in use: that of the next token.
        self._position.fill_(self.length - 1)
        place = Place(self._position, self._caches, None)
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            # Kernels are compiled and libraries set up before the recording, which allows neither.
            self._network.run(self._token, place)
        torch.cuda.current_stream(self._device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = self._network.run(self._token, place)[0]

    def saved(self, length: int) -> bytes:
        """The first rows of all keys and values."""
        return b"".join(part[:length].cpu().view(torch.uint8).numpy().tobytes() for part in self._parts())

    def take(self, length: int, saved: NDArray[np.uint8]) -> None:
        """Set the first rows of all keys and values. Raises ValueError if there are more or fewer bytes."""
        sizes = [length * part.shape[1] * part.element_size() for part in self._parts()]
        if length > self._network.context or sum(sizes) != len(saved):
            raise ValueError(f"{len(saved)} bytes do not hold {length} tokens of this model")
        pieces = np.split(saved, np.cumsum(sizes)[:-1]) if sizes else []
        for part, piece in zip(self._parts(), pieces, strict=True):
            rows = torch.from_numpy(piece.copy()).view(part.dtype).view(length, -1)
            part[:length].copy_(rows)
        self.length = length

    def _parts(self) -> list[Tensor]:
        return [part for pair in self._caches.values() for part in pair]
