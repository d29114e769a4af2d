"""docs/int8.md: what int8 costs in accuracy and brings in speed, by method, by pictures, by layers.

    python benchmarks/int8.py accuracy MODELS --voc VOC --extra EXTRA
    python benchmarks/int8.py budget MODELS --voc VOC --ways minmax --labelled EXTRA:people --max-drop 0.1
    python benchmarks/int8.py accuracy MODELS --voc VOC --extra EXTRA --choices "less 1" "less 4"     # after it
    python benchmarks/int8.py file peer.tflite --spec benchmarks/peers/peer.toml --voc VOC --extra EXTRA
    python benchmarks/int8.py agreement MODELS --voc VOC
    python benchmarks/int8.py calibration MODEL --voc VOC            # time and peak memory, a model at a time
    python benchmarks/int8.py refused --voc VOC
    python benchmarks/int8.py rates MODELS --voc VOC --peer FILE     # with nothing else running
    python benchmarks/int8_page.py

MODELS are the float32 files that `fcn-edge export` writes. Each figure is kept under docs/int8 as soon as it is
measured, so a run that was broken off goes on where it stopped. Calibration pictures are the first N of VOC's `train`,
shuffled with seed 0; accuracy is measured on every fourth picture of `val`, or on all, and on the clean list.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

from fcn_edge.cli.common import track
from fcn_edge.data import Sample, open_data, read_image
from fcn_edge.data.calibration import Calibration, open_calibration
from fcn_edge.doctor import TELLING_FLAGS
from fcn_edge.errors import FcnEdgeError
from fcn_edge.evaluation import evaluate
from fcn_edge.files import sha256
from fcn_edge.quantization.budget import REASON, fit_budget, refuse
from fcn_edge.quantization.convert import Choices
from fcn_edge.quantization.observe import observe
from fcn_edge.quantization.plot import draw
from fcn_edge.quantization.qdq import FIRST, SCORES, SUMS, layers, quantise
from fcn_edge.quantization.thresholds import PERCENTILE, ranges
from fcn_edge.resources import demo_photos
from fcn_edge.runtime.host import cpu_flags, cpu_name, physical_cores
from fcn_edge.runtime.openvino import HINTS, OpenVino
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import METADATA_KEY, from_json

HERE = Path(__file__).resolve().parent
sys.path[:] = [each for each in sys.path if Path(each).resolve() != HERE]  # onnxruntime imports a float16 of its own
FOLDER = Path("docs/int8")
WAYS = ("minmax", "percentile 99.9", "percentile 99.99", "percentile 99.999", "entropy", "mse")
COUNTS = (16, 64, 400)
EVERY = 4  # picture of `val`: 363
PHOTOS_EVERY = 20  # picture of `val`, to compare labels on: 73
IN_A_ROW, BEFORE = 10, 8  # frames in a turn, and those before that are not counted: caches hold another network
WITHOUT = " without VNNI"
UNCORRECTED = "without bias correction"
SEVEN = "weights of 7 bits"
CHOICES = {  # which of the layers that stay in float by default are int8 too
    "default": (),
    "and the first convolution": (FIRST,),
    "and the score layers": (SCORES,),
    "and the sums of scores": (SUMS,),
    "all": (FIRST, SCORES, SUMS),
    UNCORRECTED: (),
    SEVEN: (),
}


def main() -> None:
    options = arguments()
    if options.without_vnni:
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"  # read when OpenVINO is loaded
        HINTS["int8"] = "f32"  # its own choice on a CPU that has no bfloat16; here it would not look at the limit
    FOLDER.mkdir(parents=True, exist_ok=True)
    options.do(options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    given = argparse.ArgumentParser(add_help=False)
    given.add_argument("models", type=Path, nargs="*", help="float32 files of fcn-edge export")
    given.add_argument("--voc", type=Path, required=True, help="VOC 2012, for its lists train and val")
    given.add_argument("--extra", type=Path, help="the clean pictures, VOC layout, for their list coco")
    given.add_argument("--work", type=Path, default=Path("calib"), help="for what was observed, and int8 files")
    given.add_argument("--whole", action="store_true", help="all of val")
    given.add_argument("--ways", nargs="+", default=list(WAYS), help="methods")
    given.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="calibration pictures")
    given.add_argument("--without-vnni", action="store_true", help="OpenVINO's kernels for AVX2 alone")
    given.add_argument("--sizes", type=_size, nargs="+", default=[None], help="of the network; 0, or none: its own")
    given.add_argument(
        "--choices", nargs="+", default=["default"], help=f"layers in int8: {', '.join(CHOICES)}, less N"
    )
    add = functools.partial(commands.add_parser, parents=[given])
    add("accuracy", help="mean IoU by method, pictures and layers").set_defaults(do=measure_accuracy)
    command = add("budget", help="harm by layer, and the layers that a budget keeps in float")
    command.add_argument("--labelled", required=True, help="ROOT:LIST, never one that is reported")
    command.add_argument("--max-drop", type=float, default=0.5)
    command.set_defaults(do=measure_budget)
    command = add("file", help="mean IoU of other int8 files")
    command.add_argument("--spec", type=Path, help="of a file that does not describe itself")
    command.set_defaults(do=measure_files)
    add("agreement", help="labels of OpenVINO and ONNX Runtime on photos").set_defaults(do=measure_agreement)
    command = add("calibration", help="its time and its peak of memory")
    command.add_argument("--square", type=int, help="pictures are squares of that many pixels")
    command.set_defaults(do=measure_calibration)
    add("refused", help="what bad calibration sets are answered").set_defaults(do=measure_refused)
    command = add("rates", help="milliseconds of all forms in turn")
    command.add_argument("--peer", type=Path, help="the int8 peer")
    command.add_argument("--rounds", type=int, default=15, help="each form is timed ten times a round")
    command.set_defaults(do=measure_rates)
    return parser.parse_args()


def _size(text: str) -> int | None:
    return int(text) or None


# ---- files


@dataclass(frozen=True)
class Form:
    """How a file was quantised."""

    way: str  # of WAYS, or "float"
    pictures: int = 400
    choice: str = "default"
    size: int | None = None  # of the network, in calibration and afterwards; None: the model's own
    vnni: bool = True

    @property
    def name(self) -> str:
        at = ("" if self.size is None else f" at {self.size}") + ("" if self.vnni else WITHOUT)
        made = "" if self.way in ("float32", "bf16") else f", {self.pictures} pictures, {self.choice}"
        return f"{self.way}{at}{made}"


def calibration(voc: Path, count: int) -> Calibration:
    paths = [sample.image for sample in open_data([f"{voc}:train"]).samples]
    random.Random(0).shuffle(paths)
    chosen = tuple(paths[:count])
    identity = hashlib.sha256("".join(map(sha256, chosen)).encode()).hexdigest()
    return Calibration(f"the first {count} of train", chosen, identity)


def build(source: Path, form: Form, options: argparse.Namespace) -> Path:
    """The int8 file of `source`, from what was observed before or is now."""
    out = options.work / f"{source.stem}.{form.name.replace(', ', '.').replace(' ', '_')}.onnx"
    if out.exists():
        return out
    given = calibration(options.voc, form.pictures)
    watched = progress(f"{source.stem}, {form.pictures} pictures", form.pictures)
    observed = observe(source, given.pictures, given.identity, form.size, options.work, watched)
    method, _, percentile = form.way.partition(" ")
    reach = ranges(observed, method, float(percentile or PERCENTILE))  # type: ignore[arg-type]
    if form.choice == UNCORRECTED:
        reach = replace(reach, means={name: np.zeros_like(mean) for name, mean in reach.means.items()})
    model = onnx.load(source)
    kept = {each.name for each in layers(model) if each.kept and each.kept not in CHOICES.get(form.choice, ())}
    if form.choice.startswith("less "):
        kept |= set(most_harmful(source.stem)[: int(form.choice.removeprefix("less "))])
    bits = 7 if form.choice == SEVEN else 8
    save(quantise(model, reach, kept, source.stem, weight_bits=bits), model, out)
    return out


def most_harmful(name: str) -> list[str]:
    """Layers that are int8 by default, the most harmful first, as `budget` found."""
    listed = [each for each in read(f"{name}.minmax.budget")["layers"] if each["float"] in (None, REASON)]
    return [each["name"] for each in sorted(listed, key=lambda each: -each["divergence"])]


def save(quantised: onnx.ModelProto, source: onnx.ModelProto, out: Path) -> None:
    spec = from_json({each.key: each.value for each in source.metadata_props}[METADATA_KEY], str(out))
    told = replace(spec, precision="int8", remainder="fp32", quality={})
    onnx.helper.set_model_props(quantised, {METADATA_KEY: told.to_json()})
    onnx.checker.check_model(quantised, full_check=True)
    onnx.save(quantised, out)


# ---- accuracy


def evaluation_sets(options: argparse.Namespace) -> dict[str, list[Sample]]:
    val = open_data([f"{options.voc}:val"]).samples
    sets = {"val": val} if options.whole else {f"val/{EVERY}": val[::EVERY]}
    return sets | ({"clean": open_data([f"{options.extra}:coco"]).samples} if options.extra else {})


def measure_accuracy(options: argparse.Namespace) -> None:
    vnni = not options.without_vnni
    floats = ("float32", "bf16") if vnni else ("float32",)
    forms = [Form(way, size=size, vnni=vnni) for size in options.sizes for way in floats]
    for size, count, way, choice in itertools.product(options.sizes, options.counts, options.ways, options.choices):
        forms.append(Form(way, count, choice, size, vnni))
    for source in options.models:
        for form in forms:
            for name, samples in evaluation_sets(options).items():
                key = f"{source.stem}, {form.name}, {name}"
                if key not in read("accuracy"):
                    precision = {"float32": "fp32", "bf16": "bf16"}.get(form.way)
                    file = source if precision else build(source, form, options)
                    with Segmenter(file, "openvino", precision, form.size) as segmenter:
                        measure(key, segmenter, samples)


def measure_files(options: argparse.Namespace) -> None:
    for path in options.models:
        for name, samples in evaluation_sets(options).items():
            key = f"{path.stem}, {name}"
            if key not in read("accuracy"):
                with Segmenter(path, "openvino" if path.suffix == ".onnx" else "auto", spec=options.spec) as segmenter:
                    measure(key, segmenter, samples)


def measure(key: str, segmenter: Segmenter, samples: Sequence[Sample]) -> None:
    start = time.monotonic()
    found = evaluate(segmenter, samples, progress=progress(key, len(samples)))
    figures = {"mean_iou": found.mean_iou, "pixel_accuracy": found.scores.pixel_accuracy, "images": found.images}
    write("accuracy", read("accuracy") | {key: figures})
    print(f"{key}: {found.mean_iou:.4f} ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)


def measure_budget(options: argparse.Namespace) -> None:
    samples = open_data([options.labelled]).samples
    for source, way in itertools.product(options.models, options.ways):
        method, _, percentile = way.partition(" ")
        choices = Choices(method, float(percentile or PERCENTILE))  # type: ignore[arg-type]
        given = calibration(options.voc, options.counts[0])
        found = fit_budget(source, given, choices, samples, options.max_drop, options.work, "openvino", track=track)
        print(f"{found.table()}\n{found.summary()}", file=sys.stderr)
        name = f"{source.stem}.{way.replace(' ', '_')}.budget"
        write(name, found.document() | {"way": way})
        draw(found, FOLDER / f"{name}.png")


# ---- agreement, time, memory


def measure_agreement(options: argparse.Namespace) -> None:
    """Labels of the int8 file in ONNX Runtime, and of the float32 file, against those of the int8 file in OpenVINO."""
    photos = [*demo_photos(), *(each.image for each in open_data([f"{options.voc}:val"]).samples[::PHOTOS_EVERY])]
    for source in options.models:
        file = build(source, Form("minmax", options.counts[0]), options)
        ways = {
            "openvino": (file, "openvino"),
            "onnxruntime": (file, "onnxruntime"),
            "float32": (source, "onnxruntime"),
        }
        opened = {name: Segmenter(path, backend) for name, (path, backend) in ways.items()}
        shares: dict[str, list[float]] = {"onnxruntime": [], "float32": []}
        for photo in track(photos, f"{source.stem}: labels alike", len(photos)):
            labels = {name: segmenter.segment(read_image(photo)).labels for name, segmenter in opened.items()}
            for name, found in shares.items():
                found.append(float((labels[name] == labels["openvino"]).mean()))
        figures = {name: {"mean": float(np.mean(each)), "least": min(each)} for name, each in shares.items()}
        write("agreement", read("agreement") | {source.stem: {"photos": len(photos), **figures, "cpu": cpu()}})
        print(source.stem, figures, file=sys.stderr, flush=True)


def measure_calibration(options: argparse.Namespace) -> None:
    """Of one model, as the peak is this process's; squares are cut from the pictures."""
    (source,), count = options.models, options.counts[0]
    pictures = calibration(options.voc, count).pictures
    with tempfile.TemporaryDirectory() as folder:
        if options.square:
            pictures = [square(path, options.square, Path(folder)) for path in pictures]
        start, busy = time.monotonic(), time.process_time()
        observe(source, pictures, "measured", options.square, None, progress(f"{source.stem}, {count} pictures", count))
        seconds, busy = time.monotonic() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    size = f"{options.square}x{options.square}" if options.square else "the model's own size"
    found = {"seconds": seconds, "cpu_seconds": busy, "gigabytes": peak, "pictures": count, "size": size, "cpu": cpu()}
    write("calibration", read("calibration") | {f"{source.stem}, {count} pictures": found})
    print(source.stem, found, file=sys.stderr)


