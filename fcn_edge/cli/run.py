"""`fcn-edge run`: frames in, segmented pictures and videos out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fcn_edge.cli import common
from fcn_edge.errors import UsageError

EPILOG = common.examples(
    "fcn-edge run --source demo: --duration 3 --out demo.mp4",
    "fcn-edge run --source photos --classes person,dog --out overlays --labels masks --json",
)

Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        "-s",
        help="A photo, a folder, a 'glob', a video file, a camera's number, rtsp://, http://, csi://0, gst://PIPELINE, "
        "or demo:, a view that never ends. Several: name it again. Else what FCN_EDGE_SOURCE names.",
    ),
]
Camera = Annotated[str | None, typer.Option("--camera", help="A camera by its number or device, as --source does it.")]
Capture = Annotated[
    str | None,
    typer.Option("--capture", help="Asked of every source, as in size=720x1280,rate=30,flip=180 (docs/run.md)."),
]
Reconnect = Annotated[
    str | None,
    typer.Option("--reconnect", help="How long a lost source is looked for, as in 10min; from the start on, too."),
]
Out = Annotated[
    list[str] | None,
    typer.Option(
        "--out",
        "-o",
        help="The overlay: a video (.mp4, .mov, .mkv), a picture, a folder for pictures, or rtsp://:8554/live. "
        "Several: name it again.",
    ),
]
Segment = Annotated[
    str | None, typer.Option("--segment", help="Cut videos, as in 10min, 100MB or 1h,keep=48 (the newest 48 stay).")
]
Encoder = Annotated[str, typer.Option("--encoder", help="For videos: auto, or a name as in libx264 or h264_nvenc.")]
Labels = Annotated[Path | None, typer.Option("--labels", help="Folder for a mask a frame: palette PNGs of its size.")]
Heat = Annotated[str | None, typer.Option("--heat", help="Show this class's probability instead of the overlay.")]
Stats = Annotated[Path | None, typer.Option("--stats", help="File for figures: a JSON line a frame, then a summary.")]
Alpha = Annotated[float, typer.Option("--alpha", min=0.0, max=1.0, help="How strongly the overlay covers.")]
Classes = Annotated[
    str | None, typer.Option("--classes", help="Show only these, as in person,dog; all others become background.")
]
Frames = Annotated[int | None, typer.Option("--frames", min=1, help="End after so many frames of each source.")]
Duration = Annotated[
    float | None,
    typer.Option("--duration", min=0.001, help="End after so many seconds of the video, or of work on photos."),
]
MaxFps = Annotated[
    float | None,
    typer.Option("--max-fps", min=0.001, help="At most so many frames a second of each source; a file waits."),
]
Skip = Annotated[int, typer.Option("--skip", min=0, help="Leave out so many frames after each one.")]
Stable = Annotated[bool, typer.Option("--stable", help="Steady labels over time.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads for the network; all where absent.")]
Legend = Annotated[bool, typer.Option("--legend/--no-legend", help="Class names and rate in the picture.")]
Window = Annotated[
    bool | None,
    typer.Option("--window/--no-window", help="Show a window; by default where nothing is written and one can open."),
]
Web = Annotated[bool, typer.Option("--web", help="Serve a page with the live picture and figures.")]
Host = Annotated[str, typer.Option("--host", help="The page's address; on others than loopback it wants a token.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The page's port; 0: any free one.")]
On = Annotated[
    str | None,
    typer.Option("--on", help="Hand pictures to many workers: local, or a cluster's ray://HOST:PORT (docs/many.md)."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="How many, with --on; one a core, or a GPU, where absent.")
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="FCN_EDGE_TOKEN", help="What a client must know; made where one is needed."),
]


def register(app: typer.Typer) -> None:
    app.command("run", epilog=EPILOG)(command)


def command(
    source: Sources = None,
    camera: Camera = None,
    capture: Capture = None,
    reconnect: Reconnect = None,
    model: common.Model = common.DEFAULT_MODEL,
    out: Out = None,
    segment: Segment = None,
    encoder: Encoder = "auto",
    labels: Labels = None,
    heat: Heat = None,
    stats: Stats = None,
    classes: Classes = None,
    alpha: Alpha = 0.5,
    legend: Legend = True,
    window: Window = None,
    web: Web = False,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    token: Token = None,
    frames: Frames = None,
    duration: Duration = None,
    max_fps: MaxFps = None,
    skip: Skip = 0,
    stable: Stable = False,
    backend: common.Backend = "auto",
    precision: common.Precision = None,
    size: common.Size = None,
    resize: common.Resize = None,
    overlap: common.Overlap = None,
    refine: common.Refine = None,
    spec: common.SpecFile = None,
    url: common.Url = None,
    on: On = None,
    workers: Workers = None,
    threads: Threads = None,
    force: common.Force = False,
    json: common.Json = False,
) -> None:
    """Segment photos, videos, cameras and streams, one or several at a time.

    With --backend tensorrt or tensorrt-rtx an ONNX file's engine is built first where none fits, and kept.

    Ctrl-C ends a run early; what was written until then is kept and playable.
    """
    sources = (*(source or ()), *((_camera(camera),) if camera is not None else ())) or _from_environment()
    if not sources:
        raise UsageError("name an input: --source with a photo, folder, video file, stream or demo:, or --camera 0.")
    keep = None if classes is None else tuple(name.strip() for name in classes.split(",") if name.strip())
    opening: dict[str, Any] = {"model": model, "backend": backend, "precision": precision, "url": url}
    opening |= {"size": common.parse_size(size), "resize": resize, "refine": refine, "spec": spec, "threads": threads}
    opening |= {} if overlap is None else {"overlap": overlap}
    drawing: dict[str, Any] = {"alpha": alpha, "keep": keep, "heat": heat, "legend": legend}
    outs = tuple(out or ())
    if twice := [name for name in outs if outs.count(name) > 1]:
        raise UsageError(f"--out {twice[0]}: is named twice.")
    if on is not None:
        from fcn_edge.cli import many

        live = {"--camera": camera, "--capture": capture, "--reconnect": reconnect, "--window": window, "--web": web}
        limits = {"--frames": frames, "--duration": duration, "--max-fps": max_fps, "--skip": skip}
        many.refuse({**live, **limits, "--segment": segment, "--stats": stats, "--stable": stable})
        asked = many.Request(on, workers, sources, opening, drawing, outs, labels, force, json)
        raise typer.Exit(many.run(asked))
    if workers is not None:
        raise UsageError("--workers: goes with --on. Add --on local.")
    if resize == "tiles":
        from fcn_edge.cli import giant

        if giant.are_pictures(sources):
            options = {"--heat": heat, "--stats": stats, "--window": window, "--web": web, "--stable": stable}
            limits = {"--frames": frames, "--duration": duration, "--max-fps": max_fps, "--skip": skip}
            giant.refuse({**options, **limits, "--refine": refine, "--segment": segment, "--capture": capture})
            asked = giant.Request(sources, opening, outs, labels, keep, alpha, force, json)
            raise typer.Exit(giant.run(asked))

    from fcn_edge.cli.running import Drawing, Page, Request, run
    from fcn_edge.video.feed import Limits
    from fcn_edge.video.options import SourceOptions
    from fcn_edge.video.outputs import Wishes
    from fcn_edge.video.series import parse_cut

    cut = None if segment is None else parse_cut(segment)
    wishes = Wishes(outs, labels, stats, window, force, cut, encoder, served=web)
    if not json or wishes.writes or window:
        wishes.check()
    asked = ",".join([*([capture] if capture else []), *([f"reconnect={reconnect}"] if reconnect else [])])
    status = run(
        Request(
            sources=sources,
            capture=SourceOptions().updated(asked),
            model=opening,
            wishes=wishes,
            drawing=Drawing(**drawing),
            limits=Limits(frames, duration, max_fps, skip),
            stable=stable,
            page=Page(host, port, token) if web else None,
            json=json,
        )
    )
    if status:
        raise typer.Exit(status)


def _from_environment() -> tuple[str, ...]:
    """What FCN_EDGE_SOURCE names, a line each: a command line, and a password in it, is there for all users to read."""
    return tuple(line for line in os.environ.get("FCN_EDGE_SOURCE", "").splitlines() if line.strip())


def _camera(camera: str) -> str:
    """`--camera 0` and `--camera /dev/video0` as a source."""
    return camera if camera.isdecimal() else f"v4l2://{camera}"
