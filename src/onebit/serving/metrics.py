"""Counts and times of a server, as Prometheus reads them."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

COUNTERS = {
    "onebit_requests_total": "Requests by path and status.",
    "onebit_errors_total": "Requests that were refused or failed, by status.",
    "onebit_tokens_total": "Tokens: of prompts, shared ones of prompts, and written ones.",
    "onebit_texts_total": "Texts that ended, by the reason.",
    "onebit_images_total": "Images that were classified.",
}
HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    "onebit_request_seconds": ("Seconds of a request from its head to its end.", _SECONDS),
    "onebit_time_to_first_token_seconds": ("Seconds from a request to its first token.", _SECONDS),
    "onebit_time_between_tokens_seconds": ("Seconds between two tokens of a text.", _SECONDS),
    "onebit_queue_seconds": ("Seconds that a text waited for its turn.", _SECONDS),
    "onebit_batch_size": ("Texts in a pass, or images in a batch.", _SIZES),
}
GAUGES = {
    "onebit_texts_live": "Texts that are being written.",
    "onebit_queue_length": "Texts and images that wait.",
    "onebit_prefixes_kept": "Texts that have ended, and whose beginnings are kept for others.",
    "onebit_models_loaded": "Models in memory.",
    "onebit_model_memory_bytes": "Bytes of the models in memory.",
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters, histograms and gauges. Every thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[str, tuple[list[int], list[float]]] = {
            name: ([0] * (len(edges) + 1), [0.0]) for name, (_, edges) in HISTOGRAMS.items()
        }
        # Read where they are asked for.
        self.gauges: dict[str, Callable[[], float]] = {}

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = (name, tuple(labels.items()))
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + value

    def observe(self, name: str, values: Iterable[float]) -> None:
        """Enter values into a histogram."""
        counts, total = self._histograms[name]
        edges = HISTOGRAMS[name][1]
        with self._lock:
            for value in values:
                counts[bisect_left(edges, value)] += 1
                total[0] += value

    def value(self, name: str, **labels: str) -> float:
        """A counter's value."""
        with self._lock:
            return self._counts.get((name, tuple(labels.items())), 0)

    def text(self) -> str:
        """Everything in Prometheus' text format."""
        lines: list[str] = []
        with self._lock:
            counts = dict(self._counts)
            histograms = {name: (list(each), total[0]) for name, (each, total) in self._histograms.items()}
        for name, text in COUNTERS.items():
            lines += _head(name, text, "counter")
            lines += [_line(key, dict(labels), value) for (key, labels), value in counts.items() if key == name]
        for name, text in GAUGES.items():
            if name in self.gauges:
                lines += [*_head(name, text, "gauge"), _line(name, {}, self.gauges[name]())]
        for name, (text, edges) in HISTOGRAMS.items():
            each, total = histograms[name]
            lines += _head(name, text, "histogram")
            below = 0
            for edge, number in zip((*edges, None), each, strict=True):
                below += number
                lines.append(_line(f"{name}_bucket", {"le": "+Inf" if edge is None else f"{edge:g}"}, below))
            lines += [_line(f"{name}_sum", {}, total), _line(f"{name}_count", {}, below)]
        return "\n".join(lines) + "\n"


def _head(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    escaped = (f'{key}="{_escaped(text)}"' for key, text in labels.items())
    inner = ",".join(escaped)
    return f"{name}{{{inner}}} {value:.15g}" if inner else f"{name} {value:.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
