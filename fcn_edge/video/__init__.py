"""Frames in, pictures and videos out."""

from fcn_edge.video.sources import Frame, Source, open_source

__all__ = ["Frame", "Source", "open_source"]
