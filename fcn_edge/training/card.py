"""The model card: what a trained checkpoint is, made of what its spec and its log say, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fcn_edge.files import replacing
from fcn_edge.spec import ModelSpec

NAME = "model-card.md"
SAID_ELSEWHERE = ("recipe", "pictures_seen", "seen", "license")


def write_card(folder: Path, spec: ModelSpec, checkpoint: Path) -> Path:
    """`model-card.md` in the run's folder, beside the curves that it shows."""
    path = folder / NAME
    with replacing(path) as temporary:
        temporary.write_text(card(spec, checkpoint.name))
    return path


def card(spec: ModelSpec, checkpoint: str) -> str:
    """The card as Markdown."""
    provenance = spec.provenance
    recipe: dict[str, Any] = provenance.get("recipe", {})
    told = {key: value for key, value in provenance.items() if key not in SAID_ELSEWHERE and value is not None}
    absent = "not stated: whoever passes this model on has to find out"
    model = {
        "file": f"`{checkpoint}`",
        "variant": f"{spec.variant}, padding {spec.padding}",
        "classes": f"{len(spec.classes)}: {', '.join(spec.classes)}",
        "few pictures of": ", ".join(spec.thin),
        "input": f"uint8 frames, {spec.input.color}, scaled ({spec.resize}) to a longer side of {spec.size}",
        "output": f"{spec.output.kind} at stride {spec.output.stride}",
    }
    return "\n".join(
        [
            f"# Model card: {spec.name}",
            "",
            *_table(("", ""), {key: value for key, value in model.items() if value}),
            "",
            "## What it has seen",
            "",
            f"{provenance.get('seen', 'Not stated')}.",
            "",
            "## Figures",
            "",
            "Labels at the pictures' own size, void left out, one confusion matrix, on pictures that were not trained",
            "on: the figures of this file, the last weights. `best.safetensors` was chosen by its own on the same",
            "pictures, so they flatter it. `fcn-edge eval` on others says more.",
            "",
            *_table(
                ("figure", "value"), {key.replace("_", " "): _number(value) for key, value in spec.quality.items()}
            ),
            "",
            "![Losses and figures over the steps](curves.png)",
            "",
            "## Provenance",
            "",
            *_table(("", ""), {key.replace("_", " "): _text(value) for key, value in told.items()}),
            "",
            "## Recipe",
            "",
            *_table(
                ("figure", "value"), {key: _text(value) for key, value in recipe.items() if value not in (None, {}, [])}
            ),
            "",
            "## Licence",
            "",
            f"{provenance.get('license', absent)}. The pictures it was trained on have terms of their own.",
            "",
        ]
    )


def _table(heads: tuple[str, str], rows: dict[str, str]) -> list[str]:
    return [f"| {heads[0]} | {heads[1]} |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows.items())]


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
