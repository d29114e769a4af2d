"""Every kind of artefact tells what it is, and no library that would run it is loaded for that."""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import plans
import pytest
import tiny
from plans import ORIN_NX, RTX_CARD

from fcn_edge.cli.inspect import EPILOG
from fcn_edge.engine.sidecar import sidecar_path
from fcn_edge.errors import ModelError
from fcn_edge.inspection import inspect, text
from fcn_edge.runtime.files import bundled, read_spec

FOREIGN = ("torch", "tensorrt", "tensorrt_rtx", "onnx", "onnxruntime", "openvino")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fcn_edge", "inspect", *map(str, arguments)], capture_output=True, text=True, check=False
    )


class TestCommand:
    def test_the_examples_of_the_help_work_as_they_stand(self) -> None:
        people, machine = (shlex.split(line)[2:] for line in EPILOG.splitlines() if "fcn-edge inspect" in line)
        told = run(*people)
        assert (told.returncode, told.stderr) == (0, "")
        for part in ("frame: uint8 (N, H, W, 3)", "opset ai.onnx 17", "Conv 66", "background, aeroplane"):
            assert part in told.stdout
        told = run(*machine)
        document = json.loads(told.stdout)
        assert (told.returncode, told.stderr) == (0, "")
        assert (document["kind"], document["operators"]["Conv"]) == ("onnx", 66)
        assert document["spec"]["classes"][:2] == ["background", "aeroplane"]

    def test_a_damaged_engine_is_told_and_ends_in_1(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        plan.write_bytes(plan.read_bytes()[:-1])
        told = run(plan)
        assert told.returncode == 1
        assert "PROBLEM: " in told.stdout
        assert "is cut off" in told.stdout
        assert told.stderr == ""

    @pytest.mark.parametrize("name", ["README.md", "gone.onnx"])
    def test_what_is_no_artefact_is_one_line(self, name: str) -> None:
        told = run(name)
        assert (told.returncode, told.stdout, told.stderr.count("\n")) == (1, "", 1)

    def test_no_library_that_would_run_the_file_is_loaded(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, RTX_CARD)
        files = [plan, *bundled().values(), *(path.with_suffix(".safetensors") for path in bundled().values())]
        code = (
            "import sys; from pathlib import Path; from fcn_edge.inspection import inspect, text\n"
            f"for file in {[str(file) for file in files]!r}: text(inspect(Path(file)))\n"
            f"print([name for name in {FOREIGN!r} if name in sys.modules])"
        )
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert told.stdout == "[]\n"


class TestEngine:
    def test_it_tells_what_it_was_built_from_and_for(self, tmp_path: Path) -> None:
        plan, sidecar = plans.write(tmp_path, ORIN_NX)
        document = inspect(plan)
        assert (document["kind"], document["product"], document["version"]) == ("engine", "tensorrt", "10.3.0")
        assert document["sidecar"] == sidecar
        assert document["problems"] == []
        for part in ("Orin, compute capability 8.7, 8 multiprocessors, 15 GiB", "L4T 36.4.3", "32x32", sidecar.rebuild):
            assert part in text(document)

    def test_its_sidecar_means_the_same(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        assert inspect(sidecar_path(plan)) == inspect(plan)

    def test_without_a_sidecar_its_header_speaks(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, RTX_CARD)
        sidecar_path(plan).unlink()
        document = inspect(plan)
        assert (document["product"], document["sidecar"], document["problems"]) == ("tensorrt-rtx", None, [])
        assert "no sidecar that can be read" in text(document)

    def test_a_broken_sidecar_is_a_problem_of_the_engine(self, tmp_path: Path) -> None:
        plan, _ = plans.write(tmp_path, ORIN_NX)
        sidecar_path(plan).write_text("{")
        document = inspect(plan)
        assert "is no sidecar of an engine" in document["problems"][0]
        assert (document["product"], document["version"]) == ("tensorrt", "10.3.0.30")  # of its header

    def test_an_onnx_file_under_an_engines_name_is_an_onnx_file(self, tmp_path: Path) -> None:
        assert inspect(tiny.write_onnx(tmp_path / "tiny.plan"))["kind"] == "onnx"


class TestWeights:
    def test_a_checkpoint_tells_its_spec_and_its_tensors(self) -> None:
        path = bundled()["fcn8s-lite"].with_suffix(".safetensors")
        document = inspect(path)
        assert document["kind"] == "safetensors"
        assert document["spec"] == read_spec(path)
        assert len(document["tensors"]) == 131
        assert "131 tensors, 2,284,543 F16" in text(document)

    @pytest.mark.parametrize("old", [False, True], ids=["zip", "before zip"])
    def test_pytorchs_own_is_listed_and_not_opened(self, tmp_path: Path, old: bool) -> None:
        torch = pytest.importorskip("torch")
        path = tmp_path / "weights.pth"
        torch.save(OrderedDict(w=torch.zeros(3)), path, _use_new_zipfile_serialization=not old)
        document = inspect(path)
        assert (document["kind"], document["problems"]) == ("pytorch", [])
        assert set(document["calls"]) == {
            "collections.OrderedDict", "torch.FloatStorage", "torch._utils._rebuild_tensor_v2",
        }  # fmt: skip

    def test_one_that_would_run_code_says_which_and_runs_none(self, tmp_path: Path) -> None:
        class Runs:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return eval, ("open('ran', 'w')",)

        path = tmp_path / "weights.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", pickle.dumps(Runs()))
        assert inspect(path)["problems"] == ["loading it would call more than tensors need: builtins.eval"]
        assert not Path("ran").exists()

    @pytest.mark.parametrize("content", [b"\x80\x02", b"PK\3\4 and no more", b"\x80garbage"])
    def test_a_damaged_one_is_one_line(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not a PyTorch weights file"):
            inspect(path)


def test_a_tflite_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    document = inspect(tiny.write_tflite(tmp_path / "tiny.bin", 32))
    assert (document["kind"], document["spec"]) == ("tflite", None)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".plan", ".pth", ""])
@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"text, and nothing that runs", b"\x08\x08"])
def test_rubbish_is_one_line_whatever_its_name(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"rubbish{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        inspect(path)
    assert "\n" not in str(caught.value)
