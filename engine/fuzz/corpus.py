"""Small valid files for the fuzzer to begin with: every op, attribute and quantiser, images, rows and text; and its dictionary.

Needs NumPy, safetensors and src/ on the path. python engine/fuzz/corpus.py FOLDER
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from safetensors.numpy import save

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/differential"))

import features  # noqa: E402
import random_programs  # noqa: E402

from onebit.program import OPS  # noqa: E402

# The smaller a file, the more of them a second; few programs of the generator are as small.
MOST_BYTES = 2_000
# What makes files larger than that, or hardly ever a small one; other groups and numbers of heads take the same steps.
TOO_LARGE = re.compile(r".* group=(64|128)|attention shares=[2-9]")
FILES = 600
NEEDED = ("[PAD]", "[UNK]", "[SEP]")
WORDS = (
    "__metadata__ absmax alphabet attributes bits bytes channel channels chw data_offsets dtype example F32 factor false features heads hidden "
    "high hwc image-classification image_size in_channels in_features input inputs kernel_size kind labels low lowercase mean null onebit_format "
    "op out_channels out_features output planes pm1 position quantizer rows shape sign std steps task tensors text-generation token tokens true "
    "U8 unit vocabulary words [SEP] ##"
)


def task_of(case: random_programs.Case, number: int) -> dict[str, Any]:
    """A task that fits: what the task says is checked against the program."""
    program = case.program
    shapes = program.shapes(case.tensors)
    outputs = shapes[program.output]
    if program.tokens and number % 2 == 0 and outputs[-1] > len(NEEDED):
        # A vocabulary of bytes has 256 of them: more than these programs have outputs.
        letters = [f"{'##' if i % 2 else ''}w{i}" for i in range(outputs[-1] - len(NEEDED))]
        vocabulary = "\n".join([*NEEDED, *letters])
        return {"kind": "text-generation", "vocabulary": vocabulary, "alphabet": "words", "lowercase": number % 4 == 0}
    if len(program.input_shape) == 3 and program.input_shape[2] in (1, 3) and len(outputs) == 1:
        height, width, channels = program.input_shape
        return {
            "kind": "image-classification", "labels": [f"label {i}" for i in range(outputs[0])], "image_size": [height, width],
            "channels": channels, "mean": [0.0] * channels, "std": [1.0] * channels,
        }  # fmt: skip
    return {"kind": "numbers"}


def write(folder: Path, least: int = FILES) -> int:
    """Write at least so many files, and as many more as it takes to have all features; gives how many they are."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    count = seed = 0
    expected = {feature for feature in features.expected_features() if not TOO_LARGE.fullmatch(feature)}
    while count < least or not seen >= expected:
        case = random_programs.make(seed, small=True)
        seed += 1
        metadata = {"onebit_format": "1", "program": case.program.to_json(), "task": json.dumps(task_of(case, seed))}
        content = save(case.tensors, metadata)
        found = features.features_of(case)
        if len(content) > MOST_BYTES or (count >= least // 2 and not found - seen and seed % 7):
            continue
        seen |= found
        (folder / f"{seed - 1:05}.onebit").write_bytes(content)
        count += 1
    return count


def write_dictionary(path: Path) -> None:
    """The words of programs and tasks, as libFuzzer reads them."""
    names = set(OPS) | set(WORDS.split())
    for feature in features.expected_features():
        names |= {part.split("=")[0] for part in feature.split()[1:] if part.split("=")[0].isidentifier()}
    tokens = ['"{}"'.format(name.replace('"', '\\"')) for name in sorted(names)]
    tokens += [r'"\\\""', r'"\\u0000"', '"1e400"', '"-1"', '"9007199254740993"', '"[["', '"}}"', '"\\xff"']
    path.write_text("\n".join(tokens) + "\n")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"{write(target)} files in {target}")
    write_dictionary(target.parent / "words.dict")
