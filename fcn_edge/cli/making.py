"""The part of `fcn-edge bench` that makes the files which a matrix lacks: exports, int8 files, engines.

Each is named after the hash of all that it is made of, so that the next matrix finds it and a changed source does not.
PyTorch and ONNX are loaded only where something has to be made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fcn_edge import __version__
from fcn_edge.bench.candidates import UNTRAINED, Artefact, Asked
from fcn_edge.cli import common
from fcn_edge.errors import DownloadError, FcnEdgeError
from fcn_edge.folders import cache_folder

if TYPE_CHECKING:
    import numpy as np

    from fcn_edge.data.calibration import Calibration
    from fcn_edge.models.weights import Resolved
    from fcn_edge.spec import ModelSpec, Resize

DIGITS = 8
STATIC_PROFILES = 8  # sizes of a data set's pictures; where there are more, one dynamic profile spans them
SECONDS = {"checkpoint": 10.0, "fp32": 30.0, "fp16": 40.0, "int8": 150.0, "engine": 180.0}  # for the progress bar

Show = Callable[[float, str], None]  # a share from 0 to 1 of what is being made, and a phase


@dataclass
class Maker:
    """Finds or makes the file of an artefact; what was made once is not made again."""

    folder: Path  # where files are kept
    project: Path  # whose checkpoints, calibration cache and engines are used
    calib: str | None  # what to calibrate with
    root: Path | None  # where a calibration set's pictures lie
    frames: Sequence[tuple[int, int]]  # (H, W) that engines will be asked for, the one that is timed first
    resize: str | None = None
    _calibration: Calibration | None = None
    _resolved: dict[str, Resolved] = field(default_factory=dict)

    def missing(self, artefact: Artefact) -> float:
        """Estimated seconds until the file is there, for a progress bar; 0 where it is there as it was named."""
        if artefact.form == "file":
            return 0.0 if artefact.engine is None else SECONDS["engine"]
        made = SECONDS["checkpoint" if artefact.form == "checkpoint" else artefact.precision]
        return made + (0.0 if artefact.engine is None else SECONDS["engine"])

    def path(self, artefact: Artefact, size: Asked, spec: Path | None, show: Show) -> Path:
        """The file. Raises FcnEdgeError in one line where it cannot be made, OSError where it cannot be written."""
        if artefact.engine is not None:
            onnx = self.path(replace(artefact, engine=None), size, spec, show)
            return onnx if onnx.suffix == ".plan" else self._engine(onnx, artefact.engine, size, spec, show)
        if artefact.form == "file":
            return Path(artefact.source)
        if artefact.form == "checkpoint":
            return self._checkpoint(artefact.source)
        if artefact.precision == "int8":
            return self._int8(artefact, size, spec, show)
        return self._export(artefact)

    def _export(self, artefact: Artefact) -> Path:
        """The ONNX file of a checkpoint or a variant."""
        path = self._place(artefact.source, artefact.precision, self._origin(artefact.source), ".onnx")
        if path.is_file():
            return path
        common.need("torch", "onnx", "onnxsim", "onnxruntime", extra="export")
        from fcn_edge.onnx_export import export

        chosen = self._resolve(artefact.source)
        spec = replace(chosen.spec, precision=cast("Any", artefact.precision))
        export(chosen.network, spec, path, _photos())
        return path

    def _checkpoint(self, source: str) -> Path:
        """A checkpoint of a variant, which PyTorch runs."""
        path = self._place(source, "checkpoint", self._origin(source), ".safetensors")
        if path.is_file():
            return path
        common.need("torch", extra="train")
        from fcn_edge.models.checkpoint import save_checkpoint

        chosen = self._resolve(source)
        if chosen.path is not None and chosen.origin in ("project", "bundled"):
            return chosen.path
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, chosen.network, chosen.spec)
        return path

    def _int8(self, artefact: Artefact, size: Asked, spec: Path | None, show: Show) -> Path:
        """The int8 file of a float32 one, or of what that is exported from."""
        float32 = Path(artefact.source)
        if float32.suffix != ".onnx":
            float32 = self.path(replace(artefact, precision="fp32"), size, spec, show)
        if spec is not None:
            raise FcnEdgeError(f"{float32} does not say what it is: quantise it by its maker's tool, or export it.")
        calibration = self._pictures()
        path = self._place(float32.name, "int8", [_sha256(float32), calibration.identity], ".onnx")
        if path.is_file():
            return path
        common.need("onnx", "onnxruntime", extra="export")
        from fcn_edge.quantization import Choices, to_int8

        def progress(pictures: Iterable[Path]) -> Iterable[Path]:
            for done, picture in enumerate(pictures):
                show(done / len(calibration.pictures), "calibrating")
                yield picture

        to_int8(float32, path, calibration, Choices(), _photos(), self.project / "calib", progress)
        return path

    def _engine(self, onnx: Path, product: str, size: Asked, spec: Path | None, show: Show) -> Path:
        from fcn_edge.engine.builder import build
        from fcn_edge.engine.cache import engines_folder
        from fcn_edge.engine.machine import this_machine
        from fcn_edge.engine.profiles import Options, device_for, load_device
        from fcn_edge.runtime.files import read_spec
        from fcn_edge.spec import from_toml

        described = read_spec(onnx) if spec is None else from_toml(spec)
        device = device_for(this_machine(product))
        options = Options() if device is None else load_device(device).options
        profiles = self._profiles(described, size)
        return build(onnx, described, product, profiles, engines_folder(self.project), options, show).path

    def _profiles(self, spec: ModelSpec, size: Asked) -> list[Any]:
        """A static profile for each size that will come; the sizes of many pictures in one that is dynamic."""
        from fcn_edge.engine.profiles import Profile, static_profiles
        from fcn_edge.prepare import lay_out

        resize = cast("Resize", self.resize or spec.resize)
        shapes = list(dict.fromkeys(lay_out(spec, frame, resize, size).network for frame in self.frames))
        if len(shapes) <= STATIC_PROFILES:
            return static_profiles(shapes)
        least, most = (tuple(pick(side) for side in zip(*shapes, strict=True)) for pick in (min, max))
        return [*static_profiles(shapes[:1]), Profile(cast("Any", least), shapes[0], cast("Any", most))]

    def _pictures(self) -> Calibration:
        from fcn_edge.data.calibration import open_calibration

        if self._calibration is None:
            self._calibration = open_calibration(Path(self.calib or ""), self.root)
        return self._calibration

    def _origin(self, source: str) -> list[str]:
        """What decides about the weights of a file or a variant."""
        if Path(source).is_file():
            return [_sha256(Path(source))]
        if source.endswith(UNTRAINED):
            return [source]
        path = self._resolve(source).path
        return [source, "" if path is None else _sha256(path)]

    def _resolve(self, source: str) -> Resolved:
        """The network and its weights; published ones only where they were fetched before."""
        from fcn_edge.models.weights import resolve

        if source not in self._resolved:
            common.need("torch", extra="export")
            variant = source.removesuffix(UNTRAINED)
            weights = source if Path(source).is_file() else "untrained" if variant != source else None
            named = None if Path(source).is_file() else variant
            self._resolved.clear()  # one network at a time: VGG16 is half a gigabyte
            self._resolved[source] = resolve(weights, named, None, self.project, _fetched)
        return self._resolved[source]

    def _place(self, source: str, form: str, origin: Sequence[str], suffix: str) -> Path:
        stem = Path(source.replace(":", ".")).name if Path(source).suffix not in _ENDINGS else Path(source).stem
        key = hashlib.sha256("\n".join([form, __version__, *origin]).encode()).hexdigest()[:DIGITS]
        parts = (stem, form if form in ("fp16", "int8") else "", key)
        return self.folder / (".".join(part for part in parts if part) + suffix)


_ENDINGS = (".onnx", ".safetensors", ".pth", ".pt")


def _fetched(name: str) -> Path:
    """Published weights that lie in the cache: a measurement downloads nothing."""
    from fcn_edge.download import cached
    from fcn_edge.models.published import WEIGHTS

    path = cached(WEIGHTS[name].remote, cache_folder())
    if not path.is_file():
        raise DownloadError(f"{name} was not fetched yet. Fetch it: fcn-edge models --download {name}")
    return path


def _sha256(path: Path) -> str:
    from fcn_edge.files import sha256

    return sha256(path)


def _photos() -> list[np.ndarray]:
    from fcn_edge.data import read_image
    from fcn_edge.resources import demo_photos

    return [read_image(path) for path in demo_photos()]
