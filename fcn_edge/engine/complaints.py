"""What TensorRT's parser and builder refuse, each told in one line: node, operator and the likely mend.

Their own words name a source file of NVIDIA's and a condition in it. The table knows those that people who export
networks meet; all but Mod's, which is of TensorRT 8, were provoked with TensorRT-RTX 1.7. One thing is refused
here that TensorRT takes without a word: pools that round up and get another size there than in PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn_edge.engine.versions import ERROR, Line, Trt
from fcn_edge.errors import BackendError, FcnEdgeError, ModelError

LONGEST = 200  # characters of TensorRT's own words
MOD = "Give both operands of Mod one type, int32 on TensorRT 8, or pad frames before the network"


@dataclass(frozen=True)
class Known:
    """A refusal whose cause is known, by its operator and words in it; no operators: any."""

    operators: tuple[str, ...]
    words: str  # regular expression, in any case
    mend: str


KNOWN = (  # threads: onnx-tensorrt 400, 732, 807, 850; NVIDIA/TensorRT 1503, 2280, 2968, 3360, 4131; onnxruntime 14229
    Known(
        (), r"type uint8 but|type of uint8", "Put the Cast to float first: uint8 is taken where a Cast follows at once"
    ),
    Known(
        ("DequantizeLinear",),
        r"type int32 but|activation types",
        "Quantise without biases (onnxruntime: QuantizeBias=False): TensorRT wants them in float",
    ),
    Known(
        ("QuantizeLinear", "DequantizeLinear"),
        r"zero.?point",
        "Quantise symmetrically, activations and weights, so that every zero point is 0",
    ),
    Known(
        (),
        r"same (input )?types?\b.*(half|float)",
        "Float and Half meet here: cast one of them; fcn-edge export --precision fp16 does where it has to",
    ),
    Known(("Mod",), r"", MOD),
    Known((), r"signature\.operandType", MOD),  # all that 8 says of it
    Known(
        ("MaxUnpool", "MaxPool"),
        r"outputs|^it is not",
        "Pools that hand on indices have no place in TensorRT: upsample",
    ),
    Known(("Resize",), r"antialias", "Export with antialias=False"),
    Known(("Resize",), r"transformation", "Take half_pixel, pytorch_half_pixel, align_corners or asymmetric"),
    Known((), r"strided & dilated deconv", "Give the transposed convolution a stride or a dilation, not both"),
    Known(("QLinearConv", "QLinearMatMul", "QLinearAdd"), r"", "Quantise to QuantizeLinear and DequantizeLinear (QDQ)"),
    Known((), r"plugin not found", "TensorRT has no such operator: export with operators of ONNX's own, opset 17"),
    Known(
        (),
        r"out ?of ?memory|insufficient (workspace|memory)|requested size was",
        "Lower --shapes, --max or --workspace, and close what uses the GPU",
    ),
)


def refused(path: Path, trt: Trt, complaints: Sequence[tuple[str, str, str]]) -> ModelError:
    """The error for a file of which the parser said this: node, operator and description each."""
    told = [_told(node, operator, clean(words)) for node, operator, words in dict.fromkeys(complaints)]
    more = f" ({len(told) - 1} more like it)" if len(told) > 1 else ""
    return ModelError(f"{path}: {trt.title} {told[0] if told else 'does not take it and does not say why'}.{more}")


def no_builder(trt: Trt, lines: Sequence[Line]) -> BackendError:
    """The error for a TensorRT that does not even start, from what it logged."""
    words = clean(lines[-1][1]) if lines else "it does not say why"  # the last names the cause
    return BackendError(f"{trt.title} cannot build here: {words}. Look at driver and GPU: fcn-edge doctor")


def failed(path: Path, trt: Trt, lines: Iterable[Line]) -> FcnEdgeError:
    """The error for a build that gave nothing, from what TensorRT logged meanwhile."""
    errors = [text for severity, text in lines if severity <= ERROR and "cudaError 35" not in text]
    errors = [text for text in errors if "Thread context has not been set" not in text]
    if not errors:
        return BackendError(f"{path}: {trt.title} built nothing and did not say why. Try --debug.")
    words = clean(errors[0])
    return BackendError(f"{path}: {trt.title} cannot build it: {_with_mend('', words)}.")


def rounding_pool(path: Path, trt: Trt, name: str, kernel: int, stride: int, padding: int) -> ModelError:
    """The error for a pool that TensorRT gives another size than PyTorch and ONNX Runtime do."""
    return ModelError(
        f"{path}: pool {name} rounds up with kernel {kernel}, stride {stride} and padding {padding}: at some sizes "
        f"{trt.title} makes a row more of it than PyTorch and ONNX Runtime. Export it without ceil_mode, and pad what "
        "it reads."
    )


def clean(words: str) -> str:
    """The part of TensorRT's words that says something, without its source files and conditions; no full stop."""
    lines = [line for line in words.splitlines() if line.strip() and "cudaError" not in line]
    wrapped = (re.search(r"Error Code \d+: [\w ]+\((.*?)( In \w+ at \S+)?\)$", line) for line in lines)
    text = next((match[1] for match in wrapped if match), lines[-1] if lines else "")
    quoted = re.search(r'&& ((?:"[^"]*"\s*)+)$', text)  # what stood behind a condition
    if quoted:
        text = "".join(re.findall(r'"([^"]*)"', quoted[1]))
    text = re.sub(r"^(Assertion failed: )?([\w.()]+\([\w.]*\): )?", "", text)
    text = re.sub(r"^(\[[^]]*\] )?(\w+Exception: )(\S+:\d+: )?(CHECK\(\w+\) failed\. )?", "", text).strip(" .!?")
    if text in ("", "false"):
        return "it is not supported"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _told(node: str, operator: str, words: str) -> str:
    words = words.removeprefix(f"{node}: ")
    return f"refuses {f'{operator} {node}'.strip()}: {_with_mend(operator, words)}"


def _with_mend(operator: str, words: str) -> str:
    for known in KNOWN:
        named = rf"\b({'|'.join(known.operators)})\b"  # before TensorRT 10 the words alone name the operator
        fits = not known.operators or re.search(named, f"{operator} {words}")
        if fits and re.search(known.words, words, re.IGNORECASE):
            return f"{words}. {known.mend}"
    return words