def square(path: Path, side: int, folder: Path) -> Path:
    picture = read_image(path)
    least = min(picture.shape[:2])
    out = folder / f"{path.stem}.png"
    cv2.imwrite(str(out), cv2.resize(picture[:least, :least], (side, side)))
    return out


def measure_refused(options: argparse.Namespace) -> None:
    """The line that each bad set gets."""
    rng = np.random.default_rng(0)
    photo = read_image(demo_photos()[0])
    made = {
        "empty": [],
        "noise": [rng.integers(0, 256, (120, 160, 3), np.uint8) for _ in range(20)],
        "black": [np.zeros((120, 160, 3), np.uint8)] * 20,
    }
    answers: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, pictures in made.items():
            (folder / name).mkdir()
            for index, picture in enumerate(pictures):
                cv2.imwrite(str(folder / name / f"{index}.png"), picture)
            answers[f"a folder: {name}"] = answer(folder, functools.partial(open_calibration, folder / name))
        (folder / "VOC").symlink_to(options.voc.resolve())
        answers["an evaluation list"] = answer(folder, lambda: open_calibration(folder / "VOC:val"))
        cv2.imwrite(str(folder / "again.jpg"), cv2.resize(photo, None, fx=0.5, fy=0.5))
        both = Calibration("photo", (folder / "again.jpg",), "")
        labelled = [Sample("photo", demo_photos()[0], None)]
        answers["an evaluation picture at half its size"] = answer(folder, lambda: refuse(both, labelled))
    write("refused", answers)
    for name, line in answers.items():
        print(f"{name}: {line}", file=sys.stderr)


