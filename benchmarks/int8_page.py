"""docs/int8.md from docs/int8/template.md and the figures that benchmarks/int8.py left beside it.

    python benchmarks/int8_page.py

A figure that was not measured yet is said to be so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from int8 import COUNTS, EVERY, FOLDER, SEVEN, UNCORRECTED, WAYS, WITHOUT, read

MISSING = "not measured"

SIZES = (256, 384, None)  # None: the model's own
WORST = 10  # layers on the page
PEER = "deeplabv3_mnv2_pascal_quant"
QUANTISERS = {
    "ModelOpt, max": "modelopt.max",
    "ModelOpt, entropy": "modelopt.entropy",
}  # as benchmarks/modelopt.py does


def main() -> None:
    page = (FOLDER / "template.md").read_text()
    parts = {
        "MODELS": models_table(),
        "METHODS": methods_table(),
        "SIZES": sizes_table(),
        "VNNI": vnni_table(),
        "CHOICES": choices_table(),
        "BUDGETS": budgets_text(),
        "RATES": rates_table(),
        "AGREEMENT": agreement_table(),
        "CALIBRATION": calibration_table(),
        "REFUSED": table(["set", "answer"], read("refused").items()),
        "QUANTISERS": files_table({"ONNX Runtime, minmax": "fcn8s-lite, minmax, 64 pictures, default"} | QUANTISERS),
        "PEER": files_table({PEER: PEER}),
    }
    for name, text in parts.items():
        page = page.replace(f"<!-- {name} -->", text)
    Path("docs/int8.md").write_text(page)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) if len(lines) > 2 else MISSING.capitalize() + "."


def figure(form: str, name: str, float32: str | None = None) -> str:
    """Mean IoU, and the points lost from float32's where that is named."""
    known = read("accuracy")
    found, full = known.get(f"{form}, {name}"), known.get(f"{float32}, {name}")
    if found is None:
        return MISSING
    lost = "" if full is None else f" ({100 * (found['mean_iou'] - full['mean_iou']):+.2f})"
    return f"{found['mean_iou']:.4f}{lost}"


def measured_models() -> list[str]:
    return list(dict.fromkeys(key.split(", ")[0] for key in read("accuracy") if ", float32, " in key))


def default_form(model: str) -> str:
    """Of the forms that were measured, the default one with most pictures."""
    counts = [count for count in COUNTS if f"{model}, minmax, {count} pictures, default, clean" in read("accuracy")]
    return f"{model}, minmax, {max(counts, default=COUNTS[-1])} pictures, default"


def models_table() -> str:
    head = ["model", "form", f"`val/{EVERY}`", "`val`", "clean", "MB", "of float32's"]
    rows = []
    for model in measured_models():
        sizes: dict[str, int] = dict(zip(["float32", "int8"], read("bytes").get(model, ()), strict=False))
        for form in (f"{model}, float32", f"{model}, bf16", default_form(model)):
            size = sizes.get("int8" if ", minmax" in form else form.split(", ")[1])
            cells = [figure(form, name, f"{model}, float32") for name in (f"val/{EVERY}", "val", "clean")]
            megabytes = ["", ""] if size is None else [f"{size / 1e6:.2f}", f"{size / sizes['float32']:.3f}"]
            rows.append([f"`{model}`", form.partition(", ")[2], *cells, *megabytes])
    return table(head, rows)


def methods_table() -> str:
    lists = (f"val/{EVERY}", "clean")
    head = ["model", "method", *(f"{count} pictures, {name}" for count in COUNTS for name in lists)]
    rows = []
    for model in measured_models():
        for way, choice in itertools.product(WAYS, ("default", UNCORRECTED)):
            forms = [f"{model}, {way}, {count} pictures, {choice}" for count in COUNTS]
            cells = [figure(form, name, f"{model}, float32") for form in forms for name in lists]
            if set(cells) != {MISSING}:
                rows.append([f"`{model}`", way if choice == "default" else f"{way}, {choice}", *cells])
    return table(head, rows)


def sizes_table() -> str:
    """The network at other sizes than its own, calibrated at each."""
    lists = (f"val/{EVERY}", "clean")
    head = ["model", "network", "method", *lists, "OpenVINO, ms", "times fp32's rate", "times bf16's"]
    rows = []
    for model, size, way in itertools.product(measured_models(), SIZES, ("float32", "bf16", *WAYS)):
        at = f" at {size}" if size else ""
        form = f"{model}, {way}{at}" + ("" if way in ("float32", "bf16") else ", 64 pictures, default")
        cells = [figure(form, name, f"{model}, float32{at}") for name in lists]
        if set(cells) != {MISSING} and any(f" at {each}, " in key for each in SIZES for key in read("accuracy")):
            computed = {"float32": f"fp32{at}", "bf16": f"bf16{at}"}.get(way, f"int8{at}, default")
            name = f"{model}, openvino, {computed}"
            rows.append([f"`{model}`", str(size or "its own"), way, *cells, milliseconds(name), *times(name)])
    return table(head, rows)


