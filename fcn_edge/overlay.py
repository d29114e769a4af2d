"""Labels, scores and words drawn on a picture.

The blend runs once a frame beside the network, so it takes 64 pixels at a time: background is left as
copied, one label throughout is blended with vector instructions, and only blocks on an edge pixel by
pixel. With OpenCV's whole-picture operations it costs four times as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numba import uint8, uint16, void

from fcn_edge.decode import axis
from fcn_edge.errors import FcnEdgeError
from fcn_edge.jit import kernel, readable, writable
from fcn_edge.spec import Grid

BLOCK = 64  # pixels; where they all have one label, they are blended as one run
FONT = cv2.FONT_HERSHEY_SIMPLEX
CAP_HEIGHT = 22  # pixels of a capital at font scale 1
SMALLEST_SCALE = 0.3  # smaller letters are not legible
DIM = 0.35  # what is left of the picture under a box of text, or a notice
NOTICE = 2.0  # its letters, by those of other text
HEAT_ODDS = 6.0  # log-odds drawn as 1 (and -6 as 0): a probability of 0.998
HEAT_ROWS = 512  # rows at a time, so that a 20-megapixel frame needs no 20-megapixel floats


def overlay(frame: np.ndarray, labels: np.ndarray, palette: Sequence[Sequence[int]], alpha: float = 0.5) -> np.ndarray:
    """The frame with each class's colour blended over its pixels, as a new picture.

    frame: uint8 (H, W, 3), BGR; labels: uint8 (H, W); palette: RGB, one colour a class.
    alpha: from 0 (the frame) to 1 (the colour), in steps of 1/256.
    Class 0 and labels that the palette does not hold (void) leave the frame as it is.
    Raises FcnEdgeError if the labels do not lie on the frame.
    """
    _check_frame(frame)
    if labels.shape != frame.shape[:2] or labels.dtype != np.uint8:
        raise FcnEdgeError(
            f"Labels {labels.dtype} {labels.shape} do not lie on a frame {frame.shape}: decode them to its size."
        )
    if not 0 <= alpha <= 1:
        raise FcnEdgeError(f"alpha is between 0 and 1, not {alpha}.")
    share = round(alpha * 256)
    keep = np.full(256, 256, np.uint16)
    add = np.full((256, 3), 128, np.uint16)  # rounds to nearest
    colors = np.asarray(palette, np.uint16).reshape(-1, 3)[1:, ::-1]
    keep[1 : 1 + len(colors)] -= np.uint16(share)
    add[1 : 1 + len(colors)] += colors * np.uint16(share)
    out = frame.copy(order="C")
    _blend_into(out, labels, keep, add)
    return out


def _blend_into(out: np.ndarray, labels: np.ndarray, keep: np.ndarray, add: np.ndarray) -> None:
    """out = (out * keep[label] + add[label]) / 256, in place; keep: uint16 (256,), add: uint16 (256, 3)."""
    rows = out.reshape(len(out), -1)
    _blend(rows, np.require(labels, requirements=["C", "A"]), keep, np.tile(add, BLOCK))


@kernel(void(writable(uint8, 1), uint16, readable(uint16, 1)))
def _blend_run(run, keep, add):
    """Pixels of one label: a loop over bytes that the compiler turns into vector instructions."""
    for i in range(run.shape[0]):
        run[i] = (run[i] * keep + add[i]) >> 8


@kernel(void(writable(uint8, 2), readable(uint8, 2), readable(uint16, 1), readable(uint16, 2)))
def _blend(rows, labels, keep, add):
    # Unsigned counters: numba would test signed ones for indices from the end, at a third of the speed.
    block = np.uint64(BLOCK)
    three = np.uint64(3)
    width = np.uint64(labels.shape[1])
    for y in range(np.uint64(labels.shape[0])):
        for start in range(np.uint64(0), width, block):
            stop = min(start + block, width)
            first = labels[y, start]
            other = uint8(0)
            for x in range(start, stop):
                other |= labels[y, x] ^ first
            if other == 0:
                if keep[first] < 256:
                    _blend_run(rows[y, three * start : three * stop], keep[first], add[first])
                continue
            for x in range(start, stop):
                label = labels[y, x]
                for c in range(three):
                    rows[y, three * x + c] = (rows[y, three * x + c] * keep[label] + add[label, c]) >> 8


def heat_map(frame: np.ndarray, scores: np.ndarray, class_index: int, grid: Grid = "half_pixel") -> np.ndarray:
    """The probability of one class over the frame, from clear (0) to red (1), as a new picture.

    frame: uint8 (H, W, 3), BGR; scores: float32 (C, h, w), as `decode` takes them.
    The probability is the softmax. What is upsampled is the class's log-odds, which keeps edges as sharp
    as the labels have them. NaN counts as minus infinity.
    Raises FcnEdgeError if there is no such class, SpecError if the grid does not fit.
    """
    _check_frame(frame)
    if not 0 <= class_index < len(scores):
        raise FcnEdgeError(f"There is no class {class_index}: the scores are of classes 0 to {len(scores) - 1}.")
    height, width = frame.shape[:2]
    odds = _log_odds(scores, class_index) @ _interpolation(scores.shape[2], width, grid).T
    rows = _interpolation(scores.shape[1], height, grid)
    levels = np.empty((height, width), np.uint8)
    for y in range(0, height, HEAT_ROWS):
        band = (rows[y : y + HEAT_ROWS] @ odds).clip(-HEAT_ODDS, HEAT_ODDS)
        levels[y : y + HEAT_ROWS] = (band + HEAT_ODDS) * (255 / (2 * HEAT_ODDS)) + 0.5
    probability = 1 / (1 + np.exp(-np.linspace(-HEAT_ODDS, HEAT_ODDS, 256)))
    colors = cv2.applyColorMap((probability * 255).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0]
    share = np.round(0.7 * np.sqrt(probability) * 256).astype(np.uint16)
    share[0] = 0
    out = frame.copy(order="C")
    _blend_into(out, levels, 256 - share, colors * share[:, None] + np.uint16(128))
    return out


def _log_odds(scores: np.ndarray, class_index: int) -> np.ndarray:
    """log(p / (1 - p)) of the class's softmax p, float32 (h, w), within -30 and 30."""
    huge = 1e30
    finite = np.nan_to_num(scores, nan=-huge, posinf=huge, neginf=-huge).clip(-huge, huge)
    others = np.delete(finite, class_index, axis=0)
    if not len(others):
        return np.full(scores.shape[1:], 30, np.float32)
    highest = others.max(axis=0)
    total = highest + np.log(np.exp(others - highest).sum(axis=0))
    return (finite[class_index] - total).clip(-30, 30)


