"""What any artefact says of itself, told without TensorRT, torch or the onnx package.

The kind is known by the file's first bytes, not by its name: an ONNX file called model.plan is an ONNX file. A PyTorch
pickle is never opened, only its instructions are listed: to load one is to run it.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from fcn_edge.engine import sidecar as papers
from fcn_edge.engine.header import MAGIC, read_header
from fcn_edge.engine.key import shapes
from fcn_edge.engine.sidecar import Sidecar
from fcn_edge.errors import FcnEdgeError, ModelError
from fcn_edge.files import sha256
from fcn_edge.runtime.onnx_file import Tensor, read_onnx
from fcn_edge.spec import METADATA_KEY, ModelSpec, from_json

Document = dict[str, Any]
PLANS = (".plan", ".engine", ".trt")
ZIP, PICKLE, TFLITE = b"PK\3\4", b"\x80", b"TFL3"  # the last at byte 4
OLD_PYTORCH = (
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # before it wrote zip archives: four pickles in a row
)
LONGEST = 300  # characters of a text for people
PICKLE_CALLS = ("GLOBAL", "STACK_GLOBAL", "INST")  # instructions that name what loading would call
TENSORS_ALONE = ("collections ", "torch ", "torch._utils ", "torch.storage ")


NO_SPEC = {  # what to do about a file that does not say what its classes and its input are
    "onnx": "no spec: run it with --spec FILE, which describes it (docs/spec.md)",
    "tflite": "no spec: run it with --spec FILE, which describes it (docs/spec.md)",
    "safetensors": "no spec: weights alone. fcn-edge export --variant NAME --weights FILE, or train from them",
    "pytorch": "no spec that can be read without opening it: fcn-edge export --variant NAME --weights FILE",
    "engine": "no sidecar that can be read, so what it was built from and for is not known: fcn-edge build MODEL.onnx",
}


def inspect(path: Path) -> Document:
    """What the file says of itself: `path`, `kind`, `bytes`, `sha256`, `spec` or null, `problems`, and the kind's own.

    The fields of each kind are in docs/spec.md. A sidecar's name means its plan.
    Raises ModelError where the file is missing, damaged or of a kind that is not known.
    """
    if path.name.endswith(".json") and path.with_suffix("").suffix in PLANS:
        path = path.with_suffix("")
    try:
        with path.open("rb") as file:
            start = file.read(16)
        size, digest = path.stat().st_size, sha256(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    kind, told = _told(path, start)
    return {"path": str(path), "kind": kind, "bytes": size, "sha256": digest, "spec": None, "problems": [], **told}


def _told(path: Path, start: bytes) -> tuple[str, Document]:
    if start[:4] in MAGIC or (path.suffix in PLANS and not _is_onnx(path)):
        return "engine", _engine(path)
    if start[4:8] == TFLITE:
        return "tflite", {}
    if start[:4] == ZIP or start[:1] == PICKLE:
        return "pytorch", _pytorch(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size:
        return "safetensors", _safetensors(path)
    if path.suffix != ".onnx" and not _is_onnx(path):
        raise ModelError(
            f"{path} is of no kind that fcn-edge knows: an ONNX file, an engine, safetensors, a PyTorch or TFLite file."
        )
    return "onnx", _onnx(path)


def _is_onnx(path: Path) -> bool:
    try:
        read_onnx(path)
    except ModelError:
        return False
    return True


def _onnx(path: Path) -> Document:
    found = read_onnx(path)
    text = found.metadata.pop(METADATA_KEY, None)
    counts = {name: dict(getattr(found, name).most_common()) for name in ("operators", "weights")}
    return {"spec": from_json(text, str(path)) if text is not None else None, **vars(found), **counts}


def _safetensors(path: Path) -> Document:
    from safetensors import SafetensorError, safe_open

    opened: Any = safe_open
    try:
        with opened(str(path), framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            tensors = {name: {"dtype": each.get_dtype(), "shape": each.get_shape()} for name, each in slices.items()}
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file ({error}). Copy it again, or export it anew.") from error
    text = metadata.pop(METADATA_KEY, None)
    return {
        "spec": from_json(text, str(path)) if text is not None else None,
        "metadata": dict(sorted(metadata.items())),
        "tensors": tensors,
    }


def _pytorch(path: Path) -> Document:
    """A pickle's instructions are read, none is followed."""
    calls = Counter[str]()
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
                texts = [archive.read(name) for name in pickles]
        else:
            texts = [path.read_bytes()]
        for text in texts:
            calls += _calls(text)
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise ModelError(f"{path}: not a PyTorch weights file ({error}). Copy it again.") from error
    if not texts:
        raise ModelError(f"{path} is a zip archive without PyTorch weights in it.")
    names = [name.replace(" ", ".") for name in sorted(calls) if not name.startswith(TENSORS_ALONE)]
    return {
        "calls": {name.replace(" ", "."): count for name, count in calls.items()},
        "problems": [f"loading it would call more than tensors need: {', '.join(names)}"] if names else [],
    }


def _calls(text: bytes) -> Counter[str]:
    """What loading a pickle would call, as "module name"; ValueError where it is none."""
    calls, strings = Counter[str](), list[str]()
    stream = io.BytesIO(text)
    for _ in range(4 if text.startswith(OLD_PYTORCH) else 1):
        for code, argument, _ in pickletools.genops(stream):
            if code.name == "STACK_GLOBAL":
                calls[" ".join(strings[-2:])] += 1
            elif code.name in PICKLE_CALLS:
                calls[str(argument)] += 1
            elif isinstance(argument, str):
                strings = [*strings[-1:], argument]
    return calls


