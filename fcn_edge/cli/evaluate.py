"""`fcn-edge eval`: a model's figures on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fcn_edge.cli import common
from fcn_edge.errors import UsageError

if TYPE_CHECKING:
    from fcn_edge.data import Sample
    from fcn_edge.evaluation import Evaluation
    from fcn_edge.spec import Resize

Data = Annotated[
    list[str],
    typer.Option("--data", help="A data set in VOC layout: ROOT with --split, or ROOT:LIST,LIST; repeatable."),
]
Split = Annotated[str | None, typer.Option("--split", help="The list of every ROOT without one: val where absent.")]
Classes = Annotated[str | None, typer.Option("--classes", help="Mean over these classes alone: cat,dog.")]
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
    spec: common.SpecFile = None,
    limit: Limit = None,
    json: common.Json = False,
) -> None:
    """Measure a model: IoU and accuracy at the pictures' own size, over one confusion matrix."""
    from fcn_edge.evaluation import evaluate
    from fcn_edge.segmenter import Segmenter

    names = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    if names == []:
        raise UsageError("--classes names no class. Give names joined by commas, as in cat,dog.")
    samples = [sample for text in data for sample in _samples(text, split)][:limit]
    with Segmenter(
        model, backend, precision, size=common.parse_size(size), resize=cast("Resize | None", resize), spec=spec
    ) as segmenter:
        result = evaluate(
            segmenter, samples, names, progress=lambda items: common.track(items, "Segmenting", len(samples))
        )
    if json:
        common.print_json(result.document())
        common.say(table(result))
    else:
        print(table(result))


def _samples(text: str, split: str | None) -> list[Sample]:
    from fcn_edge.data import open_list, parse_data

    if Path(text).expanduser().is_dir():
        return open_list(Path(text).expanduser(), (split or "val").split(","))
    root, lists = parse_data(text)
    if split is not None:
        raise UsageError(f"--data {text} names its own list: leave --split {split} out, or write --data {root}.")
    return open_list(root, lists)


def table(result: Evaluation) -> str:
    """The figures for a terminal, worst class last."""
    import numpy as np

    scores = result.scores
    size = max(result.network_sizes, key=lambda size: result.network_sizes[size])
    counted = len(result.over) - len(result.absent)
    over = "" if counted == len(result.names) else f" over {counted} of {len(result.names)} classes"
    lines = [
        f"{result.model}{'' if result.trained else ' (UNTRAINED)'} on {result.images} pictures: "
        f"{result.backend}, {result.precision}, {result.resize}, mostly {size[0]}x{size[1]}",
        "",
        f"  {'mean IoU' + over:32} {result.mean_iou:.4f}",
        f"  {'mean accuracy' + over:32} {result.mean_accuracy:.4f}",
        f"  {'pixel accuracy':32} {scores.pixel_accuracy:.4f}",
        f"  {'frequency weighted IoU':32} {scores.frequency_weighted_iou:.4f}",
        "",
    ]
    ious = scores.per_class_iou
    ranked = sorted((index for index in result.over if not np.isnan(ious[index])), key=lambda index: -ious[index])
    lines += [f"  {result.names[index]:32} {ious[index]:.4f}" for index in ranked]
    if result.absent:
        lines += ["", f"  not in the truth, in no mean: {', '.join(result.absent)}"]
    stages = result.milliseconds
    parts = ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items() if stage != "total")
    return "\n".join([*lines, "", f"  median {stages['total']:.1f} ms a picture ({parts})"])
