"""What is told of a machine, from files of /proc and /sys that stand in for those of other machines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fcn_edge import doctor
from fcn_edge.bench import environment
from fcn_edge.bench.environment import clocks, governor, look, machine, noise, together
from fcn_edge.engine.board import Board

Root = Callable[[Mapping[str, object]], Path]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """Writes files, by their path from the root."""

    def write(files: Mapping[str, object]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return tmp_path

    return write


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_nvml", lambda: None)


def stat(busy: int, stolen: int = 0) -> str:
    """/proc/stat's first line, in ticks of a hundredth of a second: user, nice, system, idle, iowait, irq, softirq."""
    return f"cpu  {busy} 0 0 99999 0 0 0 {stolen} 0 0\ncpu0 1 0 0 0 0 0 0 0 0 0"


def process(ticks: int, parent: int = 1, ended: int = 0) -> str:
    """/proc/PID/stat: the program's name may hold what separates fields."""
    return f"7 (a (b) c) S {parent} " + "0 " * 9 + f"{ticks} 0 {ended} 0 20 0"


def looks(root: Root, before: Mapping[str, object], after: Mapping[str, object], seconds: float = 10.0) -> list[str]:
    first = look(root(before), probe=False)
    second = look(root(after), probe=False)
    second[environment.TIME] = first[environment.TIME] + seconds
    return noise(first, second, 4, root({}))


def test_what_others_kept_busy_is_told_without_what_was_measured(root: Root) -> None:
    me, child = f"proc/{os.getpid()}/stat", "proc/99999999/stat"
    before = {"proc/stat": stat(1000), me: process(100), child: process(0, os.getpid())}
    after = {"proc/stat": stat(4400), me: process(200), child: process(3000, os.getpid())}
    assert looks(root, before, after) == [
        "other processes kept 0.30 of 4 cores busy; end them, or measure when they are done."
    ]


def test_a_child_that_ended_was_no_other(root: Root) -> None:
    me = f"proc/{os.getpid()}/stat"
    before = {"proc/stat": stat(1000), me: process(100)}
    after = {"proc/stat": stat(4400), me: process(100, ended=3390)}
    assert looks(root, before, after) == []


def test_what_a_quiet_system_does_by_itself_is_no_noise(root: Root) -> None:
    assert looks(root, {"proc/stat": stat(1000)}, {"proc/stat": stat(1150)}) == []


def test_a_process_beside_this_one_is_seen_on_this_machine() -> None:
    if not Path("/proc/stat").exists():
        pytest.skip("no /proc here")
    spin = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    ours = subprocess.Popen(spin, stdout=subprocess.PIPE)
    try:
        before = look(probe=False)
        assert ours.stdout
        ours.stdout.readline()
        while (after := look(probe=False))[environment.TIME] - before[environment.TIME] < 0.3:
            pass
    finally:
        ours.kill()
        ours.communicate()
    own = after[environment.OWN] - before[environment.OWN]
    busy = after[environment.BUSY] - before[environment.BUSY]
    assert 0 < own <= busy + 0.1  # both in ticks


@pytest.mark.parametrize(
    ("name", "before", "after", "sentence"),
    [
        ("proc/stat", stat(0), stat(0, stolen=200), "the host took 5.0 % of this virtual machine's time for others."),
        (
            "sys/devices/system/cpu/cpu3/thermal_throttle/core_throttle_count", 4, 9,
            "heat slowed the CPU 5 times; cool it, or wait between runs.",
        ),
        (
            "sys/class/hwmon/hwmon3/oc3_event_cnt", 37, 39,
            "the board throttled for want of power 2 times; take a stronger supply or a lower power mode.",
        ),
        (
            "proc/vmstat", "nr_free_pages 5\npswpin 1\npswpout 2", "nr_free_pages 1\npswpin 4\npswpout 7",
            "8 pages of memory were swapped; measure fewer candidates at a time.",
        ),
        (
            "sys/fs/cgroup/cpu.stat", "usage_usec 1\nthrottled_usec 500000", "usage_usec 2\nthrottled_usec 2500000",
            "the container's CPU quota stopped its processes for 2.00 s in all; lift it.",
        ),
    ],
    ids=["steal", "heat", "supply", "swap", "quota"],
)  # fmt: skip
def test_what_the_kernel_counted_is_told(root: Root, name: str, before: object, after: object, sentence: str) -> None:
    assert looks(root, {name: before}, {name: after}) == [sentence]


def test_a_battery_is_told(root: Root) -> None:
    supply = {"sys/class/power_supply/AC/type": "Mains", "sys/class/power_supply/BAT0/type": "Battery"}
    path = root({**supply, "sys/class/power_supply/AC/online": 0})
    assert noise({}, {}, 4, path) == ["it ran on its battery; plug it in."]
    assert noise({}, {}, 4, root({"sys/class/power_supply/AC/online": 1})) == []


def test_a_core_that_got_slower_is_told() -> None:
    speed = environment.SPEED
    assert noise({speed: 2e9}, {speed: 1.8e9}, 2) == [
        "one core was 10 % slower at a fixed task when it ended than when it began."
    ]
    assert noise({speed: 2e9}, {speed: 1.95e9}, 2) == []


def test_the_probe_tells_the_clock_and_not_the_counters() -> None:
    shown = machine(look(), look()).before
    assert shown[environment.SPEED] > 1e7
    assert not [key for key in shown if key.startswith(environment.COUNTERS)]


