"""The same pictures through NVIDIA ModelOpt's ONNX quantiser, for docs/int8.md.

    python -m venv modelopt && modelopt/bin/pip install -e '.[export,cpu]' 'nvidia-modelopt[onnx]'
    modelopt/bin/python benchmarks/modelopt.py export/fcn8s-lite.onnx --voc VOC --method entropy --out work/modelopt.entropy.onnx
    python benchmarks/int8.py file work/modelopt.entropy.onnx --voc VOC --extra EXTRA

An environment of its own, because ModelOpt brings another onnx and another ONNX Runtime. It takes all pictures in one
array of one size, so they are stretched, and keeps the same layers in float.
"""  # noqa: E501

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np
import onnx
from int8 import calibration, save

from fcn_edge.data import read_image
from fcn_edge.prepare import lay_out, prepare
from fcn_edge.quantization.convert import spec_of
from fcn_edge.quantization.qdq import QUANTISED, layers
from fcn_edge.spec import ModelSpec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a float32 file of fcn-edge export")
    parser.add_argument("--voc", type=Path, required=True, help="VOC 2012, for its list train")
    parser.add_argument("--count", type=int, default=64, help="pictures")
    parser.add_argument("--method", choices=("max", "entropy"), default="max")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    from modelopt.onnx.quantization import quantize  # type: ignore[import-not-found]

    model = onnx.load(options.model)
    spec = spec_of(model, options.model)
    frames = np.concatenate([stretched(spec, path) for path in calibration(options.voc, options.count).pictures])
    start = time.monotonic()
    quantize(
        str(options.model),
        quantize_mode="int8",
        calibration_data={"frame": frames},
        calibration_method=options.method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        op_types_to_quantize=list(QUANTISED),
        nodes_to_exclude=[f"{re.escape(layer.name)}$" for layer in layers(model) if layer.kept],
        output_path=str(options.out),
    )
    print(f"{options.out}: {time.monotonic() - start:.0f} s, {options.out.stat().st_size / 1e6:.2f} MB")
    save(onnx.load(options.out), model, options.out)


def stretched(spec: ModelSpec, path: Path) -> np.ndarray:
    frame = read_image(path)
    return prepare(spec, frame, lay_out(spec, (frame.shape[0], frame.shape[1]), "stretch", None))


if __name__ == "__main__":
    main()
