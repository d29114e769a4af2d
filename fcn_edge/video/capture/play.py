"""A file or demo: that plays at its own rate and waits for nobody, to try what a camera would show."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction

from fcn_edge.video.capture.protocol import Shot
from fcn_edge.video.sources import open_uri
from fcn_edge.video.uri import Uri


def open_capture(uri: Uri) -> Player:
    return Player(uri)


class Player:
    def __init__(self, uri: Uri) -> None:
        self.notes: list[str] = []
        # The capturing process turns pictures itself.
        self.source = open_uri(replace(uri, options=replace(uri.options, live=None, flip=None)))
        self.rate: Fraction | None = self.source.rate
        self.pixel_aspect = self.source.pixel_aspect
        self.frames = iter(self.source)
        self.start: float | None = None

    def read(self) -> Shot | None:
        frame = next(self.frames, None)
        if frame is None:
            return None
        if self.start is None:
            self.start = time.monotonic() - float(frame.time)
        time.sleep(max(0.0, self.start + float(frame.time) - time.monotonic()))
        return Shot(frame.image, time.monotonic())

    def close(self) -> None:
        self.source.close()
