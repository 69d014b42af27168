"""What a network with planes and exits reaches, and at how many products: `python benchmarks/adaptive.py FILE DATA`.

A row for each network that the file holds, for the thresholds in the file, and for some confidences. The time is of one image at a time, one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import onebit
from onebit.data.held_out import images_to_measure
from onebit.early_exits import products_to_exits
from onebit.fileformat import load_model
from onebit.tables import lay_out

CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9)


def row(name: str, compute: Callable[[Any], tuple[Any, Any]], images: Any, cost: Callable[[Any], float]) -> list[str]:
    """Accuracy, products and microseconds of one way to compute."""
    logits, places = [], []
    compute(images.pixels[:1])
    start = time.perf_counter()
    for i in range(len(images)):
        found, place = compute(np.ascontiguousarray(images.pixels[i : i + 1]))
        logits.append(found)
        places.append(place)
    microseconds = 1e6 * (time.perf_counter() - start) / len(images)
    accuracy = float((np.concatenate(logits).argmax(1) == images.labels).mean())
    return [name, f"{100 * accuracy:.2f}", f"{cost(np.concatenate(places)):.3f}", f"{microseconds:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("data")
    args = parser.parse_args()
    model = load_model(args.file)
    whole = products_to_exits(model.program, model.shapes)[-1]
    session = onebit.load(args.file, threads=1)
    images = images_to_measure(args.data, session.task, None).images
    rows = [["", "accuracy, %", "products", "microseconds"]]
    for planes in (*(m.planes for m in model.smaller), model.planes):
        one = onebit.load(args.file, threads=1, planes=planes)
        own = load_model(args.file, planes)
        share = products_to_exits(own.program, own.shapes)[-1] / whole
        rows.append(
            row(f"all layers, planes={planes}", lambda x, one=one: (one.whole(x), [0]), images, lambda _, s=share: s)
        )
    costs = np.array(products_to_exits(model.program, model.shapes)) / whole
    own_ends = session._engine.run_to_exits
    rows.append(row("thresholds of the file", lambda x: own_ends(x), images, lambda places: costs[places].mean()))
    for confidence in CONFIDENCES:
        spent = session.run_adaptively(images.pixels[:1], confidence)[2]
        rows.append(
            row(
                f"confidence {confidence:g}",
                lambda x, c=confidence: session.run_adaptively(x, c)[:2],
                images,
                lambda places, spent=spent: spent(places).relative,
            )
        )
    print(lay_out(rows, right=(1, 2, 3)))


if __name__ == "__main__":
    main()
