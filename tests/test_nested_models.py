"""Files that hold a model for each number of planes: what is shared, prefixes that are models, and damaged ones."""

import json
import struct

import numpy as np
import pytest
import torch

import onebit
from onebit._engine import Engine
from onebit.errors import FormatError, OnebitError
from onebit.fileformat import load_model
from onebit.models import conv_classifier
from onebit.nn import heads_of, use_planes
from onebit.ops.exit import certainty
from onebit.packing.pack import pack, to_packed_model
from onebit.runtime import reference
from onebit.schemes import Nested

TASK = onebit.ImageTask(("a", "b", "c", "d"), (8, 8), 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = conv_classifier(
        num_classes=4, widths=(8, 16, 16), in_channels=1, exits=(1,), scheme=Nested(3), logit_scale=3
    )
    for planes in (1, 2, 3):
        use_planes(made, planes)
        for _ in range(30):
            made.train()((torch.rand(32, 1, 8, 8) - TASK.mean[0]) / TASK.std[0])
        for head in heads_of(made)[:-1]:
            head.adjust(0.5, 1.0)
    heads_of(made)[-1].adjust()
    return made.eval()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("nested") / "a.onebit"
    pack(model, path, TASK)
    return path


def header_of(path):
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def ends_of(path):
    return [one["end"] for one in json.loads(header_of(path)[0]["__metadata__"]["planes"])["smaller"]]


def write(path, entries, data):
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_each_number_of_planes_is_the_network_in_pytorch(model, file, planes):
    use_planes(model, planes)
    x = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2) / np.float32(255))
    with torch.no_grad():
        expected = model((x - TASK.mean[0]) / TASK.std[0]).numpy()
    session = onebit.load(file, precision="float32", threads=1, planes=planes)
    assert np.allclose(session(PIXELS), expected, atol=1e-3)
    counts = {tuple(step.attributes.get("planes", [1])) for step in session.program.steps if "bit" in step.op}
    assert counts == {tuple(1 << p for p in reversed(range(planes)))}
    use_planes(model, 3)
    whole = to_packed_model(model, TASK)
    own = (*whole.smaller, whole)[planes - 1]
    for precision in ("float32", "int8"):
        found = onebit.load(file, precision=precision, threads=1, planes=planes)(PIXELS)
        assert np.array_equal(found, Engine(own.program.to_json(), own.tensors, precision, 1).run(PIXELS))
        assert np.allclose(found, reference.run(own.program, own.tensors, PIXELS, precision), atol=1e-4)


def test_planes_are_stored_once_and_the_first_of_all_layers_come_first(file):
    entries, data = header_of(file)
    places = {name: entry["data_offsets"] for name, entry in entries.items() if name != "__metadata__"}
    first, second = ends_of(file)
    for name, (begin, end) in places.items():
        if entries[name]["dtype"] == "U8":
            plane = int(name.rpartition(".")[2])
            limits = (0, first, second, len(data))
            assert limits[plane - 1] <= begin < end <= limits[plane], name
    bits = {
        planes: sum(t.nbytes for t in load_model(file, planes).tensors.values() if t.dtype == np.uint8)
        for planes in (1, 3)
    }
    stored = sum(end - begin for name, (begin, end) in places.items() if entries[name]["dtype"] == "U8")
    assert stored == bits[3] == 3 * bits[1]


def test_a_prefix_of_the_file_is_a_model(file, tmp_path):
    content, (first, second) = file.read_bytes(), ends_of(file)
    start = len(content) - len(header_of(file)[1])
    part = tmp_path / "part.onebit"
    for length, planes in ((first, 1), (first + 1, 1), (second - 1, 1), (second, 2), (len(content) - start, 3)):
        part.write_bytes(content[: start + length])
        session = onebit.load(part, threads=1, prefix=True)
        assert np.array_equal(session(PIXELS), onebit.load(file, threads=1, planes=planes)(PIXELS))
    part.write_bytes(content[: start + second])
    assert np.array_equal(
        onebit.load(part, threads=1, planes=1, prefix=True)(PIXELS), onebit.load(file, threads=1, planes=1)(PIXELS)
    )
    with pytest.raises(FormatError, match="planes=3: the file holds models of 1, 2 planes"):
        onebit.load(part, planes=3, prefix=True)
    with pytest.raises(
        FormatError, match=f"is truncated: .* its first {start + first} bytes are a model: load it with prefix=True"
    ):
        onebit.load(part)
    part.write_bytes(content[: start + first - 5])
    with pytest.raises(FormatError, match="its first model needs 5 bytes more"):
        onebit.load(part, prefix=True)


