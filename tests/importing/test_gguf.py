"""The reader of GGUF files: what it reads, and every fault that it names."""

import struct

import numpy as np
import pytest
from gguf_files import floats, gguf, tensor, text

from onebit.errors import ForeignModelError
from onebit.importing.gguf import MAX_ELEMENTS, read_gguf

METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": ["a", "b", "\u0120c"],
    "tokenizer.ggml.scores": [0.0, -1.0, -2.5],
    "tokenizer.ggml.add_bos_token": True,
    "nested": [[1, 2], [3]],
    "large": (10, 1 << 40),
}
TENSORS = {"a.weight": floats(np.arange(6).reshape(2, 3)), "b.weight": floats([1.5, -2])}


def written(tmp_path, content, name="a.gguf"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [1, 8, 32, 64])
def test_it_reads_what_was_written(tmp_path, version, alignment):
    metadata = METADATA if alignment == 32 else METADATA | {"general.alignment": alignment}
    file = read_gguf(written(tmp_path, gguf(metadata, TENSORS, version, alignment)))
    assert set(file.metadata) == set(metadata)
    assert file.metadata["tokenizer.ggml.tokens"] == ["a", "b", "\u0120c"]
    assert file.metadata["tokenizer.ggml.scores"].tolist() == [0, -1, -2.5]
    assert file.metadata["tokenizer.ggml.add_bos_token"] is True and file.metadata["large"] == 1 << 40
    assert [part.tolist() for part in file.metadata["nested"]] == [[1, 2], [3]]
    assert file.tensors["a.weight"].floats().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert file.tensors["b.weight"].floats().tolist() == [1.5, -2]
    file.check_unchanged()


def test_it_reads_a_file_of_the_official_writer(request):
    file = read_gguf(request.path.with_name("official.gguf"))
    assert file.metadata["general.architecture"] == "llama" and file.metadata["llama.context_length"] == 8
    assert file.metadata["tokenizer.ggml.tokens"] == ["<s>", "\u0120a"]
    assert file.tensors["token_embd.weight"].shape == (2, 32)
    assert file.tensors["token_embd.weight"].floats().tolist() == np.arange(64).reshape(2, 32).tolist()
    quantised = file.tensors["output.weight"]
    assert quantised.coding.name == "Q8_0" and np.allclose(quantised.floats(), np.eye(2, 32), atol=1e-3)


def test_pieces_are_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("onebit.importing.stored.PIECE_WEIGHTS", 12)
    values = np.arange(70, dtype=np.float32).reshape(10, 7)
    stored = read_gguf(written(tmp_path, gguf({}, {"w": floats(values)}))).tensors["w"]
    starts, parts = zip(*stored.pieces(2), strict=True)
    assert starts == (0, 2, 4, 6, 8) and np.array_equal(np.concatenate(parts), values)


def split(tmp_path, second=None, count=2, total=2):
    one = METADATA | {"split.no": (2, 0), "split.count": (2, count), "split.tensors.count": (5, total)}
    written(tmp_path, gguf(one, {"a.weight": TENSORS["a.weight"]}), "m-00001-of-00002.gguf")
    two = {"split.no": (2, 1), "split.count": (2, 2)} | (second or {})
    return written(tmp_path, gguf(two, {"b.weight": TENSORS["b.weight"]}), "m-00002-of-00002.gguf")


def test_a_split_file_is_one(tmp_path):
    file = read_gguf(split(tmp_path))
    assert list(file.tensors) == ["a.weight", "b.weight"] and file.metadata["llama.block_count"] == 2
    assert file.tensors["b.weight"].floats().tolist() == [1.5, -2]


def test_a_missing_part_is_named(tmp_path):
    file = split(tmp_path)
    file.with_name("m-00001-of-00002.gguf").unlink()
    with pytest.raises(ForeignModelError, match=r"m-00001-of-00002.gguf\] part 1 of 2 is missing"):
        read_gguf(file)


