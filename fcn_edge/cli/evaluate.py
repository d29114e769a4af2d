"""`fcn-edge eval`: a model's figures on labelled pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from fcn_edge.cli import common
from fcn_edge.errors import UsageError

if TYPE_CHECKING:
    from fcn_edge.evaluation import Evaluation
    from fcn_edge.spec import Resize

Data = Annotated[
    list[str], typer.Option("--data", help="A data set: ROOT with --split, or ROOT:LIST,LIST; repeatable.")
]
Split = Annotated[str | None, typer.Option("--split", help="The list of every ROOT without one: val where absent.")]
Classes = Annotated[str | None, typer.Option("--classes", help="Means over these classes alone: cat,dog.")]
Boundary = Annotated[
    str | None,
    typer.Option("--boundary", help="Tolerances of the boundary F-score, in pixels, as in 1,3,5; 5 where absent."),
]
LARGEST_TOLERANCE = 100  # pixels: a disk of it holds 31,000 pixels that each contour pixel may have to look at
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N pictures.")]

EPILOG = common.examples(
    "fcn-edge eval --data VOCdevkit/VOC2012 --split val",
    "fcn-edge eval --data VOCdevkit/VOC2012:val --classes cat,dog,person --limit 100 --json",
)


def register(app: typer.Typer) -> None:
    app.command("eval", epilog=EPILOG)(command)


def command(
    data: Data,
    split: Split = None,
    model: common.Model = common.DEFAULT_MODEL,
    classes: Classes = None,
    backend: common.Backend = "auto",
    precision: common.Precision = None,
    size: common.Size = None,
    resize: common.Resize = None,
    overlap: common.Overlap = None,
    refine: common.Refine = None,
    spec: common.SpecFile = None,
    url: common.Url = None,
    limit: Limit = None,
    boundary: Boundary = None,
    json: common.Json = False,
) -> None:
    """Measure a model: IoU, accuracy and contours at the pictures' own size, over the whole data set."""
    from fcn_edge.boundary import TOLERANCE
    from fcn_edge.data import open_data
    from fcn_edge.evaluation import evaluate
    from fcn_edge.segmenter import Segmenter

    names = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    if names == []:
        raise UsageError("--classes names no class. Give names joined by commas, as in cat,dog.")
    tolerances = [TOLERANCE] if boundary is None else _tolerances(boundary)
    opened = open_data(data, split, default="val")
    samples = opened.samples[:limit]
    with common.building_bar() as building:
        opening = Segmenter(
            model,
            backend,
            precision,
            size=common.parse_size(size),
            resize=cast("Resize | None", resize),
            spec=spec,
            progress=building,
            url=url,
            refine=refine,
            overlap=overlap,
        )
    with opening as segmenter:
        result = evaluate(
            segmenter,
            samples,
            names,
            progress=lambda items: common.track(items, "Segmenting", len(samples)),
            truth_classes=opened.classes,
            tolerances=tolerances,
        )
    if json:
        common.print_json(result.document())
        common.say(table(result))
    else:
        print(table(result))


def _tolerances(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 <= each <= LARGEST_TOLERANCE for each in found):
        raise UsageError(f"--boundary {text}: give pixels, 0 to {LARGEST_TOLERANCE}, joined by commas, as in 1,3,5.")
    return found


def table(result: Evaluation) -> str:
    """The figures for a terminal, worst class last."""
    import numpy as np

    scores = result.scores
    size = max(result.network_sizes, key=lambda size: result.network_sizes[size])
    counted = len(result.over) - len(result.absent)
    over = "" if counted == len(result.names) else f" over {counted} of {len(result.names)} classes"
    figures = {
        "mean IoU" + over: result.mean_iou,
        "mean accuracy" + over: result.mean_accuracy,
        "pixel accuracy": scores.pixel_accuracy,
        "frequency weighted IoU": scores.frequency_weighted_iou,
        **{f"boundary F, {pixels:g} px" + over: value for pixels, value in result.boundary_fs.items()},
        "per-image mean IoU" + over: result.per_image_mean_iou,
        "per-image pixel accuracy": result.per_image_pixel_accuracy,
    }
    width = max(map(len, (*figures, *result.names)))
    lines = [
        f"{result.model}{'' if result.trained else ' (UNTRAINED)'} on {result.images} pictures: "
        f"{result.backend}, {result.precision}, {result.resize}, mostly {size[0]}x{size[1]}"
        + (f", refined by {result.refine}" if result.refine else ""),
        "",
        *(f"  {name:{width}} {figure:.4f}" for name, figure in figures.items()),
        "",
        f"  {'':{width}} IoU    boundary F",
    ]
    ious = scores.per_class_iou
    ranked = sorted((index for index in result.over if not np.isnan(ious[index])), key=lambda index: -ious[index])
    contours = result.boundary_scores.per_class_f
    lines += [f"  {result.names[index]:{width}} {ious[index]:.4f} {_figure(contours[index])}" for index in ranked]
    if result.absent:
        lines += ["", f"  not in the truth, in no mean: {', '.join(result.absent)}"]
    if result.unknown:
        lines += ["", f"  unknown to the data, wrong wherever the model sees them: {', '.join(result.unknown)}"]
    if result.left_out:
        lines += ["", f"  {result.left_out} pictures left out: the model was trained or calibrated on them"]
    stages = result.milliseconds
    parts = ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items() if stage != "total")
    return "\n".join([*lines, "", f"  median {stages['total']:.1f} ms a picture ({parts})"])


def _figure(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"  # a class that fills whole pictures has no contour