def answer(folder: Path, act: Callable[[], Any]) -> str:
    try:
        act()
    except FcnEdgeError as error:
        return str(error).replace(f"{folder}/", "").replace(str(demo_photos()[0].parent), "examples")
    return "taken"


def measure_rates(options: argparse.Namespace) -> None:
    """Milliseconds of the network alone on a square frame, every form in its turn."""
    frame = read_image(next(path for path in demo_photos() if path.stem == "astronaut"))
    opened = enter(options)
    taken: dict[str, list[float]] = {name: [] for name in opened}
    for turn in track(range(options.rounds + 1), "Rounds", options.rounds + 1):
        for name, segmenter in opened.items():
            seconds = [segmenter.segment(frame).timings["infer"] for _ in range(BEFORE + IN_A_ROW)]
            if turn:  # the first round compiles
                taken[name] += seconds[BEFORE:]
    rows = {}
    for name, each in taken.items():
        height, width = opened[name].network_size((frame.shape[0], frame.shape[1]))
        rows[name] = [f"{height}x{width}", *(1000 * float(value) for value in np.percentile(each, (50, 25, 75)))]
        print("{:60} {} {:7.2f} ms ({:.2f} to {:.2f})".format(name, *rows[name]), file=sys.stderr)
    versions = {name: version for each in opened.values() for name, version in each.backend.versions.items()}
    write(
        "rates_without_vnni" if options.without_vnni else "rates",
        {
            "rows": rows,
            "frames": options.rounds * IN_A_ROW,
            "cpu": cpu(),
            "versions": versions,
            "date": date.today().isoformat(),
        },
    )


