"""What is done to one picture, wherever that is: read, segmented, written under its own name, recorded.

An output says in its own comment which bytes and which options it was made of. So a picture that was taken up a second
time, because its worker died between writing and telling, is not written a second time; nor is one whose line in the
manifest was lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import msgspec

import fcn_edge
from fcn_edge.errors import BackendError, FcnEdgeError, ModelError, SinkError
from fcn_edge.files import sha256
from fcn_edge.many.manifest import Header, Output, Record, note
from fcn_edge.many.pictures import Picture
from fcn_edge.runtime.files import look_up
from fcn_edge.segmenter import Segmentation, Segmenter
from fcn_edge.video.frames import Frame
from fcn_edge.video.painter import Painter
from fcn_edge.video.pictures import decode_picture, read_bytes
from fcn_edge.video.sinks import LabelSink, PictureFolderSink, Result

HEAD = 1024  # bytes: the comment comes right behind the header of a PNG, and first in a JPEG
ELSEWHERE = ("model", "url", "threads")  # options whose content is hashed, or that leave the outputs as they are


@dataclass(frozen=True)
class Job:
    """What is made of every picture; each worker gets it as it is.

    model: the arguments of `Segmenter` by their names. drawing: those of `Painter` beside its spec.
    out, labels: absolute folders for overlays and masks; null: none wanted. force: over files of others, too.
    mark: of model, options and version: outputs with the same one are the same.
    """

    model: dict[str, Any]
    drawing: dict[str, Any]
    out: str | None
    labels: str | None
    force: bool
    mark: str

    @property
    def folder(self) -> Path:
        """Where the manifest lies."""
        return Path(self.labels or self.out or "")


def make_job(
    model: dict[str, Any], drawing: dict[str, Any], out: Path | None, labels: Path | None, force: bool
) -> tuple[Job, Header]:
    """The job, and what its manifest says of it.

    Paths become absolute and a description of the model is read, for other machines have other current folders.
    Raises UsageError, ModelError and SpecError as `Segmenter` does.
    """
    path, spec = look_up(model["model"], model["spec"], model["url"])
    Painter(spec, **drawing)  # raises for a class that there is none of
    if path.is_file():
        model = {**model, "model": os.path.abspath(path) if Path(model["model"]).is_file() else model["model"]}
    if model["spec"] is not None:
        model = {**model, "spec": spec}
    options = {**{name: value for name, value in model.items() if name != "spec"}, **drawing}
    content = sha256(path) if path.is_file() else ""
    telling = {name: value for name, value in options.items() if name not in ELSEWHERE}
    text = msgspec.json.encode([fcn_edge.__version__, content, spec, telling])
    mark = hashlib.sha256(text).hexdigest()[:16]
    drawn, masks = (None if folder is None else os.path.abspath(folder) for folder in (out, labels))
    job = Job(model, drawing, drawn, masks, force, mark)
    return job, Header(note(spec.name, spec.trained), spec.name, spec.trained, mark, options)


class Workbench:
    """A Segmenter with what stands before and behind it. A context manager.

    Raises what opening a Segmenter raises, SinkError where a folder cannot be written.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._segmenter = Segmenter(**job.model, scores=job.drawing["heat"] is not None)
        if job.model["threads"] is not None:
            cv2.setNumThreads(job.model["threads"])
        spec, backend = self._segmenter.spec, self._segmenter.backend
        self._painter = Painter(spec, **job.drawing)
        self._note = note(spec.name, spec.trained)
        masks = LabelSink(Path(job.labels), spec.palette, job.force, self._note) if job.labels else None
        overlays = PictureFolderSink(Path(job.out), job.force, self._note) if job.out else None
        self._sinks = [sink for sink in (masks, overlays) if sink is not None]
        self._computed = f"{backend.name} {backend.precision}"
        self.name = f"{socket.gethostname()}/{os.getpid()}"

    def do(self, picture: Picture) -> Record:
        """What became of the picture. What goes wrong is in the record, for the others are to be done all the same."""
        try:
            return self._done(picture)
        except FcnEdgeError as error:
            disk = isinstance(error, SinkError) and isinstance(error.__cause__, OSError)
            line, fatal = str(error), disk or isinstance(error, BackendError | ModelError)
        except MemoryError:
            line, fatal = "there is not enough memory for it. Give each worker more, or take --resize fit.", False
        except Exception as error:  # a defect at one picture of a million is no reason to stop
            line, fatal = f"{type(error).__name__}: {error}".splitlines()[0], False
        line = line if fatal or picture.path in line else f"{picture.path}: {line}"
        return Record(picture.name, picture.path, worker=self.name, problem=line, fatal=fatal)

    def _done(self, picture: Picture) -> Record:
        path = Path(picture.path)
        data = read_bytes(path)
        status = path.stat()
        digest = hashlib.sha256(data.data).hexdigest()
        comment = f"{self._note}, of {digest[:32]}, as {self._job.mark}"
        files = list(self._files(picture.name))
        computed = ""
        if not all(_carries(file, comment) for file in files):
            image = decode_picture(path, data)
            self._write(picture, self._segmenter(image), comment)
            computed = self._computed
        outputs = tuple(
            Output(os.path.relpath(file, self._job.folder), file.stat().st_size, sha256(file)) for file in files
        )
        kept = status.st_size, status.st_mtime_ns
        return Record(picture.name, picture.path, *kept, digest, outputs, computed, self.name)

    def _files(self, name: str) -> Iterator[Path]:
        if self._job.labels:
            yield Path(self._job.labels, f"{name}.png")
        if self._job.out:
            yield Path(self._job.out, f"{name}.jpg")

    def _write(self, picture: Picture, segmentation: Segmentation, comment: str) -> None:
        painter = self._painter
        labels = painter.labels(segmentation.labels)
        drawn = None
        if self._job.out:
            drawn = painter.draw(segmentation, labels, painter.shares(labels), "")
        frame = Frame(segmentation.frame, 0, Fraction(0), picture.name)
        for sink in self._sinks:
            sink.note = comment
            sink.write(Result(frame, labels, drawn, {}, segmentation.timings))

    def close(self) -> None:
        self._segmenter.close()

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _carries(file: Path, comment: str) -> bool:
    """Whether the file was made as `comment` says."""
    with contextlib.suppress(OSError), file.open("rb") as opened:
        return comment.encode() in opened.read(HEAD)
    return False
