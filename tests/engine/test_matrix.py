"""Every variant in every form and precision through TensorRT-RTX's own parser and builder, in dynamic and static
profiles and odd sizes. Networks are narrow: the same operators and graph. The slow test builds them whole and prints
its row of the table: pytest -m slow -s tests/engine/test_matrix.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from forms import FORMS, IDS, narrow

from fcn_edge.data.calibration import Calibration
from fcn_edge.engine.builder import build
from fcn_edge.engine.inspection import MULTIPLYING, check_achieved, type_name
from fcn_edge.engine.profiles import Options, Profile
from fcn_edge.engine.versions import load
from fcn_edge.models.checkpoint import untrained
from fcn_edge.onnx_export import export
from fcn_edge.quantization import Choices, to_int8
from fcn_edge.resources import demo_photos
from fcn_edge.spec import ModelSpec

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")

PRECISIONS = ("fp32", "fp16", "int8")
ONE = Options(targets=("8.9",))  # a target more is time more, and nothing new of the graph
KERNEL = re.compile(r"^Name: .*?, LayerType: (\w+), Inputs: \[ \{.*?Datatype: (\w+)", re.MULTILINE)
WEIGHED = """
import atexit, pathlib, sys
from fcn_edge.cli.main import main
atexit.register(lambda: print(pathlib.Path("/proc/self/status").read_text(), file=sys.stderr))
main()
"""  # not by getrusage: after a fork its maximum is that of the parent
MOST_MEMORY = 8e9  # bytes that a build may take: a runner, or a board


def profiles(spec) -> list[Profile]:
    """One from the smallest side to an odd large one, for up to two frames; one static."""
    small, usual, large = ((spec.side(h), spec.side(w)) for h, w in ((33, 33), (239, 331), (479, 641)))
    return [Profile(small, usual, large, (1, 1, 2)), Profile(usual, usual, usual)]


def write(network, spec, precision: str, folder: Path) -> tuple[Path, ModelSpec]:
    """The network's file in that precision; int8 calibrated on the demo photos."""
    if precision != "int8":
        exported = export(network, replace(spec, precision=precision), folder / "model.onnx", (), ())
        return exported.path, exported.spec
    float32 = export(network, spec, folder / "float32.onnx", (), ()).path
    photos = Calibration("demo", tuple(demo_photos()), "demo")
    made = to_int8(float32, folder / "model.onnx", photos, Choices(size=(64, 96)), ())
    return made.path, made.spec


def kernels(lines: list[tuple[int, str]]) -> dict[str, int]:
    """Multiplying kernels by type, from the table of the engine's layers that the builder logs: no GPU can load it."""
    tables = [text for _, text in lines if text.startswith("Layers:")]
    found = KERNEL.findall(tables[-1]) if tables else []
    return dict(Counter(type_name(words) for kind, words in found if MULTIPLYING.search(kind)))


@pytest.mark.parametrize(("variant", "padding"), FORMS, ids=IDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_builds_in_dynamic_and_static_profiles_and_keeps_its_precision(variant, padding, precision, tmp_path):
    with narrow():
        network, spec = untrained(variant, padding=padding)
    path, spec = write(network, spec, precision, tmp_path)
    with load("tensorrt-rtx").listening() as lines:
        built = build(path, spec, "tensorrt-rtx", profiles(spec), tmp_path, ONE)
    counted = built.sidecar.precision.network
    assert max(counted, key=lambda name: counted[name]) == precision
    made = kernels(lines)
    assert sum(made.values()) > 0
    check_achieved(path, counted, made, profiles=2)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "padding"), FORMS, ids=IDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_whole_network_builds_within_a_runners_memory(variant, padding, precision, tmp_path, capsys):
    network, spec = untrained(variant, padding=padding)
    path, spec = write(network, spec, precision, tmp_path)
    del network
    usual = f"{spec.side(399)}x{spec.side(600)}"
    shapes = ["--min", "33x33", "--opt", usual, "--max", f"{spec.side(947)}x{spec.side(960)}"]
    command = ["build", str(path), "--backend", "tensorrt-rtx", *shapes, "--targets", "8.9", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", WEIGHED, *command, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    peak = 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", done.stderr)[0])
    sidecar = document["sidecar"]
    with capsys.disabled():
        name = variant if padding == "same" else f"{variant}, {padding}"
        print(
            f"\n| {name} | {precision} | {path.stat().st_size / 1e6:.1f} MB | {sidecar['bytes'] / 1e6:.1f} MB "
            f"| {sidecar['seconds']:.1f} s | {peak / 1e9:.2f} GB |"
        )
    assert peak < MOST_MEMORY
