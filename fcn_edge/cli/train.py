"""`fcn-edge train`: a variant, pictures and a recipe to a checkpoint."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator, Iterable, Sized
from contextlib import nullcontext
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcn_edge.cli import common

if TYPE_CHECKING:
    from fcn_edge.spec import Padding
    from fcn_edge.training.loop import Progress
    from fcn_edge.training.recipe import Recipe
    from fcn_edge.training.session import Session

AGAIN = "the same command goes on"
SAY_SECONDS = 60  # between two lines of a run that nobody watches

Data = Annotated[
    list[str], typer.Option("--data", help="A data set: ROOT with --split, or ROOT:LIST,LIST; repeatable.")
]
Split = Annotated[str | None, typer.Option("--split", help="The list of every --data without one: train where absent.")]
Val = Annotated[
    list[str] | None, typer.Option("--val", help="ROOT:LIST to validate on; where absent, every tenth sample.")
]
Variant = Annotated[
    str | None, typer.Option("--variant", help="An architecture; `fcn-edge models` lists them. Default: the recipe's.")
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe", help="TOML with every figure of the run, or a bundled one's name; else the variant's own."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", help="Pretrained .safetensors or .pth, of the network or its trunk; a bundled or published name."
    ),
]
Teacher = Annotated[
    str | None, typer.Option("--teacher", help="A model whose probabilities are learnt too: a bundled name or a file.")
]
TeacherSpec = Annotated[Path | None, typer.Option("--teacher-spec", help="TOML that describes such a teacher.")]
PaddingForm = Annotated[
    str | None, typer.Option("--padding", help="same or paper: the form of a variant that has both.")
]
FreezeTrunk = Annotated[bool, typer.Option("--freeze-trunk", help="Train the heads alone.")]
CacheFeatures = Annotated[
    bool, typer.Option("--cache-features", help="Keep what a frozen trunk gives on disk, and train from there.")
]
Qat = Annotated[
    Path | None,
    typer.Option(
        "--qat", help="An int8 file made from --weights: they are fine-tuned under its rounding, for an export anew."
    ),
]
Devices = Annotated[int, typer.Option("--devices", min=1, help="GPUs of this machine, or processes without one.")]
Nodes = Annotated[int, typer.Option("--num-nodes", min=1, help="Machines; docs/train.md.")]

EPILOG = common.examples(
    "fcn-edge train --data VOCdevkit/VOC2012 --split train --steps 2 --out runs/try",
    "fcn-edge train --data VOCdevkit/VOC2012:train --weights trunk.safetensors --teacher big.onnx --steps 2",
    "fcn-edge train --data VOCdevkit/VOC2012:train --qat export/fcn8s-lite.int8.onnx --steps 2",
)


def register(app: typer.Typer) -> None:
    app.command("train", epilog=EPILOG)(command)


def command(
    data: Data,
    split: Split = None,
    val: Val = None,
    variant: Variant = None,
    recipe: RecipeFile = None,
    weights: Weights = None,
    teacher: Teacher = None,
    teacher_spec: TeacherSpec = None,
    padding: PaddingForm = None,
    freeze_trunk: FreezeTrunk = False,
    cache_features: CacheFeatures = False,
    qat: Qat = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Instead of the recipe's number.")] = None,
    devices: Devices = 1,
    num_nodes: Nodes = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; runs/VARIANT where absent.")] = None,
    force: common.Force = False,
    project: common.Project = None,
    json: common.Json = False,
) -> None:
    """Train a variant. Killed at any moment, the same command goes on where it was."""
    common.need("torch", "lightning_fabric", "matplotlib", "tensorboardX", extra="train")
    if qat is not None:
        common.need("onnx", extra="export")
    from dataclasses import replace

    from fcn_edge.data import open_data
    from fcn_edge.errors import UsageError
    from fcn_edge.folders import project_folder
    from fcn_edge.runtime.files import find

    # all that is answered before torch is there, which takes seconds
    if cache_features and not freeze_trunk:
        raise UsageError("--cache-features keeps what a trunk gives that does not learn: pass --freeze-trunk as well.")
    int8 = find(qat) if qat else None
    figures = _recipe(recipe, variant, padding, soft=teacher is not None, int8=int8)
    opened = open_data(data, split, default="train")
    validated_on = open_data(val, default="val") if val else None
    weights = _bundled(weights) if weights else _weights_of(int8) if int8 else None
    taught_by = find(teacher) if teacher else None
    _check_weights(weights)
    folder = out or project_folder(project) / "runs" / figures.variant
    lists = (f"{text}:{split}" if split and Path(text).expanduser().is_dir() else text for text in data)

    from fcn_edge.models.weights import pretrained
    from fcn_edge.training.session import Session, last_quality, speaks

    start, normalisation = pretrained(weights, common.fetch_published) if weights else (None, None)
    session = Session(
        recipe=figures,
        data=opened,
        weights=start,
        out=folder,
        val=validated_on,
        teacher=taught_by,
        teacher_spec=teacher_spec,
        cache_features=cache_features,
        devices=devices,
        nodes=num_nodes,
        lists=tuple(Path(text).name for text in lists),
        normalisation=normalisation,
        int8=int8,
    )
    if steps is not None:
        session = replace(session, recipe=figures.in_steps(steps, session.steps))
    if freeze_trunk:
        session = replace(session, recipe=replace(session.recipe, frozen_trunk_steps=session.steps))
    _train(session, force)
    if not speaks():
        return
    checkpoint = folder / f"{figures.variant}.safetensors"
    common.say(
        f"{checkpoint}; {folder / 'model-card.md'}; curves: {folder / 'curves.png'}. "
        f"Next: fcn-edge export --weights {checkpoint}{' --precision int8 --calib SET' if int8 else ''}"
    )
    if json:
        quality, kind = last_quality(folder), ("val" if val else "held_back") + ("_int8" if int8 else "")
        figures_of_it = {f"{name}_{kind}": value for name, value in (quality._asdict() if quality else {}).items()}
        common.print_json({"checkpoint": str(checkpoint), "steps": session.steps, **figures_of_it})


def _train(session: Session, force: bool) -> None:
    """The run, under a bar or with a line now and then, and with one for each validation."""
    from fcn_edge.training.session import speaks

    run, begun = session.run(_track, force), None
    try:
        begun = next(run, None)
        if begun is not None:  # of several processes one has something to say
            common.say(_beginning(session, begun))
            _follow(run, session)
    except (KeyboardInterrupt, SystemExit):
        if speaks():
            where = " from the last step that it saved" if begun else ""
            common.say(f"stopped {'within a step' if begun else 'before the first step'}; {AGAIN}{where}")
        raise


def _follow(run: Generator[Progress, None, None], session: Session) -> None:
    where, said = "val" if session.val else "the samples held back", float("-inf")
    alone = session.devices * session.nodes == 1  # several processes cannot end at one step without talking of it
    signals = common.stop_on_signals(threading.Event()) if alone else nullcontext()
    with signals as interrupted, common.bar(session.steps, "Training") as show:
        for progress in run:
            speed = f"loss {progress.loss:.3f}, {progress.pictures_per_second:.0f} pictures/s"
            show(progress.step, speed)
            if isfinite(progress.loss) and time.monotonic() - said > SAY_SECONDS and not sys.stderr.isatty():
                said = time.monotonic()
                common.say(f"step {progress.step} of {progress.steps}: {speed}")
            if progress.quality:
                common.say(
                    f"step {progress.step}: mean IoU {progress.quality.mean_iou:.4f}, "
                    f"pixel accuracy {progress.quality.pixel_accuracy:.4f} on {where}"
                )
            if interrupted and interrupted.number and progress.step < progress.steps:
                run.close()  # which saves the state
                common.say(f"stopped at step {progress.step} of {progress.steps}; {AGAIN}")
                raise typer.Exit(128 + interrupted.number)


def _beginning(session: Session, begun: Progress) -> str:
    from fcn_edge.training.loop import precision

    if begun.step == begun.steps:
        return f"finished already, all {begun.steps} steps; --force starts anew"
    computed = "bfloat16" if precision() == "bf16-mixed" else "float32"
    figures = f"{begun.steps} steps of {session.recipe.batch} pictures, in {computed}"
    if session.int8:
        figures += f", rounded as in {session.int8}"
    return f"going on from step {begun.step} of {figures}" if begun.step else f"{session.recipe.variant}: {figures}"


def _track(items: Iterable[Any], label: str, count: int | None = None) -> Iterable[Any]:
    """`items` under a bar, or, where there is no terminal, after a line."""
    count = len(items) if count is None and isinstance(items, Sized) else count
    if count and not sys.stderr.isatty():
        common.say(f"{label} ...")
    return common.track(items, label, count)


def _check_weights(weights: str | None) -> None:
    from fcn_edge.errors import ModelError, unknown
    from fcn_edge.models.published import WEIGHTS
    from fcn_edge.runtime.files import bundled

    if weights is None or weights in WEIGHTS or Path(weights).is_file():
        return
    if Path(weights).suffix or Path(weights).name != weights:
        raise ModelError(f"{weights}: no such weights file.")
    raise unknown("file and no bundled or published weights", weights, (*bundled(), *WEIGHTS))


def _bundled(weights: str) -> str:
    """The checkpoint of a bundled name; anything else as it is."""
    from fcn_edge.runtime.files import bundled

    found = bundled().get(weights)
    return weights if found is None or Path(weights).is_file() else str(found.with_suffix(".safetensors"))


def _weights_of(int8: Path) -> str:
    """The bundled weights of an int8 file's variant, where none are named."""
    from fcn_edge.errors import UsageError
    from fcn_edge.training.qat import calibrated

    variant = calibrated(int8).variant
    weights = _bundled(variant)
    if weights == variant:
        raise UsageError(f"--qat {int8} wants the weights that it was made from: --weights CHECKPOINT.")
    return weights


