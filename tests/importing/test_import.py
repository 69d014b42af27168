"""Imported models compute what transformers computes, from folders and from GGUF files, in the reference and in the engine."""

import json
from pathlib import Path

import numpy as np
import pytest
from gguf_files import floats
from random_models import (
    CONFIGS,
    WIDE,
    as_i2_s,
    as_q1_0,
    as_q2_0,
    as_q8_0,
    as_tq1_0,
    as_tq2_0,
    config,
    gguf_tensors,
    is_packed,
    write_folder,
    write_gguf,
)

import onebit
from onebit.errors import ForeignModelError
from onebit.fileformat import load_model
from onebit.importing import import_model
from onebit.runtime import reference

KNOWN = dict(np.load(Path(__file__).with_name("known_logits.npz")))
SMALL = [name for name in CONFIGS if not WIDE.items() <= CONFIGS[name].items()]
TOKENS = KNOWN["tokens"]


def reference_logits(file):
    model = load_model(file)
    return reference.run(model.program, model.tensors, TOKENS[None], "float32")[0]


def difference(found, name):
    return np.abs(found[-len(KNOWN[name]) :] - KNOWN[name]).max() / np.abs(KNOWN[name]).max()


@pytest.mark.parametrize("name", SMALL)
def test_a_folder_computes_what_transformers_does(tmp_path, name):
    report = import_model(write_folder(tmp_path / "m", name), tmp_path / "m.onebit", wide="float32")
    assert report.bytes == (tmp_path / "m.onebit").stat().st_size
    assert difference(reference_logits(tmp_path / "m.onebit"), name) < 1e-5
    session = onebit.load(tmp_path / "m.onebit", precision="float32", threads=1)
    assert difference(session.logits(TOKENS.tolist()), name) < 1e-5
    assert difference(session.logits(TOKENS.tolist(), one_by_one=True), name) < 1e-5


@pytest.mark.parametrize("name", [name for name in SMALL if "quantization_config" not in CONFIGS[name]])
def test_a_gguf_file_is_the_folder(tmp_path, name):
    import_model(write_folder(tmp_path / "m", name), tmp_path / "m.onebit", wide="float32")
    report = import_model(write_gguf(tmp_path / "m.gguf", name), tmp_path / "g.onebit", wide="float32")
    folder, file = load_model(tmp_path / "m.onebit"), load_model(tmp_path / "g.onebit")
    assert report.name == name and report.context == (128, 128)
    assert file.tensors.keys() == folder.tensors.keys()
    assert all(np.array_equal(file.tensors[part], folder.tensors[part]) for part in folder.tensors)
    assert difference(reference_logits(tmp_path / "g.onebit"), name) < 1e-5


