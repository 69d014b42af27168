"""Exported C on emulated cores: the engine's answers bit for bit, and the instructions and bytes that golden.json has.

Instructions are counted by qemu and are the same on every machine, for one version of the compiler and of qemu.
ONEBIT_MCU_REWRITE=1 writes golden.json anew. ONEBIT_MCU_INPUTS is the number of images (default 100).
"""

import json
import os
from pathlib import Path

import machines
import networks
import pytest

from onebit._engine import Engine
from onebit.exports.c import compiled

GOLDEN = Path(__file__).parent / "golden.json"
INPUTS = int(os.environ.get("ONEBIT_MCU_INPUTS", "100"))
REWRITE = os.environ.get("ONEBIT_MCU_REWRITE") == "1"


def needs(core):
    missing = machines.lacking(core)
    if missing:
        pytest.skip(f"no {missing} here: {core} is not tested")


def answers(network, x):
    model = network.model
    return Engine(model.program.to_json(), model.tensors, "int8", 1).run(x).reshape(len(x), -1)


def fits(core, name):
    return name != "signs" or core != "cortex-m0"  # 50 kB of RAM


@pytest.mark.parametrize("core", machines.MACHINES)
def test_answers_are_the_engine_s_bit_for_bit(core, tmp_path):
    needs(core)
    network = networks.network("digits")
    x = network.inputs(INPUTS)
    found = machines.run(core, network.source, x, tmp_path, counts=False)
    assert compiled.differing(found.outputs, answers(network, x)) == 0


@pytest.mark.parametrize("core", machines.MACHINES)
def test_instructions_and_bytes_are_those_of_the_golden_file(core, tmp_path):
    needs(core)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    version = machines.version(core)
    rows = {}
    for name in networks.NAMES:
        if fits(core, name):
            network = networks.network(name)
            x = network.inputs(2)
            folder = tmp_path / name
            folder.mkdir()
            run = machines.run(core, network.source, x, folder, counts=True)
            assert compiled.differing(run.outputs, answers(network, x)) == 0
            rows[name] = {
                "instructions": run.instructions,
                "products": network.products,
                "flash": run.flash,
                "ram": run.ram,
            }
    if REWRITE:
        golden[core] = {"version": version, "networks": rows}
        GOLDEN.write_text(json.dumps(dict(sorted(golden.items())), indent=1) + "\n")
    if golden[core]["version"] != version:
        pytest.skip(f"golden.json is of {golden[core]['version']}, and here is {version}: counts are not compared")
    expected = golden[core]["networks"]
    assert {name: (row["flash"], row["ram"]) for name, row in rows.items()} == {
        name: (row["flash"], row["ram"]) for name, row in expected.items()
    }
    for name, row in rows.items():
        # A tick of the timer is up to 50 instructions.
        assert abs(row["instructions"] - expected[name]["instructions"]) <= 100, (core, name)


def test_goals_on_a_cortex_m4():
    rows = json.loads(GOLDEN.read_text())["cortex-m4"]["networks"]
    each = {name: row["instructions"] / row["products"] for name, row in rows.items()}
    assert rows["digits"]["flash"] <= 24_000 and rows["digits"]["ram"] <= 12_000
    assert each["digits"] <= 2.0 and each["dense, 8-bit inputs"] <= 2.0 and each["dense, 1-bit inputs"] <= 0.6


def test_the_page_has_the_table_of_the_golden_file():
    import table

    page = (networks.ROOT / "docs" / "microcontrollers.md").read_text(encoding="utf-8")
    assert table.table() in page