def enter(options: argparse.Namespace) -> dict[str, Segmenter]:
    """Every form of every model on OpenVINO and ONNX Runtime, and the peer on LiteRT."""
    opened: dict[str, Segmenter] = {}
    for source, size in itertools.product(options.models, options.sizes):
        at = "" if size is None else f" at {size}"
        for precision in ["fp32"] if options.without_vnni else OpenVino.precisions():
            opened[f"{source.stem}, openvino, {precision}{at}"] = Segmenter(source, "openvino", precision, size)
        opened[f"{source.stem}, onnxruntime, fp32{at}"] = Segmenter(source, "onnxruntime", size=size)
        for choice in options.choices:
            file = build(source, Form("minmax", options.counts[0], choice, size), options)
            for backend in ("openvino", "onnxruntime"):
                opened[f"{source.stem}, {backend}, int8{at}, {choice}"] = Segmenter(file, backend, size=size)
        sizes = [source.stat().st_size, build(source, Form("minmax", options.counts[0]), options).stat().st_size]
        write("bytes", read("bytes") | {source.stem: sizes})
    if options.peer:
        spec = Path(__file__).parent / "peers" / f"{options.peer.stem}.toml"
        opened[f"{options.peer.stem}, litert, int8"] = Segmenter(options.peer, "litert", spec=spec)
    return opened


def cpu() -> str:
    flags = " ".join(flag for flag in TELLING_FLAGS if flag in cpu_flags())
    return f"{cpu_name()}, {physical_cores()} cores: {flags}"


# ---- JSON


def read(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(name: str, document: dict[str, Any]) -> None:
    temporary = FOLDER / f".{name}.json.part"
    temporary.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    temporary.replace(FOLDER / f"{name}.json")


def progress(label: str, total: int) -> Any:
    def wrapped(items: Iterable[Any]) -> Iterable[Any]:
        return track(items, label, total)

    return wrapped


if __name__ == "__main__":
    main()
