"""What the protocol found: dataclasses, a table, and JSON by a schema."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from onebit.printable import printable
from onebit.tables import lay_out

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Energy:
    """The measured energy of an inference; None where it was not measured.

    Args:
        joules: of an inference, with the idle machine's taken off.
        deviation: half of what the two idle times differ by, for an inference.
        idle_watts: of the machine before and after.
        source, resolution: the counter, and its smallest step.
        steps: how often the counter moved.
        reason: why there is no figure; None if there is one.
    """

    joules: float | None
    deviation: float | None
    idle_watts: float | None
    source: str | None
    resolution: str | None
    steps: int
    reason: str | None


@dataclass(frozen=True)
class Contender:
    """A network in an engine.

    Args:
        name: the engine and its numerics.
        model: the file.
        accuracy: of all test images.
        images: how many they are.
        runs, seconds: of the single stream.
        p50_ms, p90_ms, p99_ms: of an image.
        per_second: images in a second.
        peak_bytes: the most resident memory of its process, with Python.
        file_bytes: of the model's file.
        sign_products, bit_products, float_products: of an image.
        energy: measured.
        modelled_joules: what a model says; not measured.
    """

    name: str
    model: str
    accuracy: float
    images: int
    runs: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    per_second: float
    peak_bytes: int
    file_bytes: int
    sign_products: int
    bit_products: int
    float_products: int
    energy: Energy
    modelled_joules: float


@dataclass(frozen=True)
class Report:
    """The result of `protocol`. `str` is a table.

    Args:
        data, part: what accuracy was measured on.
        threads: of each engine.
        machine: processor, system and versions.
        contenders: in the order that was asked for.
        energy_model, energy_table: where the modelled energy comes from, and picojoules of each operation.
        notes: what a user should know, one sentence each.
    """

    data: str
    part: str
    threads: int
    machine: dict[str, str]
    contenders: tuple[Contender, ...]
    energy_model: str
    energy_table: dict[str, float]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values, which `SCHEMA` describes."""
        return {
            "version": SCHEMA_VERSION,
            **asdict(self),
            "contenders": [asdict(one) for one in self.contenders],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        rows = []
        for one in self.contenders:
            joules = "-" if one.energy.joules is None else f"{one.energy.joules * 1e6:,.1f}"
            rows.append(
                (
                    one.name,
                    f"{100 * one.accuracy:.2f}",
                    *(f"{ms:.3f}" for ms in (one.p50_ms, one.p90_ms, one.p99_ms)),
                    f"{one.per_second:,.0f}",
                    f"{one.peak_bytes / 1e6:.1f}",
                    f"{one.file_bytes:,}",
                    f"{one.sign_products + one.bit_products + one.float_products:,}",
                    joules,
                    f"{one.modelled_joules * 1e6:,.3f}",
                )
            )
        headings = (
            "engine",
            "accuracy %",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "images/s",
            "peak MB",
            "file bytes",
            "products",
            "uJ measured",
            "uJ by a model",
        )
        lines = [lay_out([headings, *rows], range(1, len(headings))), ""]
        first = self.contenders[0]
        lines.append(
            f"{printable(self.data)} ({self.part}): {first.images} images; {self.threads} thread{'s' if self.threads > 1 else ''}; single "
            f"stream of at least {min(one.seconds for one in self.contenders):.0f} s and {min(one.runs for one in self.contenders):,} runs"
        )
        energy = first.energy
        if energy.joules is None:
            lines.append(f"energy was not measured: {energy.reason}")
        else:
            lines.append(
                f"energy measured by {energy.source}, {energy.resolution}; idle {energy.idle_watts:.2f} W taken off"
            )
        table = ", ".join(f"{name} {value:g}" for name, value in self.energy_table.items())
        lines.append(f"energy by a model, not measured: {self.energy_model}; pJ: {table}")
        lines += [f"{key}: {value}" for key, value in self.machine.items()]
        return "\n".join([*lines, *self.notes])


_NUMBER, _TEXT = {"type": "number"}, {"type": "string"}
_MAYBE_NUMBER, _MAYBE_TEXT = {"type": ["number", "null"]}, {"type": ["string", "null"]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_ENERGY = _object(
    {
        **dict.fromkeys(("joules", "deviation", "idle_watts"), _MAYBE_NUMBER),
        **dict.fromkeys(("source", "resolution", "reason"), _MAYBE_TEXT),
        "steps": {"type": "integer"},
    }
)
_COUNTS = ("images", "runs", "peak_bytes", "file_bytes", "sign_products", "bit_products", "float_products")
_CONTENDER = _object(
    {
        **dict.fromkeys(("name", "model"), _TEXT),
        **{key: {"type": "integer"} for key in _COUNTS},
        **dict.fromkeys(
            ("accuracy", "seconds", "p50_ms", "p90_ms", "p99_ms", "per_second", "modelled_joules"), _NUMBER
        ),
        "energy": _ENERGY,
    }
)
# JSON Schema of `Report.to_dict`.
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_object(
        {
            "version": {"const": SCHEMA_VERSION},
            **dict.fromkeys(("data", "part", "energy_model"), _TEXT),
            "threads": {"type": "integer"},
            "machine": {"type": "object", "additionalProperties": _TEXT},
            "contenders": {"type": "array", "items": _CONTENDER},
            "energy_table": {"type": "object", "additionalProperties": _NUMBER},
            "notes": {"type": "array", "items": _TEXT},
        }
    ),
}
