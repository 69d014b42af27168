"""Models that onebit does not run, or that look wrong: each is one line that names what is wrong."""

import errno
import json
import os
import shutil
import sys

import numpy as np
import pytest
from gguf_files import floats
from random_models import config, gguf_tensors, stored, write_folder, write_gguf

from onebit.chat_template import render
from onebit.cli.main import main
from onebit.errors import DataError, ForeignModelError
from onebit.importing import import_model

MATRIX = "blk.1.ffn_up.weight"


def refused(source, message, **options):
    with pytest.raises(ForeignModelError, match=message) as caught:
        import_model(source, write_file=False, wide="float32", **options)
    assert "\n" not in str(caught.value)


METADATA = {
    "MoE": (
        {"llama.expert_count": 8},
        "its architecture is 'llama with experts .MoE.': onebit lacks mixtures of experts",
    ),
    "moe by name": ({"general.architecture": "qwen3moe"}, "lacks mixtures of experts"),
    "state space": (
        {"general.architecture": "mamba2"},
        "'mamba2': onebit lacks state-space recurrences for it; it runs llama",
    ),
    "gated delta": ({"general.architecture": "qwen35"}, "lacks gated delta rules, causal convolutions"),
    "unknown": ({"general.architecture": "neo"}, "its architecture is 'neo': onebit does not know it; it runs llama"),
    "rope": ({"llama.rope.scaling.type": "longrope"}, "rope.scaling.type='longrope': onebit has none, linear, yarn"),
    "base": ({"llama.rope.freq_base": 0.5}, "the base of the rotary positions is 0.5"),
    "heads": ({"llama.attention.head_count_kv": 3}, "3 heads of keys do not divide 4 heads"),
    "odd head": ({"llama.attention.key_length": 15, "llama.attention.value_length": 15}, "of heads of 15"),
    "two sizes": ({"llama.attention.value_length": 8}, "heads of different sizes"),
    "layers": ({"llama.block_count": 1 << 30}, "block_count=1073741824: needs an integer from 1 to 1024"),
    "no layers": ({"llama.block_count": "x"}, "block_count='x'"),
    "more layers": ({"llama.block_count": 3}, "tensor 'blk.2.attn_norm.weight' is missing"),
    "fewer layers": ({"llama.block_count": 1}, "has no place in a llama network, and 8 more"),
    "width": ({"llama.embedding_length": 32}, r"'token_embd.weight': has the shape \(300, 64\): the network needs"),
    "hidden": ({"llama.feed_forward_length": 97}, "'blk.0.ffn_gate.weight': has the shape"),
    "eps": ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "layer_norm_rms_epsilon=nan: needs a number"),
    "lists": ({"llama.attention.head_count": [4, 2]}, "head_count=array"),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata(tmp_path, name):
    change, message = METADATA[name]
    refused(write_gguf(tmp_path / "m.gguf", "llama", metadata=change), message)


