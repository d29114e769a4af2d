"""`fcn-edge calib`: calibration sets, drawn and checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcn_edge.cli import common
from fcn_edge.errors import DataError, SinkError, UsageError

if TYPE_CHECKING:
    from fcn_edge.data import Sample

MAKE_EPILOG = common.examples(
    "fcn-edge calib make --data VOCdevkit/VOC2012 --against VOCdevkit/VOC2012:val --out calib/mine.toml",
    "fcn-edge calib make --data photos --count 100 --json",
)
CHECK_EPILOG = common.examples(
    "fcn-edge calib check voc2012 --data VOCdevkit/VOC2012",
    "fcn-edge calib check calib/photos.toml --data photos --against VOCdevkit/VOC2012:val --json",
)
FIRST = 5  # names that are printed of what is wrong; --json has all

Set = Annotated[str, typer.Argument(metavar="SET", help="A calibration set: a TOML file, or a bundled name.")]
From = Annotated[
    str, typer.Option("--data", help="Draw from: a data set's ROOT, its train list; ROOT:LIST; a folder of pictures.")
]
Where = Annotated[Path, typer.Option("--data", help="Where the pictures lie: a data set's ROOT or a folder.")]
Against = Annotated[
    list[str] | None,
    typer.Option("--against", help="Evaluation pictures to have none of: ROOT:LIST, or ROOT for its val; repeatable."),
]
Count = Annotated[int, typer.Option("--count", min=1, help="Pictures to draw.")]
Seed = Annotated[int, typer.Option("--seed", help="Another seed draws others.")]
Out = Annotated[Path | None, typer.Option("--out", help="The TOML file; calib/NAME.toml of the project where absent.")]
Provenance = Annotated[str | None, typer.Option("--provenance", help="For the file: where this copy comes from.")]
Licence = Annotated[str | None, typer.Option("--licence", help="For the file: the terms of the pictures.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file; draw from an evaluation list all the same.")]

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Draw and check calibration sets: which pictures, not the pictures.",
)


def register(app: typer.Typer) -> None:
    group.command("make", epilog=MAKE_EPILOG)(make)
    group.command("check", epilog=CHECK_EPILOG)(check)
    app.add_typer(group, name="calib")


def make(
    data: From,
    count: Count = 400,
    seed: Seed = 0,
    against: Against = None,
    out: Out = None,
    provenance: Provenance = None,
    licence: Licence = None,
    project: common.Project = None,
    force: Force = False,
    json: common.Json = False,
) -> None:
    """Draw a calibration set, evenly over the classes where there are masks, and write it down without the pictures."""
    from fcn_edge.data.calibration_set import open_source, write_set
    from fcn_edge.data.drawing import NOT_STATED, draw_set
    from fcn_edge.folders import project_folder
    from fcn_edge.video.writing import sink_errors

    if out is not None and out.suffix != ".toml":
        raise UsageError(f"--out {out}: a calibration set is a TOML file. Name it {out.name}.toml.")
    source = open_source(data, force)
    path = out or project_folder(project) / "calib" / f"{source.name.lower()}.toml"
    if path.exists() and not force:
        raise SinkError(f"{path} is there already. Name another --out, or --force to replace it.")
    drawn = draw_set(
        source,
        count,
        seed,
        path.stem,
        provenance or NOT_STATED,
        licence or NOT_STATED,
        _evaluated(against),
        _track,
    )
    with sink_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_set(path, drawn)
    counts = ", ".join(f"{name} {number}" for name, number in drawn.classes.items())
    text = f"{path}: {drawn.drawn}" + (f"\n  pictures that hold: {counts}" if counts else "")
    if json:
        common.print_json(
            {"path": str(path), "pictures": len(drawn.pictures), "drawn": drawn.drawn, "classes": drawn.classes}
        )
        common.say(text)
    else:
        print(text)


def check(set: Set, data: Where, against: Against = None, json: common.Json = False) -> None:
    """Tell whether the pictures on this disk are those of a calibration set, and none of them an evaluation picture."""
    from fcn_edge.data.calibration import among
    from fcn_edge.data.calibration_set import read_set, verify

    listed = read_set(Path(set))
    samples = _evaluated(against)
    verified = verify(listed.pictures, data, _track)
    met = among(listed.pictures, samples, _track)
    document = {
        "set": set,
        "pictures": len(listed.pictures),
        "same": len(verified.same),
        "copies": verified.copies,
        "others": verified.others,
        "missing": verified.missing,
        "compared": len(samples),
        "evaluated": [{"id": id, "is": str(picture), "by": why} for id, picture, why in met],
    }
    text = _told(document, data)
    if json:
        common.print_json(document)
        common.say(text)
    else:
        print(text)
    if verified.others or verified.missing or met:
        raise DataError(_wrong(document, set, data))


def _told(document: dict[str, Any], data: Path) -> str:
    kinds = (
        ("identical copies", document["same"], []),
        ("other copies of the same pictures", len(document["copies"]), document["copies"]),
        ("other pictures of those ids", len(document["others"]), document["others"]),
        ("missing", len(document["missing"]), document["missing"]),
    )
    lines = [f"{document['set']}, {document['pictures']} pictures, under {data}:"]
    lines += [f"  {count:5} {kind}{_first(ids)}" for kind, count, ids in kinds if count]
    if document["compared"]:
        met = [f"{each['id']} ({each['by']}: {each['is']})" for each in document["evaluated"]]
        lines.append(f"  {len(met):5} among the {document['compared']} evaluation pictures{_first(met)}")
    return "\n".join(lines)


def _first(names: list[str]) -> str:
    if not names:
        return ""
    return f": {', '.join(names[:FIRST])}{', ...' if len(names) > FIRST else ''}"


def _wrong(document: dict[str, Any], set: str, data: Path) -> str:
    if document["evaluated"]:
        return (
            f"{len(document['evaluated'])} of {document['pictures']} pictures of {set} are evaluation pictures too. "
            "Draw a set without them: fcn-edge calib make --against ROOT:LIST"
        )
    return (
        f"{len(document['missing'])} of {document['pictures']} pictures of {set} are missing under {data}, "
        f"{len(document['others'])} are other pictures. Name the folder of the data set that it was drawn from, "
        "or draw one from your own pictures: fcn-edge calib make"
    )


def _track(items: Iterable[Any], count: int) -> Iterable[Any]:
    return common.track(items, "Looking at pictures", count)


def _evaluated(against: list[str] | None) -> list[Sample]:
    from fcn_edge.data import open_data

    return [sample for text in against or () for sample in open_data([text], default="val").samples]
