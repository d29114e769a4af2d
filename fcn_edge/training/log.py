"""The course of a run: a CSV line every ten steps and for every validation, the same for TensorBoard, and curves."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tensorboardX import SummaryWriter

from fcn_edge.files import replacing

FIELDS: tuple[str, ...] = (
    "step",
    "epoch",
    "loss",
    "label_loss",
    "aux_loss",
    "soft_loss",
    "rate",
    "pictures_per_second",
    "mean_iou",
    "pixel_accuracy",
)
LOSSES, QUALITY = ("loss", "label_loss", "soft_loss"), ("mean_iou", "pixel_accuracy")
FLUSH_SECONDS = 10  # what TensorBoard misses at most when the run is killed


class Log:
    """`log.csv` and `tensorboard/` in the run's folder. A run that goes on drops what it had beyond that step."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self.path = folder / "log.csv"
        lines = [line for line in read_log(folder) if int(line["step"]) <= first_step] if first_step else []
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)
        with replacing(self.path) as temporary:
            temporary.write_text(text.getvalue(), newline="")
        self.events = SummaryWriter(
            str(folder / "tensorboard"), purge_step=first_step + 1, flush_secs=FLUSH_SECONDS, write_to_disk=True
        )

    def add(self, step: int, **values: float) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS).writerow(
                {"step": step} | {key: f"{value:.6g}" for key, value in values.items()}
            )
        for key, value in values.items():
            self.events.add_scalar(key, value, step)

    def draw(self) -> None:
        """Losses, and the figures on what is not trained on, over the steps, as `curves.png`."""
        from matplotlib.figure import Figure

        self.events.flush()
        figure = Figure(figsize=(10, 4), layout="constrained")
        losses, quality = figure.subplots(1, 2)
        rows = read_log(self.path.parent)
        for axes, fields in ((losses, LOSSES), (quality, QUALITY)):
            for field in fields:
                axes.plot(*_series(rows, field), label=field.replace("_", " "), marker="o" if axes is quality else None)
            axes.legend()
        losses.set(xlabel="step", ylabel="loss, mean of ten steps", yscale="log")
        quality.set(xlabel="step", ylabel="on samples that are not trained on")
        with replacing(self.path.with_name("curves.png")) as temporary:
            figure.savefig(temporary, format="png", dpi=120)

    def close(self) -> None:
        self.events.close()


def read_log(folder: Path) -> list[dict[str, str]]:
    """The lines of a run's `log.csv`; a last one that a kill cut off is left out."""
    path = folder / "log.csv"
    if not path.exists():
        return []
    text = path.read_text()
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def _series(rows: list[dict[str, str]], field: str) -> tuple[list[int], list[float]]:
    points = [(int(row["step"]), float(row[field])) for row in rows if row.get(field)]
    return [step for step, _ in points], [value for _, value in points]
