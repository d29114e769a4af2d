"""`fcn-edge train`: a variant, pictures and a recipe to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcn_edge.cli import common

if TYPE_CHECKING:
    from fcn_edge.data import Sample
    from fcn_edge.training.recipe import Recipe

Data = Annotated[
    list[str], typer.Option("--data", help="ROOT:LIST,LIST of a data set in VOC layout; may be given several times.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="TOML with every figure of the run; the variant's own where absent.")
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="Pretrained .safetensors or .pth, of the network or its trunk.")
]
Teacher = Annotated[Path | None, typer.Option("--teacher", help="A model whose probabilities are learnt too.")]
TeacherSpec = Annotated[Path | None, typer.Option("--teacher-spec", help="TOML that describes such a teacher.")]

EPILOG = common.examples(
    "fcn-edge train --data VOCdevkit/VOC2012:train --steps 4 --out runs/try",
    "fcn-edge train --data VOCdevkit/VOC2012:train --weights trunk.safetensors --teacher big.onnx --steps 4",
)


def register(app: typer.Typer) -> None:
    app.command("train", epilog=EPILOG)(command)


def command(
    data: Data,
    variant: Annotated[str, typer.Option("--variant", help="An architecture; `fcn-edge models` lists them.")] = (
        common.DEFAULT_MODEL
    ),
    recipe: RecipeFile = None,
    weights: Weights = None,
    teacher: Teacher = None,
    teacher_spec: TeacherSpec = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Instead of the recipe's number.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; runs/VARIANT where absent.")] = None,
    force: common.Force = False,
    json: common.Json = False,
) -> None:
    """Train a variant. Killed at any moment, the same command goes on where it was."""
    common.need("torch", "lightning_fabric", "matplotlib", extra="train")
    from fcn_edge.training.session import Session

    figures = _recipe(recipe, variant, steps, soft=teacher is not None)
    folder = out or Path("runs") / figures.variant
    session = Session(figures, _samples(data), weights, folder, teacher, teacher_spec)
    progress, quality = None, None
    with common.bar(figures.steps, "Training") as show:
        for progress in session.run(common.track, force):
            quality = progress.mean_iou if progress.mean_iou is not None else quality
            show(progress.step, f"loss {progress.loss:.3f}, {progress.pictures_per_second:.0f} pictures/s")
            if progress.mean_iou is not None:
                common.say(f"step {progress.step}: mean IoU {progress.mean_iou:.4f} on the samples held back")
    checkpoint = folder / f"{figures.variant}.safetensors"
    common.say(f"{checkpoint}; curves: {folder / 'curves.png'}. Next: fcn-edge export --weights {checkpoint}")
    if json:
        common.print_json({"checkpoint": str(checkpoint), "steps": figures.steps, "mean_iou_held_back": quality})


def _recipe(path: Path | None, variant: str, steps: int | None, soft: bool) -> Recipe:
    from dataclasses import replace

    from fcn_edge import models
    from fcn_edge.errors import unknown
    from fcn_edge.resources import folder
    from fcn_edge.training.recipe import read_recipe

    if variant not in models.VARIANTS:
        raise unknown("variant", variant, models.VARIANTS)
    figures = read_recipe(path or folder("recipes") / f"{variant}.toml")
    if steps is not None:
        figures = replace(figures, steps=steps, frozen_trunk_steps=figures.frozen_trunk_steps * steps // figures.steps)
    # the bundled recipe has a teacher; without one the labels have to do
    return figures if soft or path else replace(figures, soft_weight=0.0)


def _samples(data: list[str]) -> list[Sample]:
    from fcn_edge.data import open_list, parse_data

    return [sample for text in data for sample in open_list(*parse_data(text))]
