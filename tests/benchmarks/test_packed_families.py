"""The table of packed families, and the sizes of the networks that it is about."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import packed_families as benchmark


def result(**ms):
    names = {"ours": "onebit", "openvino": "OpenVINO int8", "ort": "ONNX Runtime int8"}
    return {"network": "a", "engines": {names[key]: {"ms": value} for key, value in ms.items()}}


def test_the_ratio_is_to_the_faster_of_the_others():
    lines = benchmark.table([result(ours=2.0, openvino=3.0, ort=5.0), result(ours=4.0, openvino=3.0), result(ours=1.0)])
    assert [line.split("|")[-2].strip() for line in lines.splitlines()[2:]] == ["1.50", "0.75", "absent"]
    assert "| 4.00 | 3.00 | absent |" in lines


# Of 1,000 classes in the papers; here of 4, without the biases that each leaves out.
@pytest.mark.parametrize(("name", "parameters"), [("MobileNetV3-small", 1_521_956), ("ViT-tiny", 5_525_188)])
def test_the_networks_are_of_the_published_sizes(name, parameters):
    make, side, _ = benchmark.NETWORKS[name]
    assert side == 224
    assert sum(p.numel() for p in make().parameters()) == parameters
