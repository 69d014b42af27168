"""The demo on sounds, which takes less than a minute: spoken words where espeak-ng is installed, and tones otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from onebit.data.spoken import has_espeak, tones, words
from onebit.demos.twins import bytes_of, clear, in_turns, table, train_both
from onebit.evaluation import evaluate
from onebit.figures import save
from onebit.kinds.kinds import kind_of
from onebit.kinds.measuring import TaskFigures, own_part, predictions_figure
from onebit.packing import pack
from onebit.printable import printable
from onebit.runtime.session import load
from onebit.sound import write_wav
from onebit.tasks.sound import SoundTask
from onebit.training import load_recipe
from onebit.training.arrays import to_network
from onebit.verification import verify

FILE, PICTURE, SAMPLES = "sound.onebit", "demo.png", "samples"
EPOCHS = 16
FLOAT_RATE = 3e-3
_SAMPLE_COUNT = 6


def demonstrate(out: Path, epochs: int | None = None, seed: int = 0) -> Iterator[str]:
    """Train both networks, pack, verify and run the binary one, and draw a picture. See `onebit.demos.digits.demonstrate`."""
    data = "words" if has_espeak() else "tones"
    recipe = load_recipe("keywords").override(
        {"data": data, "epochs": epochs or EPOCHS, "seed": seed, "width": 48}, "demo"
    )
    clear(out)
    start = time.monotonic()
    what = "words that espeak-ng speaks" if data == "words" else "tones"
    binary, twin = train_both(recipe, FLOAT_RATE, out, "network", what)
    task = binary.task
    assert isinstance(task, SoundTask)
    file = out / FILE
    report = pack(binary.model, file, task, binary.training)
    yield f"\nPacked: {report.parameters:,} parameters, {report.bit_parameters:,} of them one bit each; {report.file_bytes:,} bytes"
    verified = verify(file, binary, threads=1)
    (float32,), (int8,) = verified.of("engine", "float32"), verified.of("engine", "int8")
    yield (
        f"Verified: the engine differs from PyTorch by {float32.relative:.0e} at float32; "
        f"at int8 {int8.changed} of {int8.compared} answers change"
    )
    figures = evaluate(file, data, threads=1)
    assert isinstance(figures, TaskFigures)
    session = load(file, threads=1)
    one = own_part(binary).arrays.inputs[:1]
    x = to_network(one, task)
    times = in_turns({"PyTorch": lambda: twin.model(x), "engine": lambda: session(one)}, 100)  # type: ignore[operator]
    right = [twin.result()["test_accuracy"], binary.result()["test_accuracy"], figures.figures["accuracy"]]
    kept = f"{', '.join(task.test_speakers)} kept out" if data == "words" else "tones"
    yield table(
        [
            (f"test accuracy ({kept})", *(f"{100 * accuracy:.1f} %" for accuracy in right)),
            ("bytes of parameters", f"{bytes_of(twin.model):,}", "", f"{report.parameter_bytes:,}"),
            ("ms per spectrum (1 thread)", f"{times['PyTorch']:.3f}", "", f"{times['engine']:.3f}"),
        ]
    )
    for line in kind_of(task).told(figures.figures)[2:]:
        yield f"  {line}"
    save(predictions_figure(file, data, threads=1), out / PICTURE)
    _write_samples(out / SAMPLES, data)
    yield f"\nSpectra and answers: {printable(out / PICTURE)}   ({time.monotonic() - start:.0f} s in all)"


def next_steps(command: str, file: str, samples: str) -> list[str]:
    """What a user can do with what the demo left."""
    return [
        f"{command} classify {file} {samples}/*.wav --top 2",
        f"{command} train keywords --data FOLDER    with your own recordings in FOLDER/WORD/*.wav",
    ]


def _write_samples(folder: Path, data: str) -> None:
    """Write a few recordings as files for `onebit classify`."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: dict[str, int] = {}
    for one in words() if data == "words" else tones():
        if one.label not in seen and len(seen) < _SAMPLE_COUNT:
            seen[one.label] = 1
            write_wav(folder / f"{one.label}.wav", one.samples, one.rate)
        if len(seen) == _SAMPLE_COUNT:
            return
