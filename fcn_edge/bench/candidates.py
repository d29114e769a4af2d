"""From models, backends, precisions and sizes to the cells of a matrix, and the file that each of them runs.

What was named is answered for: a combination that cannot be becomes a failed cell with its reason. What came from
`all` is a wish for whatever there is, so that combinations that cannot be are not in the matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from fcn_edge.errors import BackendError, FcnEdgeError, UsageError, unknown
from fcn_edge.runtime import BACKENDS, PRECISIONS, backend_class, is_installed
from fcn_edge.runtime.files import bundled, find, int8_form, read_spec
from fcn_edge.spec import ModelSpec, from_toml

ALL = "all"
UNTRAINED = ":untrained"  # after a variant's name: seeded noise for weights, for latency alone
CHECKPOINTS = (".safetensors", ".pth", ".pt")
ENDINGS = (".onnx", ".tflite", ".plan", *CHECKPOINTS)

Asked = int | tuple[int, int] | None  # a network size: the longer side, rows and columns, or the model's own


@dataclass(frozen=True)
class Named:
    """A model as it was named, and its own sizes; none: those of the matrix."""

    word: str  # a bundled name, a file, a variant, `all`
    sizes: tuple[Asked, ...] = ()


@dataclass(frozen=True)
class Words:
    """A matrix as it was asked for."""

    models: tuple[Named, ...]
    backends: tuple[str, ...] = (ALL,)
    precisions: tuple[str, ...] = (ALL,)
    sizes: tuple[Asked, ...] = (None,)
    specs: tuple[Path, ...] = ()  # TOML files, or folders of them, that describe foreign models
    refines: tuple[str | None, ...] = (None,)  # back ends; None: none
    calibrated: bool = False  # whether there are pictures to make int8 files with
    variants: Collection[str] = ()  # what can be exported by name


@dataclass(frozen=True)
class Artefact:
    """The file that a cell runs: one that is there, or what it is to be made of."""

    source: str  # a file, or a variant's name
    form: Literal["file", "checkpoint", "onnx"] = "file"  # file: `source` as it is
    precision: str = "fp32"  # of an ONNX file that is made
    engine: str | None = None  # the backend for which an engine is built of it


@dataclass(frozen=True)
class Planned:
    """A cell before its file is there; `artefact` is None where it cannot be, and `failed` says why."""

    model: str  # as it was named, without folders
    backend: str
    precision: str
    size: Asked
    own: int | None  # the model's own size, where it is known yet
    artefact: Artefact | None
    spec: Path | None = None
    refine: str | None = None  # the back end that makes its labels
    failed: str | None = None

    @property
    def key(self) -> str:
        refine = f" {self.refine}" if self.refine else ""
        return f"{self.model} {self.backend} {self.precision} {self.size_text}{refine}"

    @property
    def size_text(self) -> str:
        if self.size is None:
            return str(self.own or "own")
        return "x".join(map(str, self.size)) if isinstance(self.size, tuple) else str(self.size)


def expand(words: Words) -> list[Planned]:
    """The cells of a matrix, in the order of its words: models, sizes, backends, precisions, back ends.

    Raises UsageError for a name that no registry holds and where nothing is left to measure, ModelError for a file that
    is not there; a file that cannot be read is a failed cell.
    """
    _check_names("backend", words.backends, BACKENDS)
    _check_names("precision", words.precisions, PRECISIONS)
    machine = _Machine()
    plain = [cell for model in _models(words) for cell in _cells(model, words, machine)]
    cells = [replace(cell, refine=refine) for cell in plain for refine in words.refines]
    if not cells:
        raise UsageError("there is nothing to measure: no installed backend runs these models (fcn-edge doctor).")
    return list({cell.key: cell for cell in reversed(cells)}.values())[::-1]


def _check_names(kind: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name != ALL and name not in known:
            raise unknown(kind, name, (*known, ALL))


class _Machine:
    """What the backends of this machine compute in, each asked once."""

    def __init__(self) -> None:
        self._able: dict[str, list[str] | str] = {}

    def able(self, backend: str) -> list[str] | str:
        """The precisions of a float file, or why the backend cannot be used."""
        if backend not in self._able:
            kind = backend_class(backend)
            try:
                if not is_installed(backend):
                    raise BackendError(f"{backend} is not installed: {kind.install}.")
                self._able[backend] = kind.precisions()
            except BackendError as error:
                self._able[backend] = str(error)
        return self._able[backend]


@dataclass(frozen=True)
class _Model:
    """A model of the matrix and the forms that there are of it."""

    name: str
    sizes: tuple[Asked, ...]
    path: Path | None  # None: a variant, whose files are made
    toml: Path | None = None
    int8: Path | None = None  # a bundled model's int8 form
    checkpoint: str | None = None  # a file or a variant's name: what PyTorch runs and exports are made of
    spec: ModelSpec | None = None  # None: a variant, or it cannot be read
    broken: str | None = None  # why not

    @property
    def ending(self) -> str:
        return "" if self.path is None else self.path.suffix

    @property
    def precision(self) -> str:
        return "fp32" if self.spec is None else self.spec.precision

    @cached_property
    def product(self) -> str | None:
        """The backend that an engine was built for."""
        from fcn_edge.engine.sidecar import read

        return read(self.path).key.product if self.path and self.ending == ".plan" and not self.broken else None


def _models(words: Words) -> list[_Model]:
    found: list[_Model] = []
    for named in words.models:
        for word in bundled() if named.word == ALL else [named.word]:
            found.append(_model(word, named.sizes or words.sizes, words))
    foreign = [model for model in found if model.path and not model.toml and model.broken]
    if words.specs and len(foreign) == 1 and len(words.specs) == 1 and words.specs[0].is_file():
        (only,) = foreign  # one description and one model that lacks one
        found[found.index(only)] = _described(replace(only, toml=words.specs[0]))
    return _told_apart(found)


def _model(word: str, sizes: tuple[Asked, ...], words: Words) -> _Model:
    path = Path(word)
    if not path.is_file() and word in bundled():
        path = bundled()[word]
        checkpoint = path.with_suffix(".safetensors")
        known = str(checkpoint) if checkpoint.is_file() else None
        return _described(_Model(word, sizes, path, int8=int8_form(path), checkpoint=known))
    if not path.is_file() and word.removesuffix(UNTRAINED) in words.variants:
        return _Model(word, sizes, None, checkpoint=word)
    path = find(word)
    if path.suffix not in ENDINGS:
        raise UsageError(f"{path}: models are files that end in {', '.join(ENDINGS)}, or bundled names.")
    checkpoint = str(path) if path.suffix in CHECKPOINTS else None
    return _described(_Model(path.name, sizes, path, _toml_of(path, words.specs), checkpoint=checkpoint))


def _toml_of(path: Path, specs: Sequence[Path]) -> Path | None:
    """The description of `path` among files and folders: the one of its name."""
    for spec in specs:
        file = spec / f"{path.stem}.toml" if spec.is_dir() else spec
        if file.stem == path.stem and file.is_file():
            return file
    return None


def _described(model: _Model) -> _Model:
    assert model.path is not None
    try:
        spec = from_toml(model.toml) if model.toml else read_spec(model.path)
        return replace(model, spec=spec, broken=None)
    except FcnEdgeError as error:
        return replace(model, broken=str(error))


def _told_apart(models: list[_Model]) -> list[_Model]:
    """Files of one name in several folders by as much of their folders as tells them apart."""
    paths = {model.name: {each.path for each in models if each.name == model.name} for model in models}
    twice = [name for name, files in paths.items() if len(files) > 1]
    if not twice:
        return models
    renamed = [
        replace(model, name="/".join(model.path.absolute().parts[-model.name.count("/") - 2 :]))
        if model.name in twice and model.path
        else model
        for model in models
    ]
    assert Counter(each.name for each in renamed) != Counter(each.name for each in models)
    return _told_apart(renamed)


def _cells(model: _Model, words: Words, machine: _Machine) -> Iterator[Planned]:
    own = model.spec.size if model.spec else None
    blank = Planned(model.name, "", "", None, own, None, model.toml)
    some = False
    for size in model.sizes:
        for backend, asked in _backends(words.backends):
            for precision, artefact, why in _ways_told(model, backend, asked, words, machine):
                some = True
                yield replace(blank, backend=backend, precision=precision, size=size, artefact=artefact, failed=why)
    if not some:  # what was named is answered for, even where all backends were asked
        backend = _usual_backend(model)
        able = machine.able(backend)
        reason = model.broken or (able if isinstance(able, str) else _reason(model, backend, words.precisions[0], ()))
        yield replace(blank, backend=backend, precision=model.precision, size=model.sizes[0], failed=reason)


def _backends(names: Sequence[str]) -> list[tuple[str, bool]]:
    """The backends, each once, and whether it was named."""
    asked = {name for name in names if name != ALL}
    listed = [each for name in names for each in (BACKENDS if name == ALL else [name])]
    return [(name, name in asked) for name in dict.fromkeys(listed)]


def _usual_backend(model: _Model) -> str:
    if model.product is not None:
        return model.product
    ending = model.ending or ".onnx"
    usual = [name for name in BACKENDS if ending in backend_class(name).suffixes]
    return next((name for name in usual if not backend_class(name).compiles), usual[0])


def _ways_told(
    model: _Model, backend: str, asked: bool, words: Words, machine: _Machine
) -> Iterator[tuple[str, Artefact | None, str | None]]:
    """Precision, artefact and why it cannot be, of one model on one backend."""
    able = machine.able(backend)
    ways = {} if isinstance(able, str) or model.broken else _ways(model, backend, able, words.calibrated)
    why = model.broken or (able if isinstance(able, str) else None)
    named = [name for name in words.precisions if name != ALL]
    for precision in dict.fromkeys([*named, *(ways if ALL in words.precisions else ())]):
        if precision in ways:
            yield precision, ways[precision], None
        elif asked and precision in named:
            yield precision, None, why or _reason(model, backend, precision, ways)
    if asked and not ways and not named:
        yield model.precision, None, why or _reason(model, backend, model.precision, ways)


def _ways(model: _Model, backend: str, able: Sequence[str], calibrated: bool) -> dict[str, Artefact]:
    """What the backend can compute the model in, and the file that it takes for it."""
    kind = backend_class(backend)
    if model.ending in (".plan", ".tflite"):
        if model.ending not in kind.suffixes or model.product not in (None, backend):
            return {}
        computed = able if model.ending == ".tflite" and model.precision != "int8" else [model.precision]
        return {precision: Artefact(str(model.path)) for precision in computed}
    if ".safetensors" in kind.suffixes:
        if model.checkpoint is None:
            return {}
        checkpoint = Artefact(model.checkpoint, "file" if Path(model.checkpoint).is_file() else "checkpoint")
        return {precision: checkpoint for precision in able}
    if ".onnx" not in kind.suffixes:
        return {}
    ways = _onnx_ways(model, able, kind.compiles, calibrated)
    return {name: replace(way, engine=backend) for name, way in ways.items()} if kind.compiles else ways


def _onnx_ways(model: _Model, able: Sequence[str], compiles: bool, calibrated: bool) -> dict[str, Artefact]:
    """For a backend that computes the precision which it is told or, where it `compiles`, the file's own."""
    there = model.ending == ".onnx"
    source = str(model.path) if there else model.checkpoint
    if source is None:
        return {}
    file = Artefact(source) if there else Artefact(source, "onnx")
    if model.precision == "int8":
        return {"int8": file}
    if compiles and model.precision == "fp16":
        return {"fp16": file}
    ways = {precision: file for precision in able}
    if compiles and "fp16" in ways:
        ways.pop("fp16")
        if model.checkpoint is not None:
            ways["fp16"] = Artefact(model.checkpoint, "onnx", "fp16")
    if model.int8 is not None:
        ways["int8"] = Artefact(str(model.int8))
    elif calibrated and model.precision == "fp32":
        ways["int8"] = Artefact(source, "onnx", "int8")
    return ways


def _reason(model: _Model, backend: str, precision: str, ways: Collection[str]) -> str:
    kind = backend_class(backend)
    if model.product not in (None, backend):
        return f"{model.name} is an engine of {model.product}, not of {backend}. Measure it there."
    if not ways:
        return f"{backend} runs files that end in {', '.join(kind.suffixes)}, and {model.name} is none of them."
    if precision == "int8" and model.precision != "int8" and ".onnx" in kind.suffixes:
        return f"{model.name} is no int8 file, and to make one of it takes pictures to calibrate with: --calib SET."
    if precision == "fp16" and kind.compiles:
        return f"{model.name} is no fp16 file. Make one of its checkpoint: fcn-edge export --precision fp16"
    return f"{backend} on this machine computes {model.name} in {' or '.join(ways)}, not in {precision}."
