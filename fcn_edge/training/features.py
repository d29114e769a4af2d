"""What a frozen trunk makes of each picture, computed once and kept on disk.

Without a GPU nearly all of a step's time goes into the trunk; where that does not learn, the heads can be
trained on its output, read from disk. A file is named by the hash of all that it was made from, so
one that does not match is simply never found.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fcn_edge import __version__
from fcn_edge.data import Sample
from fcn_edge.errors import DataError, ModelError
from fcn_edge.files import replacing, sha256
from fcn_edge.models.network import Network
from fcn_edge.training.samples import Views

VIEW_FIGURES = ("seed", "crop", "longer_side", "flip", "color")  # of a recipe: what a kept view follows from
TOGETHER = 8  # crops that go through the trunk at once


class Parted(Protocol):
    """A network whose trunk and heads can be asked one by one; `scores` is the second of the first."""

    def trunk_features(self, planes: Tensor) -> tuple[Tensor, ...]:
        """All that the heads read, from normalised planes (N, 3, H, W)."""
        ...

    def head_scores(self, features: tuple[Tensor, ...]) -> Tensor:
        """float (N, C, h, w), as `Network.scores` gives them."""
        ...


def keep_features(
    network: Network, variant: str, views: Views, folder: Path, autocast: Callable[[], Any], track: Callable[..., Any]
) -> dict[tuple[Path, int], Path]:
    """Where the features of each picture's views lie, by picture and view; computes what lacks.

    folder: of all such features; those of one trunk and one kind of view share a folder in it.
    autocast: the context that the run computes in.
    Raises ModelError for a variant that does not part trunk and heads, DataError where the disk is too small.
    """
    if not (hasattr(network, "trunk_features") and hasattr(network, "head_scores")):
        raise ModelError(f"{variant} does not part its trunk from its heads: train it without --cache-features.")
    folder = folder / trunk_key(network, variant, views)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        (sample.image, turn): folder / f"{sha256(sample.image)[:24]}-{_short(sample.id)}-{turn}.safetensors"
        for sample in views.samples
        for turn in range(views.recipe.views)
    }
    lacking = [
        (sample, turn)
        for sample in views.samples
        for turn in range(views.recipe.views)
        if not kept[sample.image, turn].exists()
    ]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device).eval()
    room_is_checked = False
    groups = list(_groups(lacking, TOGETHER if views.recipe.crop else 1))
    for group in track(groups, "Computing the trunk's features", len(groups)):
        frames = torch.stack([torch.from_numpy(views.kept_view(sample, turn)[0]) for sample, turn in group])
        with torch.inference_mode(), autocast():
            features = cast(Parted, network).trunk_features(network.planes(frames.to(device)))
        features = [maps.half().cpu() for maps in features]
        if not room_is_checked:
            _check_room(folder, sum(maps[0].nbytes for maps in features) * len(lacking))
            room_is_checked = True
        for number, (sample, turn) in enumerate(group):
            _write(kept[sample.image, turn], [maps[number] for maps in features])
    return kept


def read_features(path: Path) -> list[Tensor]:
    """The maps of one view, float16 (c, h, w) each. Raises DataError where the file is damaged."""
    try:
        maps = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not readable as kept features ({error}). Delete it and start again.") from error
    return [maps[str(number)] for number in range(len(maps))]


def trunk_key(network: Network, variant: str, views: Views) -> str:
    """The hash of what all features of a folder have in common: the trunk, the kind of view, the versions."""
    figures = {name: getattr(views.recipe, name) for name in VIEW_FIGURES}
    sides = [views.side_above(side) for side in (1, 500)]
    common = [variant, network.padding, figures, sides, __version__, str(torch.__version__)]
    hash = hashlib.sha256(msgspec.json.encode(common))
    for name, value in sorted(network.state_dict().items()):
        if name.startswith(network.trunk):
            hash.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return hash.hexdigest()


def _short(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()[:8]


def _groups(items: list[tuple[Sample, int]], size: int) -> Iterator[list[tuple[Sample, int]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: the trunk's features take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free. "
            "Take fewer pictures, a smaller crop or fewer views."
        )


def _write(path: Path, maps: Iterable[Tensor]) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(save({str(number): value.contiguous() for number, value in enumerate(maps)}))