def vnni_table() -> str:
    """The same files with OpenVINO's kernels for VNNI and with those for AVX2."""
    lists = (f"val/{EVERY}", "clean")
    head = [
        "model",
        "form",
        *(f"{name}, {isa}" for isa in ("VNNI", "AVX2") for name in lists),
        "AVX2, times fp32's rate",
    ]
    rows = []
    for model, form in itertools.product(measured_models(), ("float32", "default", SEVEN)):
        forms = [form if form == "float32" else f"minmax{at}, 64 pictures, {form}" for at in ("", WITHOUT)]
        forms[1] = form + WITHOUT if form == "float32" else forms[1]
        cells = [figure(f"{model}, {each}", name, f"{model}, float32") for each in forms for name in lists]
        ratio, _ = times(f"{model}, openvino, int8, {form}", read("rates_without_vnni").get("rows", {}))
        if set(cells[len(lists) :]) != {MISSING} or form == SEVEN:
            rows.append([f"`{model}`", "8-bit weights" if form == "default" else form, *cells, ratio or ""])
    return table(head, rows)


def times(name: str, rows: dict[str, Any] | None = None) -> list[str]:
    """How many times the rate of the same network in fp32 and in bf16 at the same size."""
    known: dict[str, Any] = read("rates").get("rows", {}) if rows is None else rows
    model, backend, form, *_ = name.split(", ")
    at = form[form.index(" at ") :] if " at " in form else ""
    others = [known.get(f"{model}, {backend}, {other}{at}") for other in ("fp32", "bf16")]
    return ["" if other is None or name not in known else f"{other[1] / known[name][1]:.2f}" for other in others]


def choices_table() -> str:
    forms = [key.rpartition(", ")[0] for key in read("accuracy") if ", minmax, " in key and key.endswith(", clean")]
    rows = []
    for form in forms:
        model, _, pictures, choice = form.split(", ")
        cells = [figure(form, name, f"{model}, float32") for name in (f"val/{EVERY}", "clean")]
        times = [milliseconds(f"{model}, {backend}, int8, {choice}") for backend in ("openvino", "onnxruntime")]
        rows.append([f"`{model}`", choice, pictures, *cells, *times])
    return table(["model", "int8", "calibration", f"`val/{EVERY}`", "clean", "OpenVINO, ms", "ONNX Runtime, ms"], rows)


def milliseconds(name: str) -> str:
    row = read("rates").get("rows", {}).get(name)
    return MISSING if row is None else f"{row[1]:.1f} ({row[2]:.1f} to {row[3]:.1f})"


def rates_table() -> str:
    rates = read("rates")
    if not rates:
        return table([], [])
    rows = []
    for name, (size, *_) in rates["rows"].items():
        model, backend, *form = name.split(", ")
        rows.append([f"`{model}`", backend, ", ".join(form), size, milliseconds(name), *times(name)])
    head = ["model", "backend", "computed in", "network", "ms (quartiles)", "times fp32's rate", "times bf16's"]
    versions = ", ".join(f"{name} {version}" for name, version in rates["versions"].items())
    about = f"The network alone on a square frame, medians of {rates['frames']} frames, all rows in turn in one run."
    return f"{about} {rates['cpu']}. {versions}, {rates['date']}.\n\n{table(head, rows)}"


def agreement_table() -> str:
    rows = [
        [f"`{model}`", str(row["photos"])]
        + [f"{row[way]['mean']:.3%}, {row[way]['least']:.2%}" for way in ("onnxruntime", "float32")]
        for model, row in read("agreement").items()
    ]
    cpus = {row["cpu"] for row in read("agreement").values()}
    text = table(["model", "photos", "ONNX Runtime's labels as OpenVINO's", "float32's as OpenVINO's int8"], rows)
    return "\n\n".join([text, *sorted(cpus)])


def calibration_table() -> str:
    rows = [
        [name, row["size"], f"{row['seconds']:.0f} s", processor(row), f"{row['gigabytes']:.2f} GB", row["cpu"]]
        for name, row in read("calibration").items()
    ]
    return table(["model, pictures", "pictures' size", "time", "of processors", "peak of the process", "CPU"], rows)


def processor(row: dict[str, Any]) -> str:
    return f"{row['cpu_seconds']:.0f} s" if "cpu_seconds" in row else MISSING


def budgets_text() -> str:
    parts = []
    for path in sorted(FOLDER.glob("*.budget.json")):
        found = read(path.stem)
        ranked = sorted(found["layers"], key=lambda each: -each["divergence"])[:WORST]
        rows = [
            [
                f"`{each['name'].strip('/')}`",
                f"{each['weights']:.2%}",
                f"{each['multiply_adds']:.2%}",
                f"{each['divergence']:.1e}",
                f"{each['changed']:.2%}",
                "int8" if each["float"] is None else f"float: {each['float']}",
            ]
            for each in ranked
        ]
        head = ["layer", "of the weights", "of the multiply-adds", "harm, nats", "other labels", "computed in"]
        curve = "; ".join(f"{point['int8_layers']}: {point['mean_iou']:.4f}" for point in found["curve"])
        parts.append(
            f"### `{found['model']}`, {found['way']}\n\n"
            f"![Harm by layer, and mean IoU by int8 layers](int8/{path.stem}.png)\n\n"
            f"A budget of {found['max_drop']:g} points on {found['pictures']} labelled pictures: float32 has "
            f"{found['float32']:.4f}, the chosen {found['mean_iou']:.4f}, and by int8 layers {curve}. "
            f"The {len(ranked)} most harmful of {len(found['layers'])}:\n\n{table(head, rows)}"
        )
    return "\n\n".join(parts) or MISSING.capitalize() + "."


def files_table(forms: dict[str, str]) -> str:
    lists = (f"val/{EVERY}", "clean")
    rows = [[name, *(figure(form, each, "fcn8s-lite, float32") for each in lists)] for name, form in forms.items()]
    return table(["file", f"`val/{EVERY}`", "clean"], rows)


if __name__ == "__main__":
    main()
