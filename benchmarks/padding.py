"""The two forms of the paper's networks on the same weights: how far labels agree, and what the border costs.

    python benchmarks/padding.py --variant fcn8s --weights fcn8s_from_caffe.pth examples/*.jpg

Without weights both run on the same seeded noise, which says what the border costs and little of the labels: a
trained network's scores are further apart than noise's. Photos are taken at their own size, as in the paper.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fcn_edge import Segmenter, models
from fcn_edge.data import read_image
from fcn_edge.models.checkpoint import adopt, describe, load, save_checkpoint, untrained
from fcn_edge.resources import demo_photos
from fcn_edge.runtime.host import cpu_name
from fcn_edge.spec import VOC_CLASSES

FORMS = ("same", "paper")
MARGIN = 32  # pixels: a stride of the coarsest scores, within which the border has the most to say


@dataclass
class Photo:
    """One photo's labels and milliseconds in each form."""

    path: Path
    size: tuple[int, int]
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: {form: [] for form in FORMS})

    def agreement(self, inside: int = 0) -> float:
        window = slice(inside, -inside or None)
        equal = self.labels["same"] == self.labels["paper"]
        return float(equal[window, window].mean())

    def milliseconds(self, form: str) -> float:
        return statistics.median(self.times[form])


def main() -> None:
    parser = argparse.ArgumentParser(description="Labels and milliseconds of the two forms of padding.")
    parser.add_argument("photos", nargs="*", type=Path, default=demo_photos())
    parser.add_argument(
        "--variant", default="fcn8s", choices=[n for n, v in models.VARIANTS.items() if len(v.padding) > 1]
    )
    parser.add_argument("--weights", type=Path, help="in the published layout; seeded noise where absent")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_forms(arguments.variant, arguments.weights, Path(folder))
        forms = {
            form: Segmenter(file, "torch", "fp32", resize="native", threads=arguments.threads)
            for form, file in files.items()
        }
        photos = [measure(forms, path, arguments.rounds) for path in arguments.photos]
        trained = forms["same"].spec.trained
        said = ", ".join(f"{name} {version}" for name, version in forms["same"].backend.versions.items())
    print(f"{cpu_name()}, {said}, fp32; medians of {arguments.rounds} frames a form, interleaved")
    print(f"{arguments.variant}, {'trained weights' if trained else 'UNTRAINED: seeded noise for weights'}\n")
    report(photos)


def write_forms(variant: str, weights: Path | None, folder: Path) -> dict[str, Path]:
    """The same weights as a checkpoint of each form."""
    network, spec = untrained(variant, padding="paper")
    if weights is not None:
        network = models.build(variant, len(VOC_CLASSES), "paper").eval()
        adopt(network, weights)
        spec = describe(network, variant)
    files = {form: folder / f"{form}.safetensors" for form in FORMS}
    save_checkpoint(files["paper"], network, spec)
    save_checkpoint(files["same"], *load(files["paper"], padding="same"))
    return files


def measure(forms: dict[str, Segmenter], path: Path, rounds: int) -> Photo:
    frame = read_image(path)
    photo = Photo(path, frame.shape[:2])
    for segmenter in forms.values():
        segmenter(frame)
    for _ in range(rounds):
        for form, segmenter in forms.items():
            result = segmenter(frame)
            photo.labels[form] = result.labels
            photo.times[form].append(1e3 * sum(result.timings.values()))
    return photo


def report(photos: list[Photo]) -> None:
    inner = f"{MARGIN} px inside"
    print(f"{'photo':28}{'size':>10}{'labels alike':>14}{inner:>14}{'same ms':>10}{'paper ms':>10}{'ratio':>7}")
    for photo in photos:
        same, paper = photo.milliseconds("same"), photo.milliseconds("paper")
        size = f"{photo.size[1]}x{photo.size[0]}"
        print(
            f"{photo.path.name[:27]:28}{size:>10}{photo.agreement():>14.1%}{photo.agreement(MARGIN):>14.1%}"
            f"{same:>10.0f}{paper:>10.0f}{same / paper:>7.2f}"
        )
    ratio = statistics.median(photo.milliseconds("same") / photo.milliseconds("paper") for photo in photos)
    alike = [statistics.mean(photo.agreement(inside) for photo in photos) for inside in (0, MARGIN)]
    print(
        f"\nlabels alike: {alike[0]:.1%}, {MARGIN} pixels inside {alike[1]:.1%}; same / paper: {ratio:.2f} of the time"
    )


if __name__ == "__main__":
    main()
