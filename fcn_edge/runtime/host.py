"""The CPU that a backend computes on.

Hyper-threads share the units that a convolution keeps busy, so a network gets one thread a physical core.
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path


@lru_cache
def cpu_info() -> dict[str, str]:
    """The first processor's fields in /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_name() -> str:
    """As the CPU names itself: "AMD EPYC"."""
    return cpu_info().get("model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction sets as Linux names them (x86 "flags", ARM "Features"); empty elsewhere."""
    info = cpu_info()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def saturates() -> bool:
    """Whether the CPU adds pairs of int8 products in 16 bits, where they may not fit: x86 without VNNI."""
    return "avx2" in cpu_flags() and not has_vnni()


def has_vnni() -> bool:
    """Whether an x86 CPU multiplies and adds int8 in one instruction."""
    return bool(cpu_flags() & {"avx_vnni", "avx512_vnni", "amx_int8"})


def physical_cores() -> int:
    """Cores that this process may use, each counted once however many threads it runs at a time."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores: set[str] = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else str(cpu))
    return len(cores)


def cpu_device(threads: int) -> str:
    """What a CPU backend reports as its device."""
    return f"CPU: {cpu_name()}, {threads} thread{'s' if threads > 1 else ''}"