def test_a_part_under_another_name_is_refused(tmp_path):
    with pytest.raises(ForeignModelError, match="split.no=0 and split.count=2, but its name says part 2 of 2"):
        read_gguf(split(tmp_path, {"split.no": (2, 0)}))
    with pytest.raises(ForeignModelError, match="the parts have 2 tensors, the first says 3"):
        read_gguf(split(tmp_path, total=3))
    alone = written(tmp_path, gguf({"split.count": (2, 3)}), "alone.gguf")
    with pytest.raises(ForeignModelError, match="one of 3 parts: name them NAME-00001-of-00003.gguf"):
        read_gguf(alone)
    with pytest.raises(ForeignModelError, match="part 3 of 2"):
        read_gguf(tmp_path / "m-00003-of-00002.gguf")


def test_two_parts_with_one_tensor_are_refused(tmp_path):
    file = split(tmp_path)
    content = gguf({"split.no": (2, 1), "split.count": (2, 2)}, {"a.weight": TENSORS["a.weight"]})
    with pytest.raises(ForeignModelError, match="'a.weight': stands in m-00001-of-00002.gguf too"):
        read_gguf(written(tmp_path, content, file.name))


HEAD = b"GGUF" + struct.pack("<I", 3)


def key(kind, content, name="k"):
    return HEAD + struct.pack("<QQ", 0, 1) + text(name) + struct.pack("<I", kind) + content


def one(info):
    head = HEAD + struct.pack("<QQ", 1, 0) + info
    return head + bytes(-len(head) % 32) + bytes(64)


