"""C for microcontrollers, compiled on this machine: the engine's answers, sizes, layouts, and every error. tests/mcu runs it on emulated cores."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onebit._engine import Engine
from onebit.cli.main import main
from onebit.errors import OnebitError
from onebit.exports import c, export
from onebit.exports.c import compiled, groups, supported
from onebit.exports.c.memory import Item, place
from onebit.exports.c.plan import plan
from onebit.exports.c.source import write
from onebit.fileformat import PackedModel, load_model, save_model
from onebit.program import Program, Step, pack_rows

sys.path.insert(0, str(Path(__file__).parents[1] / "differential"))
import random_programs

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "web" / "digits.onebit"
OLD = ROOT / "tests" / "written_by_0_1_0"
needs_compiler = pytest.mark.skipif(compiled.host_compiler() is None, reason="no C compiler here")
SANITIZERS = ["-fsanitize=undefined", "-fno-sanitize-recover=undefined"]


def made(model, pixels, budget=None):
    one = groups.one_row(model)
    grouped = groups.group(one, pixels)
    return write(one, grouped, plan(one, grouped, budget), "net", pixels)


@needs_compiler
@pytest.mark.parametrize("file", [DIGITS, OLD / "images.onebit", OLD / "binary_activations.onebit"])
def test_answers_are_the_engine_s_bit_for_bit(file):
    model = load_model(file)
    x = np.random.default_rng(1).integers(0, 256, (20, *model.program.input_shape), dtype=np.uint8)
    x[0], x[1] = 0, 255
    expected = Engine(model.program.to_json(), model.tensors, "int8", 1).run(x).reshape(20, -1)
    for budget in (None, 1, 1 << 30):
        found = compiled.run_on_host(made(model, True, budget), "net", x, expected.shape[1], SANITIZERS)
        assert compiled.differing(found, expected) == 0


@needs_compiler
def test_random_programs_give_the_engine_s_bits():
    tested = set()
    for seed in range(60):
        case = random_programs.make(seed, small=True)
        if case.program.tokens or not case.program.steps:
            continue
        model = PackedModel(case.program, case.tensors, {"kind": "test"})
        if supported.unsupported(model):
            continue
        expected = Engine(case.program.to_json(), case.tensors, "int8", 1).run(case.x).reshape(len(case.x), -1)
        source = made(model, case.x.dtype == np.uint8, None if seed % 2 else 1)
        found = compiled.run_on_host(source, "net", np.ascontiguousarray(case.x), expected.shape[1], SANITIZERS)
        assert compiled.differing(found, expected) == 0, seed
        tested |= {step.op for step in case.program.steps}
    assert len(tested) >= 15


@needs_compiler
def test_an_output_that_a_layer_reads_too():
    window = {"kernel_size": [1, 1], "stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1]}
    conv = {"in_channels": 4, "out_channels": 4, "groups": 1, "values": "pm1", "input": {"quantizer": "sign"}, **window}
    steps = (Step("relu", ("x",), "a"), Step("bit_conv2d", ("a",), "b", conv, {"weight": "w"}))
    model = PackedModel(Program("x", (3, 3, 4), steps, "a"), {"w": pack_rows(np.ones((4, 4)))}, {"kind": "other"})
    x = np.random.default_rng(0).standard_normal((5, 3, 3, 4)).astype(np.float32)
    found = compiled.run_on_host(made(model, False), "net", x, 36, SANITIZERS)
    assert compiled.differing(found, np.maximum(x, 0).reshape(5, 36)) == 0


def test_a_fused_multiply_add_by_the_compiler_changes_nothing():
    compiler = compiled.host_compiler()
    if compiler is None or "fma" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("no C compiler here, or no processor with fused multiply-adds")
    model = load_model(OLD / "binary_activations.onebit")
    x = np.random.default_rng(2).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    expected = Engine(model.program.to_json(), model.tensors, "int8", 1).run(x)
    found = compiled.run_on_host(made(model, True), "net", x, 3, ["-std=gnu99", "-O3", "-mfma", "-ffp-contract=fast"])
    assert compiled.differing(found, expected) == 0


def test_small_memory_makes_layers_run_twice():
    model = load_model(DIGITS)
    grouped = groups.group(model, True)
    roomy, small = plan(model, grouped, 1 << 30), plan(model, grouped, 1)
    assert roomy.again == 0 and small.again > 0 and small.arena < roomy.arena < 30_000
    usual = plan(model, grouped, None)
    assert usual.arena <= 12_000 and usual.again <= 0.15 * usual.products


def test_items_that_live_at_the_same_time_lie_apart():
    rng = np.random.default_rng(0)
    for _ in range(20):
        items = []
        for i in range(12):
            first = int(rng.integers(10))
            items.append(Item(str(i), [(first, first + int(rng.integers(4)), int(rng.integers(1, 100)))]))
        size = place(items)
        for time in range(14):
            taken = np.zeros(size, int)
            for item in items:
                for first, last, n in item.spans:
                    if first <= time <= last:
                        taken[item.offset : item.offset + n] += 1
            assert taken.max(initial=0) <= 1


@needs_compiler
def test_the_command_prints_sizes_and_checks(tmp_path, capsys):
    assert main(["export", "c", str(DIGITS), "--out", str(tmp_path / "out"), "--check", "5"]) == 0
    told = capsys.readouterr().out
    assert "RAM 10,864 bytes static" in told and "2,402,624 products a run" in told and "flash " in told
    assert "check: 50 outputs of 5 inputs, computed from the exported file: all equal" in told
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "Makefile",
        "README.md",
        "digits.c",
        "digits.h",
        "main.c",
    ]
    result = export(DIGITS, "c", tmp_path / "again", check=3)
    assert json.dumps(result.to_dict()) and result.passed and isinstance(result.written, c.Firmware)
    if shutil.which("make") and shutil.which("cc"):
        subprocess.run(["make", "-s", "-C", str(tmp_path / "out")], check=True)
        ran = subprocess.run([str(tmp_path / "out" / "main")], check=True, capture_output=True, text=True)
        assert ran.stdout.startswith("the largest output is number ")


@needs_compiler
def test_a_wrong_source_is_found(monkeypatch, tmp_path):
    real = c.write_source

    def wrong(*args):
        text = real(*args)
        return type(text)(text.header, text.source.replace("-1.0f", "-2.0f", 1), text.constant_bytes, text.ram_bytes)

    monkeypatch.setattr(c, "write_source", wrong)
    result = export(DIGITS, "c", tmp_path / "out", check=True)
    assert not result.passed and "DIFFERENT" in str(result)


@pytest.mark.parametrize("layout", ["arduino", "zephyr"])
def test_layouts_have_the_files_that_tools_look_for(tmp_path, layout):
    export(DIGITS, "c", tmp_path / "out", layout=layout, name="seven")
    found = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    wanted = {
        "arduino": {"library.properties", "src/seven.c", "examples/seven/seven.ino"},
        "zephyr": {"zephyr/module.yml", "CMakeLists.txt", "Kconfig", "include/seven.h"},
    }
    assert wanted[layout] <= found
    for file in found:
        assert "@" not in (tmp_path / "out" / file).read_text().replace("@plt", "")


# Errors


def refused(tmp_path, **options):
    with pytest.raises(OnebitError) as caught:
        export(options.pop("file", DIGITS), "c", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists() and "\n" not in str(caught.value)
    return str(caught.value)


def test_all_ops_without_c_are_named_and_nothing_is_written(tmp_path):
    assert "nothing was written: a program: over tokens" in refused(tmp_path, file=OLD / "decoder.onebit")
    given = {"quantizer": "absmax", "bits": 16}
    conv = {
        "in_channels": 4,
        "out_channels": 4,
        "kernel_size": [1, 1],
        "stride": [1, 1],
        "padding": [0, 0, 0, 0],
        "dilation": [1, 1],
    }
    steps = (
        Step("group_normalize", ("x",), "a", {"groups": 2, "eps": 1e-5}),
        Step("bit_conv2d", ("a",), "b", {**conv, "groups": 1, "values": "pm1", "input": given}, {"weight": "w"}),
        Step("relu", ("b",), "c"),
    )
    model = PackedModel(Program("x", (3, 3, 4), steps, "c"), {"w": pack_rows(np.ones((4, 4)))}, {"kind": "other"})
    save_model(model, tmp_path / "net.onebit")
    expected = "has what c does not take, and nothing was written: group_normalize: over an image; bit_conv2d: inputs of 16 bits"
    assert expected in refused(tmp_path, file=tmp_path / "net.onebit")


@pytest.mark.parametrize("name", ["7up", "a-b", "über", "int", "", "_x", "math", "a" * 41])
def test_names_that_are_not_identifiers(tmp_path, name):
    assert "in C" in refused(tmp_path, name=name)


def test_a_file_s_own_name_may_not_be_one(tmp_path):
    shutil.copy(DIGITS, tmp_path / "my-digits.onebit")
    assert "give one with --name" in refused(tmp_path, file=tmp_path / "my-digits.onebit")


def test_a_folder_that_holds_something_else_stays(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    assert main(["export", "c", str(DIGITS), "--out", str(tmp_path / "out")]) == 1
    assert "exists: give another name, or delete it first" in capsys.readouterr().err
    assert (tmp_path / "out" / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"core": "cortex-m4", "flash": 10_000}, "bytes of flash, more than the 10,000 of cortex-m4 (nRF52832)"),
        ({"ram": 4_000}, "bytes of RAM, more than the 4,000 of the part"),
        ({"core": "z80"}, "core='z80' is unknown: use cortex-m0, cortex-m3"),
        ({"ram": 0}, "ram=0: give the bytes of the part"),
        ({"layout": "cube"}, "layout='cube': use plain, arduino, zephyr"),
        ({"check": -1}, "check=-1: give the number of inputs"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, told):
    if "check" in options and compiled.host_compiler() is None:
        pytest.skip("no C compiler here")
    assert told in refused(tmp_path, **options)


def test_without_a_compiler_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert (
        refused(tmp_path, check=True)
        == "[export] check needs a C compiler here: install gcc or clang, or export without check"
    )
    told = str(export(DIGITS, "c", tmp_path / "out"))
    assert "flash 12,869 bytes of constants, and code: install arm-none-eabi-gcc for cortex-m4" in told


def test_the_deepest_stack_of_a_graph():
    node = 'node: { title: "%s" label: "%s\\nnet.c:1:1\\n%d bytes (static)\\n0 dynamic objects" }\n'
    graph = "".join(node % (name, name, size) for name, size in (("run", 8), ("a", 100), ("b", 50), ("c", 40)))
    for source, target in (("run", "a"), ("run", "b"), ("b", "c"), ("c", "memcpy")):
        graph += f'edge: {{ sourcename: "{source}" targetname: "{target}" label: "net.c:2:2" }}\n'
    assert compiled.deepest(graph, "run") == 8 + 100
    assert compiled.deepest(graph, "b") == 90


def test_constants_read_back_exactly():
    from onebit.exports.c.arrays import number

    for x in np.random.default_rng(0).standard_normal(1000).astype(np.float32) * np.float32(1e-20):
        assert np.float32(float(number(x).rstrip("f"))) == x
    assert number(2) == "2.0f" and math.copysign(1, float(number(-0.0).rstrip("f"))) == -1
