"""A picture of a budget: what each layer harms, and mean IoU against how many layers are int8."""

from __future__ import annotations

from pathlib import Path

from fcn_edge.errors import FcnEdgeError
from fcn_edge.files import replacing
from fcn_edge.quantization.budget import Budget

SMALLEST = 1e-9  # nats: no bar of a logarithmic axis begins at zero
ROW = 0.16  # inches a layer


def draw(budget: Budget, path: Path) -> None:
    """Write a PNG or SVG, as `path` ends. Raises FcnEdgeError without matplotlib, OSError where it cannot write."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FcnEdgeError("a plot needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(13, max(4.0, 1.2 + ROW * len(budget.layers))), layout="constrained")
    bars, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    rows = range(len(budget.layers))
    for kept, colour, hatch, label in ((False, "tab:blue", "", "int8"), (True, "tab:orange", "////", "float")):
        chosen = [(row, each) for row, each in zip(rows, budget.layers, strict=True) if bool(each.kept) == kept]
        bars.barh(
            [row for row, _ in chosen],
            [max(each.harm.divergence, SMALLEST) for _, each in chosen],
            color=colour,
            hatch=hatch,
            label=label,
        )
    bars.set(
        xscale="log", xlabel="divergence of the class probabilities, nats a place", title="Each layer alone in int8"
    )
    bars.set_yticks(rows, [each.layer.name.strip("/") for each in budget.layers], fontsize=6)
    bars.set_ylim(len(budget.layers), -1)  # the input at the top
    bars.legend()
    counts, figures = zip(*budget.curve, strict=True)
    curve.plot(counts, figures, marker="o", label="int8")
    curve.axhline(budget.float32, linestyle="--", color="tab:gray", label="float32")
    curve.axhline(budget.float32 - budget.max_drop / 100, linestyle=":", color="tab:red", label="allowed")
    curve.plot(
        [sum(each.kept is None for each in budget.layers)], [budget.mean_iou], "s", color="black", label="chosen"
    )
    curve.set(xlabel="layers in int8", ylabel="mean IoU", title=f"{budget.name} on {budget.images} labelled pictures")
    curve.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format=path.suffix.lstrip(".") or "png")
