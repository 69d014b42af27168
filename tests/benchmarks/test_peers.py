"""The own work of benchmarks/peers.py: counting, listing absent engines, writing tables. No other engine is needed."""

import sys
from pathlib import Path

import pytest
import torch

from onebit.models import conv_classifier, language_decoder

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import measure  # noqa: E402
import peer_engines  # noqa: E402
import peer_files  # noqa: E402
import peer_process  # noqa: E402
import peer_report  # noqa: E402
import peer_workloads  # noqa: E402


def products_of_layers(model, *inputs):
    """Multiply-accumulates of a model's convolutions and dense layers, from the shapes that run through them."""
    total = 0

    def count(layer, given, y):
        nonlocal total
        total += y.numel() * layer.weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        model.eval()(*inputs)
    return total


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_products_of_an_image_network(kernel_size):
    model = conv_classifier(kernel_size, 7, widths=(4, 6, 5), hidden=(9, 8), binary=False)
    expected = products_of_layers(model, torch.zeros(1, 3, 24, 24))
    assert peer_workloads.image_network(kernel_size, (4, 6, 5), (9, 8), classes=7, side=24) == expected


def test_products_of_a_decoder():
    sizes = {"vocabulary": 50, "context": 16, "blocks": 3, "features": 12, "heads": 2, "head": (20, 30)}
    model = language_decoder(sizes, binary=False, form="paper")
    expected = products_of_layers(model, torch.zeros(1, 10, dtype=torch.long))
    # A token sees 1 to 10 others, itself included: scores and sums of 12 features in 3 blocks.
    expected += 3 * 2 * 12 * sum(range(1, 11))
    assert peer_workloads.decoder(12, 3, (20, 30), 50, before=0, tokens=10, logits=10) == expected


def test_a_text_costs_the_same_whole_and_token_by_token():
    whole = peer_workloads.decoder(12, 3, (20, 30), 50, 0, 10, 10)
    assert whole == sum(peer_workloads.decoder(12, 3, (20, 30), 50, before, 1, 1) for before in range(10))
    llama = peer_workloads.LlamaSizes(vocabulary=50, blocks=3, features=12, heads=2, hidden=24)
    whole = peer_workloads.llama(llama, 0, 10, 10)
    assert whole == sum(peer_workloads.llama(llama, before, 1, 1) for before in range(10))


def test_every_competitor_has_its_products_counted_and_its_files_made():
    counts = peer_workloads.multiply_accumulates()
    for competitor in peer_engines.competitors():
        assert all(count > 0 for count in counts[competitor.workload][competitor.model].values())
        assert set(competitor.files) <= set(peer_files.FILES)


# A library of the name that a competitor imports, for its process to find first.
WORKS = """
class SessionOptions:
    pass

class InferenceSession:
    def __init__(self, *arguments, **options):
        print("noise that is no answer")
    def get_providers(self):
        return ["CPU"]
    def run(self, outputs, inputs):
        if len(inputs["x"]) > 1:
            {many}
"""


def peer_with(source, folder, monkeypatch):
    """ONNX Runtime's dense layer, with another library in the place of ONNX Runtime."""
    (folder / "onnxruntime.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    everyone = peer_engines.competitors()
    index = next(i for i, c in enumerate(everyone) if (c.workload, c.engine) == ("dense", "ONNX Runtime"))
    return peer_process.Peer(index, folder, 1, folder / "log")


def test_a_peer_in_its_own_process(tmp_path, monkeypatch):
    peer = peer_with(WORKS.format(many="pass"), tmp_path, monkeypatch)
    assert (peer.failure, peer.jobs, peer.about) == (None, ["1 row", "256 rows"], "CPU")
    assert all(0 < ms < 1 for ms in peer.turn("1 row"))
    peer.close()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('no such library\\nsecond line')", "ImportError: no such library"),
        ("import os; os._exit(9)", "its process ended with status 9"),
    ],
)
def test_a_peer_that_does_not_start_says_why(tmp_path, monkeypatch, source, reason):
    peer = peer_with(source, tmp_path, monkeypatch)
    assert (peer.failure, peer.jobs) == (reason, [])
    peer.close()


@pytest.mark.parametrize(
    ("many", "reason"),
    [("raise MemoryError", "MemoryError"), ("__import__('os').abort()", "its process ended with status -6")],
)
def test_a_peer_that_fails_half_way_says_why(tmp_path, monkeypatch, many, reason):
    peer = peer_with(WORKS.format(many=many), tmp_path, monkeypatch)
    times = measure.interleaved({job: lambda job=job: peer.turn(job) for job in peer.jobs}, 2)
    assert (peer.failure, len(times["1 row"]), times["256 rows"]) == (reason, 2, [])
    peer.close()


def test_a_file_that_cannot_be_made_says_why(tmp_path):
    reason = peer_process.make_file("no such file", tmp_path, tmp_path / "log")
    assert reason == "KeyError: 'no such file'"


def row(engine, variant, threads, ms):
    what = {"workload": "dense", "job": "1 row", "engine": engine, "variant": variant, "threads": threads}
    return what | {"ms": ms, "ps_per_multiply_accumulate": ms * 100}


@pytest.fixture
def run():
    return {
        "started": "2000-01-01 00:00:00",
        "command": "python benchmarks/peers.py",
        "machine": {
            "cpu": "a processor",
            "features": ["avx2"],
            "processors": 2,
            "system": "Linux",
            "python": "3.11",
            "load": [0.0, 0.0, 0.0],
        },
        "versions": dict.fromkeys(("onebit", "torch", "onnxruntime", "openvino", "llama-cpp-python"), "1"),
        "multiply_accumulates": {"dense": {"onebit's": {"1 row": 16777216}}},
        "results": [
            row("onebit", "int8", 1, 0.5),
            row("onebit", "int8", 2, 0.25),
            row("PyTorch", "float32", 1, 20.0),
        ],
        "absent": [
            {"workload": "dense", "engine": "PyTorch", "variant": "float32", "threads": 2, "reason": "MemoryError"}
        ],
        "about": {"onebit int8": "avx512"},
    }


def test_the_table(run):
    text = peer_report.markdown(run)
    assert "| **onebit int8** | 0.500 | 1.00 | 50.00 | 0.250 | 1.00 | 25.00 |" in text
    assert "| PyTorch float32 | 20.0 | 40.00 | 2000.00 | absent |  |  |" in text
    assert "- PyTorch float32, dense, 2 threads: MemoryError" in text
    assert "| dense | 1 row | onebit's | 16,777,216 |" in text


def test_the_table_without_onebit_and_with_no_one(run):
    run["results"] = run["results"][2:]
    assert "| PyTorch float32 | 20.0 |  | 2000.00 |" in peer_report.markdown(run)
    run["results"] = []
    assert "MemoryError" in peer_report.markdown(run)


def test_the_table_tells_absent_from_not_yet_measured(run):
    run["absent"] += [row("llama.cpp", "Q1_0", threads, 0) | {"reason": "ImportError"} for threads in (1, 2)]
    run["results"].append(row("OpenVINO", "int8", 2, 1.0))
    text = peer_report.markdown(run)
    assert "| llama.cpp Q1_0 | absent |  |  | absent |  |  |" in text
    assert "| OpenVINO int8 | not measured |  |  | 1.000 | 4.00 | 100.00 |" in text


def test_the_picture(run):
    assert peer_report.picture(run).startswith(b"\x89PNG")
