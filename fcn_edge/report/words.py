"""Figures as people read them: three digits, the unit that fits, and a dash where nothing was measured."""

from __future__ import annotations

import math

NONE = "-"


def digits(value: float | None) -> str:
    """Three significant digits, never in powers of ten: 0.0123, 1.23, 12.3, 123, 1230."""
    if value is None or not math.isfinite(value):
        return NONE
    power = int(f"{value:.2e}".partition("e")[2])  # of the rounded figure: 99.96 is 100
    return f"{value:.{max(0, 2 - power)}f}" if value else "0"


def ms(seconds: float | None) -> str:
    return NONE if seconds is None else digits(1e3 * seconds)


def scaled(value: float | None, unit: str, base: int = 1000) -> str:
    """With k, M, G or T before the unit."""
    if value is None:
        return NONE
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < base or prefix == "T":
            break
        value /= base
    return f"{digits(value)} {prefix}{unit}".strip()


def size(count: float | None) -> str:
    return scaled(count, "B")


def share(value: float | None) -> str:
    """A part of 1 in per cent."""
    return NONE if value is None else f"{100 * value:.1f} %"


def figure(value: float | None, places: int = 3) -> str:
    return NONE if value is None or value != value else f"{value:.{places}f}"


def pixels(shape: tuple[int, int] | None) -> str:
    """Rows by columns, as `--size` takes them."""
    return NONE if shape is None else f"{shape[0]}x{shape[1]}"


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
