"""The wheels to build, and the Pythons to run each with. `make wheels` builds and runs them."""

import platform
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import arm_python
import wheels
from wheels import Wheel


def test_a_wheel_of_the_stable_interface_serves_later_versions_and_another_its_own():
    versions = ["3.11", "3.12", "3.13", "3.14"]
    assert list(filter(Wheel("zig", "x86_64", "3.12").serves, versions)) == ["3.12", "3.13", "3.14"]
    assert list(filter(Wheel("zig", "x86_64", "3.11").serves, versions)) == ["3.11"]
    assert str(Wheel("zig", "aarch64", "3.12")) == "abi3 for aarch64 by zig"
    assert str(Wheel("system", "x86_64", "3.11")) == "cp311 for x86_64 by system"


def test_the_systems_compiler_builds_for_this_machine_only():
    machines = ["x86_64", "aarch64"]
    assert [w.machine for w in wheels.wheels(["zig"], machines, ["3.12"])] == machines
    assert [w.machine for w in wheels.wheels(["system"], machines, ["3.12"])] == [platform.machine()]


def test_this_python_is_found_and_one_that_does_not_exist_is_not():
    found = wheels.find_python(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert found is not None and found.exists()
    assert wheels.find_python("3.99") is None


def test_a_python_for_arm_that_cannot_be_had_is_named(tmp_path, monkeypatch):
    wheel, pip = tmp_path / "x.whl", Path(sys.executable)
    assert arm_python.install(tmp_path, "3.99", wheel, pip) == "no Python 3.99 for Arm"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert arm_python.install(tmp_path, "3.13", wheel, pip) == "no qemu-aarch64 here"


def test_a_command_that_fails_ends_the_build_with_what_it_said(capsys):
    with pytest.raises(SystemExit, match="failed: .*python"):
        wheels.run(sys.executable, "-c", "print('why'); raise SystemExit(3)")
    assert "why" in capsys.readouterr().err
