"""The course of a run: a CSV line every ten steps and for every validation, the same for TensorBoard, and curves."""

from __future__ import annotations

import csv
import io
import shutil
import time
from pathlib import Path
from typing import Any, cast

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

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

messages = cast(Any, event_pb2)  # its classes are made when it is imported


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
        # tensorboardX's SummaryWriter writes from a thread of its own, and hangs where the disk is full
        events = folder / "tensorboard"
        if not first_step:
            shutil.rmtree(events, ignore_errors=True)
        events.mkdir(exist_ok=True)
        self.events = EventsWriter(str(events / "events"))
        start = messages.SessionLog(status=messages.SessionLog.START)  # TensorBoard hides what lies beyond its step
        self.events.write_event(messages.Event(step=first_step + 1, session_log=start))

    def add(self, step: int, **values: float) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS).writerow(
                {"step": step} | {key: f"{value:.6g}" for key, value in values.items()}
            )
        now = time.time()
        for key, value in values.items():
            self.events.write_event(messages.Event(step=step, wall_time=now, summary=scalar(key, value)))
        self.events.flush()

    def draw(self) -> None:
        """Losses, and the figures on what is not trained on, over the steps, as `curves.png`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4), layout="constrained")
        losses, quality = figure.subplots(1, 2)
        rows = read_log(self.path.parent)
        for axes, fields in ((losses, told_losses(rows)), (quality, QUALITY)):
            for field in fields:
                steps, values = _series(rows, field)
                marker = "o" if axes is quality or len(steps) == 1 else None
                axes.plot(steps, values, label=field.replace("_", " "), marker=marker)
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


def told_losses(rows: list[dict[str, str]]) -> list[str]:
    """Those that say something of their own: without a teacher the soft loss is 0, and the labels' may be the whole."""
    whole = _series(rows, "loss")
    return [
        field for field in LOSSES if field == "loss" or (_series(rows, field) != whole and any(_series(rows, field)[1]))
    ]


def _series(rows: list[dict[str, str]], field: str) -> tuple[list[int], list[float]]:
    points = [(int(row["step"]), float(row[field])) for row in rows if row.get(field)]
    return [step for step, _ in points], [value for _, value in points]
