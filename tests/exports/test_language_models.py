"""Language models as GGUF files and as folders: what is written is read back as it was, and equals what others wrote."""

import json

import numpy as np
import pytest
from gguf_files import floats
from random_models import (
    CONFIGS,
    as_q1_0,
    as_q2_0,
    as_q8_0,
    as_tq2_0,
    gguf_metadata,
    gguf_tensors,
    tokenizer,
    write_folder,
    write_gguf,
)

import onebit
from onebit.cli.main import main
from onebit.errors import OnebitError
from onebit.exports import export
from onebit.exports.gguf_blocks import NAMES, encode
from onebit.fileformat import PackedModel, load_model, save_model
from onebit.importing import import_model
from onebit.importing.blocks import CODINGS, Levels, Signs
from onebit.importing.gguf import read_gguf
from onebit.subwords import SubwordTask, SubwordTokenizer, unpack_tokenizer

TEXT = "hello, hel lo! 12 it's\n\tthe end"


def content(file, name):
    tensor = file.tensors[name]
    return tensor.coding.name, tensor.shape, tensor.file.read(tensor.start, tensor.nbytes)


@pytest.mark.parametrize("name", CONFIGS)
def test_gguf_is_read_back_as_it_was(tmp_path, name):
    import_model(write_folder(tmp_path / "m", name), tmp_path / "a.onebit")
    result = export(tmp_path / "a.onebit", "gguf", tmp_path / "m.gguf", check=True)
    assert result.passed and result.written.check.values > 80_000
    assert result.written.bytes == (tmp_path / "m.gguf").stat().st_size
    import_model(tmp_path / "m.gguf", tmp_path / "b.onebit", trust=True)
    ours, found = load_model(tmp_path / "a.onebit"), load_model(tmp_path / "b.onebit")
    if "quantization_config" in CONFIGS[name]:  # whose one scale is one for each group there
        codes = {part for part in ours.tensors if part.endswith((".gain", "embedding.weight", "embedding.scale"))}
    else:
        codes = ours.tensors.keys()
        assert codes == found.tensors.keys()
        assert [step.op for step in ours.program.steps] == [step.op for step in found.program.steps]
    assert codes and all(np.array_equal(ours.tensors[part], found.tensors[part]) for part in codes)
    cut, again = (SubwordTokenizer(SubwordTask.from_json(m.task)) for m in (ours, found))
    assert cut.encode(TEXT) == again.encode(TEXT) and set(cut.ends) == set(again.ends)
    file = read_gguf(tmp_path / "m.gguf")
    assert file.metadata["tokenizer.ggml.merges"] == tokenizer()["model"]["merges"]
    file.close()


@pytest.mark.parametrize("name", ["wide qwen3", "wide llama"])
@pytest.mark.parametrize("code", [as_q1_0, as_q2_0, as_tq2_0, as_q8_0])
def test_types_that_are_kept_keep_every_byte(tmp_path, name, code):
    tensors = gguf_tensors(name, lambda weight: code(weight)[0])
    for part in {"token_embd.weight", "output.weight"} & tensors.keys():
        shape, _, raw = tensors[part]
        tensors[part] = as_q8_0(np.frombuffer(raw, "<f4").reshape(shape))[0]
    source = write_gguf(tmp_path / "m.gguf", name, tensors=tensors)
    import_model(source, tmp_path / "m.onebit", trust=True)
    export(tmp_path / "m.onebit", "gguf", tmp_path / "again.gguf")
    first, second = read_gguf(source), read_gguf(tmp_path / "again.gguf")
    assert first.tensors.keys() == second.tensors.keys()
    for part in first.tensors:
        kind, shape, raw = content(first, part)
        again, its_shape, its_raw = content(second, part)
        if code is as_q2_0 and again != kind:  # no scale for 256 and no 2 by chance would be another type
            raise AssertionError(part)
        assert (kind, shape) == (again, its_shape), part
        assert raw == its_raw, part
    for key, value in gguf_metadata(name).items():
        if not key.startswith(("tokenizer", "general.name")):
            assert second.metadata[key] == pytest.approx(value), key
    first.close()
    second.close()