FAULTS = {
    "empty": (b"", "is not a GGUF file"),
    "other": (b"GGML" + bytes(40), "is not a GGUF file"),
    "version 1": (b"GGUF" + struct.pack("<I", 1) + bytes(40), "version 1: use versions 2 and 3"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + bytes(40), "big-endian"),
    "2^63 tensors": (gguf(counts=(1 << 63, 0)) + bytes(64), "claims 9223372036854775808 tensors"),
    "2^63 keys": (gguf(counts=(0, 1 << 63)) + bytes(64), "claims 9223372036854775808 metadata keys"),
    "a million keys": (gguf(counts=(0, 1_000_000)) + bytes(64), "claims 1000000 metadata keys"),
    "no keys": (gguf(counts=(0, 9)), "is truncated: the type of '' needs 4 bytes at byte 32"),
    "long key": (HEAD + struct.pack("<QQQ", 0, 1, 1 << 63) + bytes(64), "key 0 has 9223372036854775808 bytes"),
    "long text": (key(8, struct.pack("<Q", 1 << 62)) + bytes(64), "'k' has 4611686018427387904 bytes"),
    "not UTF-8": (key(8, text(b"\xff\xfe")), "the value of 'k' is not UTF-8"),
    "type 13": (key(13, bytes(64)), "of the unknown type 13"),
    "boolean 2": (key(7, b"\x02"), "is a boolean of 2"),
    "long list": (key(9, struct.pack("<IQ", 4, 1 << 61)) + bytes(64), f"at most {MAX_ELEMENTS}"),
    "short list": (key(9, struct.pack("<IQ", 4, 100)) + bytes(64), "is truncated: the value of 'k' needs 400"),
    "texts that are not there": (key(9, struct.pack("<IQ", 8, 100_000)) + bytes(64), "claims 100000 elements"),
    "list of type 77": (key(9, struct.pack("<IQ", 77, 1)) + bytes(64), "elements of the unknown type 77"),
    "nested": (key(9, struct.pack("<IQ", 9, 1) * 9) + bytes(64), "nested more than 4 deep"),
    "key twice": (HEAD + struct.pack("<QQ", 0, 2) + (text("k") + struct.pack("<II", 4, 1)) * 2, "'k' stands twice"),
    "alignment 0": (gguf({"general.alignment": 0}, TENSORS), "general.alignment=0: needs a power of two"),
    "alignment 3": (gguf({"general.alignment": 3}, TENSORS), "general.alignment=3"),
    "alignment text": (gguf({"general.alignment": "x"}, TENSORS), "general.alignment='x'"),
    "no axes": (one(tensor("t", (), 0, 0)), "tensor 't' has 0 axes"),
    "nine axes": (one(tensor("t", (1,) * 9, 0, 0)), "tensor 't' has 9 axes"),
    "axis 0": (one(tensor("t", (0,), 0, 0)), r"shape \[0\]"),
    "axis 2^63": (one(tensor("t", (1 << 63, 2), 0, 0)), "needs axes from 1 to 2147483648"),
    "huge": (one(tensor("t", (1 << 31, 1 << 31, 1 << 31), 0, 0)), "'t': needs 39614081257132168796771975168 bytes"),
    "unknown type": (one(tensor("t", (32,), 99, 0)), r"tensor 't' is of type 99 \(unknown\): onebit reads F32"),
    "known type": (one(tensor("t", (256,), 10, 0)), r"tensor 't' is of type 10 \(Q2_K\)"),
    "odd row": (one(tensor("t", (33,), 8, 0)), "'t': has rows of 33 weights: Q8_0 needs a multiple of 32"),
    "unaligned": (one(tensor("t", (4,), 0, 8)), "'t': lies at 8, which is not a multiple of the alignment 32"),
    "beyond": (one(tensor("t", (4,), 0, 1 << 62)), "'t': needs 16 bytes at byte"),
    "truncated": (gguf({}, TENSORS)[:-60], "'a.weight': needs 24 bytes at byte|'b.weight': needs 8 bytes"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(tmp_path, name):
    content, message = FAULTS[name]
    with pytest.raises(ForeignModelError, match=message) as caught:
        read_gguf(written(tmp_path, content))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_overlapping_tensors_are_refused(tmp_path):
    infos = tensor("t", (16,), 0, 0) + tensor("u", (4,), 0, 32)
    head = HEAD + struct.pack("<QQ", 2, 0) + infos
    with pytest.raises(ForeignModelError, match="'t': overlaps the next tensor"):
        read_gguf(written(tmp_path, head + bytes(-len(head) % 32) + bytes(96)))
    infos = tensor("t", (4,), 0, 32) + tensor("u", (4,), 0, 32)
    head = HEAD + struct.pack("<QQ", 2, 0) + infos
    with pytest.raises(ForeignModelError, match="'u': lies where 't' lies"):
        read_gguf(written(tmp_path, head + bytes(-len(head) % 32) + bytes(96)))
    with pytest.raises(ForeignModelError, match="tensor 't' stands twice"):
        twice = HEAD + struct.pack("<QQ", 2, 0) + tensor("t", (4,), 0, 0) * 2
        read_gguf(written(tmp_path, twice + bytes(96)))


def test_a_folder_a_pipe_and_nothing_are_named(tmp_path):
    import os

    with pytest.raises(ForeignModelError, match="is not a file"):
        read_gguf(tmp_path)
    with pytest.raises(ForeignModelError, match="no such file"):
        read_gguf(tmp_path / "none.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ForeignModelError, match="is not a file"):
        read_gguf(tmp_path / "pipe.gguf")


def test_a_file_that_changes_meanwhile_is_named(tmp_path):
    path = written(tmp_path, gguf({}, {"w": floats(np.zeros((64, 64)))}))
    file = read_gguf(path)
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(ForeignModelError, match="became shorter while it was read"):
        file.tensors["w"].floats()
    with pytest.raises(ForeignModelError, match="changed while it was read"):
        file.check_unchanged()


def two_bits(coding_bytes, weights, rows=8, columns=256):
    """A tensor of type 42 whose blocks have so many weights."""
    return (rows, columns), 42, bytes(rows * columns // weights * coding_bytes)


def test_two_types_of_one_number_are_told_apart_by_sizes(tmp_path):
    today = gguf({}, {"v": two_bits(18, 64), "w": two_bits(18, 64)})
    older = gguf({}, {"v": two_bits(34, 128), "w": two_bits(34, 128)})
    for content, name, size in ((today, "Q2_0", 64), (older, "Q2_0 of 128", 128)):
        found = read_gguf(written(tmp_path, content)).tensors
        assert {(t.coding.name, t.coding.weights) for t in found.values()} == {(name, size)}
