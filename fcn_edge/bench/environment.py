"""Where it was measured, and what makes the figures doubtful.

Most of what spoils a measurement leaves no trace in it: another process, a host that takes the core away, a chip that
got hot. The kernel counts these, so they are read before and after, and what was counted between is told. Where a
virtual machine hides clocks and counters, the speed of one core at a fixed task is measured before and after instead.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from fcn_edge import doctor
from fcn_edge.bench.nvml import find_nvml
from fcn_edge.bench.schema import Machine
from fcn_edge.engine.machine import ROOT

OTHERS = 0.05  # of all cores: below it, what a quiet system does by itself
STOLEN = 0.01  # of the time of all cores
SLOWER = 0.05  # the core's speed when it ended; two looks at a quiet machine differ by less than 2 %
PROBE = bytes(1 << 20)  # hashed in a millisecond or so: long enough to be timed, short enough to fit between switches
PROBES = 30  # of which the fastest counts: it says the clock, the others what interrupted

COUNTERS = "counted: "  # before the names of what only counts up: it says nothing by itself
TIME, BUSY, STEAL, OWN = (f"{COUNTERS}{name}" for name in ("seconds", "busy", "stolen", "own"))
SWAPPED, QUOTA = f"{COUNTERS}pages swapped", f"{COUNTERS}seconds without quota"
CPU_THROTTLED, OVER_CURRENT, GPU_SLOWED = (
    f"{COUNTERS}{name}"
    for name in ("heat throttling of a CPU core", "over-current", "seconds that the GPU slowed for ")
)
LOAD, SPEED = "load average", "one core, bytes hashed a second"


def look(root: Path = ROOT, probe: bool = True) -> dict[str, float]:
    """What may change while measuring: load, temperatures (Celsius), clocks (Hz), and the kernel's counters.

    probe: time a fixed task on one core, which takes a twentieth of a second.
    """
    found = {TIME: time.monotonic()}
    found.update(_load(root))
    found.update(_processors(root))
    found.update(_counters(root))
    found.update(_temperatures(root))
    found.update(_clocks(root))
    found.update(_gpu())
    if probe:
        found[SPEED] = _speed()
    return found


def together(
    stretches: Sequence[tuple[dict[str, float], dict[str, float]]],
) -> tuple[dict[str, float], dict[str, float]]:
    """One stretch of time for several, each between two looks: what was counted in all of them, the gaps left out."""
    before, after = dict(stretches[0][0]), dict(stretches[-1][1])
    for key in [key for key in before if key.startswith(COUNTERS)]:
        after[key] = before[key] + sum(_grown(*stretch, key) for stretch in stretches)
    return before, after


def machine(before: dict[str, float], after: dict[str, float], name: str | None = None, root: Path = ROOT) -> Machine:
    """This machine, and its state between two looks; about a second.

    name: what it is called in reports; None: made of its board, CPU and GPU.
    """
    report = doctor.examine()
    told = report.machine
    gpu, board = told.gpu, told.board
    versions = {"fcn-edge": report.version, "python": told.python.partition(" ")[0]}
    versions |= {key: metadata.version(key) for key in ("numpy", "numba")}
    if report.opencv:
        versions["opencv"] = report.opencv.version
    versions |= {key: each.version for key, each in report.backends.items() if each.version}
    versions |= {key: each.version for key, each in report.tensorrt.items() if each.version}
    if gpu:
        versions |= {"driver": gpu.driver or "unknown", "cuda": gpu.cuda}
    if board:
        versions |= {"l4t": board.l4t or "unknown", "jetpack": board.jetpack or "unknown"}
    return Machine(
        name=name or _name(told),
        system=told.system,
        cpu=told.cpu,
        flags=told.flags,
        cores=told.cores,
        memory=told.memory,
        gpu=gpu.name if gpu else None,
        board=board.name if board else None,
        power_mode=board.power_mode if board else _read(root / "sys/firmware/acpi/platform_profile"),
        governor=governor(root),
        clocks=clocks(root) | _gpu_clocks(board.clocks_held if board else None),
        versions=versions,
        before=_shown(before),
        after=_shown(after),
        noise=noise(before, after, told.cores, root),
    )


def noise(before: dict[str, float], after: dict[str, float], cores: int, root: Path = ROOT) -> list[str]:
    """What makes figures that were measured between two looks doubtful, a sentence each; empty on a quiet machine."""
    return [*_others(before, after, cores), *_slowed(before, after), *_settings(root)]


def _others(before: dict[str, float], after: dict[str, float], cores: int) -> Iterator[str]:
    seconds = _grown(before, after, TIME) or 1e-9
    others = (_grown(before, after, BUSY) - _grown(before, after, OWN)) / seconds
    if others > OTHERS * cores:
        yield f"other processes kept {others:.2f} of {cores} cores busy; end them, or measure when they are done."
    stolen = _grown(before, after, STEAL) / seconds
    if stolen > STOLEN * cores:
        yield f"the host took {100 * stolen / cores:.1f} % of this virtual machine's time for others."
    if without := _grown(before, after, QUOTA):
        yield f"the container's CPU quota stopped its processes for {without:.2f} s in all; lift it."
    if pages := _grown(before, after, SWAPPED):
        yield f"{pages:.0f} pages of memory were swapped; measure fewer candidates at a time."


def _slowed(before: dict[str, float], after: dict[str, float]) -> Iterator[str]:
    if times := _grown(before, after, CPU_THROTTLED):
        yield f"heat slowed the CPU {times:.0f} times; cool it, or wait between runs."
    if times := _grown(before, after, OVER_CURRENT):
        yield f"the board throttled for want of power {times:.0f} times; take a stronger supply or a lower power mode."
    for key in sorted(after):
        if key.startswith(GPU_SLOWED) and (seconds := _grown(before, after, key)) > 0:
            yield f"the GPU's clock was held down by {key.removeprefix(GPU_SLOWED)} for {seconds:.1f} s."
    if SPEED in before and SPEED in after and after[SPEED] < (1 - SLOWER) * before[SPEED]:
        loss = 100 * (1 - after[SPEED] / before[SPEED])
        yield f"one core was {loss:.0f} % slower at a fixed task when it ended than when it began."


def _settings(root: Path) -> Iterator[str]:
    mains = [
        _read(path / "online") for path in root.glob("sys/class/power_supply/*") if _read(path / "type") == "Mains"
    ]
    if mains and "1" not in mains:
        yield "it ran on its battery; plug it in."


def _grown(before: dict[str, float], after: dict[str, float], key: str) -> float:
    return after[key] - before[key] if key in before and key in after else 0.0


def _shown(looked: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in looked.items() if not key.startswith(COUNTERS)}


def _name(told: doctor.Machine) -> str:
    """A column's head."""
    if told.board:
        return told.board.name or "a Jetson"
    cpu = f"{told.cores}x {told.cpu}"
    return f"{cpu}, {told.gpu.name}" if told.gpu else cpu