@pytest.mark.parametrize(("group", "kind"), [(128, "Q1_0"), (64, "Q2_0"), (32, "Q4_0")])
def test_signs_keep_their_values_in_blocks_of_their_groups(group, kind):
    random = np.random.default_rng(1)
    bits = random.integers(0, 256, (3, 32), np.uint8)
    signs = Signs(bits, random.random((3, 256 // group)).astype(np.float16).astype(np.float32))
    number, raw = encode(signs, few_bits=True)
    assert NAMES[number] == kind
    assert np.array_equal(decoded(number, raw, 3), signs.floats())


@pytest.mark.parametrize(
    ("group", "top", "kind"), [(256, 1, "TQ2_0"), (128, 1, "Q2_0"), (256, 2, "Q2_0"), (64, 2, "Q2_0"), (32, 1, "Q4_0")]
)
def test_levels_keep_their_values_in_blocks_of_their_groups(group, top, kind):
    random = np.random.default_rng(2)
    codes = random.integers(-1, top + 1, (3, 512)).astype(np.int8)
    levels = Levels(codes, random.random((3, 512 // group)).astype(np.float16).astype(np.float32))
    number, raw = encode(levels, few_bits=True)
    assert NAMES[number] == kind
    assert np.array_equal(decoded(number, raw, 3), levels.floats())


def test_rows_that_fill_no_block_become_floats():
    random = np.random.default_rng(3)
    codes, scales = random.integers(-127, 128, (4, 24)).astype(np.int8), np.ones((4, 1), np.float32)
    number, raw = encode(Levels(codes, scales), few_bits=False)
    assert NAMES[number] == "F32" and np.array_equal(raw.view("<f4").reshape(4, 24), codes)


def decoded(number, raw, rows):
    coding = CODINGS[number]
    found = coding.decode(raw.reshape(rows, -1, coding.block_bytes))
    return found.floats()


@pytest.mark.parametrize("name", ["falcon-e", "bitnet, online", "bitnet, offline", "wide bitnet"])
def test_a_folder_is_read_back_as_it_was(tmp_path, name):
    import_model(write_folder(tmp_path / "m", name), tmp_path / "a.onebit", wide="float32")
    result = export(tmp_path / "a.onebit", "transformers", tmp_path / "folder")
    assert result.written.bytes == sum(file.stat().st_size for file in (tmp_path / "folder").iterdir())
    import_model(tmp_path / "folder", tmp_path / "b.onebit", wide="float32")
    ours, found = load_model(tmp_path / "a.onebit"), load_model(tmp_path / "b.onebit")
    assert ours.program == found.program
    assert all(np.array_equal(ours.tensors[part], found.tensors[part]) for part in ours.tensors)
    cut, again = (SubwordTokenizer(SubwordTask.from_json(m.task)) for m in (ours, found))
    assert cut.encode(TEXT) == again.encode(TEXT) and set(cut.ends) == set(again.ends)
    assert ours.task.get("chat_template") == found.task.get("chat_template")
    assert onebit.load(tmp_path / "b.onebit", threads=1).logits([1, 2]).shape[0] == 2


def test_a_folder_packs_four_rows_of_a_quarter_each(tmp_path):
    import_model(write_folder(tmp_path / "m", "bitnet, offline"), tmp_path / "a.onebit", wide="float32")
    export(tmp_path / "a.onebit", "transformers", tmp_path / "folder")
    from safetensors.numpy import load_file

    theirs, ours = (load_file(tmp_path / part / "model.safetensors") for part in ("m", "folder"))
    packed = [name for name, tensor in theirs.items() if tensor.dtype == np.uint8]
    assert len(packed) == 14
    for name in packed:
        assert np.array_equal(theirs[name], ours[name]), name
        assert ours[f"{name}_scale"] == pytest.approx(theirs[f"{name}_scale"], rel=1e-6)
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["model_type"] == "bitnet"


def test_a_text_that_begins_with_a_token_begins_with_it_again(tmp_path):
    tree = tokenizer()
    tree["added_tokens"].append(tree["added_tokens"][0] | {"id": 259, "content": "<s>"})
    tree["model"]["vocab"]["<s>"] = 259
    begins = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tree["post_processor"] = {"type": "TemplateProcessing", "single": begins, "pair": [], "special_tokens": {}}
    folder = write_folder(tmp_path / "m", "falcon-e")
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "bos_token": "<s>"}))
    import_model(folder, tmp_path / "a.onebit")
    assert load_model(tmp_path / "a.onebit").task["starts"] == [259]
    export(tmp_path / "a.onebit", "transformers", tmp_path / "folder")
    export(tmp_path / "a.onebit", "gguf", tmp_path / "m.gguf")
    for source in ("folder", "m.gguf"):
        import_model(tmp_path / source, tmp_path / "b.onebit", trust=True)
        assert load_model(tmp_path / "b.onebit").task["starts"] == [259]


def test_sentencepiece_keeps_its_merges(tmp_path):
    tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "a", "b", "ab", "\u2581a", "\u2581ab"]
    metadata = gguf_metadata("llama") | {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, 0.0, -9.0, -8.0, -7.0, -1.5, -2.5, -0.5],
        "tokenizer.ggml.token_type": [(5, kind) for kind in (2, 3, 3, 6, 1, 1, 1, 1, 1, 1)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    for gone in ("tokenizer.ggml.pre", "tokenizer.ggml.merges"):
        del metadata[gone]
    from gguf_files import gguf

    (tmp_path / "m.gguf").write_bytes(gguf(metadata, gguf_tensors("llama")))
    import_model(tmp_path / "m.gguf", tmp_path / "a.onebit")
    export(tmp_path / "a.onebit", "gguf", tmp_path / "again.gguf")
    import_model(tmp_path / "again.gguf", tmp_path / "b.onebit")
    first, second = (SubwordTask.from_json(load_model(tmp_path / f"{n}.onebit").task) for n in "ab")
    assert first.starts == second.starts == (1,)
    merges, again = (unpack_tokenizer(task.tokenizer)["model"]["merges"] for task in (first, second))
    assert merges == again and len(merges) == 4
    assert SubwordTokenizer(first).encode("ab a\nb") == SubwordTokenizer(second).encode("ab a\nb")


def test_groups_have_no_packed_layout(tmp_path):
    coded = gguf_tensors("wide llama", lambda weight: as_q2_0(weight)[0])
    import_model(write_gguf(tmp_path / "m.gguf", "wide llama", tensors=coded), tmp_path / "m.onebit", trust=True)
    with pytest.raises(OnebitError, match="--scheme bitnet"):
        export(tmp_path / "m.onebit", "transformers", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    with pytest.raises(OnebitError, match="no option 'check'"):
        export(tmp_path / "m.onebit", "transformers", tmp_path / "folder", check=True)


@pytest.mark.parametrize("to", ["gguf", "transformers"])
def test_other_models_are_refused(tmp_path, to):
    with pytest.raises(OnebitError, match="not a language model of onebit import"):
        export("books", to, tmp_path / "out")
    import_model(write_folder(tmp_path / "m", "falcon-e"), tmp_path / "a.onebit")
    model = load_model(tmp_path / "a.onebit")
    last = model.program.steps[-1]
    more = type(last)("scale", (last.output,), "v_end", {"factor": 0.5})
    changed = type(model.program)(
        "tokens", model.program.input_shape, (*model.program.steps, more), "v_end", tokens=True
    )
    save_model(PackedModel(changed, dict(model.tensors), model.task), tmp_path / "c.onebit")
    with pytest.raises(OnebitError, match="not a language model of onebit import"):
        export(tmp_path / "c.onebit", to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_a_name_in_gguf_is_refused(tmp_path):
    tree = tokenizer()
    tree["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    folder = write_folder(tmp_path / "m", "llama")
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    import_model(folder, tmp_path / "a.onebit")
    with pytest.raises(OnebitError, match="no name in GGUF"):
        export(tmp_path / "a.onebit", "gguf", tmp_path / "m.gguf")


def test_the_command_checks_what_it_wrote(tmp_path, capsys):
    import_model(write_folder(tmp_path / "m", "llama"), tmp_path / "a.onebit")
    assert main(["export", "gguf", str(tmp_path / "a.onebit"), "--out", str(tmp_path / "m.gguf"), "--check"]) == 0
    assert "99,840 weights of 16 matrices, read from the exported file: all equal" in capsys.readouterr().out


def test_a_difference_is_found(tmp_path, monkeypatch):
    import_model(write_folder(tmp_path / "m", "llama"), tmp_path / "a.onebit")
    monkeypatch.setattr("onebit.exports.gguf._paired", lambda sizes, name, rows: rows)
    result = export(tmp_path / "a.onebit", "gguf", tmp_path / "m.gguf", check=True)
    assert not result.passed and "DIFFERENT" in str(result)


def test_floats_stay_floats(tmp_path):
    import_model(write_folder(tmp_path / "m", "llama"), tmp_path / "a.onebit", wide="float32")
    export(tmp_path / "a.onebit", "gguf", tmp_path / "m.gguf")
    file = read_gguf(tmp_path / "m.gguf")
    wanted = gguf_tensors("llama")
    assert all(content(file, part)[2] == wanted[part][2] for part in wanted)
    assert all(part == floats(np.frombuffer(part[2], "<f4").reshape(part[0])) for part in wanted.values())
    file.close()