def _engine(path: Path) -> Document:
    told: Document = {"sidecar": None, "problems": []}
    if papers.sidecar_path(path).exists():
        try:
            sidecar = papers.read(path)
            told |= {"product": sidecar.key.product, "version": sidecar.key.version}
            told |= {"sidecar": sidecar, "spec": sidecar.spec}
            papers.check_whole(sidecar, path)
        except FcnEdgeError as error:
            told["problems"] = [str(error)]
    if told["sidecar"] is None:
        header = read_header(path)
        told |= {"product": header.product, "version": header.version}
    return told


def text(document: Document) -> str:
    """The document for people."""
    spec: ModelSpec | None = document["spec"]
    kinds = {"onnx": _onnx_lines, "engine": _engine_lines, "safetensors": _safetensors_lines, "pytorch": _pytorch_lines}
    own = kinds.get(document["kind"], lambda _: ["a TFLite file, which says nothing that fcn-edge reads"])
    lines = [f"{document['path']}: {document['bytes'] / 1e6:.2f} MB, SHA-256 {document['sha256']}", *own(document)]
    lines += _spec_lines(spec) if spec else [NO_SPEC[document["kind"]]]
    return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in document["problems"])])


def _onnx_lines(document: Document) -> list[str]:
    opsets = ", ".join(f"{domain} {version}" for domain, version in document["opsets"].items())
    operators = ", ".join(f"{name} {count}" for name, count in document["operators"].items())
    weights = ", ".join(f"{count:,} {dtype}" for dtype, count in document["weights"].items())
    return [
        f"an ONNX file by {document['producer'] or 'a producer that it does not name'}; opset {opsets}",
        *(f"input:     {_tensor(tensor)}" for tensor in document["inputs"]),
        *(f"output:    {_tensor(tensor)}" for tensor in document["outputs"]),
        f"operators: {operators}",
        f"weights:   {weights or 'none'}" + (", in part in other files beside it" if document["outside"] else ""),
        *(f"{name}: {value}" for name, value in document["metadata"].items()),
    ]


def _tensor(tensor: Tensor) -> str:
    sides = None if tensor.shape is None else ", ".join("?" if side is None else str(side) for side in tensor.shape)
    return f"{tensor.name}: {tensor.dtype} {'of any shape' if sides is None else f'({sides})'}"


def _safetensors_lines(document: Document) -> list[str]:
    types = Counter[str]()
    for tensor in document["tensors"].values():
        types[tensor["dtype"]] += prod(tensor["shape"])
    counts = ", ".join(f"{count:,} {dtype}" for dtype, count in types.most_common())
    return [
        f"a safetensors file: {len(document['tensors'])} tensors, {counts or 'empty'}",
        *(f"{name}: {value}" for name, value in document["metadata"].items()),
    ]


def _pytorch_lines(document: Document) -> list[str]:
    return [f"a PyTorch pickle, not opened; loading it would call {', '.join(document['calls']) or 'nothing'}"]


def _engine_lines(document: Document) -> list[str]:
    lines = [f"an engine of {document['product']} {document['version'] or '(version not known)'}"]
    sidecar: Sidecar | None = document["sidecar"]
    if sidecar is None:
        return lines
    key = sidecar.key
    gpu = f"{key.gpu}, compute capability {key.compute_capability}, {key.sm_count} multiprocessors, {key.memory} GiB"
    board = f"; {key.board}, L4T {key.l4t}" if key.board or key.l4t else ""
    targets = ", ".join(key.options.targets)
    place = f"compute capabilities {targets}" if targets else gpu
    achieved = sidecar.precision.achieved
    return [
        *lines,
        f"built for:  {place}{board}; {key.os} on {key.arch}",
        f"built from: {sidecar.source}, SHA-256 {key.onnx}",
        f"built:      {sidecar.built} in {sidecar.seconds:.1f} s by fcn-edge {sidecar.fcn_edge}",
        f"profiles:   {', '.join(map(shapes, key.profiles))}",
        f"precision:  parsed {_counted(sidecar.precision.network)}; "
        f"engine {_counted(achieved) if achieved else f'not known: {sidecar.precision.reason}'}",
        f"again:      {sidecar.rebuild}",
    ]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _is_short(value: object) -> bool:
    """Not, as the hashes of all training pictures are, for machines alone; --json has those."""
    return len(str(value)) <= LONGEST


def _spec_lines(spec: ModelSpec) -> list[str]:
    entry, output = spec.input, spec.output
    told = [*spec.provenance.items(), *spec.quality.items()]
    return [
        f"model:      {spec.name}{f' ({spec.variant})' if spec.variant else ''}, {spec.precision}"
        + ("" if spec.trained else ", UNTRAINED: its labels mean nothing"),
        f"classes:    {len(spec.classes)}: {', '.join(spec.classes)}",
        f"frames:     {entry.layout} {entry.dtype} {entry.color}, longer side {spec.size}, sides {spec.sides}, "
        f"stride {spec.stride}, {spec.resize}",
        f"gives:      {output.kind} at stride {output.stride}",
        *(f"  {name}: {value}" for name, value in told if isinstance(value, str | int | float) and _is_short(value)),
    ]
