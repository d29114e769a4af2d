"""The pictures and the numbers of docs/how-fcns-work.md, from the code that they speak of.

    python docs/how_fcns_work.py

draws every picture of the page anew and prints each statement that carries a number. The network is the bundled
one, the pictures are the two demo photos, and what wants no trained weights takes seeded ones, so nothing is fetched.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fcn_edge import models
from fcn_edge.boundary import BoundaryScores, contours
from fcn_edge.decode import decode
from fcn_edge.metrics import Scores, confusion
from fcn_edge.models.checkpoint import load
from fcn_edge.models.convert import convolutional
from fcn_edge.models.lite import FCNLite
from fcn_edge.models.mobilenet import features
from fcn_edge.models.upsampling import bilinear
from fcn_edge.models.vgg import AT_8, AT_16, AT_32, BORDER, POOL3, POOL4, STAGES, vgg16_features
from fcn_edge.overlay import heat_map, overlay
from fcn_edge.prepare import lay_out, prepare
from fcn_edge.runtime.files import find
from fcn_edge.spec import ModelSpec

DOCS = Path(__file__).parent
PICTURES = DOCS / "how-fcns-work"
PHOTOS = {"cat": "cat", "astronaut": "person"}  # the class that each is about
VOC_PICTURE = (375, 500)  # rows, columns of a common VOC picture
NARROW = 16  # the proof's network has a sixteenth of VGG16's channels: 36 windows in no time
DPI = 110


@dataclass(frozen=True)
class Fact:
    """A phrase of the page, `{}` where its numbers stand, and the numbers as they were computed."""

    phrase: str
    values: tuple[float, ...]

    def __str__(self) -> str:
        return self.phrase.format(*self.values)


def table_row(title: str, cell: str, values: Sequence[Any]) -> Fact:
    """A row of a table; a value is a number, a tuple of them, or "" for an empty cell."""
    cells = ["" if value == "" else cell for value in values]
    numbers = tuple(n for value in values if value != "" for n in (value if isinstance(value, tuple) else (value,)))
    return Fact(f"| {' | '.join([title, *cells])} |".replace("|  |", "| |"), numbers)


class Section(NamedTuple):
    facts: list[Fact]
    figure: Figure


@dataclass(frozen=True)
class Photo:
    """A demo photo before the bundled network, its truth drawn by hand, and the class that it is about."""

    name: str
    class_name: str
    index: int
    frame: np.ndarray  # uint8 (H, W, 3), BGR
    truth: np.ndarray  # uint8 (H, W)
    planes: Tensor  # as `trunk_features` takes them

    def labels(self, scores: Tensor) -> np.ndarray:
        return decode(scores[0].numpy(), self.truth.shape, "align_corners")

    def iou(self, scores: Tensor) -> float:
        table = confusion(self.truth, self.labels(scores), scores.shape[1])
        return float(Scores(table).per_class_iou[self.index])

    def boundary_f(self, scores: Tensor) -> float:
        counts = contours(self.truth, self.labels(scores), scores.shape[1], tolerance=3)
        return float(BoundaryScores(counts).per_class_f[self.index])


@cache
def bundled() -> tuple[FCNLite, ModelSpec]:
    network, spec = load(find("fcn8s-lite").with_suffix(".safetensors"))
    assert isinstance(network, FCNLite)
    return network.requires_grad_(False), spec


@cache
def photos() -> list[Photo]:
    network, spec = bundled()
    found = []
    for name, class_name in PHOTOS.items():
        frame = cv2.imread(str(DOCS.parent / "examples" / f"{name}.jpg"))
        assert frame is not None
        truth = np.array(Image.open(DOCS / "results" / "truth" / f"{name}.png"))
        batch = prepare(spec, frame, lay_out(spec, frame.shape[:2], "fit", None))
        planes = network.planes(torch.from_numpy(batch))
        found.append(Photo(name, class_name, spec.classes.index(class_name), frame, truth, planes))
    return found


def gflops(network: nn.Module, frame: Tensor) -> float:
    """Billions of operations of one forward pass, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(frame)
    return counter.get_total_flops() / 1e9


# ---- a classifier becomes a heat map


