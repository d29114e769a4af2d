"""Which file a model's name means, and what that file says of itself.

The spec is read before any runtime is loaded, because it decides how the runtime is asked; so reading it needs neither
the onnx package nor the session that will run the file.
"""

from __future__ import annotations

import logging
from importlib import resources
from pathlib import Path
from typing import Any

from fcn_edge.errors import ModelError, SpecError, unknown
from fcn_edge.runtime.onnx_file import MODEL_GRAPH, MODEL_METADATA, fields_of, strings
from fcn_edge.spec import METADATA_KEY, ModelSpec, from_json, from_toml

INT8 = ".int8.onnx"
PICKLES = (".pth", ".pt")

log = logging.getLogger(__name__)


def bundled() -> dict[str, Path]:
    """The models that travel with the package, the default first: name to ONNX file, in float32."""
    folder = Path(str(resources.files("fcn_edge"))) / "weights"
    files = sorted(folder.glob("*.onnx"), key=lambda path: path.stem)
    return {path.stem: path for path in files if not path.name.endswith(INT8)}


def int8_form(path: Path) -> Path | None:
    """The int8 file beside a bundled model's float one, made of the same weights; None where there is none."""
    form = path.with_name(path.stem + INT8)
    return form if form.is_file() else None


def find(model: str | Path) -> Path:
    """The file of a bundled name or a path. Raises UsageError for an unknown name, ModelError for a missing file."""
    path = Path(model)
    if path.is_file():
        return path
    names = bundled()
    if str(model) in names:
        return names[str(model)]
    if path.is_dir():
        raise ModelError(f"{path} is a folder. Name the model file in it.")
    if path.suffix or path.name != str(model):
        raise ModelError(f"{path}: no such model file.")
    raise unknown("bundled model", str(model), names)


def look_up(
    model: str | Path, spec: ModelSpec | Path | str | None = None, url: str | None = None
) -> tuple[Path, ModelSpec]:
    """Where a model is, and what it is: a file that `find` finds, or what the server at `url` serves by that name.

    spec: describes it in the place of what it says itself: a ModelSpec or a TOML file. Raises as `find` and `read_spec`
    do, and as `fcn_edge.runtime.triton.find_served`.
    """
    described = spec if isinstance(spec, ModelSpec | None) else from_toml(Path(spec))
    if url is not None:
        from fcn_edge.runtime.triton import find_served

        return find_served(url, str(model), described)
    path = find(model)
    return path, described or read_spec(path)


def newest_checkpoints(project: Path) -> dict[str, Path]:
    """By variant, the checkpoint that was last written below the project's `runs`."""
    found: dict[str, Path] = {}
    for path in sorted(project.glob("runs/*/*.safetensors"), key=lambda path: path.stat().st_mtime):
        try:
            text = spec_text(path)  # None: no network, but features that a run keeps
            if text is not None:
                found[from_json(text, str(path)).variant] = path
        except (ModelError, SpecError) as error:
            log.warning("%s is passed over: %s", path, error)
    return found


def read_spec(path: Path) -> ModelSpec:
    """What the file says of itself. Raises SpecError if it says nothing, ModelError if it is broken."""
    if path.suffix in PICKLES:
        from fcn_edge.runtime.torch import read_pickle_spec

        return read_pickle_spec(path)
    if path.suffix == ".plan":
        from fcn_edge.engine.sidecar import read

        return read(path).spec
    text = spec_text(path)
    if text is None:
        raise SpecError(
            f"{path} does not say what its classes and its input are. Describe it in a TOML file: --spec FILE."
        )
    return from_json(text, str(path))


def spec_text(path: Path) -> str | None:
    """The spec that the file carries, as it is written there; None where it has none. Raises ModelError if broken."""
    readers = {".onnx": _onnx_metadata, ".safetensors": _safetensors_metadata}
    return readers[path.suffix](path) if path.suffix in readers else None


def _safetensors_metadata(path: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    opened: Any = safe_open
    try:
        with opened(str(path), framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            return metadata.get(METADATA_KEY)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file ({error}). Copy it again, or export it anew.") from error


def check_onnx(path: Path) -> None:
    """Raises ModelError where the file is no ONNX model or was cut off."""
    _onnx_metadata(path)


def _onnx_metadata(path: Path) -> str | None:
    found: str | None = None
    seen_graph = False
    with fields_of(path) as (data, all_fields):
        for number, start, end in all_fields:
            seen_graph |= number == MODEL_GRAPH
            if number == MODEL_METADATA:
                entry = strings(data, start, end)
                if entry.get(1) == METADATA_KEY:
                    found = entry.get(2, "")
        if not seen_graph:
            raise ValueError("no graph")
    return found
