"""Training on several processes is training on one: losses, bits, thresholds, checkpoints; and what cannot be divided is refused."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import onebit
from onebit.errors import OnebitError
from onebit.packing import to_packed_model
from onebit.training import ImageRecipe, TextRecipe, load_recipe, load_run, train

LIVES = Path(__file__).parent / "lives.py"
ROUNDING = 1e-5
# Sentences: the shares of a batch hold different numbers of real tokens.
TEXT = TextRecipe(
    form="paper", vocabulary=290, examples="sentences", context=8, blocks=2, features=16, heads=2, head=(16,), epochs=4, epoch_steps=4, accumulate=2,
    batch_size=4, learning_rate=4e-3, decay=16, clip=1.0, threads=1, precision="float32", validation_tokens=400,
)  # fmt: skip
# Statistics over the batch. The last batch has two images: of three processes one has none of it.
IMAGES = ImageRecipe(
    data="digits", channels=1, widths=(4, 6), values="pm1", normalize="batch", epochs=3, train_limit=92, batch_size=15, augment="crop-flip",
    learning_rate=4e-3, threads=1, precision="float32",
)  # fmt: skip
TEACHER = {
    "warm_start": "one",
    "teacher": "one",
    "distill_features": ["blocks.0"],
    "epochs": 2,
    "first_stage_epochs": 1,
}
BOP = {"model": "lstm", "scheme": "BinaryConnect", "optimizer": "bop", "bop_gamma": 0.01, "epochs": 2}
TWO = {"devices": 2}
SHARDS = {"devices": 2, "strategy": "fsdp"}
RUNS = [
    {"recipe": "text.yaml", "out": "one"},
    {"recipe": "text.yaml", "out": "ddp", **TWO},
    {"recipe": "text.yaml", "out": "fsdp", **SHARDS},
    {"recipe": "text.yaml", "out": "chain", "keys": {"epochs": 1}},
    {"recipe": "text.yaml", "out": "chain", "keys": {"epochs": 2}, "resume": True, **TWO},
    {"recipe": "text.yaml", "out": "chain", "keys": {"epochs": 3}, "resume": True, **SHARDS},
    {"recipe": "text.yaml", "out": "chain", "resume": True},
    {"recipe": "text.yaml", "out": "taught", "keys": TEACHER},
    {"recipe": "text.yaml", "out": "taught-ddp", "keys": TEACHER, **TWO},
    {"recipe": "text.yaml", "out": "taught-fsdp", "keys": TEACHER, **SHARDS},
    {"recipe": "text.yaml", "out": "bop", "keys": BOP},
    {"recipe": "text.yaml", "out": "bop-fsdp", "keys": BOP, **SHARDS},
    {"recipe": "images.yaml", "out": "images"},
    {"recipe": "images.yaml", "out": "images-ddp", "devices": 3},
]


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "song.txt"
    path.write_text("".join(f"the {word} is a {word}\n\n" for word in ("cat", "dog", "hen", "cow") * 60))
    return path


@pytest.fixture(scope="module")
def runs(song, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.yaml").write_text(TEXT.override({"data": str(song)}).to_yaml())
    (folder / "images.yaml").write_text(IMAGES.to_yaml())
    lines = "".join(json.dumps(run) + "\n" for run in RUNS)
    environment = {**os.environ, "ONEBIT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(onebit.__file__).parent.parent)
    words = [sys.executable, LIVES]
    done = subprocess.run(
        words, input=lines, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment, timeout=900
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert ends == [[0] * run.get("devices", 1) for run in RUNS]
    return folder


def layers(run):
    with (run / "layers.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def states(folder, *names):
    files = [folder / name / "checkpoints" / "last.ckpt" for name in names]
    return [torch.load(file, weights_only=True) for file in files]


@pytest.mark.parametrize(
    ("other", "one"),
    [("ddp", "one"), ("fsdp", "one"), ("chain", "one"), ("taught-ddp", "taught"), ("taught-fsdp", "taught"), ("bop-fsdp", "bop")],
)  # fmt: skip
def test_a_language_model_is_that_of_one_process(runs, one, other):
    for ours, theirs in zip(load_run(runs / other).curves(), load_run(runs / one).curves(), strict=True):
        assert {**ours, "seconds": 0} == pytest.approx({**theirs, "seconds": 0}, rel=ROUNDING)
    for ours, theirs in zip(layers(runs / other), layers(runs / one), strict=True):
        assert ours["layer"] == theirs["layer"]
        for key in ("ones", "flipped", "weight_gradient", "input_gradient"):
            assert (ours[key] == "") == (theirs[key] == "")
            assert float(ours[key] or 0) == pytest.approx(float(theirs[key] or 0), abs=0.01)
    ours, theirs = states(runs, other, one)
    assert ours["global_step"] == theirs["global_step"]
    assert ours["loops"]["fit_loop"]["epoch_progress"] == theirs["loops"]["fit_loop"]["epoch_progress"]
    differing = bits = 0
    for name, a in ours["state_dict"].items():
        b = theirs["state_dict"][name]
        # Adam takes a gradient that is rounding only for a direction, so that single latents may go elsewhere.
        assert torch.isclose(a, b, atol=ROUNDING).float().mean() > 0.98, name
        wrong = (a > a.mean()) != (b > b.mean())
        assert ((b - b.mean()).abs()[wrong] < 2 * (a - b).abs().max() + 1e-6).all(), name
        differing, bits = differing + int(wrong.sum()), bits + wrong.numel()
    assert differing <= 0.001 * bits, f"{differing} of {bits} bits differ"


def test_a_classifier_with_statistics_of_the_batch_is_that_of_one_process(runs):
    for ours, theirs in zip(load_run(runs / "images-ddp").curves(), load_run(runs / "images").curves(), strict=True):
        # After so few steps images stand between two classes, where rounding decides.
        for part in ("train", "val"):
            assert ours.pop(f"{part}_accuracy") == pytest.approx(theirs.pop(f"{part}_accuracy"), abs=0.03)
        assert {**ours, "seconds": 0} == pytest.approx({**theirs, "seconds": 0}, rel=ROUNDING)
    ours, theirs = (state["state_dict"] for state in states(runs, "images-ddp", "images"))
    for name, a in ours.items():
        torch.testing.assert_close(a, theirs[name], atol=ROUNDING, rtol=1e-4)


def test_a_checkpoint_is_in_the_form_of_one_process(runs):
    ours, theirs = states(runs, "fsdp", "one")
    assert list(ours["state_dict"]) == list(theirs["state_dict"])
    a, b = ours["optimizer_states"][0], theirs["optimizer_states"][0]
    assert a["param_groups"] == b["param_groups"]
    assert list(a["state"]) == list(b["state"])
    for number in a["state"]:
        for key, value in a["state"][number].items():
            torch.testing.assert_close(value, b["state"][number][key], atol=ROUNDING, rtol=1e-3)
    run = load_run(runs / "fsdp")
    packed, alone = (to_packed_model(load_run(runs / name, "last").model, run.task) for name in ("fsdp", "one"))
    assert packed.program == alone.program


SHARD = """
import os, sys, torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from onebit.quantizers import threshold_bits
from onebit.models import language_decoder
from onebit.nn import Normalize
from onebit.nn.binary import binary_layers
from onebit.nn.synchronize import synchronize_statistics
from onebit.training.sharding import gathered, shard

