"""Joules and watts, from counters and programs that stand in for those of machines that have them.

Lines of tegrastats are as public logs of boards show them; no board was at hand.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fcn_edge.bench import energy, environment, nvml
from fcn_edge.bench.energy import Card, Rapl, Samples, Tegrastats, find_meter, measure, rails
from fcn_edge.bench.nvml import Nvml

ORIN_NANO = (
    "11-22-2025 10:00:00 RAM 2448/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [12%@729,0%@729,off] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305] cpu@48.9C soc2@48C gpu@49.5C tj@50C VDD_IN 4040mW/4020mW "
    "VDD_CPU_GPU_CV 480mW/480mW VDD_SOC 1080mW/1080mW"
)
AGX_ORIN = (
    "RAM 5000/62000MB CPU [1%@729] GR3D_FREQ 0%@[305,305] tj@45C VDD_GPU_SOC 3200mW/3180mW "
    "VDD_CPU_CV 800mW/801mW VIN_SYS_5V0 4440mW/4441mW NC 0mW/0mW VDDQ_VDD2_1V8AO 402mW/402mW NC 0mW/0mW"
)
THOR = (
    "RAM 9000/125000MB gpu@40C VDD_GPU -390mW/0mW VDD_CPU_SOC_MSS 6510mW/6500mW VIN_SYS_5V0 6520mW/6500mW "
    "VIN 23010mW/23000mW"
)
OLD = "RAM 1500/3964MB CPU [5%@102] POM_5V_IN 1500/1500 POM_5V_GPU 0/0 POM_5V_CPU 160/160"


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        (ORIN_NANO, 4.04),
        (AGX_ORIN, 3.2 + 0.8 + 4.44),
        (THOR, 23.01),
        (OLD, 1.5),
        ("RAM 1/2MB tj@45C", None),
        ("", None),
    ],
    ids=["Orin Nano", "AGX Orin", "Thor", "Nano", "no rails", "empty"],
)
def test_a_line_of_tegrastats_gives_the_whole_modules_power(line: str, watts: float | None) -> None:
    assert rails(line) == (None if watts is None else pytest.approx(watts))


def stand_in(folder: Path, line: str, times: int = 1_000_000) -> list[str]:
    """A program that prints what tegrastats does."""
    program = folder / "tegrastats"
    program.write_text(
        f"#!{sys.executable}\nimport time\nfor _ in range({times}):\n    print({line!r}, flush=True)\n"
        "    time.sleep(0.001)\ntime.sleep(60)\n"
    )
    program.chmod(0o755)
    return [str(program)]


def test_a_jetsons_program_is_read_until_the_end_however_much_it_prints(tmp_path: Path) -> None:
    meter = Tegrastats(stand_in(tmp_path, ORIN_NANO + " " * 4000))  # in half a second more than a pipe holds
    found = measure(meter, lambda: time.sleep(0.5) or 5, idle=0.3)
    assert found.source == "tegrastats"
    assert (found.watts, found.idle) == (pytest.approx(4.04, rel=0.1), pytest.approx(4.04, rel=0.1))
    assert found.joules >= 0.5 * 4.04 / 5


def test_a_program_that_tells_no_power_is_an_error_and_no_zero(tmp_path: Path) -> None:
    meter = Tegrastats(stand_in(tmp_path, "RAM 1/2MB"))
    meter.start()
    with pytest.raises(OSError, match="tegrastats printed no power"):
        meter.stop()


def package(root: Path, number: int, microjoules: int, most: int = 1_000_000_000) -> Path:
    folder = root / f"sys/class/powercap/intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_all_packages_are_counted_and_a_counter_may_wrap_around(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, 999_999_000), package(tmp_path, 1, 5_000_000)
    (tmp_path / "sys/class/powercap/intel-rapl:0:0").mkdir()  # of the cores alone: it is in the package
    meter = find_meter("CPU: x, 2 threads", tmp_path)
    assert isinstance(meter, Rapl)
    meter.start()
    (first / "energy_uj").write_text("2000000\n")
    (second / "energy_uj").write_text("9000000\n")
    assert meter.stop() == pytest.approx((1_001 + 2_000_000 + 4_000_000) / 1e6)


def test_energy_is_that_of_a_frame_and_power_the_mean_of_the_work() -> None:
    class Counter:
        """A source of 10 W while idle and 30 W from then on."""

        source = "a counter"
        begun: list[float] = []  # noqa: RUF012

        def start(self) -> None:
            self.begun.append(time.perf_counter())

        def stop(self) -> float:
            return (time.perf_counter() - self.begun[-1]) * (10 if len(self.begun) == 1 else 30)

    seconds: list[float] = []

    def work() -> int:
        start = time.perf_counter()
        time.sleep(0.2)
        seconds.append(time.perf_counter() - start)
        return 8

    found = measure(Counter(), work, idle=0.1)
    assert found.idle == pytest.approx(10, rel=0.2)
    assert found.watts == pytest.approx(30, rel=0.05)
    assert found.joules == pytest.approx(30 * seconds[0] / 8, rel=0.05)


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    assert find_meter("CPU: x", tmp_path) == "the kernel shows no energy counters (RAPL), as in most virtual machines."


def test_a_counter_that_cannot_be_read_is_a_reason_with_the_line_that_opens_it(tmp_path: Path) -> None:
    file = package(tmp_path, 0, 1) / "energy_uj"
    file.unlink()
    file.mkdir()  # which root cannot read either
    assert str(find_meter("CPU: x", tmp_path)).endswith("sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj")


def test_a_jetson_is_measured_by_its_own_program_whatever_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")
    monkeypatch.setenv("PATH", "")
    assert find_meter("GPU: Orin", tmp_path) == "tegrastats is not there."
    stand_in(tmp_path, ORIN_NANO)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(find_meter("CPU: Cortex", tmp_path), Tegrastats)


def test_a_gpu_without_its_drivers_library_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "LIBRARY", "libno-such-library.so.1")
    assert "libnvidia-ml is not there" in str(find_meter("GPU: RTX", tmp_path))
    assert nvml.find_nvml() is None


def test_a_power_that_is_sampled_is_summed_over_time() -> None:
    start = time.perf_counter()
    samples = Samples(lambda: 50.0)
    time.sleep(0.35)
    joules, most = samples.joules(), 50 * (time.perf_counter() - start)
    assert 0.35 * 50 * 0.95 <= joules <= most


class Library:
    """The driver's libnvidia-ml of a GPU, in Python: each function writes its answer and returns 0, as the header says.

    What a field of `answers` lacks, the GPU does not support.
    """

    NOT_SUPPORTED = 3

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.closed = False

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        self.closed = True
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:
        assert index == 0
        handle._obj.value = 0xCAFE
        return self.answers.get("missing", 0)

    def nvmlDeviceGetViolationStatus(self, gpu: ctypes.c_void_p, policy: int, into: Any) -> int:
        if "violations" not in self.answers:
            return self.NOT_SUPPORTED
        into._obj[0], into._obj[1] = 123, self.answers["violations"][policy]
        return 0

    def __getattr__(self, name: str) -> Any:
        if name == "nvmlDeviceGetCurrentClocksEventReasons" and "events" not in self.answers:
            raise AttributeError(name)  # drivers before 535 have the other name alone
        fields = {
            "nvmlDeviceGetPowerUsage": "milliwatts",
            "nvmlDeviceGetTotalEnergyConsumption": "millijoules",
            "nvmlDeviceGetTemperature": "celsius",
            "nvmlDeviceGetClockInfo": "megahertz",
            "nvmlDeviceGetMaxClockInfo": "most_megahertz",
            "nvmlDeviceGetCurrentClocksEventReasons": "events",
            "nvmlDeviceGetCurrentClocksThrottleReasons": "reasons",
        }

        def ask(gpu: ctypes.c_void_p, *arguments: Any) -> int:
            assert gpu.value == 0xCAFE
            if fields[name] not in self.answers:
                return self.NOT_SUPPORTED
            arguments[-1]._obj.value = self.answers[fields[name]]
            return 0

        return ask


def test_a_gpus_own_counter_of_energy_is_taken_where_there_is_one() -> None:
    library = Library(millijoules=5_000)
    meter = Card(Nvml(library))
    meter.start()
    library.answers["millijoules"] = 12_500
    assert meter.stop() == 7.5


def test_a_gpu_without_one_has_its_power_sampled() -> None:
    meter = Card(Nvml(Library(milliwatts=200_000)))
    start = time.perf_counter()
    meter.start()
    time.sleep(0.3)
    assert 0.3 * 200 * 0.95 <= meter.stop() <= 200 * (time.perf_counter() - start)


def test_a_gpu_that_tells_no_power_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "find_nvml", lambda: Nvml(Library(celsius=40)))
    assert find_meter("GPU: RTX", tmp_path) == "this GPU does not tell its power."


def test_what_a_gpu_tells_comes_in_plain_units() -> None:
    told = Nvml(Library(milliwatts=70_500, celsius=61, megahertz=1_980, most_megahertz=2_100, millijoules=1))
    assert (told.watts(), told.celsius(), told.hertz(), told.most_hertz()) == (70.5, 61, 1.98e9, 2.1e9)
    assert told.slowed_for() == {}


def test_how_long_a_gpu_was_slowed_is_noise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = Library(violations={0: 2_000_000_000, 1: 0}, celsius=70)
    monkeypatch.setattr(environment, "find_nvml", lambda: Nvml(library))
    before = environment.look(tmp_path, probe=False)
    library.answers["violations"] = {0: 5_500_000_000, 1: 0}
    after = environment.look(tmp_path, probe=False)
    assert environment.noise(before, after, 2, tmp_path) == ["the GPU's clock was held down by power for 3.5 s."]
    assert after["GPU, C"] == 70
    assert library.closed


def test_a_driver_without_a_gpu_is_none() -> None:
    with pytest.raises(OSError, match="no GPU"):
        Nvml(Library(missing=6))
