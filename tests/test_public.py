"""The names that `fcn_edge` itself holds."""

from __future__ import annotations

import subprocess
import sys
from types import FunctionType

import fcn_edge


def test_every_public_name_is_there() -> None:
    for name in fcn_edge.__all__:
        assert getattr(fcn_edge, name) is not None
        assert name in dir(fcn_edge)


def test_decode_is_the_function_whatever_was_imported_before() -> None:
    import fcn_edge.decode
    import fcn_edge.segmenter

    assert isinstance(fcn_edge.decode, FunctionType)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(fcn_edge, "no_such_name")


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"numpy", "cv2", "numba", "torch", "openvino", "onnxruntime", "av", "msgspec"}
    code = "import sys, fcn_edge; print(fcn_edge.__version__, *sorted(sys.modules))"
    words = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert words[0] == fcn_edge.__version__
    assert not heavy & set(words)
