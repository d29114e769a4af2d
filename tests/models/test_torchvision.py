"""torchvision opens beside a torch that it was not built for, and is left alone where it opens by itself.

What is installed here decides which of the two the first test meets. The others put a stand-in of a few lines in its
place, each in a process of its own, because a torchvision of another build cannot be had beside this one.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fcn_edge.models._torchvision import torchvision

# One process imports torch, which takes seconds, and parts for each stand-in.
PROGRAM = """
import os, sys
import torch
for folder in sys.argv[1:]:
    if os.fork() == 0:
        sys.path.insert(0, folder)
        try:
            from fcn_edge.models import _torchvision as door
            print(len(door._declared), "declared", door.torchvision.models.segmentation.__name__, flush=True)
        except Exception as error:
            print(type(error).__name__, error, flush=True)
        os._exit(0)
    os.wait()
"""
WANTS = "import torch\ntorch.library.register_fake('torchvision::{}')(lambda *inputs: None)\n"
STAND_INS = {
    "opens": "",
    "wants nms": WANTS.format("nms"),
    "wants another": WANTS.format("unheard_of"),
    "other CUDA": "raise RuntimeError('compiled with another CUDA')\n",
    "missing": "raise ModuleNotFoundError('gone', name='torchvision')\n",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, str]:
    """What comes of opening each stand-in."""
    folders = [stand_in(tmp_path_factory.mktemp("standin"), lines) for lines in STAND_INS.values()]
    command = [sys.executable, "-c", PROGRAM, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return dict(zip(STAND_INS, done.stdout.splitlines(), strict=True))


def stand_in(folder: Path, first_lines: str) -> Path:
    package = folder / "torchvision"
    (package / "models" / "segmentation").mkdir(parents=True)
    (package / "__init__.py").write_text(first_lines)
    (package / "models" / "__init__.py").write_text("")
    (package / "models" / "segmentation" / "__init__.py").write_text("")
    return folder


def test_the_installed_torchvision_builds_and_transforms():
    from torchvision.transforms import v2

    with torch.device("meta"):
        network = torchvision.models.mobilenet_v2(weights=None)
    published = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.meta["num_params"]
    assert sum(parameter.numel() for parameter in network.parameters()) == published
    assert v2.functional.hflip(torch.arange(3.0).view(1, 1, 3)).flatten().tolist() == [2, 1, 0]


def test_one_that_opens_by_itself_is_left_alone(answers):
    assert answers["opens"] == "0 declared torchvision.models.segmentation"


def test_operators_without_a_body_are_declared(answers):
    assert answers["wants nms"] == "1 declared torchvision.models.segmentation"


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("wants another", "operator torchvision::unheard_of does not exist. Install the one"),
        ("other CUDA", "compiled with another CUDA. Install the one"),
        ("missing", "pip install -e '.[export]'"),
    ],
)
def test_one_that_cannot_be_helped_is_told_in_one_line(answers, case, says):
    assert answers[case].startswith("FcnEdgeError torchvision")
    assert says in answers[case]
