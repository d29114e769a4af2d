"""`fcn-edge models`: which architectures can be built and which trained models travel with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from fcn_edge.cli import common

EPILOG = common.examples("fcn-edge models", "fcn-edge models --json")
LABELS = {"data": "trained on", "seen": "has seen", "license": "licence"}  # keys of `provenance` for people to read


def register(app: typer.Typer) -> None:
    app.command("models", epilog=EPILOG)(command)


def command(json: common.Json = False) -> None:
    """List the variants that can be trained and the trained models that are bundled."""
    document = listing()
    if json:
        common.print_json(document)
    else:
        print(text(document))


def listing() -> dict[str, Any]:
    """Variants and bundled models by name; what each bundled file says of itself is its `spec`."""
    from fcn_edge.models import VARIANTS
    from fcn_edge.runtime.files import bundled, read_spec

    return {
        "variants": {name: {"summary": variant.summary} for name, variant in VARIANTS.items()},
        "bundled": {
            name: {"path": str(path), "bytes": path.stat().st_size, "files": _files(path), "spec": read_spec(path)}
            for name, path in bundled().items()
        },
    }


def _files(path: Path) -> dict[str, int]:
    """Bytes of each file of that model: the ONNX file, and the weights from which it is made."""
    return {file.name: file.stat().st_size for file in sorted(path.parent.glob(f"{path.stem}.*")) if file.is_file()}


def text(document: dict[str, Any]) -> str:
    """The listing for people."""
    lines = ["Variants (--variant), for train and export:"]
    lines += [f"  {name:14} {variant['summary']}" for name, variant in document["variants"].items()]
    lines += ["", "Bundled models (--model), trained, run without torch:"]
    for name, model in document["bundled"].items():
        lines += [f"  {name:14} {_facts(model)}", *(f"  {'':14} {line}" for line in _story(model["spec"]))]
    if not document["bundled"]:
        lines.append("  none in this checkout: name an ONNX file or a checkpoint")
    return "\n".join(lines)


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