def _load(root: Path) -> dict[str, float]:
    text = _read(root / "proc/loadavg")
    return {LOAD: float(text.split()[0])} if text else {}


def _processors(root: Path) -> dict[str, float]:
    """Seconds that all cores were busy, that the host took, and that this process and its children used."""
    text = _read(root / "proc/stat")
    if not text:
        return {}
    user, nice, system, _, _, irq, softirq, steal, *_ = (int(field) for field in text.splitlines()[0].split()[1:])
    tick = os.sysconf("SC_CLK_TCK")
    busy = (user + nice + system + irq + softirq) / tick
    return {BUSY: busy, STEAL: steal / tick, OWN: _own(root, os.getpid()) / tick}


def _own(root: Path, process: int) -> int:
    """Ticks of a process and of all below it, ended ones too, as far as their parents waited for them."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for path in root.glob("proc/[0-9]*/stat"):
        text = _read(path)
        if text:  # else it ended meanwhile
            fields = text.rpartition(")")[2].split()  # a program's name may hold spaces and brackets
            parents[int(path.parent.name)] = int(fields[1])
            ticks[int(path.parent.name)] = sum(map(int, fields[11:15]))
    total = 0
    for each in ticks:
        above = each
        while above not in (process, 0):
            above = parents.get(above, 0)
        total += ticks[each] if above == process else 0
    return total


def _counters(root: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    throttled = list(_numbers(root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")))
    if throttled:
        found[CPU_THROTTLED] = sum(throttled)
    events = list(_numbers(root.glob("sys/class/hwmon/hwmon*/oc[0-9]_event_cnt")))
    if events:
        found[OVER_CURRENT] = sum(events)
    for line in (_read(root / "proc/vmstat") or "").splitlines():
        key, _, value = line.partition(" ")
        if key in ("pswpin", "pswpout"):
            found[SWAPPED] = found.get(SWAPPED, 0.0) + float(value)
    for line in (_read(root / "sys/fs/cgroup/cpu.stat") or "").splitlines():
        key, _, value = line.partition(" ")
        if key == "throttled_usec":
            found[QUOTA] = float(value) / 1e6
    return found


def _temperatures(root: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        kind = _read(zone / "type")
        for degrees in _numbers([zone / "temp"]):
            found[f"{kind or zone.name}, C"] = degrees / 1e3
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if _read(chip / "name") in ("coretemp", "k10temp", "zenpower"):
            for degrees in _numbers([chip / "temp1_input"]):
                found["CPU, C"] = degrees / 1e3
    return found


def _clocks(root: Path) -> dict[str, float]:
    rates = list(_numbers(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")))
    found = {"CPU clock, Hz": 1e3 * sum(rates) / len(rates)} if rates else {}
    for rate in _numbers(root.glob("sys/class/devfreq/*gpu*/cur_freq")):
        found["GPU clock, Hz"] = rate
    return found


def _gpu() -> dict[str, float]:
    nvml = find_nvml()
    if nvml is None:
        return {}
    told = {"GPU, C": nvml.celsius(), "GPU clock, Hz": nvml.hertz(), "GPU power, W": nvml.watts()}
    found = {key: value for key, value in told.items() if value is not None}
    found |= {GPU_SLOWED + name: seconds for name, seconds in nvml.slowed_for().items()}
    nvml.close()
    return found


def _speed() -> float:
    """Bytes a second that one core hashes at its best: in proportion to its clock, whatever the memory does."""
    times: list[float] = []
    for _ in range(PROBES):
        start = time.perf_counter()
        hashlib.sha256(PROBE).digest()
        times.append(time.perf_counter() - start)
    return len(PROBE) / min(times)


def governor(root: Path = ROOT) -> str | None:
    """What decides on the CPU's clock: "performance", "schedutil"; None where the kernel does not tell."""
    found = {_read(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(filter(None, found))) or None


def clocks(root: Path = ROOT) -> dict[str, str]:
    """What the CPU's clock may do."""
    folders = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    least = list(_numbers(folder / "scaling_min_freq" for folder in folders))
    most = list(_numbers(folder / "scaling_max_freq" for folder in folders))
    if not least or not most:
        return {"cpu": "not told: the kernel shows no clocks, as in most virtual machines"}
    low, high = min(least) / 1e6, max(most) / 1e6
    if low == high:
        return {"cpu": f"{high:.2f} GHz, held"}
    boost = {"0": ", boost off", "1": ", boost on"}.get(_boost(root), "")
    return {"cpu": f"{low:.2f} to {high:.2f} GHz, may change{boost}"}


def _boost(root: Path) -> str:
    cpu = root / "sys/devices/system/cpu"
    no_turbo = _read(cpu / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return {"0": "1", "1": "0"}.get(no_turbo, "")
    return _read(cpu / "cpufreq/boost") or ""


def _gpu_clocks(held: bool | None) -> dict[str, str]:
    """held: a Jetson's, by jetson_clocks."""
    if held is not None:
        return {"gpu": "held (jetson_clocks)" if held else "may change: sudo jetson_clocks holds it"}
    nvml = find_nvml()
    if nvml is None:
        return {}
    most = nvml.most_hertz()
    nvml.close()
    return {"gpu": f"up to {most / 1e9:.2f} GHz, may change"} if most else {}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _numbers(paths: Iterable[Path]) -> Iterator[float]:
    """What stands in those files that can be read and hold a number: a sensor may be off."""
    for path in sorted(paths):
        try:
            yield float(_read(path) or "")
        except ValueError:
            continue
