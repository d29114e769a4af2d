"""What Triton and DeepStream want to find beside a model.

Triton's configuration is served in the tests, by its Python backend in the place of the two named here; DeepStream was
not run: its configuration is written after its documentation and headers, named where it matters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fcn_edge.errors import UsageError
from fcn_edge.files import replacing
from fcn_edge.prepare import lay_out
from fcn_edge.spec import METADATA_KEY, ModelSpec
from fcn_edge.video.writing import sink_errors

TRITON_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}
# Frames at once. ONNX Runtime takes what comes; an engine what its profile allows, which is one unless built for more.
BATCHES = {"onnxruntime_onnx": 8, "tensorrt_plan": 1}
NETWORK_MODES = {"fp32": 0, "int8": 1, "fp16": 2}  # int8 by its Q/DQ nodes, without a calibration file; not run by us
FRAME = (1080, 1920)  # what DeepStream's network size is fitted to where none is named: 16:9


def triton(model: Path, spec: ModelSpec) -> dict[Path, str]:
    """The files of a model repository around REPOSITORY/NAME/1/model.onnx: path to text.

    config.pbtxt serves the ONNX file; configs/tensorrt.pbtxt an engine that is built beside it, as 1/model.plan, and is
    taken by `tritonserver --model-config-name=tensorrt`.
    """
    folder = model.parent.parent
    return {
        folder / "config.pbtxt": _triton_config(folder.name, spec, "onnxruntime_onnx"),
        folder / "configs" / "tensorrt.pbtxt": _triton_config(folder.name, spec, "tensorrt_plan"),
        folder / "labels.txt": _labels(spec),
    }


def deepstream(model: Path, spec: ModelSpec, size: int | tuple[int, int] | None = None) -> dict[Path, str]:
    """The configuration of Gst-nvinfer beside a planar model with probabilities: path to text.

    size: of the network: the longer side of a 16:9 frame, or (H, W); rounded to what it takes; None: the spec's own.
    Raises UsageError where mean and deviation lie outside and cannot be said to nvinfer.
    """
    return {
        model.with_name(f"config_infer_{model.stem}.txt"): _nvinfer_config(model, spec, size),
        _label_file(model): _labels(spec),
    }


@contextmanager
def together(paths: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Within it, a temporary file for each of `paths`; afterwards all have their names, or none where the body raises.

    The first gets its name last: a model is there only once what is to lie beside it is.
    Raises SinkError, before the body runs, where a place cannot be written.
    """
    with ExitStack() as stack:
        temporaries: dict[Path, Path] = {}
        for path in paths:
            with sink_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporaries[path] = stack.enter_context(replacing(path))
                temporaries[path].touch()
        yield temporaries


def _triton_config(name: str, spec: ModelSpec, platform: str) -> str:
    """A ModelConfig in protobuf's text format, where JSON's strings are strings too."""
    planar = spec.input.layout == "NCHW"
    frame = [3, -1, -1] if planar else [-1, -1, 3]
    scores = spec.output.kind == "scores"
    output = [len(spec.classes), -1, -1] if scores else [-1, -1]
    kind = "TYPE_FP32" if scores else "TYPE_UINT8"
    labels = ', label_filename: "labels.txt"' if scores else ""
    file = "model.onnx" if platform == "onnxruntime_onnx" else "model.plan"
    return f"""\
name: {_quoted(name)}
platform: "{platform}"
default_model_filename: "{file}"
max_batch_size: {BATCHES[platform]}
input [ {{ name: "frame", data_type: {TRITON_TYPES[spec.input.dtype]}, dims: {frame} }} ]
output [ {{ name: "{spec.output.kind}", data_type: {kind}, dims: {output}{labels} }} ]
dynamic_batching {{ }}
parameters {{ key: "{METADATA_KEY}", value: {{ string_value: {_quoted(spec.to_json())} }} }}
"""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _nvinfer_config(model: Path, spec: ModelSpec, size: int | tuple[int, int] | None) -> str:
    if isinstance(size, tuple):
        rows, columns = spec.side(size[0]), spec.side(size[1])
    else:
        rows, columns = lay_out(spec, FRAME, "fit", size).network
    color = 0 if spec.input.color == "RGB" else 1
    return f"""\
# Gst-nvinfer: {spec.name}. Frames are stretched to {rows} rows of {columns}; for a camera of another shape change
# infer-dims to sides that the network takes: {spec.sides}, stride {spec.stride}. The class map has that size too.
[property]
gpu-id=0
gie-unique-id=1
process-mode=1
network-type=2
onnx-file={model.name}
# model-engine-file={model.stem}.plan
labelfile-path={_label_file(model).name}
batch-size=1
network-mode={NETWORK_MODES[spec.precision]}
infer-dims=3;{rows};{columns}
network-input-order=0
model-color-format={color}
maintain-aspect-ratio=0
{_scaling(spec)}
num-detected-classes={len(spec.classes)}
output-blob-names=scores
segmentation-output-order=0
# a pixel whose likeliest class is not above it is of none, and has -1 in the class map
segmentation-threshold=0.0
"""


def _scaling(spec: ModelSpec) -> str:
    """nvinfer gives its network scale * (pixel - offset), with an offset a channel and one scale for all."""
    mean, std = spec.input.mean, spec.input.std
    if mean is None or std is None:
        return "net-scale-factor=1.0"
    if len(set(std)) > 1:
        raise UsageError(
            f"nvinfer has one scale for all channels, {spec.name} was trained with the deviations "
            f"{', '.join(f'{value:g}' for value in std)}. Take --input planar, with them inside."
        )
    offsets = ";".join(f"{value:.9g}" for value in mean)
    return f"net-scale-factor={1 / std[0]:.9g}\noffsets={offsets}"


def _label_file(model: Path) -> Path:
    return model.with_name(f"labels_{model.stem}.txt")


def _labels(spec: ModelSpec) -> str:
    return "".join(f"{name}\n" for name in spec.classes)
