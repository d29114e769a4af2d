"""The part of `fcn-edge export` that makes a file int8: its options held together, its progress and what it tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fcn_edge.cli import common
from fcn_edge.errors import UsageError, unknown

if TYPE_CHECKING:
    import numpy as np

    from fcn_edge.data import DataSet
    from fcn_edge.data.calibration import Calibration
    from fcn_edge.quantization import Choices, Int8
    from fcn_edge.quantization.budget import Budget
    from fcn_edge.spec import ModelSpec

FAR_SIZES = 2  # times: ranges differ with how large things are in the picture

T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What the options say about int8."""

    calib: str | None
    data: tuple[str, ...]
    count: int | None
    method: str | None
    percentile: float | None
    remainder: str | None
    max_drop: float | None
    weight_bits: int | None = None

    def check(self, precision: str) -> None:
        """Raises UsageError for options that make no sense together."""
        given = {
            "--calib": self.calib,
            "--data": self.data,
            "--count": self.count,
            "--method": self.method,
            "--percentile": self.percentile,
            "--remainder": self.remainder,
            "--max-drop": self.max_drop,
            "--weight-bits": self.weight_bits,
        }
        stray = [option for option, value in given.items() if value not in (None, ())]
        if precision != "int8":
            if stray:
                raise UsageError(f"{stray[0]} goes with --precision int8 alone.")
            return
        if self.calib is None:
            raise UsageError(
                "--precision int8 needs pictures to calibrate with: --calib SET, where SET is a calibration set (then "
                "--data ROOT says where its pictures lie), a data set's folder, or a folder of pictures."
            )
        if self.remainder not in (None, "fp32", "fp16"):
            raise unknown("remainder", self.remainder, ("fp32", "fp16"))
        if self.percentile is not None and self.method != "percentile":
            raise UsageError("--percentile goes with --method percentile.")
        if self.max_drop is not None and not self._labelled:
            raise UsageError("--max-drop is measured on labelled pictures: name them, as in --data ROOT:LIST.")

    @property
    def _labelled(self) -> list[str]:
        return [each for each in self.data if not Path(each).is_dir()]

    def calibration(self) -> Calibration:
        """The pictures; refused here where they cannot serve, as is a method that is none."""
        from fcn_edge.data import parse_data
        from fcn_edge.data.calibration import open_calibration
        from fcn_edge.quantization.thresholds import METHODS

        if self.method not in (None, *METHODS):
            raise unknown("calibration method", self.method, METHODS)
        roots = [Path(each) for each in self.data if Path(each).is_dir()]
        roots += [parse_data(each)[0] for each in self._labelled]
        return open_calibration(Path(self.calib or ""), roots[0] if roots else None, self.count, _with_total("Looking"))

    def choices(self, size: int | tuple[int, int] | None) -> Choices:
        from fcn_edge.quantization import Choices
        from fcn_edge.quantization.thresholds import PERCENTILE

        method = self.method or "minmax"
        return Choices(
            cast("Any", method),
            self.percentile or PERCENTILE,
            size,
            cast("Any", self.remainder or "fp32"),
            cast("Any", self.weight_bits or 8),
        )

    def labelled(self) -> DataSet | None:
        """The pictures of the budget."""
        from fcn_edge.data import open_data

        return open_data(self._labelled) if self.max_drop is not None else None


def write(
    source: Path,
    out: Path,
    wanted: Wanted,
    calibration: Calibration,
    size: int | tuple[int, int] | None,
    photos: list[np.ndarray],
    cache: Path,
) -> tuple[Int8, Budget | None]:
    """The float32 file `source` in int8, at `out`; with a budget, and what it found, where one is asked for."""
    from dataclasses import replace

    from fcn_edge.quantization import to_int8
    from fcn_edge.quantization.budget import fit_budget

    choices = wanted.choices(size)
    labelled, budget = wanted.labelled(), None
    if labelled is not None:
        budget = fit_budget(
            source,
            calibration,
            choices,
            labelled.samples,
            wanted.max_drop or 0,
            cache,
            truth_classes=labelled.classes,
            track=lambda items, label, total: common.track(items, label, total),
        )
        choices = replace(choices, kept=budget.kept, budget=budget.provenance())

    def progress(pictures: Iterable[Path]) -> Iterable[Path]:
        return common.track(pictures, "Calibrating", len(calibration.pictures))

    measured = [sample.image for sample in labelled.samples] if labelled else []
    return to_int8(source, out, calibration, choices, photos, cache, progress, measured), budget


def warn_of_size(spec: ModelSpec, size: int | tuple[int, int] | None) -> None:
    """Say so where the network is calibrated at another scale than it will run at."""
    longer = max(size) if isinstance(size, tuple) else size or spec.size
    if max(longer / spec.size, spec.size / longer) > FAR_SIZES:
        common.say(
            f"Warning: calibrated at {longer} pixels, but {spec.name} runs at {spec.size} unless told otherwise: what "
            "its layers meet there lies in other ranges. Run it at that size too, or leave --size out."
        )


def tell(made: Int8, source_megabytes: float, budget: Budget | None, named: Path) -> None:
    """For people: what is int8, what is not and why; a budget's plot goes beside the file that will be `named` so."""
    if budget is not None:
        from fcn_edge.quantization.plot import draw

        common.say(budget.table())
        common.say(budget.summary())
        draw(budget, named.with_suffix(".png"))
        common.say(f"  {named.with_suffix('.png')}: each layer's harm, and mean IoU by how many are int8")
    count = sum(layer.kept is None for layer in made.layers)
    common.say(
        f"  {count} of {len(made.layers)} layers in int8, {made.megabytes / source_megabytes:.2f} of the float32 "
        f"file's size; the rest in {made.spec.remainder}:"
    )
    for reason in dict.fromkeys(layer.kept for layer in made.layers if layer.kept):
        names = [layer.name for layer in made.layers if layer.kept == reason]
        common.say(f"    {reason}: {', '.join(names)}")


def _with_total(label: str) -> Any:
    return lambda items, total: common.track(items, label, total)