def test_temperatures_and_clocks_have_units_and_their_sensors_names(root: Root) -> None:
    found = look(
        root(
            {
                "sys/class/thermal/thermal_zone0/type": "gpu-thermal",
                "sys/class/thermal/thermal_zone0/temp": 52125,
                "sys/class/thermal/thermal_zone1/type": "cv0-thermal",
                "sys/class/thermal/thermal_zone1/temp": "",  # one that is off gives an error or nothing
                "sys/class/hwmon/hwmon2/name": "k10temp",
                "sys/class/hwmon/hwmon2/temp1_input": 61500,
                "sys/class/hwmon/hwmon4/name": "nvme",
                "sys/class/hwmon/hwmon4/temp1_input": 40000,
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": 2_000_000,
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": 3_000_000,
                "sys/class/devfreq/17000000.gpu/cur_freq": 1_300_500_000,
                "proc/loadavg": "0.42 0.30 0.20 1/99 1234",
            }
        ),
        probe=False,
    )
    found.pop(environment.TIME)
    assert found == {
        "load average": 0.42,
        "gpu-thermal, C": 52.125,
        "CPU, C": 61.5,
        "CPU clock, Hz": 2.5e9,
        "GPU clock, Hz": 1.3005e9,
    }


CPU0, CPU1 = (f"sys/devices/system/cpu/cpu{number}/cpufreq" for number in (0, 1))


def test_a_clock_that_may_change_is_told_with_its_range(root: Root) -> None:
    limits = {f"{CPU0}/scaling_min_freq": 400_000, f"{CPU1}/scaling_min_freq": 400_000}
    limits |= {f"{CPU0}/scaling_max_freq": 4_700_000, f"{CPU1}/scaling_max_freq": 3_500_000}
    path = root(limits)
    assert clocks(path) == {"cpu": "0.40 to 4.70 GHz, may change"}
    assert clocks(root({"sys/devices/system/cpu/cpufreq/boost": 1})) == {
        "cpu": "0.40 to 4.70 GHz, may change, boost on"
    }
    assert clocks(root({"sys/devices/system/cpu/intel_pstate/no_turbo": 1})) == {
        "cpu": "0.40 to 4.70 GHz, may change, boost off"
    }


def test_a_clock_that_is_held_is_told(root: Root) -> None:
    assert clocks(root({f"{CPU0}/scaling_min_freq": 2_600_000, f"{CPU0}/scaling_max_freq": 2_600_000})) == {
        "cpu": "2.60 GHz, held"
    }


def test_governors_are_told_once(root: Root) -> None:
    assert governor(root({})) is None
    path = root({f"{CPU0}/scaling_governor": "schedutil", f"{CPU1}/scaling_governor": "schedutil"})
    assert governor(path) == "schedutil"
    assert governor(root({f"{CPU1}/scaling_governor": "performance"})) == "performance, schedutil"


def test_a_machine_without_any_of_these_files_is_silent(tmp_path: Path) -> None:
    found = look(tmp_path, probe=False)
    assert list(found) == [environment.TIME]
    assert noise(found, found, 2, tmp_path) == []
    assert clocks(tmp_path) == {"cpu": "not told: the kernel shows no clocks, as in most virtual machines"}


def test_the_machine_is_what_doctor_sees_under_the_name_that_it_is_given() -> None:
    seen = doctor.examine()
    found = machine({}, {}, "the big one")
    assert (found.name, found.cpu, found.cores) == ("the big one", seen.machine.cpu, seen.machine.cores)
    backends = {name: report.version for name, report in seen.backends.items() if report.version}
    assert backends.items() <= found.versions.items()
    assert {"python", "numpy", "numba", "opencv", "fcn-edge"} <= set(found.versions)
    assert machine({}, {}).name.startswith(f"{found.cores}x {found.cpu}")


def test_a_board_is_told_with_its_mode_and_what_its_clocks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    board = Board("NVIDIA Jetson Orin NX", "36.4.3", "6.1 or 6.2", "25W", False)
    seen = doctor.examine()
    monkeypatch.setattr(doctor, "examine", lambda: replace(seen, machine=replace(seen.machine, board=board)))
    found = machine({}, {})
    assert (found.name, found.board, found.power_mode) == (board.name, board.name, "25W")
    assert found.clocks["gpu"] == "may change: sudo jetson_clocks holds it"
    assert (found.versions["l4t"], found.versions["jetpack"]) == ("36.4.3", "6.1 or 6.2")


def test_what_happens_between_two_stretches_of_timing_is_not_counted() -> None:
    def at(seconds: float, busy: float, load: float) -> dict[str, float]:
        return {environment.TIME: seconds, environment.BUSY: busy, environment.OWN: 0.0, environment.LOAD: load}

    quiet = [(at(0, 0, 0.1), at(100, 1, 0.2)), (at(500, 800, 2.0), at(600, 801, 0.3))]
    before, after = together(quiet)
    assert (before, after) == (at(0, 0, 0.1), at(200, 2, 0.3))
    assert noise(before, after, 2) == []
    assert noise(*together([*quiet, (at(700, 900, 0.1), at(800, 1000, 0.1))]), 2) == [
        "other processes kept 0.34 of 2 cores busy; end them, or measure when they are done."  # 102 of 300 s
    ]
