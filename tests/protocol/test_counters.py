"""Counters of energy on made trees of the system's files."""

import sys
import threading
import time

import pytest

from onebit.protocol.counters import Domain, Meter, find
from onebit.protocol.stream import single_stream


def zone(root, folder, name, energy=0, most=1_000_000):
    path = root / "class" / "powercap" / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy}\n")
    (path / "max_energy_range_uj").write_text(f"{most}\n")
    return path / "energy_uj"


def test_rapl_adds_packages_and_memory_but_not_cores(tmp_path):
    package, cores = zone(tmp_path, "intel-rapl:0", "package-0", 100), zone(tmp_path, "intel-rapl:0:0", "core", 5)
    memory = zone(tmp_path, "intel-rapl:0:2", "dram", 10)
    counter, reason = find(tmp_path)
    assert counter.name == "RAPL (package-0 + dram)" and reason == "" and counter.read() == 0
    package.write_text("600100")
    cores.write_text("900000")
    memory.write_text("200010")
    assert counter.read() == pytest.approx(0.8)


def test_a_counter_that_wraps_around_goes_on(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 999_990, 999_999)
    domain = Domain(file.parent)
    file.write_text("9")  # ten to the end and nine on, counting 0
    assert domain.read() == pytest.approx(19e-6)
    file.write_text("20")
    assert domain.read() == pytest.approx(30e-6) and domain.changes == 2


def test_without_counters_each_source_has_a_reason(tmp_path):
    counter, reason = find(tmp_path)
    assert counter is None
    assert "RAPL" in reason and "hwmon" in reason and "battery" in reason


def test_a_counter_for_root_says_what_to_do(tmp_path, monkeypatch):
    file = zone(tmp_path, "intel-rapl:0", "package-0")
    read = type(file).read_text

    def refuse(path, *args, **keys):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *args, **keys)

    monkeypatch.setattr(type(file), "read_text", refuse)
    counter, reason = find(tmp_path)
    assert counter is None and "is for root only: run as root, or chmod a+r it" in reason


@pytest.mark.parametrize("damaged", ["missing range", "text"])
def test_a_damaged_counter_is_a_reason(tmp_path, damaged):
    file = zone(tmp_path, "intel-rapl:0", "package-0")
    if damaged == "text":
        file.write_text("much")
    else:
        (file.parent / "max_energy_range_uj").unlink()
    counter, reason = find(tmp_path)
    assert counter is None and reason.startswith("RAPL: ")


def test_watts_are_added_up(tmp_path):
    folder = tmp_path / "class" / "hwmon" / "hwmon0"
    folder.mkdir(parents=True)
    (folder / "power1_average").write_text("2000000")
    counter, _ = find(tmp_path)
    assert counter.name == "hwmon (hwmon0/power1_average)" and counter.watts
    begun = time.monotonic()
    time.sleep(0.1)
    assert counter.read() == pytest.approx(2 * (time.monotonic() - begun), rel=0.3)


@pytest.mark.parametrize(("status", "found"), [("Discharging", True), ("Charging", False)])
def test_a_battery_counts_while_it_is_used(tmp_path, status, found):
    folder = tmp_path / "class" / "power_supply" / "BAT0"
    folder.mkdir(parents=True)
    (folder / "power_now").write_text("5000000")
    (folder / "status").write_text(f"{status}\n")
    counter, _ = find(tmp_path)
    assert (counter is not None) is found


def test_without_its_package_nvml_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find(gpu=True) == (None, "NVML: the package nvidia-ml-py is not installed")


def test_the_idle_machine_s_energy_is_taken_off(tmp_path):
    """Work of 3 mJ for each inference, on a machine that takes 1 W when idle."""
    file = zone(tmp_path, "intel-rapl:0", "package-0", most=1 << 40)
    begun, work = time.monotonic(), [0.0]
    ended = threading.Event()

    def tick():
        while not ended.wait(0.002):
            written = file.with_suffix(".part")
            written.write_text(str(int((time.monotonic() - begun) * 1e6 + work[0])))
            written.replace(file)

    def infer_quietly(i):
        time.sleep(0.01)
        work[0] += 3000

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        stream = single_stream(infer_quietly, seconds=1, runs=20, sys=tmp_path, idle_seconds=0.5)
    finally:
        ended.set()
        thread.join()
    energy = stream.energy
    if energy.joules is None:  # too few steps in a second: the reason says so
        assert "needs 100" in energy.reason and energy.idle_watts == pytest.approx(1, rel=0.3)
        return
    assert energy.joules == pytest.approx(3e-3, rel=0.3) and energy.source == "RAPL (package-0)"


def test_too_few_steps_give_no_figure(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0")
    stream = single_stream(lambda i: time.sleep(0.001), seconds=0.1, runs=10, sys=tmp_path, idle_seconds=0.01)
    assert stream.energy.joules is None and "moved 0 times: needs 100" in stream.energy.reason
    assert stream.runs >= 10 and stream.seconds >= 0.1 and stream.p50_ms <= stream.p90_ms <= stream.p99_ms


def test_a_meter_counts_from_its_beginning(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 50)
    meter = Meter(find(tmp_path)[0])
    file.write_text("1050")
    assert meter.joules() == pytest.approx(1e-3) and meter.steps == 1
