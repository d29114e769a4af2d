"""Small videos with real codecs, made where a test needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Writes an H.264 video whose frame n is flat gray of level 20 + 25 (n % 8), so that a lost one shows."""

    def make(
        name: str = "clip.mp4",
        size: tuple[int, int] = (48, 64),
        frames: int = 10,
        rate: Fraction = Fraction(25),
        time_base: Fraction | None = None,
        ticks: Sequence[int] | None = None,
        options: dict[str, str] | None = None,
        audio: bool = False,
    ) -> Path:
        path = tmp_path / name
        base = time_base or 1 / rate
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p" if not (size[0] % 2 or size[1] % 2) else "yuv444p"
            stream.codec_context.time_base = stream.time_base = base
            stream.options = {"qp": "10"}
            sound = container.add_stream("aac", rate=48_000) if audio else None
            for number, tick in enumerate(ticks or range(frames)):
                picture = np.full((*size, 3), 20 + 25 * (number % 8), np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts, frame.time_base = tick, base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if sound:
                silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
                silence.sample_rate, silence.pts = 48_000, 0
                container.mux(sound.encode(silence))
                container.mux(sound.encode(None))
        return path

    return make


@pytest.fixture
def levels() -> Callable[[np.ndarray], int]:
    """The number of the frame, modulo 8, that an image of such a video shows."""
    return lambda image: round((float(image.mean()) - 20) / 25)
