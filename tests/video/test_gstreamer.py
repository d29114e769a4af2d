"""Pipelines of GStreamer, through an OpenCV that has it: Debian's, in the environment that scripts/gstreamer makes.

No such OpenCV is in the environment of the tests, so each test hands a few lines to the other one's Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import pytest
import rtsp_server

from fcn_edge import opencv
from fcn_edge.errors import SourceError
from fcn_edge.video import open_source
from fcn_edge.video.capture import gstreamer
from fcn_edge.video.uri import parse

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-gstreamer" / "bin" / "python"
RED = "videotestsrc is-live=true pattern=red ! video/x-raw,width=64,height=48,framerate=25/1"
SHOW = """
import json, sys
from fcn_edge.errors import SourceError
from fcn_edge.video import open_source

uri, count = json.load(sys.stdin)
told = {"frames": []}
try:
    with open_source(uri) as source:
        for frame in source:
            told["frames"].append([frame.sequence, list(frame.image.shape), frame.image[24, 32].tolist()])
            if len(told["frames"]) == count:
                break
    told["rate"] = float(source.rate or 0)
    told["problems"] = source.problems
except SourceError as error:
    told["error"] = str(error)
print(json.dumps(told))
"""

DECODE = """
import json, sys
from fcn_edge.errors import SourceError
from fcn_edge.video.capture import gstreamer
from fcn_edge.video.uri import parse

try:
    capture = gstreamer.open_capture(parse(json.load(sys.stdin)))
    print(json.dumps({"shape": list(capture.read().image.shape)}))
    capture.close()
except SourceError as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture(scope="module")
def environment() -> None:
    if not PYTHON.exists():
        pytest.skip("there is no .venv-gstreamer. Make it: scripts/gstreamer")


def there(*arguments: str, given: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the other environment's Python does with these arguments."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [PYTHON, *arguments], input=given, env=variables, capture_output=True, text=True, timeout=120, check=False
    )


def shown(uri: str, count: int = 5) -> dict[str, Any]:
    """The first frames of a source, as its process gave them; or its error."""
    done = there("-c", SHOW, given=json.dumps([uri, count]))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.debian
@pytest.mark.usefixtures("environment")
class TestPipelines:
    def test_a_pipeline_without_an_end_gives_its_pictures_in_bgr(self):
        told = shown(f"gst://{RED}")
        assert [frame[1] for frame in told["frames"]] == [[48, 64, 3]] * 5
        assert told["frames"][0][2][2] > 240
        assert max(told["frames"][0][2][:2]) < 20
        assert told["rate"] == 25

    def test_an_appsink_of_the_users_own_is_left_as_it_is(self):
        told = shown(f"gst://{RED} ! videoconvert ! video/x-raw,format=GRAY8 ! appsink max-buffers=1 drop=true")
        blue, green, red = told["frames"][0][2]
        assert blue == green == red

    def test_a_pipeline_that_ends_ends_the_source(self):
        told = shown(f"gst://{RED.replace('is-live', 'num-buffers=10 is-live')}", count=100)
        assert 0 < len(told["frames"]) <= 10
        assert told["problems"] == []

    def test_the_csi_pipeline_with_a_test_picture_in_place_of_the_sensor(self):
        line = gstreamer.csi_pipeline(parse("csi://1#size=240x320,rate=15"))
        assert line.startswith("nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),")
        for nvidias, ours in (
            ("nvarguscamerasrc sensor-id=1", "videotestsrc is-live=true pattern=red"),
            ("(memory:NVMM)", ""),
            ("nvvidconv", "videoconvert"),
        ):
            assert nvidias in line
            line = line.replace(nvidias, ours)
        told = shown(f"gst://{line}")
        assert told["frames"][0][1] == [240, 320, 3]
        assert told["frames"][0][2][2] > 240
        assert told["rate"] == 15

    @pytest.mark.parametrize(
        ("uri", "words"),
        [
            (
                "gst://nosuchthing ! fakesink",
                'gst://nosuchthing ! fakesink: cannot be opened: no element "nosuchthing".',
            ),
            ("gst://videotestsrc ! ! x", "cannot be opened: "),
            ("gst://filesrc location=/no/such/file ! decodebin", "cannot be opened: Resource not found"),
            ("csi://0", "sudo apt install nvidia-l4t-gstreamer"),
        ],
    )
    def test_what_cannot_be_opened_is_one_line_with_its_reason(self, uri, words):
        error = shown(uri)["error"]
        assert words in error
        assert "\n" not in error

    def test_what_breaks_on_the_way_is_lost_with_its_reason(self):
        told = shown(f"gst://{RED} ! identity error-after=5#reconnect=0", count=100)
        assert told["frames"]
        assert "Failed after iterations as requested" in " ".join([*told["problems"], told.get("error", "")])

    def test_no_password_is_told(self):
        error = shown("gst://rtspsrc location=rtsp://me:hush1@127.0.0.1:9/x user-pw=hush2 ! nosuchthing")["error"]
        assert "hush" not in error

    def test_a_run_writes_the_overlay(self, tmp_path):
        out = tmp_path / "overlay.mp4"
        pipeline = f"gst://{RED.replace('is-live', 'num-buffers=50 is-live')}"
        done = there("-m", "fcn_edge", "run", "--source", pipeline, "--out", str(out), "--frames", "5", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["frames"] == 5
        assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT) == 5

    def test_doctor_says_that_this_opencv_has_gstreamer(self):
        done = there("-m", "fcn_edge", "doctor", "--json")
        assert json.loads(done.stdout)["opencv"]["gstreamer"] is True

    def test_debians_opencv_with_numpy_2_is_one_line_of_doctors(self, tmp_path):
        """The library that the other environment imports, in this one, whose NumPy it is not built for."""
        found = there("-c", "import cv2; print(cv2.__file__)").stdout.strip()
        (tmp_path / Path(found).name).symlink_to(found)
        command = [sys.executable, "-m", "fcn_edge", "doctor", "--json"]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=True)
        document = json.loads(done.stdout)
        assert document["opencv"] is None
        assert any("is built for NumPy 1" in line and "pip install 'numpy<2'" in line for line in document["advice"])
        assert done.stderr == ""

    def test_rtsp_is_decoded_and_a_wrong_password_told(self, make_video):
        problem = rtsp_server.missing()
        if problem:
            pytest.skip(problem)
        with rtsp_server.serving(make_video(size=(96, 256), frames=50), password=True) as server:
            user = f"{rtsp_server.USER}:{quote(rtsp_server.PASSWORD, safe='')}@"
            given = json.loads(there("-c", DECODE, given=json.dumps(server.url(credentials=user))).stdout)
            refused = json.loads(there("-c", DECODE, given=json.dumps(server.url(credentials="viewer:hush@"))).stdout)
        assert given == {"shape": [96, 256, 3]}
        assert "Unauthorized" in refused["error"]
        assert "hush" not in refused["error"]


def test_an_opencv_without_gstreamer_is_answered_with_the_mend():
    if opencv.look().gstreamer:
        pytest.skip("this OpenCV has it")
    for uri in ("csi://0", "gst://videotestsrc"):
        with pytest.raises(
            SourceError, match=rf"^{uri}: this OpenCV .*without GStreamer\. .*apt install python3-opencv"
        ):
            open_source(uri)
