"""The cost of each layer: compare bytes with the file, steps with the program, and repetitions with layers by hand."""

import numpy as np
import pytest
import torch

import onebit
from onebit.errors import OnebitError
from onebit.fileformat import load_model
from onebit.layer_costs import LayerCost, layer_costs
from onebit.models import conv_classifier, language_decoder, resnet
from onebit.repeats import Segment, common_name, segments
from onebit.text import TextTask

TASK = onebit.ImageTask(labels=tuple("abcde"), image_size=(8, 8))
WORDS = TextTask(vocabulary=("[PAD]", "[UNK]", "[SEP]", "a", "b", "c", "d"), alphabet="words")
SIZES = {"vocabulary": 7, "context": 12, "blocks": 3, "features": 32, "heads": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    torch.manual_seed(0)
    decoder = language_decoder(SIZES)
    onebit.pack(conv_classifier(3, 5, (8, 9)), folder / "conv.onebit", TASK)
    onebit.pack(resnet(8, 5), folder / "resnet.onebit", TASK)
    onebit.pack(decoder, folder / "decoder.onebit", WORDS)
    return folder


@pytest.mark.parametrize("name", ["conv", "resnet", "decoder"])
@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_the_layers_are_the_whole_program(files, name, precision):
    costs = layer_costs(files / f"{name}.onebit", precision=precision, seconds=1e-3)
    model = load_model(files / f"{name}.onebit")
    assert sorted(op for layer in costs.layers for op in layer.ops) == sorted(s.op for s in model.program.steps)
    assert costs.bytes == sum(tensor.nbytes for tensor in model.tensors.values())
    assert all(layer.microseconds > 0 for layer in costs.layers)
    assert all(-1 <= source < place for place, layer in enumerate(costs.layers) for source in layer.inputs)
    assert costs.precision == precision and costs.to_dict()["layers"][0]["ops"]
    assert f"{costs.bytes:,} bytes of {costs.file_bytes:,} in the file" in str(costs)


def test_the_layers_of_a_classifier(files):
    costs = layer_costs(files / "conv.onebit", seconds=1e-3)
    named = {layer.name: layer for layer in costs.layers if layer.bits}
    assert next(layer.shape for layer in named.values()) == (8, 8, 8)
    assert {layer.bits for layer in named.values()} == {1}
    assert costs.position is None and "an image, " in costs.measured
    first = next(iter(named.values()))
    assert first.bytes == 8 * 8 + 8  # 27 bits in a row of 64, and 8 bits of bias in one


def test_a_decoders_blocks_are_one_segment(files):
    costs = layer_costs(files / "decoder.onebit", seconds=1e-3)
    assert costs.position == 6 and "a token after 6 others" in costs.measured
    repeated = [part for part in segments(costs.layers) if part.times > 1]
    assert [part.times for part in repeated] == [3]
    names = [costs.layers[repeated[0].first + i * repeated[0].period].name for i in range(3)]
    assert common_name(names).startswith("blocks.0-2.")


def test_a_residual_layer_reads_two_layers(files):
    layers = layer_costs(files / "resnet.onebit", seconds=1e-3).layers
    sums = [layer for layer in layers if "add" in layer.ops]
    assert sums and all(len(layer.inputs) == 2 for layer in sums)


def test_timing_counts_every_run_and_begins_anew(files):
    session = onebit.load(files / "conv.onebit", threads=1)
    engine, image = session._engine, np.zeros((1, 8, 8, 3), np.uint8)
    session(image)
    assert engine.nanoseconds() == []
    engine.time_nodes()
    session(np.repeat(image, 50, 0))
    many = engine.nanoseconds()
    engine.time_nodes()
    assert engine.nanoseconds() == [0] * len(session.plan())
    session(image)
    assert sum(many) > sum(engine.nanoseconds()) > 0 and len(many) == len(session.plan())


def layer(name, op="relu", bytes=0):
    return LayerCost(name, (op,), (4,), 0, bytes, 1.0, ())


def test_segments_by_hand():
    block = [layer("b.{}.x", "linear", 8), layer(""), layer("b.{}.y", "linear", 4)]
    layers = [layer("in")]
    for i in range(9, 12):
        layers += [LayerCost(one.name.format(i), one.ops, one.shape, 0, one.bytes, 1.0, ()) for one in block]
    layers.append(layer("out", "softmax"))
    assert segments(layers) == [Segment(0, 1, 1), Segment(1, 3, 3), Segment(10, 1, 1)]
    assert common_name(["b.9.x", "b.10.x", "b.11.x"]) == "b.9-11.x"
    assert common_name(["a.1.conv2", "a.2.conv1", "a.2.conv2"]) == "a.1-2.conv1-2"
    assert segments([]) == []
    # Two equal layers stay two.
    assert segments([layer("a.0"), layer("a.1")]) == [Segment(0, 2, 1)]


@pytest.mark.parametrize("seconds", [0, float("nan"), -1])
def test_a_time_that_is_none_is_named(files, seconds):
    with pytest.raises(OnebitError, match=r"\[layer_costs\] seconds=.*: use a number above 0"):
        layer_costs(files / "conv.onebit", seconds=seconds)