def test_wrong_numbers_of_planes(file, tmp_path):
    for planes in (0, 4, True, "2"):
        with pytest.raises(FormatError, match=r"planes=.*: the file holds models of 1, 2, 3 planes"):
            onebit.load(file, planes=planes)
    single = tmp_path / "single.onebit"
    pack(conv_classifier(num_classes=4, widths=(4,), in_channels=1), single, TASK)
    with pytest.raises(FormatError, match="planes=1: the file holds no models of fewer planes: leave planes out"):
        onebit.load(single, planes=1)
    single.write_bytes(single.read_bytes()[:-3])
    with pytest.raises(FormatError, match="has no model in a part of it: 3 bytes are missing"):
        onebit.load(single, prefix=True)


def test_an_older_reader_is_told_what_it_lacks(file):
    """The program of all planes names tensors that only the joined parts make."""
    entries, _ = header_of(file)
    program = json.loads(entries["__metadata__"]["program"])
    names = {name for step in program["steps"] for name in step.get("tensors", {}).values()}
    assert any(name not in entries for name in names)


def test_confidence_spends_planes_and_layers_where_they_are_needed(file):
    session = onebit.load(file, threads=1)
    whole = onebit.load(file, threads=1)(PIXELS)
    images = list(PIXELS)
    certain = session.classify(images, confidence=1.0)
    assert [a[0][0] for a in certain] == [TASK.labels[i] for i in whole.argmax(1)]
    quick = session.classify(images, confidence=1e-6)
    assert [s.share for s in quick.spent.stages] == [1.0, 0]
    early = session._engine.run_to_exits(PIXELS, 1e-6)[0]
    usual = float(np.median(certainty(early)))
    middle = session.classify(images, confidence=usual)
    assert quick.spent.products < middle.spent.products < certain.spent.products
    assert sum(s.share for s in middle.spent.stages) == pytest.approx(1)
    logits, places, spent = session.run_adaptively(PIXELS, usual)
    assert spent(places) == middle.spent
    assert np.array_equal(logits, np.where((places == 0)[:, None], early, session.whole(PIXELS)))
    assert "end at exit 1 with 3 planes" in str(middle.spent)
    fewer = onebit.load(file, threads=1, planes=1).classify(images, confidence=1.0)
    assert 3 * fewer.spent.products == pytest.approx(certain.spent.products)


def test_planes_are_spent_as_needed_without_exits(tmp_path):
    torch.manual_seed(0)
    made = conv_classifier(num_classes=4, widths=(8, 16), in_channels=1, scheme=Nested(2), logit_scale=3)
    for planes in (1, 2):
        use_planes(made, planes)
        for _ in range(30):
            made.train()((torch.rand(32, 1, 8, 8) - TASK.mean[0]) / TASK.std[0])
    pack(made.eval(), tmp_path / "a.onebit", TASK)
    session = onebit.load(tmp_path / "a.onebit", threads=1)
    one, two = (onebit.load(tmp_path / "a.onebit", threads=1, planes=planes)(PIXELS) for planes in (1, 2))
    usual = float(np.median(certainty(one)))
    logits, places, spent = session.run_adaptively(PIXELS, usual)
    sure = certainty(one) > np.float32(usual)
    assert 0 < sure.sum() < len(sure)
    assert np.array_equal(logits, np.where(sure[:, None], one, two))
    assert [stage.planes for stage in spent(places).stages] == [1, 2]
    assert spent(places).relative == pytest.approx(0.5 * sure.mean() + 1.5 * (1 - sure.mean()))
    assert session.run_adaptively(PIXELS, 1.0)[2](session.run_adaptively(PIXELS, 1.0)[1]).relative == 1


def test_wrong_confidence(file, tmp_path):
    session = onebit.load(file, threads=1)
    for confidence in (0, 1.5, "high", True, float("nan")):
        with pytest.raises(OnebitError, match="use a number above 0, at most 1"):
            session.classify(list(PIXELS[:1]), confidence=confidence)
    single = tmp_path / "single.onebit"
    pack(conv_classifier(num_classes=4, widths=(4,), in_channels=1), single, TASK)
    with pytest.raises(OnebitError, match="neither exits nor fewer planes"):
        onebit.load(single, threads=1).classify(list(PIXELS[:1]), confidence=0.9)
