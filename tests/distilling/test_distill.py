"""Foreign language models become networks that compute the same, learn with few bits, and are written as they were trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from random_models import CONFIGS, WIDE, config, stored, write_folder, write_gguf

import onebit
from onebit.cli.main import main
from onebit.distilling import Training, distill
from onebit.distilling.network import MATRICES, float_network, rounded_network
from onebit.distilling.stages import random_windows
from onebit.distilling.state import State
from onebit.distilling.training import relative_error, round_and_train_blocks
from onebit.distilling.writing import TrainedParts
from onebit.errors import DataError, ForeignModelError, OnebitError
from onebit.fileformat import load_model
from onebit.importing.network import build
from onebit.importing.run import described, is_tied, open_source
from onebit.importing.writing import write
from onebit.progress import listen
from onebit.runtime import reference

KNOWN = dict(np.load(Path(__file__).parents[1] / "importing" / "known_logits.npz"))
TOKENS = KNOWN["tokens"]
FLOATS = [
    name
    for name in CONFIGS
    if not WIDE.items() <= CONFIGS[name].items()
    and "quantization_config" not in CONFIGS[name]
    and CONFIGS[name]["model_type"] in ("llama", "qwen2", "qwen3", "bitnet")
]
QUICK = Training(window=16, calibration=4, block_steps=3, steps=3, batch=2, block_batch=2)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("the hen and the cat and the hen sat on the mat. " * 60)
    return path


@pytest.fixture(autouse=True)
def one_cache(cache):
    """Tokens of these tests lie in a folder of their own."""


def opened_parts(path):
    opened = open_source(path)
    sizes, parts, task, _ = described(opened)
    return opened, sizes, parts, task, is_tied(opened, parts)


def relative(found, wanted):
    return np.abs(found - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize("name", FLOATS)
def test_the_network_computes_what_transformers_does(tmp_path, name):
    opened, _, parts, _, tied = opened_parts(write_folder(tmp_path / "m", name))
    with torch.no_grad():
        found = float_network(parts, 128, tied)(torch.from_numpy(TOKENS[None]))[0].numpy()
    opened.close()
    assert relative(found[-len(KNOWN[name]) :], KNOWN[name]) < 1e-5


@pytest.mark.parametrize("name", ["llama, llama3 scaling, tied", "qwen3, yarn"])
def test_a_gguf_file_is_the_same_network(tmp_path, name):
    opened, _, parts, _, tied = opened_parts(write_gguf(tmp_path / "m.gguf", name))
    with torch.no_grad():
        found = float_network(parts, 128, tied)(torch.from_numpy(TOKENS[None]))[0].numpy()
    opened.close()
    assert relative(found[-len(KNOWN[name]) :], KNOWN[name]) < 1e-5


def test_the_network_can_be_packed_by_itself(tmp_path):
    """Head norms, head sizes and scaled positions of our own layers mean in a program what they mean in PyTorch."""
    opened, _, parts, _, tied = opened_parts(write_folder(tmp_path / "m", "qwen3, yarn"))
    network = float_network(parts, 128, tied)
    opened.close()
    task = onebit.TextTask.from_json(
        {"kind": "text-generation", "vocabulary": "\n".join(_tokens()), "alphabet": "words", "lowercase": False}
    )
    onebit.pack(network, tmp_path / "p.onebit", task)
    model = load_model(tmp_path / "p.onebit")
    found = reference.run(model.program, model.tensors, TOKENS[None], "float32")[0]
    assert relative(found[-len(KNOWN["qwen3, yarn"]) :], KNOWN["qwen3, yarn"]) < 1e-5


def _tokens():
    return ["[UNK]", "[PAD]", "[SEP]", *(f"t{i}" for i in range(297))]


@pytest.mark.parametrize(
    ("name", "levels", "group"),
    [
        ("llama", "ternary", 32),
        ("qwen2", "ternary", 32),
        ("qwen2", None, 0),
        ("qwen3", "bits", 32),
        ("bitnet, online", None, 0),
    ],
)
def test_the_file_computes_what_was_trained(tmp_path, name, levels, group):
    opened, _, parts, task, tied = opened_parts(write_folder(tmp_path / "m", name))
    student = rounded_network(float_network(parts, 128, tied), levels, group)
    program, net = build(TrainedParts(parts, student), "float32", 128, tied)
    write(tmp_path / "m.onebit", program, net, task.to_json(), trust=True)
    opened.close()
    with torch.no_grad():
        wanted = student.eval()(torch.from_numpy(TOKENS[None]))[0].numpy()
    model = load_model(tmp_path / "m.onebit")
    assert relative(reference.run(model.program, model.tensors, TOKENS[None], "float32")[0], wanted) < 1e-5
    engine = onebit.load(tmp_path / "m.onebit", precision="float32", threads=1).logits(TOKENS.tolist())
    assert relative(engine, wanted) < 1e-5
    if "bitnet" in name:  # masters that nothing has trained yet are the source's model
        assert relative(wanted[-len(KNOWN[name]) :], KNOWN[name]) < 1e-5


def test_biases_are_trained_and_come_back_from_gguf(tmp_path, text):
    folder = write_folder(tmp_path / "m", "qwen2")
    distill(folder, tmp_path / "m.onebit", data=str(text), training=QUICK)
    trained = load_model(tmp_path / "m.onebit").tensors["blocks.0.attention.q.shift"]
    opened, _, parts, _, _ = opened_parts(folder)
    started = parts.vector("blocks.0.attention.q", len(trained), "bias")
    opened.close()
    assert (trained != started).any()
    onebit.export(tmp_path / "m.onebit", "gguf", tmp_path / "m.gguf", check=True)
    opened, _, parts, _, _ = opened_parts(tmp_path / "m.gguf")
    assert np.array_equal(parts.vector("blocks.0.attention.q", len(trained), "bias"), trained)
    opened.close()


def test_blocks_learn_what_the_float_ones_give(tmp_path):
    opened, _, parts, _, tied = opened_parts(write_folder(tmp_path / "m", "llama"))
    teacher = float_network(parts, 128, tied)
    opened.close()
    tokens = torch.randint(0, 256, (24, 16), generator=torch.Generator().manual_seed(4))

    def error(block_steps):
        student = rounded_network(teacher, "ternary", 32)
        if block_steps is not None:
            how = Training(window=16, calibration=24, block_steps=block_steps, block_rate=5e-3)
            round_and_train_blocks(student, teacher, tokens, how)
        x = y = teacher.embedding(tokens)
        with torch.no_grad():
            for ours, theirs in zip(student.blocks, teacher.blocks, strict=True):
                x, y = ours(x), theirs(y)
            return float(relative_error(x, y))

    nearest, rounded, trained = error(None), error(0), error(40)
    assert trained < 0.9 * rounded < 0.9 * nearest


def test_the_student_shares_what_stays_and_trains_the_rest(tmp_path):
    opened, _, parts, _, tied = opened_parts(write_folder(tmp_path / "m", "qwen3"))
    teacher = float_network(parts, 128, tied)
    opened.close()
    student = rounded_network(teacher, "bits", 32)
    assert student.embedding is teacher.embedding and student.head is teacher.head
    trained = {name for name, p in student.named_parameters() if p.requires_grad}
    assert {f"blocks.1.{name}.weight" for name in MATRICES} <= trained
    assert "blocks.0.attention.query_norm.weight" in trained and "head_norm.weight" in trained
    assert not any("embedding" in name or name.startswith("head.") for name in trained)
    assert not any(p.requires_grad for p in teacher.parameters())


def test_distillation_draws_the_students_answers_to_the_teachers(tmp_path, text):
    folder = write_folder(tmp_path / "m", "wide llama")
    how = Training(window=16, calibration=0, steps=40, batch=4, rate=2e-3)
    seen = []
    with listen(lambda p: seen.append(float(p.unit.rsplit(" ", 1)[1])) if p.work == "distil" else None):
        report = distill(folder, tmp_path / "m.onebit", data=str(text), training=how, context=64, threads=1)
    assert sum(seen[-5:]) < 0.6 * sum(seen[:5])
    assert report.steps == 40 and report.tokens == 40 * 4 * 16
    assert list(report.perplexity) == ["float", "rounded", "distilled"]
    assert report.bytes == (tmp_path / "m.onebit").stat().st_size
    assert "ternary, a scale for each 128 inputs" in str(report) and "distilled" in str(report)
    session = onebit.load(tmp_path / "m.onebit", threads=1)
    assert len(list(session.generate("the ", max_new_tokens=4, temperature=0))) > 0


@pytest.mark.parametrize("scheme", ["ternary", "bitnet"])
def test_sub_norms_start_at_the_magnitude_of_what_they_normalise(tmp_path, text, scheme):
    folder = write_folder(tmp_path / "m", "llama")
    how = Training(window=16, calibration=8, block_steps=0, steps=0)
    options = {"data": str(text), "scheme": scheme, "training": how, "threads": 1}
    plain = distill(folder, tmp_path / "p.onebit", **options)
    report = distill(folder, tmp_path / "m.onebit", **options, sub_norm=True)
    assert "sub norms" in report.scheme and "sub norms" not in plain.scheme
    rounded = report.perplexity["blocks rounded"] / plain.perplexity["blocks rounded"]
    assert 0.7 < rounded < 1.4
    model = load_model(tmp_path / "m.onebit")
    gain = model.tensors["blocks.1.attention.sub_norm.gain"]
    assert gain.shape == (64,) and (gain == gain[0]).all() and 0.01 < gain[0] < 10
    if scheme == "ternary":
        assert onebit.export(tmp_path / "m.onebit", "gguf", tmp_path / "m.gguf", check=True).passed


def test_sub_norms_need_calibration_and_a_llama(tmp_path, text):
    how = Training(window=16, calibration=0)
    folder = write_folder(tmp_path / "m", "llama")
    with pytest.raises(OnebitError, match="needs calibration"):
        distill(folder, tmp_path / "m.onebit", data=str(text), training=how, sub_norm=True)
    for name in ("qwen2", "qwen3", "bitnet"):
        folder = write_folder(tmp_path / name, name)
        with pytest.raises(ForeignModelError, match="belongs to Llama"):
            distill(folder, tmp_path / "m.onebit", data=str(text), training=QUICK, sub_norm=True)


def test_masters_go_on_with_their_training(tmp_path, text):
    folder = write_folder(tmp_path / "m", "bitnet, online")
    how = Training(window=16, steps=30, batch=4, rate=3e-3)
    report = distill(folder, tmp_path / "m.onebit", data=str(text), training=how, threads=1)
    assert report.scheme == "bitnet, one scale for a matrix, inputs of 8 bits"
    assert report.perplexity["fine-tuned"] < 0.3 * report.perplexity["before"]
    steps = load_model(tmp_path / "m.onebit").program.steps
    assert sum(step.attributes.get("input") == {"quantizer": "absmax", "bits": 8} for step in steps) == 14


@pytest.mark.parametrize("work", ["blocks", "distil"])
def test_what_is_interrupted_goes_on(tmp_path, text, work):
    folder, out = write_folder(tmp_path / "m", "llama"), tmp_path / "m.onebit"

    def stop(progress):
        if (progress.work, progress.done) == (work, 2 if work == "distil" else 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listen(stop):
        distill(folder, out, data=str(text), training=QUICK, threads=1)
    assert not out.exists() and (tmp_path / "m.onebit.training").exists()
    with pytest.raises(OnebitError, match="another conversion"):
        distill(folder, out, data=str(text), scheme="bits", training=QUICK, threads=1, resume=True)
    kept = torch.load(tmp_path / "m.onebit.training", weights_only=True)
    assert (kept["stage"], kept["step"]) == (("blocks", 1) if work == "blocks" else ("whole", 2))
    seen = []
    with listen(lambda progress: seen.append((progress.work, progress.done))):
        report = distill(folder, out, data=str(text), training=QUICK, threads=1, resume=True)
    assert ("distil", 3) in seen and [w for w, _ in seen].count("distil") == (3 if work == "blocks" else 1)
    assert ("blocks", 1) in seen or work == "distil"
    assert list(report.perplexity) == ["float", "rounded", "blocks trained", "distilled"]
    assert out.exists() and not (tmp_path / "m.onebit.training").exists()
    whole = distill(folder, tmp_path / "w.onebit", data=str(text), training=QUICK, threads=1)
    assert whole.perplexity == pytest.approx(report.perplexity, rel=0.02)


def test_a_block_that_was_not_done_begins_anew(tmp_path):
    opened, _, parts, _, tied = opened_parts(write_folder(tmp_path / "m", "llama"))
    teacher = float_network(parts, 128, tied)
    opened.close()
    first, second = (rounded_network(teacher, "bits", 32) for _ in range(2))
    with torch.no_grad():
        for block in first.blocks:
            block.gate.weight.add_(1)
    state = State(tmp_path / "x.onebit", {}, resume=False)
    state.stage, state.step = "blocks", 1
    state.save(first)
    State(tmp_path / "x.onebit", {}, resume=True).load(second)
    assert torch.equal(second.blocks[0].gate.weight, first.blocks[0].gate.weight)
    assert torch.equal(second.blocks[1].gate.weight, teacher.blocks[1].gate.weight)


def test_what_training_left_is_checked(tmp_path, text):
    folder, out = write_folder(tmp_path / "m", "llama"), tmp_path / "m.onebit"
    with pytest.raises(OnebitError, match="nothing to go on with"):
        distill(folder, out, data=str(text), training=QUICK, resume=True)
    (tmp_path / "m.onebit.training").write_bytes(b"no checkpoint")
    with pytest.raises(OnebitError, match="damaged"):
        distill(folder, out, data=str(text), training=QUICK, resume=True)


def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path, text):
    folder = write_folder(tmp_path / "m", "llama")
    for out in (tmp_path / "gone" / "m.onebit", tmp_path):
        with pytest.raises(OnebitError, match="give the name of a file"):
            distill(folder, out, data=str(text), training=QUICK)


def test_a_disk_that_is_full_is_one_line(tmp_path, text, monkeypatch):
    def full(*args):
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl\nfile write failed")

    monkeypatch.setattr("onebit.distilling.state.torch.save", full)
    with pytest.raises(OnebitError, match=r"cannot be written \(PytorchStreamWriter failed writing file data.pkl\)"):
        distill(write_folder(tmp_path / "m", "llama"), tmp_path / "m.onebit", data=str(text), training=QUICK, threads=1)


def test_no_calibration_and_no_steps_round_to_the_nearest(tmp_path, text):
    how = Training(window=16, calibration=0, steps=0)
    folder = write_folder(tmp_path / "m", "llama")
    report = distill(folder, tmp_path / "m.onebit", data=str(text), scheme="bits", training=how, threads=1)
    assert list(report.perplexity) == ["float", "rounded"] and report.steps == 0
    model = load_model(tmp_path / "m.onebit")
    wanted = stored("llama")["model.layers.0.mlp.up_proj.weight"]
    bits = np.unpackbits(model.tensors["blocks.0.mlp.up.weight"], axis=1, bitorder="little")[:, :64]
    assert np.array_equal(bits, wanted >= 0)
    scales = np.abs(wanted).reshape(len(wanted), -1, 32).mean(-1).astype(np.float16)
    assert np.allclose(model.tensors["blocks.0.mlp.up.scale"].astype(float), scales, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("llama", {"scheme": "octal"}, "use ternary, bits, bitnet"),
        ("llama", {"group": 128}, "use 32"),
        ("llama", {"scheme": "bitnet", "group": 32}, "group belongs to"),
        ("bitnet, offline", {}, "give its float masters"),
        ("bitnet, online", {"scheme": "bits"}, "use the scheme bitnet"),
        ("llama", {"threads": 0}, "threads=0"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, text, name, options, message):
    folder = write_folder(tmp_path / "m", name)
    with pytest.raises(OnebitError, match=message):
        distill(folder, tmp_path / "m.onebit", data=str(text), training=QUICK, **options)
    assert not (tmp_path / "m.onebit").exists()


@pytest.mark.parametrize(
    "wrong",
    [{"steps": -1}, {"rate": 0}, {"weight": 1.5}, {"window": 0}, {"batch": 1.5}, {"minutes": "five"}, {"seed": True}],
)
def test_settings_are_checked(wrong):
    with pytest.raises(OnebitError, match=next(iter(wrong))):
        Training(**wrong)


def test_weights_that_are_not_finite_and_too_little_text_are_refused(tmp_path):
    tensors = stored("llama")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = np.nan
    (tmp_path / "short.txt").write_text("hello " * 30)
    folder = write_folder(tmp_path / "m", "llama", tensors)
    with pytest.raises(ForeignModelError, match="not finite"):
        distill(folder, tmp_path / "m.onebit", data=str(tmp_path / "short.txt"), training=QUICK)
    folder = write_folder(tmp_path / "n", "llama")
    with pytest.raises(DataError, match="give more text"):
        distill(folder, tmp_path / "m.onebit", data=str(tmp_path / "short.txt"), training=Training(window=4096))


def test_windows_lie_anywhere_and_repeat_by_their_seed(tmp_path):
    class Text:
        source, tokens = "t", np.arange(40, dtype=np.uint16)

        def __len__(self):
            return 40

    first, again = (next(random_windows(Text(), 8, 50, 1)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (50, 9)
    assert torch.equal(first, first[:, :1] + torch.arange(9))
    assert first[:, 0].min() == 0 and first[:, 0].max() == 31


def test_the_command_prints_the_report(tmp_path, text, capsys):
    folder = write_folder(tmp_path / "m", "llama")
    words = ["convert", str(folder), "--data", str(text), "--out", str(tmp_path / "m.onebit"), "--window", "16"]
    words += ["--steps", "2", "--batch", "2", "--block-steps", "2", "--calibration", "4", "--threads", "1", "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"] == 2 and list(report["perplexity"])[-1] == "distilled"
    assert report["architecture"].startswith(f"llama: {config('llama')['num_hidden_layers']} blocks")