def _recipe(path: Path | None, variant: str | None, padding: str | None, soft: bool, int8: Path | None) -> Recipe:
    from dataclasses import replace
    from typing import cast, get_args

    from fcn_edge import models
    from fcn_edge.errors import DataError, UsageError, unknown
    from fcn_edge.resources import folder
    from fcn_edge.spec import Padding
    from fcn_edge.training.recipe import find_recipe, read_recipe

    if variant is not None and variant not in models.VARIANTS:
        raise unknown("variant", variant, models.VARIANTS)
    if padding is not None and padding not in get_args(Padding):
        raise unknown("padding", padding, get_args(Padding))
    spec = None
    if int8 is not None:
        from fcn_edge.training.qat import calibrated

        spec = calibrated(int8)
        variant, padding = variant or spec.variant, padding or spec.padding
    found = path or (folder("recipes") / "qat.toml" if spec else find_recipe(variant or common.DEFAULT_MODEL))
    figures = read_recipe(found)
    if variant is None and figures.variant not in models.VARIANTS:
        raise DataError(f"{found}: {unknown('variant', figures.variant, models.VARIANTS)}")
    figures = replace(figures, variant=variant or figures.variant)
    if padding is not None:
        figures = replace(figures, padding=cast("Padding", padding))
    forms = models.VARIANTS[figures.variant].padding
    if figures.padding not in forms:
        told = f"{figures.variant} has no form with padding {figures.padding!r}. It has: {', '.join(forms)}."
        raise UsageError(told) if padding else DataError(f"{found}: {told}")
    if path is None:
        # what it says of its data is not true of others'; where no teacher is named, the labels have to do
        figures = replace(figures, card={}, thin=(), soft_weight=figures.soft_weight if soft else 0.0)
        if spec is not None and figures.crop:
            figures = replace(figures, crop=spec.side(figures.crop))
    return figures