def relative(found, wanted):
    return np.abs(found - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize("name", ["wide qwen3", "wide llama"])
@pytest.mark.parametrize("encode", [as_q1_0, as_q2_0, as_tq1_0, as_tq2_0, as_q8_0])
def test_coded_matrices_compute_what_their_values_do(tmp_path, name, encode):
    def plain(weight):
        return floats(encode(weight)[1].reshape(weight.shape))

    def coded(weight):
        return encode(weight)[0]

    tensors, values = gguf_tensors(name, coded), gguf_tensors(name, plain)
    # The table and the head too, which may be one. Those of ternary types stay floats, which become bytes.
    ternary = encode in (as_tq1_0, as_tq2_0)
    for part in () if ternary else ({"token_embd.weight", "output.weight"} & tensors.keys()):
        table = np.frombuffer(tensors[part][2], np.float32).reshape(-1, 256)
        tensors[part], values[part] = coded(table), plain(table)
    report = import_model(write_gguf(tmp_path / "a.gguf", name, tensors=tensors), tmp_path / "a.onebit", wide="int8")
    import_model(write_gguf(tmp_path / "b.gguf", name, tensors=values), tmp_path / "b.onebit", wide="float32")
    kept = {as_q1_0: "bits", as_q8_0: "int8"}.get(encode, "two bits")
    assert {figures.kind[2] for figures in report.kinds if figures.kind[0] not in ("embedding", "head")} == {kept}
    session = onebit.load(tmp_path / "a.onebit", precision="float32", threads=1)
    wanted = reference_logits(tmp_path / "a.onebit")
    assert relative(wanted, reference_logits(tmp_path / "b.onebit")) < (0.05 if ternary else 1e-5)
    assert relative(session.logits(TOKENS.tolist()), wanted) < 1e-5
    assert relative(session.logits(TOKENS.tolist(), one_by_one=True), wanted) < 1e-5
    assert relative(onebit.load(tmp_path / "a.onebit", threads=1).logits(TOKENS.tolist()), wanted) < 0.1


def test_i2_s_is_the_packed_folder(tmp_path):
    name = "wide bitnet"
    import_model(write_folder(tmp_path / "m", name), tmp_path / "m.onebit", wide="float32")
    import_model(write_gguf(tmp_path / "m.gguf", name, as_i2_s), tmp_path / "g.onebit", wide="float32")
    folder, file = load_model(tmp_path / "m.onebit"), load_model(tmp_path / "g.onebit")
    assert [step.op for step in file.program.steps] == [step.op for step in folder.program.steps]
    assert all(np.array_equal(file.tensors[part], folder.tensors[part]) for part in folder.tensors)


def test_the_report_says_what_is_in_the_file(tmp_path):
    report = import_model(write_folder(tmp_path / "m", "bitnet, offline"), tmp_path / "m.onebit", wide="float32")
    text, values = str(report), json.loads(json.dumps(report.to_dict()))
    assert (
        "bitnet: 2 blocks of 64 features, 4 heads of 16 (2 of keys and values), 96 hidden features (relu squared"
        in text
    )
    assert "with a chat template" in text and "base 500000, 16 features of a head, not scaled" in text
    kinds = {kind["part"]: kind for kind in values["kinds"]}
    assert kinds["mlp.down"]["stored"] == "packed ternary" and kinds["mlp.down"]["kept"] == "ternary"
    assert kinds["mlp.down"]["tensors"] == 2 and kinds["mlp.down"]["weights"] == 2 * 64 * 96
    assert 0.2 < kinds["mlp.down"]["zero_share"] < 0.5 and 0.4 < kinds["mlp.down"]["positive_share"] < 0.6
    assert kinds["attention.q"]["bits_per_weight"] == 2 and kinds["embedding"]["bits_per_weight"] == 32
    assert sum(kind["weights"] for kind in values["kinds"]) > 80_000


def test_nothing_is_written_for_a_report_only(tmp_path):
    folder = write_folder(tmp_path / "m", "falcon-e")
    read = import_model(folder, wide="float32", write_file=False)
    wrote = import_model(folder, tmp_path / "m.onebit", wide="float32")
    assert read.out is None and [k.to_dict() for k in read.kinds] == [k.to_dict() for k in wrote.kinds]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "m.onebit"]


def test_pieces_do_not_change_the_file(tmp_path, monkeypatch):
    write_gguf(tmp_path / "m.gguf", "llama")
    import_model(tmp_path / "m.gguf", tmp_path / "a.onebit", wide="float32")
    monkeypatch.setattr("onebit.importing.stored.PIECE_WEIGHTS", 2000)
    import_model(tmp_path / "m.gguf", tmp_path / "b.onebit", wide="float32")
    assert (tmp_path / "a.onebit").read_bytes() == (tmp_path / "b.onebit").read_bytes()


def test_it_generates_and_stops_at_the_models_end(tmp_path):
    import_model(write_folder(tmp_path / "m", "qwen3"), tmp_path / "m.onebit", wide="float32", context=32)
    session = onebit.load(tmp_path / "m.onebit", threads=1)
    assert session.context == 32 and session.never == (259, *range(260, 300))
    assert session.tokenizer.ends == {256} and session.tokenizer.decode(session.tokenizer.encode("hello")) == "hello"
    text = session.write("hello", 8, temperature=0)
    assert len(text.tokens) <= 8 and 256 not in text.tokens
    assert len(session.score("hello")) == 3  # hel, l, o


def test_every_matrix_is_used(tmp_path):
    tensors = gguf_tensors("llama") | {"blk.0.attn_q.lora": ((2,), 0, bytes(8))}
    with pytest.raises(ForeignModelError, match="tensor 'blk.0.attn_q.lora' has no place in a llama network"):
        import_model(write_gguf(tmp_path / "m.gguf", "llama", tensors=tensors), tmp_path / "m.onebit")


def test_packed_matrices_are_found_by_their_names():
    values = config("falcon-e")
    assert is_packed("model.layers.0.mlp.up_proj.weight", values) and not is_packed("lm_head.weight", values)
