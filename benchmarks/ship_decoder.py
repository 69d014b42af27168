"""Add the network of a finished run to the package: NAME.onebit, NAME.yaml, NAME.csv and NAME.json in src/onebit/pretrained.

    python benchmarks/ship_decoder.py runs/books --name books-10m --texts books-valid.txt wiki.test.raw [--twin runs/books-twin]

The run comes from `onebit train` on text. The packed file is measured in the engine (int8) on whole texts, and so is a float twin. Recipes keep the
names of their files without the folders.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from onebit import pretrained
from onebit.training import TextRecipe, load_run, sources


def measured(run: Path, file: Path, texts: list[str]) -> dict[str, Any]:
    """Pack a run, and its figures on each text."""
    command = [sys.executable, "-m", "onebit"]
    subprocess.run([*command, "pack", str(run), "--out", str(file)], check=True)
    trained = load_run(run)
    recipe = trained.recipe
    assert isinstance(recipe, TextRecipe)
    result = trained.result()
    figures: dict[str, Any] = {
        "parameters": result["parameters"],
        "file_bytes": file.stat().st_size,
        "epochs": recipe.schedule.epochs,
        "chosen_epoch": result["chosen_epoch"],
        "tokens_seen": result["train_tokens_seen_at_most"],
        "precision_of_training": result["precision"],
        "bits_per_byte": {},
        "perplexity": {},
    }
    for text in texts:
        words = [*command, "evaluate", str(file), "--data", text, "--json"]
        found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        for key in ("bits_per_byte", "perplexity"):
            figures[key][Path(text).name] = round(found[key], 4)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--texts", nargs="+", required=True)
    parser.add_argument("--twin", type=Path, help="the run of its float twin")
    parser.add_argument("--note", default="", help="a sentence for the figures")
    arguments = parser.parse_args()
    folder = Path(str(pretrained.__file__)).parent
    file = folder / f"{arguments.name}.onebit"
    figures = {"binary": measured(arguments.run, file, arguments.texts)}
    if arguments.twin is not None:
        packed = arguments.twin.with_suffix(".onebit")
        figures["float twin"] = measured(arguments.twin, packed, arguments.texts)
        packed.unlink()
    if arguments.note:
        figures["note"] = arguments.note
    file.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    recipe = load_run(arguments.run).recipe
    assert isinstance(recipe, TextRecipe)
    paths = {key: recipe.flat()[key] for key in sources.KEYS}
    names = {key: Path(path).name for key, path in paths.items() if isinstance(path, str)}
    file.with_suffix(".yaml").write_text(recipe.override(names).to_yaml())
    file.with_suffix(".csv").write_text((arguments.run / "curves.csv").read_text())
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
