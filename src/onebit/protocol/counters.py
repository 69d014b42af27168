"""Counters of energy: RAPL, hwmon, the battery and NVML, as far as this machine lets them be read.

Values that were not measured are None with a reason, never 0.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")
MICRO = 1e-6
# Of a source that tells watts and no joules.
SAMPLE_SECONDS = 0.05


class Domain:
    """A counter of microjoules that begins again at 0 when it reaches its range."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "energy_uj"
        self.range = int((folder / "max_energy_range_uj").read_text())
        self.last = int(self.file.read_text())
        self.total = 0
        self.changes = 0

    def read(self) -> float:
        """Joules since the first reading. It must be read at least once in each turn of the counter."""
        now = int(self.file.read_text())
        moved = now - self.last
        if moved < 0:
            moved += self.range + 1
        self.changes += moved > 0
        self.total += moved
        self.last = now
        return self.total * MICRO


@dataclass
class Counter:
    """A source of joules.

    Args:
        name: what it is, and what it counts.
        resolution: the smallest step that it counts in, in words.
        read: joules since some moment.
        watts: whether it tells watts, which are added up over time: a coarse source.
    """

    name: str
    resolution: str
    read: Callable[[], float]
    watts: bool = False


def find(root: Path = SYS, gpu: bool = False) -> tuple[Counter | None, str]:
    """The best source of this machine, or None and why there is none.

    Args:
        root: the folder of the system's files.
        gpu: whether the work is done on a GPU; then NVML is asked, and nothing else.
    """
    if gpu:
        return _nvml()
    reasons = []
    for look in (_rapl, _hwmon, _battery):
        found, reason = look(root)
        if found is not None:
            return found, ""
        reasons.append(reason)
    return None, "; ".join(reasons)


def _rapl(root: Path) -> tuple[Counter | None, str]:
    folder = root / "class" / "powercap"
    zones = [zone for zone in sorted(folder.glob("*rapl*:*")) if (zone / "energy_uj").exists()]
    if not zones:
        return None, f"RAPL: {folder} has no counter (virtual machines mostly have none)"
    chosen = []
    try:
        for zone in zones:
            name = (zone / "name").read_text().strip()
            # A package holds its cores; the memory beside it is counted on its own.
            if name.startswith("package") or name == "dram":
                chosen.append((name, Domain(zone)))
    except PermissionError:
        return None, f"RAPL: {zones[0] / 'energy_uj'} is for root only: run as root, or chmod a+r it"
    except (OSError, ValueError) as error:
        return None, f"RAPL: {error}"
    if not chosen:
        return None, f"RAPL: {folder} has no package"
    names = " + ".join(name for name, _ in chosen)
    return Counter(
        f"RAPL ({names})", "1 microjoule, renewed about every ms", lambda: sum(d.read() for _, d in chosen)
    ), ""


def _hwmon(root: Path) -> tuple[Counter | None, str]:
    folder = root / "class" / "hwmon"
    files = sorted([*folder.glob("hwmon*/power*_average"), *folder.glob("hwmon*/power*_input")])
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            int(file.read_text())
            return _of_watts(f"hwmon ({file.parent.name}/{file.name})", file), ""
    return None, f"hwmon: {folder} has no readable power"


def _battery(root: Path) -> tuple[Counter | None, str]:
    folder = root / "class" / "power_supply"
    for file in sorted(folder.glob("*/power_now")):
        with contextlib.suppress(OSError, ValueError):
            if (file.parent / "status").read_text().strip() == "Discharging" and int(file.read_text()) > 0:
                return _of_watts(f"battery ({file.parent.name}, the whole machine)", file), ""
    return None, f"battery: {folder} has none that is in use"


def _of_watts(name: str, file: Path) -> Counter:
    """Adds microwatts up over time, by trapezoids between readings."""
    state = [time.monotonic(), int(file.read_text()) * MICRO, 0.0]

    def read() -> float:
        now, watts = time.monotonic(), int(file.read_text()) * MICRO
        state[2] += (now - state[0]) * (watts + state[1]) / 2
        state[0], state[1] = now, watts
        return state[2]

    return Counter(name, f"watts, read every {SAMPLE_SECONDS * 1e3:.0f} ms", read, watts=True)


def _nvml() -> tuple[Counter | None, str]:
    try:
        import pynvml
    except ImportError:
        return None, "NVML: the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        name = pynvml.nvmlDeviceGetName(device)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"

    def read() -> float:
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) * 1e-3

    return Counter(f"NVML ({name})", "1 millijoule, renewed every 20 to 100 ms", read), ""


class Meter:
    """Reads a counter in the background, so that no turn of it is missed and watts are added up."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.steps = 0
        self._last = counter.read()
        self._first = self._last
        self._lock = threading.Lock()

    def joules(self) -> float:
        """Joules since the beginning."""
        with self._lock:
            now = self.counter.read()
            self.steps += now != self._last
            self._last = now
            return now - self._first

    @contextlib.contextmanager
    def running(self) -> Iterator[Meter]:
        """Reads the counter until the end."""
        done = threading.Event()

        def follow() -> None:
            while not done.wait(SAMPLE_SECONDS):
                self.joules()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()