CONFIGS = {
    "architecture": ({"model_type": "mixtral"}, "lacks mixtures of experts"),
    "no type": ({"model_type": None}, "model_type=None: needs a text"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act='gelu': onebit has silu"),
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "scaled by 'dynamic': onebit has linear, yarn"),
    "factor": ({"rope_scaling": {"type": "linear", "factor": -1}}, "factor=-1: needs a number above 0"),
    "scaling": ({"rope_scaling": "yarn"}, "rope_scaling='yarn': needs an object"),
    "method": ({"quantization_config": {"quant_method": "gptq"}}, "its method is 'gptq': onebit reads bitnet"),
    "linear class": ({"quantization_config": {"quant_method": "bitnet", "linear_class": "x"}}, "linear_class='x'"),
    "inner norm": (
        {"quantization_config": {"quant_method": "bitnet", "use_rms_norm": True}},
        "use_rms_norm puts a norm into each matrix",
    ),
    "layers": ({"num_hidden_layers": 0}, "num_hidden_layers=0"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(tmp_path, name):
    change, message = CONFIGS[name]
    refused(write_folder(tmp_path / "m", "llama", values=config("llama") | change), message)


def damaged(folder, part, change):
    tensors = stored("falcon-e")
    tensors[part] = change(tensors[part])
    return write_folder(folder, "falcon-e", tensors)


def test_packed_matrices(tmp_path):
    part = "model.layers.0.mlp.up_proj.weight"
    refused(damaged(tmp_path / "a", part, lambda t: t | 3), "up_proj.weight': holds a code of 3")
    refused(damaged(tmp_path / "b", f"{part}_scale", lambda t: t * 0), "has the weight_scale 0: needs a number above 0")
    refused(damaged(tmp_path / "c", f"{part}_scale", lambda t: t * np.nan), "numbers that are not finite")
    refused(damaged(tmp_path / "d", part, lambda t: t[:-1]), r"has the shape \(92, 64\): the network needs \(96, 64\)")
    values = config("falcon-e")
    del values["quantization_config"]
    refused(write_folder(tmp_path / "e", "falcon-e", values=values), "is packed, and config.json lacks")


def all_zero(tensor):
    return np.full_like(tensor, 0b01010101)


def test_matrices_that_look_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr("onebit.importing.census._LEAST_WEIGHTS", 1)
    part = "model.layers.1.mlp.down_proj.weight"
    refused(damaged(tmp_path / "a", part, all_zero), "down_proj.weight': all its weights are the same.*--trust")
    refused(
        damaged(tmp_path / "b", part, lambda t: t | all_zero(t) << 1 & ~(t << 1) & 0xAA & ~((t & 0x55) << 1)),
        "are above 0|are 0",
    )
    folder = damaged(tmp_path / "c", part, all_zero)
    assert import_model(folder, tmp_path / "c.onebit", wide="float32", trust=True).bytes > 0


def test_floats_that_are_not_finite(tmp_path):
    tensors = gguf_tensors("llama")
    shape, _, content = tensors[MATRIX]
    values = np.frombuffer(content, np.float32).copy()
    values[5] = np.inf
    tensors[MATRIX] = (shape, 0, values.tobytes())
    refused(
        write_gguf(tmp_path / "m.gguf", "llama", tensors=tensors),
        "'blk.1.ffn_up.weight': holds numbers that are not finite",
    )
    tensors = gguf_tensors("llama") | {"output_norm.weight": floats(np.full(64, np.nan))}
    refused(write_gguf(tmp_path / "m.gguf", "llama", tensors=tensors), "'output_norm.weight': holds numbers")


def test_a_folder_without_safetensors(tmp_path):
    folder = write_folder(tmp_path / "m", "llama")
    (folder / "model.safetensors").unlink()
    refused(folder, "holds no .safetensors file")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    refused(folder, "as pytorch_model.bin, a pickle, which can run any code: save the model as safetensors")
    (folder / "config.json").unlink()
    refused(folder, "config.json. no such file")
    refused(tmp_path / "nothing", "nothing. no such file or folder")


def test_shards(tmp_path):
    folder = write_folder(tmp_path / "m", "llama")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}))
    refused(folder, "other.safetensors. is missing, and the index names it")
    index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    refused(folder, "names files outside its folder")
    index.write_text(json.dumps({"weight_map": []}))
    refused(folder, "lacks its weight_map")
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}))
    refused(folder, "stands in model.safetensors too")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is truncated or not a safetensors file"),
        (b"\xff" * 16, "its header claims"),
        ((9).to_bytes(8, "little") + b'{"a": [1}', "damaged: .*not JSON"),
        ((2).to_bytes(8, "little") + b"[]", "its header is not an object"),
        ((8).to_bytes(8, "little") + b'{"a": 1}', "tensor 'a' is of type None"),
    ],
)
def test_damaged_safetensors(tmp_path, content, message):
    folder = write_folder(tmp_path / "m", "llama")
    (folder / "model.safetensors").write_bytes(content)
    refused(folder, message)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}, "'a' is of type 'F64': onebit reads F32"),
        ({"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 8]}, "has the shape"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "takes 4 bytes, its shape needs 8"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}, "takes -8 bytes"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [1 << 50, (1 << 50) + 8]}, "it is truncated"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0]}, "has the shape"),
        ({"dtype": "F32", "shape": "x", "data_offsets": [0, 8]}, "has the shape 'x'"),
    ],
)
def test_damaged_entries(tmp_path, entry, message):
    header = json.dumps({"a": entry}).encode()
    folder = write_folder(tmp_path / "m", "llama")
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    refused(folder, message)


