"""Files are written atomically, and damaged files are never loaded."""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from onebit.errors import FormatError
from onebit.fileformat import PackedModel, load_model, save_model, write_atomically
from onebit.program import Program, Step, pack_rows


@pytest.fixture
def model():
    attributes = {"in_features": 70, "out_features": 9, "values": "01"}
    step = Step("bit_linear", ("x",), "y", attributes, {"weight": "w"})
    bits = np.random.default_rng(0).integers(0, 2, (9, 70), np.uint8)
    return PackedModel(Program("x", (70,), (step,), "y"), {"w": pack_rows(bits)}, {"kind": "test"})


@pytest.fixture
def path(model, tmp_path):
    save_model(model, tmp_path / "model.onebit")
    return tmp_path / "model.onebit"


def test_a_model_survives_the_disk(model, path):
    again = load_model(path)
    assert (again.program, again.task) == (model.program, model.task)
    assert np.array_equal(again.tensors["w"], model.tensors["w"])


def test_the_file_is_a_safetensors_file(path):
    with safe_open(path, framework="numpy") as file:
        assert file.metadata()["onebit_format"] == "1"


def refuse(path, message):
    with pytest.raises(FormatError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing(tmp_path):
    refuse(tmp_path / "none.onebit", "no such file")


def test_a_folder(tmp_path):
    refuse(tmp_path, "is a folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.onebit")
    refuse(tmp_path / "a.onebit", "is a device or pipe: give a .onebit file")


@pytest.mark.parametrize("wrong", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_a_header_that_is_not_utf8(path, wrong):
    content = path.read_bytes()
    place = content.index(b"bit_linear")
    path.write_bytes(content[:place] + wrong + content[place + len(wrong) :])
    refuse(path, "the header is not UTF-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"onebit", "is not a"),
        (b"\xff\xd8\xff\xe0" * 10, "is not a"),
        (b"\xff" * 7 + b"\x7f{", "claims"),
    ],
)
def test_foreign_content(tmp_path, content, message):
    file = tmp_path / "a.onebit"
    file.write_bytes(content)
    refuse(file, message)


def test_truncation_anywhere(path):
    content = path.read_bytes()
    for length in [*range(1, len(content), 7), len(content) - 1]:
        path.write_bytes(content[:length])
        refuse(path, "truncated|damaged|is not a")


def test_oversized(path):
    path.write_bytes(path.read_bytes() + b"more")
    refuse(path, "damaged")


def test_every_flipped_byte_of_the_header_is_refused_or_harmless(path):
    content = bytearray(path.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for position in range(header):
        damaged = bytearray(content)
        damaged[position] ^= 0x15
        path.write_bytes(damaged)
        try:
            model = load_model(path)
        except FormatError:
            continue
        assert model.shapes["x"]  # a name or a space changed: still a whole program


def rewrite(path, **changes):
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {"w": file.get_tensor("w")}
    tensors["w"] = changes.pop("w", tensors["w"])
    metadata = {key: value for key, value in (metadata | changes).items() if value is not None}
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onebit_format": None}, "not a packed model"),
        ({"onebit_format": "2"}, "format version '2': this onebit reads '1'"),
        ({"program": None}, "missing from the metadata"),
        ({"program": "nonsense"}, "not JSON"),
        ({"task": None}, "task"),
        ({"task": "nonsense"}, "not JSON"),
        ({"task": "[]"}, "without a kind"),
        ({"w": np.zeros((9, 8), np.uint8)}, "needs \\(9, 16\\)"),
        ({"w": np.zeros((9, 16), np.float32)}, "is float32: needs uint8"),
        ({"w": np.full((9, 16), 255, np.uint8)}, "beyond its 70 columns"),
    ],
)
def test_wrong_contents(path, changes, message):
    rewrite(path, **changes)
    refuse(path, message)


def test_an_unknown_op(path, model):
    program = json.loads(model.program.to_json())
    program["steps"][0]["op"] = "bit_magic"
    rewrite(path, program=json.dumps(program))
    refuse(path, "unknown op 'bit_magic': this version knows .*bit_linear")


