"""NVIDIA's management library, as much of it as energy, memory, clocks and throttling need.

It comes with the driver, like the library that `engine.machine` asks, so no package is wanted for a few calls. Jetsons
have it from JetPack 7 on, and then without energy: their rails are read otherwise (energy.py). Numbers are nvml.h's.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
GRAPHICS_CLOCK, MEMORY_CLOCK = 0, 2  # nvmlClockType_t
ON_THE_GPU = 0  # nvmlTemperatureSensors_t
LIMITS = {0: "power", 1: "heat"}  # nvmlPerfPolicyType_t, whose violations are counted in nanoseconds


class Nvml:
    """The first GPU of the driver, which is the one that CUDA shows where nothing else is said.

    Each question is answered with None where this GPU or driver does not tell.
    """

    def __init__(self, library: Any) -> None:
        """library: what ctypes loaded. Raises OSError where it tells of no GPU."""
        self._library = library
        self._gpu = ctypes.c_void_p()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self._gpu)):
            raise OSError("the driver tells of no GPU")

    def watts(self) -> float | None:
        milliwatts = self._ask("nvmlDeviceGetPowerUsage", ctypes.c_uint())
        return None if milliwatts is None else milliwatts / 1e3

    def joules(self) -> float | None:
        """Since the driver was loaded; Volta and later."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong())
        return None if millijoules is None else millijoules / 1e3

    def celsius(self) -> float | None:
        return self._ask("nvmlDeviceGetTemperature", ctypes.c_uint(), ON_THE_GPU)

    def hertz(self, clock: int = GRAPHICS_CLOCK) -> float | None:
        megahertz = self._ask("nvmlDeviceGetClockInfo", ctypes.c_uint(), clock)
        return None if megahertz is None else megahertz * 1e6

    def most_hertz(self, clock: int = GRAPHICS_CLOCK) -> float | None:
        megahertz = self._ask("nvmlDeviceGetMaxClockInfo", ctypes.c_uint(), clock)
        return None if megahertz is None else megahertz * 1e6

    def used_bytes(self) -> int | None:
        """Of its memory, by all processes; None on boards whose GPU shares the host's."""
        memory = (ctypes.c_ulonglong * 3)()  # nvmlMemory_t: total, free, used
        return memory[2] if self._call("nvmlDeviceGetMemoryInfo", ctypes.byref(memory)) else None

    def slowed_for(self) -> dict[str, float]:
        """Seconds since the driver was loaded that power and heat held its clock down."""
        found: dict[str, float] = {}
        for number, name in LIMITS.items():
            taken = (ctypes.c_ulonglong * 2)()  # nvmlViolationTime_t: when, and how long, which are micro- and nano-
            if self._call("nvmlDeviceGetViolationStatus", number, ctypes.byref(taken)):
                found[name] = taken[1] / 1e9
        return found

    def close(self) -> None:
        self._library.nvmlShutdown()

    def _ask(self, name: str, into: Any, *which: int) -> float | None:
        return into.value if self._call(name, *which, ctypes.byref(into)) else None

    def _call(self, name: str, *arguments: Any) -> bool:
        function = getattr(self._library, name, None)
        return function is not None and function(self._gpu, *arguments) == 0


def find_nvml() -> Nvml | None:
    """None where there is no NVIDIA driver, or it has no GPU. Never raises."""
    try:
        return Nvml(ctypes.CDLL(LIBRARY))
    except OSError:
        return None
