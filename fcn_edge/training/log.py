"""The course of a run: a CSV line every ten steps, and curves as a picture."""

from __future__ import annotations

import csv
import os
from pathlib import Path

FIELDS: tuple[str, ...] = ("step", "loss", "label_loss", "soft_loss", "rate", "pictures_per_second", "mean_iou")


class Log:
    """`log.csv` in the run's folder. A run that goes on drops the lines past the step it goes on from."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self.path = folder / "log.csv"
        lines = [line for line in self.rows() if int(line["step"]) <= first_step] if first_step else []
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(lines)

    def add(self, **values: float) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS).writerow({key: f"{value:.6g}" for key, value in values.items()})

    def rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def draw(self) -> None:
        """Losses and the held-back mean IoU over the steps, as `curves.png`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4), layout="constrained")
        losses, quality = figure.subplots(1, 2)
        rows = self.rows()
        for field in ("loss", "label_loss", "soft_loss"):
            losses.plot(*_series(rows, field), label=field.replace("_", " "))
        losses.set(xlabel="step", ylabel="loss, mean of ten steps", yscale="log")
        losses.legend()
        quality.plot(*_series(rows, "mean_iou"), marker="o")
        quality.set(xlabel="step", ylabel="mean IoU on the samples held back")
        temporary = self.path.with_name(".curves.png")
        figure.savefig(temporary, dpi=120)
        os.replace(temporary, self.path.with_name("curves.png"))


def _series(rows: list[dict[str, str]], field: str) -> tuple[list[int], list[float]]:
    points = [(int(row["step"]), float(row[field])) for row in rows if row[field]]
    return [step for step, _ in points], [value for _, value in points]
