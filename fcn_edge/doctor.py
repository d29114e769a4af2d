"""What this machine can run, looked at rather than guessed: libraries are loaded, devices are opened.

But for torch, which takes seconds to load. Nothing here raises: what is missing is what the report is for.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fcn_edge import __version__, opencv
from fcn_edge.engine.board import Board, find_board
from fcn_edge.engine.machine import Gpu, find_gpu, read_driver_version
from fcn_edge.engine.versions import PRODUCTS, load
from fcn_edge.errors import BackendError, FcnEdgeError
from fcn_edge.opencv import OpenCv
from fcn_edge.runtime import BACKENDS, backend_class, is_installed
from fcn_edge.runtime.files import bundled, read_spec
from fcn_edge.runtime.host import cpu_flags, cpu_name, physical_cores

if TYPE_CHECKING:
    from fcn_edge.video.rtsp_process import GStreamer

TELLING_FLAGS = (  # instruction sets that decide which kernels a runtime takes; x86's names, then ARM's
    "avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
ADAPTERS = {"cuda-python": "cuda.bindings", "pycuda": "pycuda"}
JETPACK_INSTALL = "sudo apt install nvidia-jetpack"
NVIDIA, DISPLAY = "0x10de", "0x03"  # vendor and class on the PCI bus
H264_ENCODERS = ("libx264", "libopenh264", "h264_nvenc", "h264_v4l2m2m")


@dataclass(frozen=True)
class Machine:
    system: str
    python: str
    cpu: str
    flags: list[str]
    cores: int  # physical, that this process may use
    memory: int | None  # bytes
    gpu: Gpu | None  # the first that CUDA shows
    gpus: list[str]  # all of NVIDIA's, as nvidia-smi names them, where it is there
    board: Board | None  # a Jetson
    display: bool


@dataclass(frozen=True)
class BackendReport:
    installed: bool
    version: str | None
    precisions: list[str]  # of a float file, the default first
    files: list[str]  # endings
    problem: str | None  # why it cannot be used, with the mend


@dataclass(frozen=True)
class TensorRt:
    """One of NVIDIA's two products; it counts from where its module has a Builder."""

    version: str | None
    problem: str | None  # why it cannot be used, with the mend


@dataclass(frozen=True)
class Video:
    av: str
    h264_encoders: list[str]


@dataclass(frozen=True)
class Camera:
    path: str
    name: str
    permitted: bool


@dataclass(frozen=True)
class Report:
    """Everything `fcn-edge doctor` tells; `advice` holds a line for each thing to mend."""

    version: str
    machine: Machine
    backends: dict[str, BackendReport]
    tensorrt: dict[str, TensorRt]  # by product
    adapter: str | None  # the package that CUDA is reached through
    opencv: OpenCv | None
    video: Video | None
    gstreamer: GStreamer | None
    cameras: list[Camera]
    models: dict[str, str]  # bundled: name to path
    advice: list[str]


def examine() -> Report:
    """Look at this machine; about a second."""
    advice: list[str] = []
    machine = _machine()
    tensorrt = {product: _tensorrt(product) for product in PRODUCTS}
    adapter = next((name for name, module in ADAPTERS.items() if _is_there(module)), None)
    advice += _gpu_advice(machine, tensorrt, adapter)
    return Report(
        version=__version__,
        machine=machine,
        backends=_backends(tensorrt, advice),
        tensorrt=tensorrt,
        adapter=adapter,
        opencv=_opencv(advice, machine.board),
        video=_video(advice),
        gstreamer=_gstreamer(),
        cameras=_cameras(advice),
        models=_models(advice),
        advice=advice,
    )