def test_a_type_that_numpy_lacks(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"U8"', b'"Q9"'))
    refuse(path, "is of type 'Q9'")


def test_a_type_that_no_program_takes(path):
    rewrite(path, w=np.zeros((9, 16), np.float64))
    refuse(path, "tensor 'w' is of type 'F64': a packed model holds F32, F16, I8, U8")


def test_floats_at_odd_places_of_the_file_are_read(path):
    """Other writers need not align tensors: the floats here begin one byte behind a multiple of four."""
    floats = np.array([1.5, -2.0], "<f4")
    program = Program("x", (2,), (Step("scale_shift", ("x",), "y", {}, {"scale": "s", "shift": "s"}),), "y").to_json()
    header = {
        "__metadata__": {"onebit_format": "1", "program": program, "task": '{"kind": "none"}'},
        "b": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "s": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\x01" + floats.tobytes())
    model = load_model(path)
    assert model.tensors["s"].flags.aligned
    np.testing.assert_array_equal(model.tensors["s"], floats)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path):
    target = tmp_path / "a.onebit"
    target.write_bytes(b"old")
    # A limit on the size of files stands in for the full disk: the write itself fails, half done.
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from onebit.fileformat import write_atomically;"
        "write_atomically(sys.argv[1], b'new' * 1000)"
    )
    result = subprocess.run([sys.executable, "-c", script, target], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "OSError" in result.stderr
    assert target.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.onebit"]


def test_a_new_file_has_an_ordinary_mode(tmp_path):
    write_atomically(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_new_file_leaves_the_umask_of_other_threads_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask belongs to the whole process"))
    write_atomically(tmp_path / "a", b"x")


def test_a_device_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, [b"ab", b"c"])
    assert os.read(reader, 10) == b"abc"
    os.close(reader)
    assert pipe.is_fifo() and [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


def test_what_cannot_be_written_is_told_under_the_name_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"No such file or directory: '{tmp_path}/no/a.onebit'"):
        write_atomically(tmp_path / "no" / "a.onebit", b"x")
    with pytest.raises(IsADirectoryError, match=f"Is a folder: give the name of a file: '{tmp_path}'"):
        write_atomically(tmp_path, b"x")
    write_atomically(tmp_path / ("a" * 255), b"x")  # as long as a name may be
    assert len(list(tmp_path.iterdir())) == 1


def test_one_model_is_one_file_in_every_process(tmp_path):
    script = """
import sys, numpy as np
from onebit.fileformat import PackedModel, save_model
from onebit.program import Program, Step
names = {"scale": "a.scale", "shift": "a.shift"}
program = Program("x", (2,), (Step("scale_shift", ("x",), "y", {}, names),), "y")
tensors = {name: np.ones(2, np.float32) for name in sorted(names.values(), reverse="r" in sys.argv[2])}
print(save_model(PackedModel(program, tensors, {"kind": "none"}), sys.argv[1]))
"""
    contents = set()
    for seed, order in (("0", "r"), ("1", ""), ("2", "")):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        words = [sys.executable, "-c", script, str(tmp_path / "a"), order]
        result = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        contents.add((tmp_path / "a").read_bytes())
        assert int(result.stdout) == (tmp_path / "a").stat().st_size
    assert len(contents) == 1
    load_model(tmp_path / "a")
    assert list(safe_open(tmp_path / "a", framework="numpy").keys()) == ["a.scale", "a.shift"]


def test_only_what_a_file_can_hold_is_written(tmp_path, monkeypatch):
    model = PackedModel(Program("x", (2,), (), "x"), {"extra": np.zeros(2)}, {"kind": "none"})
    with pytest.raises(FormatError, match="tensor 'extra' is float64: needs float32 or float16 or int8 or uint8"):
        save_model(model, tmp_path / "a")
    monkeypatch.setattr("onebit.fileformat.MAX_HEADER_BYTES", 50)
    with pytest.raises(FormatError, match="at most 50 are allowed"):
        save_model(PackedModel(model.program, {}, model.task), tmp_path / "a")
    assert not list(tmp_path.iterdir())
