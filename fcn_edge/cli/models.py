"""`fcn-edge models`: which networks can be built, what weights there are for each, and fetching those."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fcn_edge.cli import common

EPILOG = common.examples("fcn-edge models", "fcn-edge models --json")
LABELS = {"data": "trained on", "seen": "has seen", "license": "licence"}  # keys of `provenance` for people to read
WIDE = 19  # the longest name


def register(app: typer.Typer) -> None:
    app.command("models", epilog=EPILOG)(command)


def command(
    download: Annotated[
        str | None, typer.Option("--download", help="Fetch these published weights now; prints the file's path.")
    ] = None,
    project: common.Project = None,
    json: common.Json = False,
) -> None:
    """List the variants, what weights there are for each, and the models that are bundled."""
    if download is not None:
        fetch(download, json)
        return
    from fcn_edge.folders import project_folder

    document = listing(project_folder(project))
    if json:
        common.print_json(document)
    else:
        print(text(document))


def fetch(name: str, json: bool) -> None:
    """Download published weights into the cache, or find them there."""
    path = common.fetch_published(name)
    if json:
        common.print_json({"name": name, "path": str(path), "bytes": path.stat().st_size})
    else:
        print(path)


def listing(project: Path = Path()) -> dict[str, Any]:
    """Variants, published weights and bundled models by name; what each bundled file says of itself is its `spec`."""
    from fcn_edge.download import cached
    from fcn_edge.folders import cache_folder
    from fcn_edge.models import VARIANTS
    from fcn_edge.models.published import WEIGHTS
    from fcn_edge.runtime.files import bundled, newest_checkpoints, read_spec

    own = newest_checkpoints(project)
    return {
        "variants": {
            name: {"summary": variant.summary, "padding": variant.padding, "weights": _weights(name, own.get(name))}
            for name, variant in VARIANTS.items()
        },
        "published": {
            name: {
                "for": weights.variants,
                "trunk": weights.trunk,
                "megabytes": weights.remote.megabytes,
                "digest": weights.remote.digest,
                "url": weights.remote.page or weights.remote.url,
                "cached": cached(weights.remote, cache_folder()).is_file(),
                "license": weights.licence,
                "data": weights.data,
                "seen": weights.seen,
                "figures": weights.figures,
                "source": weights.source,
            }
            for name, weights in WEIGHTS.items()
        },
        "bundled": {
            name: {"path": str(path), "bytes": path.stat().st_size, "files": _files(path), "spec": read_spec(path)}
            for name, path in bundled().items()
        },
    }


def _weights(variant: str, own: Path | None) -> dict[str, Any]:
    """What `export` would find for the variant, and what `train` could start from."""
    from fcn_edge.models.published import of_variant
    from fcn_edge.runtime.files import bundled

    return {
        "project": None if own is None else str(own),
        "bundled": variant in bundled(),
        "published": of_variant(variant),
        "trunks": of_variant(variant, trunk=True),
    }


def _files(path: Path) -> dict[str, int]:
    """Bytes of each file of that model: the ONNX file, and the weights from which it is made."""
    return {file.name: file.stat().st_size for file in sorted(path.parent.glob(f"{path.stem}.*")) if file.is_file()}


def text(document: dict[str, Any]) -> str:
    """The listing for people."""
    lines = ["Variants (--variant), for train and export:"]
    for name, variant in document["variants"].items():
        lines += [f"  {name:{WIDE}} {variant['summary']}", f"  {'':{WIDE}} weights: {_sources(variant['weights'])}"]
    lines += ["", "Published weights (fcn-edge models --download NAME, or train --weights NAME for a trunk):"]
    lines += [f"  {name:{WIDE}} {_published(weights)}" for name, weights in document["published"].items()]
    lines += ["", "Bundled models (--model), trained, run without torch:"]
    for name, model in document["bundled"].items():
        lines += [f"  {name:{WIDE}} {_facts(model)}", *(f"  {'':{WIDE}} {line}" for line in _story(model["spec"]))]
    if not document["bundled"]:
        lines.append("  none in this checkout: name an ONNX file or a checkpoint")
    return "\n".join(lines)


def _sources(weights: dict[str, Any]) -> str:
    found = [weights["project"]] if weights["project"] else []
    found += ["bundled"] if weights["bundled"] else []
    found += ["published"] if weights["published"] else []
    trunks = f"; trunk to train from: {', '.join(weights['trunks'])}" if weights["trunks"] else ""
    return (", ".join(found) or "none yet") + trunks


def _published(weights: dict[str, Any]) -> str:
    kind = "trunk, " if weights["trunk"] else ""
    here = ", downloaded" if weights["cached"] else ""
    return f"{kind}{weights['megabytes']:.0f} MB{here}, {weights['data']}. Licence: {weights['license']}"


def _facts(model: dict[str, Any]) -> str:
    spec = model["spec"]
    files = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in model["files"].items())
    return f"{len(spec.classes)} classes, {spec.precision}, longer side {spec.size}, {spec.resize}; {files}"


def _story(spec: Any) -> list[str]:
    """What a user should know before trusting it: classes, training data, figures."""
    covered = spec.classes if spec.covered is None else spec.covered
    lines = [] if spec.trained else ["UNTRAINED: its labels mean nothing"]
    lines.append(f"classes: {', '.join(name for name in spec.classes if name in covered)}")
    for label, names in (
        ("never trained on", [name for name in spec.classes if name not in covered]),
        ("few training pictures", spec.thin),
    ):
        lines += [f"{label}: {', '.join(names)}"] if names else []
    lines += [f"{label}: {_plain(spec.provenance[key])}" for key, label in LABELS.items() if key in spec.provenance]
    lines += [f"{key}: {_plain(value)}" for key, value in spec.quality.items()]
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)