def a_classifier_becomes_a_heat_map() -> Section:
    """The head on the mean feature, as a classifier has it, and the same head on every feature."""
    network, spec = bundled()
    facts = []
    figure, rows = sheet(len(PHOTOS), 3, height=5.6)
    for photo, row in zip(photos(), rows, strict=True):
        last = network.trunk_features(photo.planes)[-1]
        whole = network.head32(last.mean((2, 3), keepdim=True))[0, :, 0, 0].softmax(0)
        best = whole.argsort(descending=True)[:2].tolist()
        answer = [f"{spec.classes[index]} {{:.2f}}" for index in best]
        answers = tuple(float(whole[index]) for index in best)
        facts.append(Fact(f"{', '.join(answer)} for the {photo.name} photo", answers))
        scores = network.head32(last)
        facts.append(Fact("{}x{} positions", tuple(scores.shape[-2:])))
        picture(row[0], photo.frame, "one answer for the whole photo")
        box = {"facecolor": "black", "alpha": 0.65, "edgecolor": "none", "pad": 5}
        text = "\n".join(answer).format(*answers)
        row[0].text(0.04, 0.06, text, transform=row[0].transAxes, color="white", fontsize=11, bbox=box)
        probability_map(row[1], scores, photo, f"{photo.class_name}, {facts[-1]}")
        picture(row[2], heat_map(photo.frame, scores[0].numpy(), photo.index, "align_corners"), "the same, upsampled")
    return Section(facts, figure)


# ---- fully connected to convolution