def test_a_context_beyond_the_models(tmp_path):
    folder = write_folder(tmp_path / "m", "llama")
    for context in (129, 0, "x"):
        refused(folder, f"context={context!r}: the model allows 1 to 128 tokens", context=context)
    with pytest.raises(ForeignModelError, match="wide=7: use 'int8' or 'float32'"):
        import_model(folder, wide=7)


def test_a_disk_that_fills(tmp_path, monkeypatch, capsys):
    folder = write_folder(tmp_path / "m", "llama")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert main(["import", str(folder), "--wide", "float32", "--out", str(tmp_path / "m.onebit")]) == 1
    assert (
        capsys.readouterr().err.splitlines()[-1] == f"onebit: error: [{tmp_path / 'm.onebit'}] No space left on device"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_file_that_changes_while_it_is_imported(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf", "llama")
    monkeypatch.setattr("onebit.importing.run.write", lambda *_: (os.utime(path, (1, 1)), (0, []))[1])
    with pytest.raises(ForeignModelError, match="changed while it was read: wait until it is complete"):
        import_model(path, tmp_path / "m.onebit")


def test_the_command_writes_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_gguf(tmp_path / "m.gguf", "qwen3")
    assert main(["import", "m.gguf", "--wide", "float32", "--report"]) == 0
    assert "qwen3: 2 blocks" in capsys.readouterr().out and not (tmp_path / "m.onebit").exists()
    assert main(["import", "m.gguf", "--wide", "float32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == (tmp_path / "m.onebit").stat().st_size
    assert main(["info", "m.onebit"]) == 0
    assert "byte-level BPE, 259 tokens" in capsys.readouterr().out
    assert main(["import", "missing.gguf"]) == 1
    assert capsys.readouterr().err.startswith("onebit: error: [missing.gguf] no such file or folder")


def test_the_hub_without_a_connection_is_one_line(tmp_path, monkeypatch, capsys):
    hub = pytest.importorskip("huggingface_hub")

    def away(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(hub, "snapshot_download", away)
    monkeypatch.chdir(tmp_path)
    assert main(["import", "microsoft/bitnet"]) == 1
    error = capsys.readouterr().err
    assert "[microsoft/bitnet] cannot be fetched (ConnectionError: no route to host): check the connection" in error
    monkeypatch.setattr(hub, "hf_hub_download", lambda repo, file: str(write_gguf(tmp_path / file, "llama")))
    assert main(["import", "owner/name/x.gguf", "--wide", "float32"]) == 0 and (tmp_path / "x.onebit").exists()


def test_what_a_bare_install_lacks_names_the_extra(tmp_path, monkeypatch, capsys):
    """Importing a file needs nothing; its texts, its chats and the Hub need the extra `chat`."""
    write_folder(tmp_path / "m", "llama")
    monkeypatch.chdir(tmp_path)
    for name in ("huggingface_hub", "tokenizers"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["import", "m", "--wide", "float32"]) == 0
    assert main(["import", "owner/name"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('onebit: error: [owner/name] is on the Hugging Face Hub: pip install "onebit[chat]"')
    assert main(["generate", "m.onebit", "a"]) == 1
    assert capsys.readouterr().err.endswith('cut by Hugging Face tokenizers: pip install "onebit[chat]"\n')
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'templates of chats need jinja2: pip install "onebit\[chat\]"'):
        render("", [])


@pytest.mark.parametrize("name", ["m.gguf", "other.gguf", "model.safetensors", "m"])
def test_an_import_replaces_no_source(tmp_path, name):
    source = tmp_path / ("m" if name == "m" else "m.gguf")
    write_gguf(source, "qwen3")
    before = source.read_bytes()
    with pytest.raises(ForeignModelError, match="give one that ends in .onebit"):
        import_model(source, tmp_path / name)
    assert source.read_bytes() == before
    assert list(tmp_path.iterdir()) == [source]