torch.set_num_threads(1)
if os.fork() == 0:
    rank = 1
else:
    rank = 0
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)

torch.manual_seed(0)
model = language_decoder({"vocabulary": 50, "context": 4, "blocks": 1, "features": 8, "heads": 2, "head": (7,)}, form="paper")
with torch.no_grad():
    for parameter in model.parameters():
        parameter[: len(parameter) // 2] += 3  # the mean of a part is far from that of the whole
wholes = {name: layer.weight.detach().clone() for name, layer in binary_layers(model).items()}
tokens = torch.randint(50, (2, 4))
expected = model(tokens)
shard(model, init_device_mesh("cpu", (2,)))
part = model.head[0].weight
assert part.to_local().shape[0] < part.shape[0]
torch.testing.assert_close(part.mean().full_tensor(), wholes["head.0"].mean())
assert (part.to_local().mean() - wholes["head.0"].mean()).abs() > 0.5
torch.testing.assert_close(model(tokens), expected)
with gathered(model):
    for name, layer in binary_layers(model).items():
        assert torch.equal(layer.bits().weight, threshold_bits(wholes[name])), name

# Statistics over the batch, also of a process that has no examples.
for counts in ((3, 5), (0, 4)):
    for make in (lambda: torch.nn.BatchNorm2d(3), lambda: Normalize("batch", 3)):
        torch.manual_seed(1)
        x = torch.randn(sum(counts), 3, 4, 4) + 2
        whole, divided = make(), torch.nn.Sequential(make())
        synchronize_statistics(divided)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        ours = slice(0, counts[0]) if rank == 0 else slice(counts[0], None)
        weights = torch.randn_like(x)
        (whole(a) * weights).sum().backward()
        y = divided(b[ours])
        torch.testing.assert_close(y, whole.train()(a)[ours].detach(), atol=1e-5, rtol=1e-5)
        (y * weights[ours]).sum().backward()
        torch.testing.assert_close(b.grad[ours], a.grad[ours], atol=1e-5, rtol=1e-4)
        once = make()
        once(x)
        torch.testing.assert_close(divided[0].running_mean, once.running_mean)
        torch.testing.assert_close(divided[0].running_var, once.running_var)
dist.barrier()
if rank == 0:
    assert os.wait()[1] == 0
    print("alike")
"""


def test_thresholds_and_statistics_are_those_of_the_whole(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SHARD, tmp_path / "meeting"], capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "alike\n", done.stderr


def children(pid):
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    environments = {int(word): Path(f"/proc/{word}/environ").read_bytes().split(b"\0") for word in words}
    return {child: int(next(e[5:] for e in env if e.startswith(b"RANK="))) for child, env in environments.items()}


def test_ctrl_c_while_processes_still_start_says_one_line(runs, tmp_path):
    words = [sys.executable, "-m", "onebit", "train", str(runs / "text.yaml"), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "ONEBIT_CACHE": str(runs / "cache")}
    process = subprocess.Popen(
        [*words, "--devices", "2"], stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 120
    started = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(started.read_text().split()) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    for rank in started.read_text().split():
        os.kill(int(rank), signal.SIGINT)  # first, for the other would end them before they could speak
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "interrupted; continue with" in error
    assert "Traceback" not in error


def test_a_process_that_is_killed_ends_the_run_within_seconds_and_it_goes_on_elsewhere(song, runs, tmp_path):
    environment = {**os.environ, "ONEBIT_CACHE": str(runs / "cache")}
    out = tmp_path / "run"
    words = [sys.executable, "-m", "onebit", "train", str(runs / "text.yaml"), "--out", str(out), "--quiet"]
    words += ["--devices", "2", "--checkpoint-steps", "1", "--epochs", "4000"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    last = out / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not last.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    ranks = children(process.pid)
    assert sorted(ranks.values()) == [0, 1]
    os.kill(next(pid for pid, rank in ranks.items() if rank == 1), signal.SIGKILL)
    error = process.communicate(timeout=120)[
        1
    ]  # a second or two where the machine is free; left to itself the other waits for 30 minutes
    assert process.returncode == 1
    assert (
        "onebit: error: [train] rank 1 was ended by SIGKILL: the last checkpoint stands: go on with --resume" in error
    )
    assert "Traceback" not in error
    assert not [pid for pid in ranks if Path(f"/proc/{pid}").exists()]
    step = torch.load(last, weights_only=True)["global_step"]
    recipe = load_recipe(runs / "text.yaml").override({"epochs": 1 + step // 4})
    train(recipe, out, resume=True, progress=False)
    assert load_run(out, "last").epochs == 1 + step // 4


def test_what_a_process_raises_is_raised(song, tmp_path):
    recipe = TEXT.override({"data": str(song), "learning_rate": 1e30, "binary": False})
    with pytest.raises(
        OnebitError, match=r"the (loss is (nan|inf) at|latents of .* hold .* at) step \d+ .*: use a lower"
    ):
        train(recipe, tmp_path / "a", progress=False, devices=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 3}, "batch_size=4 cannot be divided among 3 devices: use a multiple of 3, such as 6"),
        ({"devices": 8}, "batch_size=4 cannot be divided among 8 devices: use a multiple of 8, such as 8"),
        ({"devices": 0}, "devices=0: use 1 or more"),
        ({"nodes": -1}, "nodes=-1: use 1 or more"),
        ({"strategy": "zero"}, "strategy='zero': use auto, ddp, fsdp"),
        ({"nodes": 2}, "nodes=2: start each with torchrun or srun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK"),
    ],
)
def test_layouts_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(OnebitError, match=message):
        train(TEXT, tmp_path / "a", progress=False, **options)
    assert not (tmp_path / "a").exists()


def test_a_launcher_has_to_have_started_what_is_asked_for(tmp_path, monkeypatch):
    for key, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(OnebitError, match="devices=2 and nodes=1 are 2 processes, but 4 were started"):
        train(TEXT, tmp_path / "a", progress=False, devices=2)


def test_shards_are_for_text_and_not_for_what_looks_at_whole_latents(tmp_path):
    with pytest.raises(OnebitError, match="strategy=fsdp is for text"):
        train(IMAGES, tmp_path / "a", progress=False, devices=3, strategy="fsdp")
    with pytest.raises(OnebitError, match="pull=0.1 looks at whole latents"):
        train(TEXT.override({"pull": 0.1}), tmp_path / "a", progress=False, devices=2, strategy="fsdp")


def test_gpus_that_are_not_there_or_without_bfloat16_are_refused(tmp_path, monkeypatch):
    # No GPU here: what PyTorch would say of one that is old and alone.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulation=True: emulation)
    with pytest.raises(OnebitError, match="devices=2: this machine has 1 GPUs: use 1 or fewer"):
        train(TEXT, tmp_path / "a", progress=False, devices=2)
    with pytest.raises(OnebitError, match="precision=bf16: this GPU does not compute in bfloat16"):
        train(TEXT.override({"precision": "bf16"}), tmp_path / "a", progress=False)
