"""The guide's commands, as they stand on the page and in its order, on pictures that are drawn here.

One rule makes them quick: a figure named in QUICK, be it an option of a command (`--rounds 10`) or a line of the recipe
(`steps = 700`), has the value given there instead of the page's. Nothing else on the page is changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import typer
from PIL import Image

from fcn_edge.cli.main import app
from fcn_edge.resources import demo_photos

REPOSITORY = Path(__file__).parent.parent
PAGE = (REPOSITORY / "docs" / "guide.md").read_text()
QUICK = {
    "steps": "20",
    "batch": "6",
    "crop": "129",
    "rate": "1e-2",
    "frozen_trunk_steps": "20",
    "warmup": "0",
    "ema": "0.9",
    "validate_every": "20",
    "sizes": "385",
    "rounds": "2",
    "seconds": "0",
    "min-miou": "0.1",
    "max-latency": "60s",
}
LISTS = {"train": range(12), "val": range(12, 15), "test": range(15, 18)}
COLORS = {"apple": (40, 30, 210), "pear": (50, 190, 170)}  # BGR
WITHOUT_RTX = "TensorRT-RTX has no wheel for this platform: the guide's build was left out, all else ran"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def quick(text: str) -> str:
    for name, value in QUICK.items():
        text = re.sub(rf"(?m)^({name} = )[^\s#]+", rf"\g<1>{value}", text)
        text = re.sub(rf"(--{name} )\S+", rf"\g<1>{value}", text)
    return text


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A part of a demo photo with an apple and a pear on it, 120x160, and its mask."""
    rng = np.random.default_rng(number)
    photos = demo_photos()
    photo = cv2.imread(str(photos[number % len(photos)]))
    assert photo is not None
    height = int(225 * rng.uniform(0.5, 0.95))
    width = height * 4 // 3
    top, left = (int(rng.integers(0, room)) for room in (photo.shape[0] - height, photo.shape[1] - width))
    image = cv2.resize(photo[top : top + height, left : left + width], (160, 120), interpolation=cv2.INTER_AREA)
    mask = np.zeros((120, 160), np.uint8)
    for label, (color, axes) in enumerate(zip(COLORS.values(), ((24, 24), (16, 32)), strict=True), start=1):
        center = int(rng.integers(25, 65)) + 80 * (label - 1), int(rng.integers(35, 85))
        cv2.ellipse(image, center, axes, 0, 0, 360, color, -1)
        cv2.ellipse(mask, center, axes, 0, 0, 360, label, -1)
    return image, mask


def draw_fruit(root: Path) -> None:
    """The folder that the page shows."""
    for folder in ("images", "masks", "lists"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("background\napple 220 20 60\npear 178 190 60\n")
    for name, numbers in LISTS.items():
        (root / "lists" / f"{name}.txt").write_text("".join(f"a{number}\n" for number in numbers))
        for number in numbers:
            image, mask = draw(number)
            cv2.imwrite(str(root / "images" / f"a{number}.jpg"), image)
            Image.fromarray(mask).save(root / "masks" / f"a{number}.png")


def draw_clip(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in LISTS["test"]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(number)[0], format="bgr24")))
        container.mux(stream.encode())


def place(folder: Path) -> dict[str, str]:
    """What a team has when it begins: the checkout, the pictures and the recipe; and fcn-edge on its PATH."""
    (folder / "fcn-edge").symlink_to(REPOSITORY)
    draw_fruit(folder / "orchard" / "fruit")
    draw_clip(folder / "orchard" / "line.mp4")
    for recipe in blocks("toml"):
        name = recipe.splitlines()[0].removeprefix("# ")
        (folder / name).write_text(quick(recipe))
    command = folder / "bin" / "fcn-edge"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fcn_edge "$@"\n')
    command.chmod(0o755)
    path = [str(REPOSITORY), os.environ.get("PYTHONPATH")]
    return {
        **os.environ,
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(part for part in path if part),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def test_every_command_of_the_guide_works_in_its_order(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    has_rtx = find_spec("tensorrt_rtx") is not None
    run = [block for block in blocks("sh") if has_rtx or "fcn-edge build" not in block]
    script = quick("\n".join(["set -eux", *run]))
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=place(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    orchard = tmp_path / "orchard"
    named = set(re.findall(r"`((?:runs|export|calib|engines|bench)/[^`\s]+|overlay\.mp4|stats\.jsonl)`", PAGE))
    assert len(named) > 10
    assert [name for name in sorted(named) if not list(orchard.glob(name)) and (has_rtx or "engines" not in name)] == []
    with av.open(str(orchard / "overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == len(LISTS["test"])
    if not has_rtx:
        pytest.skip(WITHOUT_RTX)


@pytest.mark.parametrize("name", QUICK)
def test_what_is_made_quick_stands_on_the_page(name: str) -> None:
    assert quick(PAGE).count(f"--{name} {QUICK[name]}") + quick(PAGE).count(f"\n{name} = {QUICK[name]}") > 0


def test_commands_that_only_another_machine_can_run_have_options_that_exist() -> None:
    group = typer.main.get_command(app)
    inline = [" ".join(text.split()).replace("> ", "") for text in re.findall(r"`(fcn-edge [^`]+)`", PAGE)]
    assert len(inline) > 6
    for text in inline:
        words = text.split()
        command = group.commands[words[1]]  # pyright: ignore[reportAttributeAccessIssue]
        known = {option for parameter in command.params for option in parameter.opts}
        assert [word for word in words if word.startswith("--") and word not in known] == [], text


def test_every_step_that_a_jetson_does_otherwise_says_so() -> None:
    """By the names of the sections, so that a new one is decided about."""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE))
    marked = {name for name, text in sections.items() if "> **Jetson.**" in text}
    assert marked == {"Before you begin", "INT8", "Build", "Measure", "Report", "Recommend", "Run"}


def test_every_link_leads_to_what_it_names() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        text = (REPOSITORY / "docs" / path).read_text()
        heads = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in re.findall(r"(?m)^#+ (.+)$", text)}
        assert not anchor or anchor in heads, target
