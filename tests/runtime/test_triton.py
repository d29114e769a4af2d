"""`--backend triton` against a real Triton server, where scripts/triton has put one.

The server reads the configuration that the export writes; but for one line: the server that PyPI has lacks Triton's
ONNX backend, so its Python backend runs the same file.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from tiny import SPEC, random_frames, scores_of, write_onnx

from fcn_edge import Segmenter
from fcn_edge.data import read_image, read_mask
from fcn_edge.errors import BackendError, ModelError, SpecError, UsageError
from fcn_edge.onnx_export import serving
from fcn_edge.runtime import backend_class, open_backend
from fcn_edge.runtime.files import look_up
from fcn_edge.spec import Input, ModelSpec

ROOT = Path(__file__).parents[2]
VENV = ROOT / ".venv-triton"
LABELS = replace(SPEC, output=replace(SPEC.output, kind="labels"))


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """A server with the tiny network, as scores and as labels."""
    if not (VENV / "installed").exists():
        pytest.skip("there is no .venv-triton. Make it: scripts/triton")
    pytest.importorskip("geventhttpclient", reason="pip install 'tritonclient[http]'")
    folder = tmp_path_factory.mktemp("models")
    add_model(folder / "tiny", SPEC)
    add_model(folder / "finished", LABELS)
    with triton_server(folder) as port:
        yield f"127.0.0.1:{port}"


def add_model(folder: Path, spec: ModelSpec) -> None:
    """A model repository's folder as the export writes it, for the Python backend in the ONNX backend's place."""
    path = folder / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    write_onnx(path, spec, labels=spec.output.kind == "labels")
    for file, text in serving.triton(path, spec).items():
        text = text.replace('platform: "onnxruntime_onnx"', 'backend: "python"')
        text = text.replace('"model.onnx"', '"model.py"')
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    shutil.copy(ROOT / "tests" / "support" / "triton_model.py", path.with_name("model.py"))


@contextmanager
def triton_server(models: Path) -> Iterator[int]:
    (packages,) = VENV.glob("lib/python3*/site-packages")
    server = packages / "pytriton" / "tritonserver"
    port = free_port()
    command = [str(server / "bin" / "tritonserver"), f"--model-repository={models}"]
    command += [
        f"--backend-directory={server}/backends",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--exit-timeout-secs=1",
    ]
    command += ["--http-address=127.0.0.1", f"--http-port={port}"]
    environment = {**os.environ, "TRITON_PACKAGES": str(packages)}
    log = models.with_name("triton.log")
    with log.open("wb") as file, subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process:
        try:
            until = time.monotonic() + 60
            while not answers(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1) as reply:
            return reply.status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class TestServed:
    @pytest.fixture
    def served(self, url: str) -> Iterator[Segmenter]:
        with Segmenter("tiny", "triton", url=url) as opened:
            yield opened

    def test_the_server_says_what_the_model_is(self, served, url):
        assert served.spec == SPEC
        assert served.backend.name == "triton"
        assert served.backend.precision == "fp32"
        assert served.backend.device.startswith("server: triton 2.")
        assert served.backend.device.endswith(f"at {url}")
        assert served.backend.versions["tritonclient"][0].isdigit()

    def test_frames_of_any_size_have_the_labels_that_the_file_gives(self, served, tmp_path):
        with Segmenter(write_onnx(tmp_path / "tiny.onnx"), "onnxruntime") as file:
            for height, width in ((33, 33), (20, 70), (480, 640)):
                frame = random_frames(height, width, 3)
                result, expected = served(frame), file(frame)
                assert result.scores is not None
                assert expected.scores is not None
                np.testing.assert_array_equal(result.labels, expected.labels)
                np.testing.assert_allclose(result.scores, expected.scores, atol=1e-3)

    def test_a_stream_keeps_its_order(self, served):
        frames = [random_frames(32, 32, 3, seed=seed) for seed in range(6)]
        for result, frame in zip(served.stream(frames), frames, strict=True):
            np.testing.assert_array_equal(result.labels, scores_of(frame[None])[0].argmax(0))
            assert result.timings["infer"] > 0

    def test_several_frames_go_through_at_once(self, served):
        frames = random_frames(4, 16, 24, 3)
        np.testing.assert_allclose(served.backend.infer(frames), scores_of(frames), atol=1e-3)

    def test_labels_made_by_the_server_come_home(self, url):
        frame = random_frames(32, 32, 3)
        with Segmenter("finished", "triton", url=url) as served:
            np.testing.assert_array_equal(served(frame).labels, scores_of(frame[None])[0].argmax(0))

    def test_the_command_writes_the_masks_of_a_served_model(self, url, cat, tmp_path):
        command = [sys.executable, "-m", "fcn_edge.cli.main", "run", "--source", cat, "--backend", "triton"]
        command += ["--url", url, "--model", "tiny", "--resize", "native", "--labels", tmp_path]
        shown = subprocess.run(command, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        expected = scores_of(read_image(cat)[None])[0].argmax(0)
        np.testing.assert_array_equal(read_mask(tmp_path / "cat.png"), expected)

    def test_what_the_server_does_not_serve_is_answered_with_what_it_does(self, url):
        with pytest.raises(ModelError, match=f"{url} serves no model 'other'. It serves: finished, tiny"):
            Segmenter("other", "triton", url=url)

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            (replace(SPEC, classes=("a", "b"), palette=()), r"gives scores of \?x4x\?x\?, its spec names 2 classes"),
            (replace(SPEC, input=Input(layout="NCHW")), r"takes frames of \?x\?x\?x3, its spec says \(N, 3, H, W\)"),
            (replace(SPEC, input=Input(dtype="float32")), "takes uint8, its spec says float32"),
        ],
    )
    def test_a_model_of_another_shape_is_told_before_a_frame_is_sent(self, url, spec, said):
        with pytest.raises(ModelError, match=said):
            Segmenter("tiny", "triton", url=url, spec=spec)

    def test_threads_and_precision_are_the_servers(self, url):
        with pytest.raises(BackendError, match="its server decides on threads"):
            Segmenter("tiny", "triton", url=url, threads=2)
        with pytest.raises(BackendError, match="in fp32, not in bf16"):
            Segmenter("tiny", "triton", url=url, precision="bf16")

    def test_closing_twice_does_nothing(self, url):
        opened, _ = open_backend(*look_up("tiny", None, url), "triton")
        opened.infer(random_frames(1, 8, 8, 3))
        opened.close()
        opened.close()


def test_a_server_that_goes_away_is_one_line(tmp_path, url):
    add_model(tmp_path / "models" / "tiny", SPEC)
    with triton_server(tmp_path / "models") as port:
        segmenter = Segmenter("tiny", "triton", url=f"127.0.0.1:{port}")
        segmenter(random_frames(8, 8, 3))
    with segmenter, pytest.raises(BackendError, match=f"127.0.0.1:{port}: nobody answers there") as caught:
        segmenter(random_frames(8, 8, 3))
    assert "\n" not in str(caught.value)


class TestWithoutServer:
    @pytest.fixture(autouse=True)
    def client(self):
        pytest.importorskip("geventhttpclient", reason="pip install 'tritonclient[http]'")

    def test_nobody_behind_the_address_is_one_line(self):
        port = free_port()
        with pytest.raises(BackendError, match=f"127.0.0.1:{port}: nobody answers there: .*refused.*--url") as caught:
            Segmenter("tiny", "triton", url=f"127.0.0.1:{port}")
        assert "\n" not in str(caught.value)

    def test_a_server_of_another_kind_is_one_line(self):
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Quiet) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with pytest.raises((BackendError, ModelError, SpecError)) as caught:
                Segmenter("tiny", "triton", url=f"127.0.0.1:{server.server_port}")
            server.shutdown()
        assert str(caught.value).startswith(f"127.0.0.1:{server.server_port}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost:8000", "localhost"])
def test_an_address_is_host_and_port(url):
    with pytest.raises(UsageError, match=f"--url {url}: write HOST:PORT"):
        Segmenter("tiny", "triton", url=url)


def test_backend_and_address_go_together():
    with pytest.raises(UsageError, match="--backend triton --url HOST:PORT"):
        Segmenter("tiny", "triton")
    with pytest.raises(UsageError, match="--backend triton --url HOST:PORT"):
        Segmenter("tiny", url="localhost:8000")
    with pytest.raises(UsageError, match=r"--model export/a\.onnx: with --url it is the name"):
        Segmenter("export/a.onnx", "triton", url="localhost:8000")


def test_without_the_client_the_line_that_installs_it_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "geventhttpclient", None)
    with pytest.raises(BackendError, match=r"geventhttpclient is not installed: pip install 'tritonclient\[http\]'"):
        Segmenter("tiny", "triton", url="localhost:8000")


def test_a_server_is_no_choice_of_auto():
    assert backend_class("triton").suffixes == ()
