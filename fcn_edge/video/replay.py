"""A file, folder or demo: that is turned, or begins again at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

from fcn_edge.video.frames import Frame, Source
from fcn_edge.video.options import SourceOptions
from fcn_edge.video.turning import QUARTERS, turn, turned_size

FALLBACK_STEP = Fraction(1, 25)  # seconds that the last frame lasts where nothing says how long


class ReplayedSource:
    """What `opening` opens, with what the options ask for. Numbers and times go on from round to round."""

    live = False
    dropped = 0
    reconnects = 0
    lost_since: float | None = None
    trouble: str | None = None

    def __init__(self, opening: Callable[[], Source], options: SourceOptions) -> None:
        self.options = options
        self._opening = opening
        self._source = opening()
        source, flip = self._source, options.flip
        self.uri, self.files, self.still = source.uri, source.files, source.still
        self.rate, self.time_base = source.rate, source.time_base
        self.problems, self.notes = source.problems, source.notes
        self.total = None if options.loop else source.total
        self.size = turned_size(source.size, flip) if source.size and flip else source.size
        quarter = flip in QUARTERS
        self.pixel_aspect = 1 / source.pixel_aspect if quarter else source.pixel_aspect

    def __iter__(self) -> Iterator[Frame]:
        sequence, begin, rounds = 0, Fraction(0), 0
        while True:
            end = begin
            for frame in self._source:
                time = begin + frame.time
                end = time + (frame.duration or (1 / self.rate if self.rate else FALLBACK_STEP))
                name = f"{frame.name}_{rounds}" if rounds else frame.name
                flip = self.options.flip
                image = turn(frame.image, flip) if flip else frame.image
                yield replace(frame, image=image, sequence=sequence, time=time, name=name)
                sequence += 1
            if not self.options.loop or end == begin:
                return
            begin = end
            rounds += 1
            self._source.close()
            self._source = self._opening()  # its problems are those of the first round

    def __enter__(self) -> ReplayedSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._source.close()
