"""Watts and joules, from what the machine has to measure them with.

Each meter measures another thing: NVML the graphics card alone, RAPL the processor's package, tegrastats a whole Jetson
module. So figures of two kinds of machine can't be compared, and the source stands beside every one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from fcn_edge.bench import schema
from fcn_edge.bench.nvml import Nvml, find_nvml
from fcn_edge.engine.machine import ROOT, find_jetson

IDLE = 2.0  # seconds before the work that idle power is the mean of
EVERY = 0.1  # seconds between two samples of power; tegrastats takes no less
WHOLE = ("VDD_IN", "VIN", "POM_5V_IN")  # rails of a Jetson that feed all others: Orin NX and Nano, Thor, older ones
PARTS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDD_GPU", "VDD_CPU_SOC_MSS")  # which make up the module elsewhere
RAIL = re.compile(r"\b(V\w+|POM_\w+) (-?\d+)(?:mW)?/")  # "VDD_IN 4040mW/4020mW": now, and on average since it began
PACKAGES = "sys/class/powercap/intel-rapl:[0-9]"  # AMD's stand there too


class Meter(Protocol):
    """Counts energy from `start` to `stop`."""

    source: str

    def start(self) -> None: ...

    def stop(self) -> float:
        """Joules since `start`. Raises OSError where the source went away."""
        ...


def find_meter(device: str, root: Path = ROOT) -> Meter | str:
    """What measures the power of a backend's `device` ("GPU: ...", "CPU: ...") here, or why nothing does."""
    if find_jetson(root) is not None:
        program = shutil.which("tegrastats")
        return Tegrastats([program, "--interval", str(int(1e3 * EVERY))]) if program else "tegrastats is not there."
    if device.startswith("GPU"):
        nvml = find_nvml()
        if nvml is None:
            return "NVML does not answer: the driver's libnvidia-ml is not there."
        if nvml.watts() is None and nvml.joules() is None:
            return "this GPU does not tell its power."
        return Card(nvml)
    packages = sorted(root.glob(PACKAGES))
    if not packages:
        return "the kernel shows no energy counters (RAPL), as in most virtual machines."
    try:
        (packages[0] / "energy_uj").read_text()
    except OSError:
        return f"the energy counters are for root alone: sudo chmod a+r /{PACKAGES.replace('[0-9]', '*')}/energy_uj"
    return Rapl(packages)


def measure(meter: Meter, work: Callable[[], int], idle: float = IDLE) -> schema.Energy:
    """The energy of `work`, which returns how many frames it computed, and the machine's own just before.

    idle: seconds, for which this does nothing first. Raises OSError where the meter went away.
    """
    meter.start()
    time.sleep(idle)
    resting = meter.stop() / idle
    began = time.perf_counter()
    meter.start()
    try:
        frames = work()
    finally:
        joules = meter.stop()
    seconds = time.perf_counter() - began
    return schema.Energy(meter.source, joules / seconds, resting, joules / max(1, frames))


class Rapl:
    """The processor's packages, by counters that wrap around every few minutes to hours."""

    source = "RAPL"

    def __init__(self, packages: Iterable[Path]) -> None:
        self._packages = list(packages)
        self._begun: list[int] = []

    def start(self) -> None:
        self._begun = self._read("energy_uj")

    def stop(self) -> float:
        grown = zip(self._begun, self._read("energy_uj"), self._read("max_energy_range_uj"), strict=True)
        return sum((end - begin) % (most + 1) for begin, end, most in grown) / 1e6

    def _read(self, name: str) -> list[int]:
        return [int((package / name).read_text()) for package in self._packages]


class Card:
    """The first GPU: by its own counter, or where it has none by its power ten times a second."""

    source = "NVML"

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._begun: float | None = None
        self._samples: Samples | None = None

    def start(self) -> None:
        self._begun = self._nvml.joules()
        if self._begun is None:
            self._samples = Samples(lambda: self._nvml.watts() or 0.0)

    def stop(self) -> float:
        if self._samples is not None:
            return self._samples.joules()
        ended = self._nvml.joules()
        if ended is None or self._begun is None:
            raise OSError("NVML no longer tells the energy")
        return ended - self._begun


class Samples:
    """A power read on a thread, each reading taken to hold until the next."""

    def __init__(self, watts: Callable[[], float]) -> None:
        self._watts, self._ended = watts, threading.Event()
        self._joules = 0.0
        self._thread = threading.Thread(target=self._run, name="fcn-edge-power", daemon=True)
        self._thread.start()

    def joules(self) -> float:
        self._ended.set()
        self._thread.join()
        return self._joules

    def _run(self) -> None:
        last = time.perf_counter()
        while not self._ended.wait(EVERY):
            now = time.perf_counter()
            self._joules += self._watts() * (now - last)
            last = now
        self._joules += self._watts() * (time.perf_counter() - last)


class Tegrastats:
    """A Jetson's own program, which prints a line of rails ten times a second."""

    source = "tegrastats"

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._watts: list[float] = []

    def start(self) -> None:
        self._began, self._watts = time.perf_counter(), []
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._reader = threading.Thread(target=self._read, name="fcn-edge-power", daemon=True)
        self._reader.start()  # else it would wait for ever once a pipe's 64 KB are full, as it is within a minute

    def stop(self) -> float:
        seconds = time.perf_counter() - self._began
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        if not self._watts:
            raise OSError("tegrastats printed no power")
        return seconds * sum(self._watts) / len(self._watts)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            self._watts += [watts for line in lines if (watts := rails(line)) is not None]


def rails(line: str) -> float | None:
    """Watts of the whole module, by a line of tegrastats; None where it has none."""
    found = {name: int(milliwatts) / 1e3 for name, milliwatts in RAIL.findall(line)}
    for name in WHOLE:
        if name in found:
            return found[name]
    parts = [watts for name, watts in found.items() if name in PARTS]
    return sum(parts) if parts else None