def small_vgg(padding: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Trunk and classifier for 224x224 with VGG16's five pools, one narrow convolution before each, seeded."""
    torch.manual_seed(0)
    trunk, inputs = nn.Sequential(), 3
    for channels, _ in STAGES:
        convolution = nn.Conv2d(inputs, channels // NARROW, 3, padding=padding)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        trunk.append(convolution).append(nn.ReLU()).append(nn.MaxPool2d(2))
        inputs = channels // NARROW
    with torch.no_grad():
        left = trunk(torch.zeros(1, 3, 224, 224)).numel()
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(left, 256), nn.ReLU(), nn.Linear(256, 1000))
    return trunk.requires_grad_(False), classifier.requires_grad_(False)


def slid(trunk: nn.Module, classifier: nn.Module, planes: Tensor) -> Tensor:
    """The classifier on each 224x224 window at stride 32: (N, outputs, h, w)."""
    windows = planes.unfold(2, 224, 32).unfold(3, 224, 32)
    rows, columns = windows.shape[2:4]
    answers = [[classifier(trunk(windows[:, :, row, column])) for column in range(columns)] for row in range(rows)]
    return torch.stack([torch.stack(row, -1) for row in answers], -2)


def fully_connected_to_convolution() -> Section:
    photo = cv2.resize(photos()[1].frame, (384, 384), interpolation=cv2.INTER_AREA)
    planes = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255 - 0.5
    maps, apart, kernels = [], [], []
    for padding in (0, 1):
        trunk, classifier = small_vgg(padding)
        converted = convolutional(classifier, STAGES[-1][0] // NARROW).requires_grad_(False)
        maps.append((slid(trunk, classifier, planes), converted(trunk(planes))))
        many, once = maps[-1]
        apart.append(float((once - many).abs().max() / many.abs().max()))
        kernels += next(converted.parameters()).shape[2:]
    if apart[0] > 1e-5:
        raise AssertionError(f"without padding the converted network is {apart[0]:.2g} from the classifier slid")
    with torch.device("meta"):
        layers = [nn.Linear(inputs, outputs) for inputs, outputs in ((512 * 49, 4096), (4096, 4096), (4096, 1000))]
        trunk = vgg16_features()
        network = nn.Sequential(trunk, convolutional(nn.Sequential(nn.Flatten(), *layers), 512))
        pictures = [torch.zeros(1, 3, side, side) for side in (224, 384)]
        small, large = (gflops(network, picture) for picture in pictures)
        pooled, scores = trunk(pictures[1]).shape[-1], network(pictures[1]).shape[-1]
    facts = [
        Fact("384x384 pixels leave {}x{} positions after the last pool", (pooled, pooled)),
        Fact("{} - 7 + 1 = {}", (pooled, scores)),
        Fact("a {}x{} map", (scores, scores)),
        Fact("36 windows cost 36 x {:.1f} = {:.0f} GFLOPs, the converted network {:.0f}", (small, 36 * small, large)),
        Fact("a factor of {:.1f}", (36 * small / large,)),
        Fact("a {}x{} convolution without padding, a {}x{} one with it", tuple(kernels)),
        Fact("the largest difference is {:.0%} of the largest output", (apart[1],)),
    ]
    return Section(facts, draw_windows(photo, *maps[0]))


def draw_windows(photo: np.ndarray, many: Tensor, once: Tensor) -> Figure:
    """Three windows on the photo, and the output that differs most between windows, computed both ways."""
    figure, (places,) = sheet(1, 3, height=3.5)
    picture(places[0], photo, "windows of 224 pixels, 32 apart")
    output = int(many[0].flatten(1).std(1).argmax())
    low, high = float(many[0, output].min()), float(many[0, output].max())
    ways = (places[1], many, "the classifier, 36 times"), (places[2], once, "as a convolution, once")
    for axes, values, title in ways:
        axes.imshow(values[0, output].numpy(), cmap="turbo", vmin=low, vmax=high)
        head(axes, title)
    for index, color in ((0, "white"), (1, "#ffd400"), (5, "#00e5ff")):
        for axes, start, side in zip(places, (32 * index, index - 0.42, index - 0.42), (223, 0.84, 0.84), strict=True):
            axes.add_patch(Rectangle((start, start), side, side, fill=False, edgecolor=color, linewidth=2))
    return figure


# ---- bilinear deconvolution


def bilinear_deconvolution() -> Section:
    facts = [Fact("{:.2f}, {:.2f}, {:.2f} and {:.2f} for f = 2", tuple(line_of(2)))]
    for factor in (2, 4, 8, 16, 32):
        scores = torch.randn(1, 1, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        kernel = bilinear(factor)[None, None].double()
        deconvolved = F.conv_transpose2d(scores, kernel, stride=factor, padding=factor // 2)
        resized = F.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)
        inside = slice(factor // 2, -(factor // 2))
        torch.testing.assert_close(deconvolved[:, :, inside, inside], resized[:, :, inside, inside])
    figure, ((left, middle, right),) = sheet(1, 3, height=3.3, widths=(1, 1, 1.7))
    for axes, factor in ((left, 4), (middle, 3)):
        line = line_of(factor)
        where = np.arange(len(line)) - (len(line) - 1) / 2
        axes.plot([-factor, 0, factor], [0, 1, 0], color="0.6")
        axes.vlines(where, 0, line, color="tab:blue", linewidth=3)
        axes.plot(where, line, "o", color="tab:blue")
        axes.set_title(f"f = {factor}: {len(line)} weights", fontsize=11)
        axes.set(xlabel="pixels from the score", ylim=(0, 1.08), xticks=(-factor, 0, factor), yticks=(0, 1))
    draw_line(right, factor=4)
    return Section(facts, figure)


def line_of(factor: int) -> np.ndarray:
    """One row of the bilinear kernel, whose outer product with itself is the kernel."""
    kernel = bilinear(factor).numpy()
    line = np.sqrt(np.diag(kernel))
    np.testing.assert_allclose(kernel, np.outer(line, line), rtol=1e-6)
    return line


def draw_line(axes: Axes, factor: int) -> None:
    """A row of scores, upsampled: on the straight line between two scores, fading beyond the last ones."""
    scores = np.array([1.0, 2.2, 1.4, 3.0])
    kernel = torch.from_numpy(line_of(factor))[None, None]
    values = F.conv_transpose1d(torch.from_numpy(scores).float()[None, None], kernel, stride=factor)[0, 0].numpy()
    crop = factor // 2
    pixels = np.arange(len(values)) - crop
    centers = np.arange(len(scores)) * factor + (len(kernel[0, 0]) - 1) / 2 - crop
    inside = (pixels >= centers[0]) & (pixels <= centers[-1])
    np.testing.assert_allclose(values[inside], np.interp(pixels[inside], centers, scores), rtol=1e-5)
    axes.plot(centers, scores, color="0.6")
    axes.plot(centers, scores, "s", color="tab:orange", markersize=9, label="score")
    kept = (pixels >= 0) & (pixels < factor * len(scores))
    axes.plot(pixels[kept], values[kept], "o", color="tab:blue", label="pixel")
    axes.plot(pixels[~kept], values[~kept], "o", color="tab:blue", fillstyle="none", label="cropped")
    axes.set_title(f"four scores, upsampled by {factor}", fontsize=11)
    axes.set(xlabel="pixel", xticks=(0, 4, 8, 12, 16), yticks=(), ylim=(0, None))
    axes.legend(fontsize=10, loc="lower right", framealpha=1)


# ---- why 100 pixels of padding


class Lattice(NamedTuple):
    """Where a map's values lie on the picture, along one side: at `start + step * j` pixels."""

    step: float = 1
    start: float = 0

    def conv(self, kernel: int, padding: int) -> Lattice:
        return Lattice(self.step, self.start + self.step * ((kernel - 1) / 2 - padding))

    def pool(self) -> Lattice:
        return Lattice(2 * self.step, self.start + self.step / 2)

    def deconv(self, factor: int) -> Lattice:
        step = self.step / factor
        return Lattice(step, self.start - step * (2 * factor - factor % 2 - 1) / 2)

    def crop_to(self, other: Lattice) -> float:
        """How many values come before the one that lies on the other's first."""
        return (other.start - self.start) / self.step


def lattices(border: int, fc6_padding: int) -> list[Lattice]:
    """Of VGG16's five pools and its coarsest scores; convolutions of 3x3 with padding 1 move nothing."""
    found = [Lattice().conv(3, border).pool()]
    for _ in STAGES[1:]:
        found.append(found[-1].pool())
    return [*found, found[-1].conv(7, fc6_padding)]


def crops(border: int) -> dict[str, float]:
    """What has to be cut off at top and left: of each last upsampling, and of the skips before they are added."""
    *_, pool3, pool4, _, at_32 = lattices(border, fc6_padding=0)
    at_16 = at_32.deconv(2)
    at_8 = at_16.deconv(2)
    maps = {"32s": at_32, "16s": at_16, "8s": at_8}
    ends = {name: at.deconv(int(at.step)).crop_to(Lattice()) for name, at in maps.items()}
    return ends | {"pool4": pool4.crop_to(at_16), "pool3": pool3.crop_to(at_8)}


def scores_of(side: int, border: int) -> int:
    """How many coarsest scores a side of so many pixels gives without padding in fc6; pools round up."""
    return math.ceil((side + 2 * border - 2) / 32) - 6


def why_pad_by_100() -> Section:
    found = crops(BORDER)
    in_code = {"32s": AT_32.crop, "pool4": POOL4.crop, "16s": AT_16.crop, "pool3": POOL3.crop, "8s": AT_8.crop}
    if found != in_code:
        raise AssertionError(f"derived {found}, in the code {in_code}")
    smallest = next(side for side in range(1, 500) if scores_of(side, 1) > 0)
    enough = next(border for border in range(1, 200) if scores_of(1, border) > 0)
    bare, padded = (lattices(border, 0)[-1].start for border in (1, BORDER))
    same = lattices(1, 3)[-1]
    cost = {}
    with torch.device("meta"):
        for padding in ("same", "paper"):
            network = models.build("fcn8s", 21, padding).eval()
            cost[padding] = gflops(network, torch.zeros(1, *VOC_PICTURE, 3, dtype=torch.uint8))
    facts = [
        Fact("below {} pixels a side there is no score at all", (smallest,)),
        Fact("the first score would lie {} pixels inside the picture", (bare,)),
        Fact("From {} pixels of padding on", (enough,)),
        Fact("the first score lies at pixel {}", (padded,)),
        Fact(
            "{:.0f} for 32s; {:.0f}, then {:.0f} for 16s; {:.0f}, {:.0f}, then {:.0f} for 8s",
            tuple(found[name] for name in ("32s", "pool4", "16s", "pool4", "pool3", "8s")),
        ),
        Fact("at pixel {}, {}, ...", (same.start, same.start + same.step)),
        Fact("{:.0f} GFLOPs instead of {:.0f}", (cost["same"], cost["paper"])),
    ]
    return Section(facts, draw_borders())


def draw_borders() -> Figure:
    """A picture in the frame that either form computes on, and where its coarsest scores lie."""
    photo = cv2.resize(photos()[0].frame, VOC_PICTURE[::-1], interpolation=cv2.INTER_LINEAR)
    figure, ((left, right),) = sheet(1, 2, height=4.8, widths=(700, 502))
    forms = (left, BORDER, 0, "padded by 100, fc6 without padding"), (right, 1, 3, "no border, fc6 padded by 3")
    for axes, border, fc6_padding, title in forms:
        lattice = lattices(border, fc6_padding)[-1]
        counts = [scores_of(side, border) + 2 * fc6_padding for side in VOC_PICTURE]
        y, x = (lattice.start + lattice.step * np.arange(count) for count in counts)
        rows, columns = VOC_PICTURE
        axes.imshow(photo[..., ::-1], extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))
        dots(axes, x, y, color="#ffd400", markersize=4, markeredgecolor="black", markeredgewidth=0.5)
        axes.set_facecolor("0.85")
        axes.set(xlim=(-border - 0.5, columns + border - 0.5), ylim=(rows + border - 0.5, -border - 0.5))
        head(axes, title)
    return figure


# ---- what each skip adds


def stages(photo: Photo) -> list[tuple[str, Tensor, Tensor]]:
    """The bundled network's sum so far at strides 32, 16 and 8, and what was added last: (1, 21, h, w) each."""
    network, _ = bundled()
    at_8, at_16, last = network.trunk_features(photo.planes)
    assert network.head16 is not None
    assert network.head8 is not None
    coarse = network.head32(last)
    found = [("stride 32", coarse, coarse)]
    for name, added in (("+ stride 16", network.head16(at_16)), ("+ stride 8", network.head8(at_8))):
        before = F.interpolate(found[-1][1], size=added.shape[-2:], mode="bilinear", align_corners=True)
        found.append((name, before + added, added))
    torch.testing.assert_close(found[-1][1], network.head_scores((at_8, at_16, last)))
    return found


def what_each_skip_adds() -> Section:
    facts = []
    for photo in photos():
        found = [scores for _, scores, _ in stages(photo)]
        changed = [float((photo.labels(a) != photo.labels(b)).mean()) for a, b in itertools.pairwise(found)]
        facts += [
            table_row(f"{photo.name}: scores", "{}x{}", [tuple(scores.shape[-2:]) for scores in found]),
            table_row(f"IoU of {photo.class_name}", "{:.3f}", [photo.iou(scores) for scores in found]),
            table_row("boundary F, 3 pixels", "{:.3f}", [photo.boundary_f(scores) for scores in found]),
            table_row("labels changed", "{:.1%}", ["", *changed]),
        ]
    added = [part[0, photos()[1].index] - part[0, 0] for _, _, part in stages(photos()[1])]
    facts.append(Fact("{:.1f}, {:.1f} and {:.1f} at most", tuple(float(part.abs().max()) for part in added)))
    return Section(facts, draw_stages(photos()[1]))


def draw_stages(photo: Photo) -> Figure:
    figure, rows = sheet(3, 3, height=9.4)
    for column, (name, scores, added) in zip(rows.T, stages(photo), strict=True):
        picture(column[0], drawn(photo, scores), f"{name}: labels")
        probability_map(column[1], scores, photo, f"probability of {photo.class_name}")
        margin = added[0, photo.index] - added[0, 0]
        most = float(margin.abs().max())
        squares(column[2], margin, photo, f"added here, at most {most:.1f}", cmap="RdBu_r", vmin=-most, vmax=most)
    return figure


# ---- what dilation trades


def what_dilation_trades() -> Section:
    network, _ = bundled()
    trunks: dict[int, nn.Sequential] = {32: network.features}
    for stride in (16, 8):
        trunks[stride] = features(1.0, stride).requires_grad_(False)
        trunks[stride].load_state_dict(network.features.state_dict())
    with torch.device("meta"):
        cost = [gflops(features(1.0, stride), torch.zeros(1, 3, 513, 513)) for stride in trunks]
        frame = torch.zeros(1, 513, 513, 3, dtype=torch.uint8)
        skips, plain = (gflops(models.build(name, 21).eval(), frame) for name in ("fcn8s-lite", "fcn32s-lite"))
    facts = [
        table_row("trunk's GFLOPs at 513x513", "{:.1f}", cost),
        Fact("its two skips together cost {:.1f} GFLOPs", (skips - plain,)),
    ]
    for photo in photos():
        maps = [trunk(photo.planes) for trunk in trunks.values()]
        for every, dense in zip((1, 2, 4), maps, strict=True):
            torch.testing.assert_close(dense[:, :, ::every, ::every], maps[0], rtol=1e-5, atol=1e-4)
        scores = [network.head32(dense) for dense in maps]
        facts.append(table_row(f"{photo.name}: positions", "{}x{}", [tuple(one.shape[-2:]) for one in scores]))
        facts.append(table_row(f"IoU of {photo.class_name}", "{:.3f}", [photo.iou(one) for one in scores]))
    figure, (axes,) = sheet(1, 4, height=2.65)
    draw_lattice(axes[0])
    for one, place, stride in zip(scores, axes[1:], trunks, strict=True):
        picture(place, drawn(photo, one), f"stride {stride}")
    return Section(facts, figure)


def draw_lattice(axes: Axes) -> None:
    """The positions of both networks, and the nine that one 3x3 filter of either reads."""
    dense, strided, read = (np.arange(*limits) for limits in ((0, 9), (0, 9, 2), (2, 7, 2)))
    styles = ({"color": "0.7", "markersize": 4}, {"color": "tab:blue", "markersize": 8}, {"color": "tab:orange"})
    for positions, style in zip((dense, strided, read), styles, strict=True):
        dots(axes, positions, positions, **style)
    axes.set_aspect("equal")
    head(axes, "what a filter reads")


# ---- drawing


def sheet(rows: int, columns: int, height: float, widths: Sequence[float] | None = None) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9.5, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, width_ratios=widths)


def head(axes: Axes, title: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=11)


def picture(axes: Axes, frame: np.ndarray, title: str) -> None:
    axes.imshow(frame[..., ::-1])
    head(axes, title)


def drawn(photo: Photo, scores: Tensor) -> np.ndarray:
    """The labels in the product's colours, on the photo in grey, where they are seen best."""
    grey = cv2.cvtColor(cv2.cvtColor(photo.frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return overlay(grey, photo.labels(scores), bundled()[1].palette, alpha=0.6)


def dots(axes: Axes, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """A dot at every pair of a column and a row."""
    columns, rows = np.meshgrid(x, y)
    axes.plot(columns.ravel(), rows.ravel(), "o", **style)


def squares(axes: Axes, values: Tensor, photo: Photo, title: str, **style: Any) -> None:
    """A map as it is, a square around each position where that lies on the photo: the first and last on its border."""
    (bottom, right), (y, x) = photo.truth.shape, values.shape
    half_y, half_x = (bottom - 1) / (y - 1) / 2, (right - 1) / (x - 1) / 2
    axes.imshow(values.numpy(), extent=(-half_x, right - 1 + half_x, bottom - 1 + half_y, -half_y), **style)
    axes.set(xlim=(-0.5, right - 0.5), ylim=(bottom - 0.5, -0.5))
    head(axes, title)


def probability_map(axes: Axes, scores: Tensor, photo: Photo, title: str) -> None:
    """The softmax in the colours of the product's heat map."""
    squares(axes, scores[0].softmax(0)[photo.index], photo, title, cmap="turbo", vmin=0, vmax=1)


def save(figure: Figure, path: Path) -> None:
    """As a PNG of 256 colours, a third of the size."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)


SECTIONS: dict[str, Callable[[], Section]] = {
    "heat-map": a_classifier_becomes_a_heat_map,
    "convolution": fully_connected_to_convolution,
    "deconvolution": bilinear_deconvolution,
    "padding": why_pad_by_100,
    "skips": what_each_skip_adds,
    "dilation": what_dilation_trades,
}


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name, section in SECTIONS.items():
        facts, figure = section()
        save(figure, PICTURES / f"{name}.png")
        print(f"\n{PICTURES.name}/{name}.png")
        for fact in facts:
            print(f"  {fact}")


if __name__ == "__main__":
    main()
