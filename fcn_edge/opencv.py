"""Which OpenCV is here, and the line that mends what it lacks.

Three kinds are about: pip's wheels, which have no GStreamer; Debian's and JetPack's, which have it and are built for
NumPy 1; and pip's where the system's was meant, because a wheel in an environment comes before it.
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from importlib import metadata

WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
INSTALL = (  # Debian's package; JetPack has its own already
    "sudo apt install python3-opencv, then pip install '.[jetson]' in an environment made with "
    "python3 -m venv --system-site-packages"
)


@dataclass(frozen=True)
class OpenCv:
    path: str
    version: str
    wheels: list[str]  # distributions that brought it; empty: the system's
    window: str | None  # the toolkit of imshow; None: headless
    gstreamer: bool
    ffmpeg: bool


def look() -> OpenCv:
    """The cv2 that is imported here. Raises ImportError, which `explain` knows."""
    with contextlib.redirect_stderr(io.StringIO()):  # NumPy 2 prints pages where OpenCV wants NumPy 1
        import cv2
    build = cv2.getBuildInformation()
    window = _field(build, "GUI")
    return OpenCv(
        path=str(cv2.__file__),
        version=cv2.__version__,
        wheels=wheels(),
        window=None if window in ("", "NONE") else window,
        gstreamer=_field(build, "GStreamer").startswith("YES"),
        ffmpeg=_field(build, "FFMPEG").startswith("YES"),
    )


def wheels() -> list[str]:
    """The distributions of pip's that brought an OpenCV, each with its version; none where it is the system's."""
    found: list[str] = []
    for name in WHEELS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def without_gstreamer() -> str:
    """What to say where a source wants GStreamer and this cv2 has none."""
    found = f" ({' + '.join(wheels())})" if wheels() else ""
    return f"this OpenCV{found} was built without GStreamer. The system's has it: {INSTALL}"


def explain(error: ImportError) -> str | None:
    """Why `import cv2` failed, with the mend, on one line; None where `error` is not about it."""
    text = " ".join(str(error).split())
    if error.name == "cv2":
        return f"OpenCV is not installed: pip install opencv-python-headless. For one with GStreamer: {INSTALL}"
    if "multiarray" in text or "_ARRAY_API" in text:
        return (
            f"this OpenCV is built for NumPy 1, and NumPy {metadata.version('numpy')} is here: pip install 'numpy<2'."
        )
    if "libGL" in text or "libgthread" in text:
        return (
            f"OpenCV does not load ({text}): sudo apt install libgl1 libglib2.0-0, or take the one without windows: "
            "pip uninstall opencv-python, then pip install opencv-python-headless."
        )
    return None


def _field(build: str, name: str) -> str:
    """What `cv2.getBuildInformation()` says of `name`."""
    match = re.search(rf"^\s*{name}:[ \t]*(.*)$", build, re.MULTILINE)
    return match.group(1).strip() if match else ""
