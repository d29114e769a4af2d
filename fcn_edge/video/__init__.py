"""Frames in, pictures and videos out."""

from fcn_edge.video.frames import Frame, Source
from fcn_edge.video.sources import open_source

__all__ = ["Frame", "Source", "open_source"]
