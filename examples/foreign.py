"""Segment a photo with a model from elsewhere, described in Python instead of in a TOML file.

python examples/foreign.py theirs.onnx photo.jpg overlay.png
"""

from __future__ import annotations

import sys

import cv2

from fcn_edge import ModelSpec, Segmenter
from fcn_edge.spec import VOC_CLASSES, Input

SPEC = ModelSpec(
    name="theirs",
    classes=VOC_CLASSES,
    size=513,
    sides="any",
    resize="letterbox",
    input=Input("NCHW", "float32", "RGB", mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
)

model, photo, overlay = sys.argv[1:]
frame = cv2.imread(photo)
assert frame is not None, f"{photo} is not a picture."
with Segmenter(model, spec=SPEC) as segment:
    result = segment(frame)
cv2.imwrite(overlay, result.overlay())
print("found:", ", ".join(SPEC.classes[index] for index in sorted(set(result.labels.ravel().tolist()))))