def _machine() -> Machine:
    flags = cpu_flags()
    linux = sys.platform == "linux"
    return Machine(
        system=platform.platform(),
        python=f"{platform.python_version()} ({sys.executable})",
        cpu=cpu_name(),
        flags=[flag for flag in TELLING_FLAGS if flag in flags],
        cores=physical_cores(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        gpu=find_gpu(),
        gpus=_gpus(),
        board=find_board(),
        display=not linux or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")),
    )


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    fields = "--query-gpu=name,compute_cap,memory.total,driver_version"
    try:
        answer = subprocess.run(
            [program, fields, "--format=csv,noheader"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _gpu_advice(machine: Machine, tensorrt: dict[str, TensorRt], adapter: str | None) -> Iterator[str]:
    """What an NVIDIA GPU lacks, with the line that mends it here; nothing where there is none."""
    board = machine.board
    if board and board.too_old:
        yield f"JetPack {board.jetpack} has too old a Python: flash JetPack 6.2 or later (docs/jetson.md)"
        return
    if machine.gpu is None:
        if board:
            yield f"CUDA shows no GPU. In a container: start it with --runtime nvidia; else: {JETPACK_INSTALL}"
        elif read_driver_version():
            yield "the NVIDIA driver is loaded, but CUDA shows no GPU. In a container: start it with --gpus all"
        elif has_nvidia_card():
            yield "an NVIDIA card is there and no driver. Ubuntu: sudo ubuntu-drivers install, then restart"
        return
    if all(state.problem for state in tensorrt.values()):
        yield str(tensorrt["tensorrt"].problem)
    if adapter is None:
        # its major version is the driver's CUDA's, or an older one's
        yield f"nothing to reach CUDA through: pip install 'cuda-python=={machine.gpu.cuda.split('.')[0]}.*'"


def has_nvidia_card(root: Path = Path("/")) -> bool:
    """Whether a display or 3D controller of NVIDIA's is on the PCI bus, driver or not; Linux."""
    for device in root.glob("sys/bus/pci/devices/*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == NVIDIA and kind.startswith(DISPLAY):
            return True
    return False


def _backends(tensorrt: dict[str, TensorRt], advice: list[str]) -> dict[str, BackendReport]:
    found = {name: _backend(name, tensorrt[name].problem if name in tensorrt else None) for name in BACKENDS}
    if not any(report.problem is None and ".onnx" in report.files for report in found.values()):
        advice.append("nothing here runs an ONNX file: pip install openvino onnxruntime")
    return found


def _backend(name: str, problem: str | None) -> BackendReport:
    kind = backend_class(name)
    files = list(kind.suffixes)
    if problem is not None:
        return BackendReport(False, None, [], files, problem)
    if not is_installed(name):
        return BackendReport(False, None, [], files, f"not installed: {kind.install}")
    version = _version(kind.distribution)
    try:
        return BackendReport(True, version, kind.precisions(), files, None)
    except BackendError as error:
        return BackendReport(True, version, [], files, str(error).removesuffix(" Look with fcn-edge doctor."))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _tensorrt(product: str) -> TensorRt:
    try:
        return TensorRt(".".join(map(str, load(product).version)), None)
    except BackendError as error:
        return TensorRt(None, str(error))


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # its parent is not there
        return False


def _opencv(advice: list[str], board: Board | None) -> OpenCv | None:
    try:
        found = opencv.look()
    except ImportError as error:
        advice.append(opencv.explain(error) or f"OpenCV does not load ({error}): pip install opencv-python-headless")
        return None
    if len(found.wheels) > 1:
        names = " ".join(wheel.split()[0] for wheel in found.wheels)
        both = " and ".join(found.wheels)
        advice.append(f"{both} overwrite each other's files: pip uninstall {names}, then install one of them")
    if board and not found.gstreamer:
        advice.append(f"no CSI camera can be opened: {opencv.without_gstreamer()}")
    return found


def _video(advice: list[str]) -> Video | None:
    try:
        import av
        from av.codec import Codec
        from av.codec.codec import UnknownCodecError
    except ImportError as error:
        advice.append(f"av does not load ({error}), so no video can be read or written: pip install av")
        return None
    encoders: list[str] = []
    for name in H264_ENCODERS:
        try:
            Codec(name, "w")
        except UnknownCodecError:
            continue
        encoders.append(name)
    if "libx264" not in encoders:
        advice.append("this av was built without libx264, so no video can be written: pip install --force-reinstall av")
    return Video(av.__version__, encoders)


def _gstreamer() -> GStreamer | None:
    if sys.platform != "linux":
        return None
    try:
        from fcn_edge.video import rtsp_process
    except ImportError:  # OpenCV or av, of which is told elsewhere
        return None
    return rtsp_process.look()


def _cameras(advice: list[str]) -> list[Camera]:
    cameras: list[Camera] = []
    for path in sorted(Path("/dev").glob("video*")):
        label = Path("/sys/class/video4linux", path.name, "name")
        name = label.read_text(errors="replace").strip() if label.exists() else "unknown"
        cameras.append(Camera(str(path), name, os.access(path, os.R_OK | os.W_OK)))
    if any(not camera.permitted for camera in cameras):
        advice.append("a camera is there but not permitted: sudo usermod -aG video $USER, then log in again")
    return cameras


def _models(advice: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, path in bundled().items():
        try:
            read_spec(path)
            found[name] = str(path)
        except FcnEdgeError as error:
            advice.append(str(error))
    if not found:
        advice.append("no model is bundled with this installation: name one with --model")
    return found


def text(report: Report) -> str:
    """The report for people."""
    machine, lines = report.machine, [f"fcn-edge {report.version}"]
    memory = f", {machine.memory / 2**30:.1f} GiB" if machine.memory else ""
    lines += _section(
        "machine",
        [
            f"{machine.system}, Python {machine.python}",
            f"{machine.cpu}: {machine.cores} cores{memory}; {' '.join(machine.flags) or 'flags unknown'}",
            *_gpu_lines(machine),
            f"display: {'yes' if machine.display else 'no'}",
        ],
    )
    lines += _section("backends", [_backend_line(name, backend) for name, backend in report.backends.items()])
    adapter = f"{'CUDA':12} {report.adapter or 'nothing to reach it through'}"
    states = [f"{name:12} {state.version or state.problem}" for name, state in report.tensorrt.items()]
    lines += _section("TensorRT", [*states, adapter])
    video = [*_opencv_lines(report.opencv), *_video_lines(report.video), *_gstreamer_lines(report.gstreamer)]
    lines += _section("pictures and video", video)
    lines += _section("cameras", [_camera_line(camera) for camera in report.cameras] or ["none"])
    lines += _section("models", [f"{name:12} {path}" for name, path in report.models.items()] or ["none"])
    lines += _section("to mend", report.advice or ["nothing"])
    return "\n".join(lines)


def _gpu_lines(machine: Machine) -> list[str]:
    gpu, board, lines = machine.gpu, machine.board, list[str]()
    if gpu:
        lines.append(
            f"GPU: {gpu.name}, compute capability {gpu.compute_capability}, {gpu.sm_count} multiprocessors, "
            f"{gpu.memory / 2**30:.1f} GiB; driver {gpu.driver or 'unknown'}, CUDA up to {gpu.cuda}"
        )
    else:
        lines.append(
            "GPU: CUDA shows none" + (f"; nvidia-smi tells of {', '.join(machine.gpus)}" if machine.gpus else "")
        )
    if board:
        held = {True: "held", False: "not held (before measuring: sudo jetson_clocks)", None: "unknown"}
        lines.append(
            f"board: {board.name or 'a Jetson'}, JetPack {board.jetpack or 'unknown'}, L4T {board.l4t or 'unknown'}"
        )
        lines.append(f"power: mode {board.power_mode or 'unknown'}, GPU clock {held[board.clocks_held]}")
    return lines


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"\n{title}", *(f"  {line}" for line in lines)]


def _backend_line(name: str, backend: BackendReport) -> str:
    if backend.problem:
        return f"{name:12} {backend.problem}"
    default, *others = backend.precisions
    also = f" (or {', '.join(others)})" if others else ""
    return (
        f"{name:12} {backend.version or '?'}, computes float files in {default}{also}, runs {' '.join(backend.files)}"
    )


def _opencv_lines(opencv: OpenCv | None) -> list[str]:
    if opencv is None:
        return ["OpenCV       does not load"]
    origin = " + ".join(opencv.wheels) or "the system's"
    abilities = [
        f"window {opencv.window}" if opencv.window else "no window (headless)",
        "with GStreamer" if opencv.gstreamer else "no GStreamer (csi:// and gst:// want it)",
        f"{'with' if opencv.ffmpeg else 'no'} FFmpeg",
    ]
    return [f"OpenCV       {opencv.version} ({origin}): {', '.join(abilities)}", f"{'':12} {opencv.path}"]


def _video_lines(video: Video | None) -> list[str]:
    if video is None:
        return ["av           does not load"]
    return [f"av           {video.av}, H.264 encoders: {', '.join(video.h264_encoders) or 'none'}"]


def _gstreamer_lines(found: GStreamer | None) -> list[str]:
    if found is None:
        return []
    able = f"encoder {found.encoder or 'none'}, in hardware {', '.join(found.hardware) or 'nothing'}"
    return [f"GStreamer    {found.problem or f'{found.version}, serves RTSP: {able}'}", f"{'':12} {found.python}"]


def _camera_line(camera: Camera) -> str:
    return f"{camera.path:12} {camera.name}{'' if camera.permitted else ' (not permitted: group video)'}"