def _interpolation(samples: int, pixels: int, grid: Grid) -> np.ndarray:
    """The matrix (pixels, samples) that upsamples a column of samples."""
    where = axis(samples, pixels, grid)
    matrix = np.zeros((pixels, samples), np.float32)
    for first, stop, before, after in where.cells:
        matrix[first:stop, before] += 1 - where.weight[first:stop]
        matrix[first:stop, after] += where.weight[first:stop]
    return matrix


def draw_text(image: np.ndarray, text: str) -> None:
    """Write one line into the top left corner of a picture (uint8 (H, W, 3), BGR), in place.

    Letters grow with the picture; where even the smallest would not fit, nothing is drawn.
    """
    _check_frame(image)
    height, width = image.shape[:2]
    scale = min(_scale(image), _scale(image) * 0.9 * width / max(1, _text_width(text, _scale(image))))
    pad = _pad(scale)
    box_width, box_height = _text_width(text, scale) + 2 * pad, _cap(scale) + 2 * pad
    if scale < SMALLEST_SCALE or box_width > width or box_height > height:
        return
    box = _dimmed(image[:box_height, :box_width])
    _write(box, text, (pad, pad + _cap(scale)), scale)
    image[:box_height, :box_width] = box


def draw_legend(image: np.ndarray, classes_present: Sequence[tuple[str, Sequence[int]]]) -> None:
    """List classes with their colours in the bottom left corner of a picture (uint8 (H, W, 3), BGR), in place.

    classes_present: name and RGB, the most important first: what does not fit in a quarter of the
    picture is left off from the end, and a last line says how many were.
    """
    _check_frame(image)
    height, width = image.shape[:2]
    scale = _scale(image)
    names = [name for name, _ in classes_present]
    pad, cap = _pad(scale), _cap(scale)
    line = cap + pad
    frame_width = 3 * pad + cap  # around the text: margins, colour patch, gap
    text_width = max((_text_width(name, scale) for name in names), default=0)
    half = frame_width + text_width <= width // 2
    room = ((height // 2 if half else height // 4) - pad) // line
    if room < 1 or not names or cap * 4 > width:
        return
    shown = len(names) if len(names) <= room else max(1, room - 1)
    left_off = f"+{len(names) - shown}" if shown < min(len(names), room) else ""
    text_width = max(_text_width(text, scale) for text in [*names[:shown], left_off])
    box_width = min(frame_width + text_width, width)
    box_height = (shown + bool(left_off)) * line + pad
    box = _dimmed(image[height - box_height :, :box_width])
    for i, (name, rgb) in enumerate(classes_present[:shown]):
        top = pad + i * line
        cv2.rectangle(box, (pad, top), (pad + cap - 1, top + cap - 1), [int(value) for value in rgb[::-1]], cv2.FILLED)
        cv2.rectangle(box, (pad, top), (pad + cap - 1, top + cap - 1), (255, 255, 255), max(1, cap // 16))
        _write(box, name, (2 * pad + cap, top + cap), scale)
    if left_off:
        _write(box, left_off, (2 * pad + cap, pad + shown * line + cap), scale)
    image[height - box_height :, :box_width] = box


def draw_notice(image: np.ndarray, text: str) -> None:
    """Dim a whole picture (uint8 (H, W, 3), BGR) and write one line across its middle, in place.

    It is what a picture looks like that is no longer what the camera sees; where the smallest letters would not fit,
    it is dimmed alone.
    """
    _check_frame(image)
    height, width = image.shape[:2]
    picture = _dimmed(image)
    largest = NOTICE * _scale(image)
    scale = min(largest, largest * 0.9 * width / max(1, _text_width(text, largest)))
    if scale >= SMALLEST_SCALE and _cap(scale) <= height:
        _write(picture, text, ((width - _text_width(text, scale)) // 2, (height + _cap(scale)) // 2), scale)
    image[:] = picture


def _check_frame(frame: np.ndarray) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise FcnEdgeError(f"A frame is uint8 (H, W, 3), BGR, not {frame.dtype} {frame.shape}.")


def _scale(image: np.ndarray) -> float:
    """The font scale at which a capital is a fortieth of the shorter side."""
    return max(SMALLEST_SCALE, min(image.shape[:2]) / 40 / CAP_HEIGHT)


def _cap(scale: float) -> int:
    return math.ceil(scale * CAP_HEIGHT)


def _pad(scale: float) -> int:
    return math.ceil(scale * CAP_HEIGHT / 2)


def _thickness(scale: float) -> int:
    return max(1, round(1.7 * scale))


def _text_width(text: str, scale: float) -> int:
    return cv2.getTextSize(text, FONT, scale, _thickness(scale))[0][0]


def _dimmed(region: np.ndarray) -> np.ndarray:
    """A darker copy to write on; cv2 draws only on contiguous arrays, which a part of a picture is not."""
    return cv2.convertScaleAbs(np.ascontiguousarray(region), alpha=DIM)


def _write(box: np.ndarray, text: str, baseline: tuple[int, int], scale: float) -> None:
    cv2.putText(box, text, baseline, FONT, scale, (255, 255, 255), _thickness(scale), cv2.LINE_AA)
