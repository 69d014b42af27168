"""Write two random networks of signs, dense.onebit and conv.onebit, for the checks of hls4ml and FINN+. It needs NumPy only.

PYTHONPATH=src python tools/fpga/make_networks.py build/fpga
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from onebit.fileformat import PackedModel, save_model
from onebit.program import Program, Step, pack_rows

SIGNS = {"quantizer": "sign"}


class Maker:
    """Collects the steps of a chain."""

    def __init__(self, side: int) -> None:
        self.rng = np.random.default_rng(0)
        self.side = side
        self.steps: list[Step] = []
        self.tensors: dict[str, Any] = {}

    def step(self, op: str, attributes: dict[str, Any], **tensors: Any) -> None:
        number = len(self.steps)
        names = {role: f"{number}.{role}" for role in tensors}
        self.tensors |= {names[role]: tensor for role, tensor in tensors.items()}
        self.steps.append(Step(op, (f"v{number}",), f"v{number + 1}", attributes, names))

    def bits(self, rows: int, inputs: int) -> Any:
        return pack_rows(self.rng.integers(0, 2, (rows, inputs)))

    def dense(self, inputs: int, outputs: int) -> None:
        given = {"in_features": inputs, "out_features": outputs, "values": "pm1", "input": SIGNS}
        self.step("bit_linear", given, weight=self.bits(outputs, inputs))

    def convolution(self, inputs: int, outputs: int, stride: int) -> None:
        given = {"in_channels": inputs, "out_channels": outputs, "kernel_size": [3, 3], "stride": [stride] * 2}
        given |= {"padding": [0] * 4, "dilation": [1, 1], "groups": 1, "values": "pm1", "input": SIGNS}
        self.step("bit_conv2d", given, weight=self.bits(outputs, 9 * inputs))

    def norm(self, channels: int) -> None:
        """A batch normalisation, of which some scales are below 0."""
        scale, shift = (self.rng.normal(size=channels).astype(np.float32) for _ in range(2))
        self.step("scale_shift", {}, scale=scale, shift=shift)

    def centre(self) -> None:
        self.step("scale_shift", {}, scale=np.ones(1, np.float32), shift=np.full(1, -0.5, np.float32))

    def save(self, path: Path) -> None:
        program = Program("v0", (self.side, self.side, 1), tuple(self.steps), f"v{len(self.steps)}")
        task = {
            "kind": "image-classification",
            "labels": list("0123456789"),
            "image_size": [self.side] * 2,
            "channels": 1,
        }
        save_model(PackedModel(program, self.tensors, task | {"mean": [0.5], "std": [0.5]}), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    dense = Maker(8)
    dense.centre()
    dense.step("flatten", {"order": "hwc"})
    for inputs, outputs in ((64, 32), (32, 16), (16, 10)):
        dense.dense(inputs, outputs)
        dense.norm(outputs)
    dense.save(folder / "dense.onebit")
    conv = Maker(12)
    conv.centre()
    conv.convolution(1, 4, 1)
    conv.step("max_pool2d", {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0] * 4})
    conv.norm(4)
    conv.convolution(4, 6, 2)
    conv.norm(6)
    conv.step("flatten", {"order": "chw"})
    conv.dense(24, 10)
    conv.save(folder / "conv.onebit")


if __name__ == "__main__":
    main()
