"""Which pictures a model has met in training or calibration, small enough to travel in its spec.

A spec's `provenance` holds, under `pictures_seen`, the first five bytes of the SHA-256 of every such file, sorted, in
base64: 70 kB for the 10,582 pictures of `trainaug`. That one of the 1,449 of `val` is taken for one of them by chance
has the odds 1 : 70,000. A picture that was scaled or recompressed since is another file, and not known again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fcn_edge.data.samples import Sample
from fcn_edge.errors import DataError, SpecError
from fcn_edge.files import sha256
from fcn_edge.spec import ModelSpec

KEY = "pictures_seen"
BYTES = 5


def pictures_seen(pictures: Iterable[Path], *earlier: ModelSpec) -> str:
    """What `provenance[KEY]` of a model holds that met `pictures`, and whatever the models before it met.

    earlier: specs of the models that this one was made from: its pretrained weights, the float model of an int8 one.
    Raises DataError where a picture cannot be read.
    """
    met = set(_digests(list(pictures))).union(*(_seen_by(spec) for spec in earlier))
    return base64.b64encode(b"".join(sorted(met))).decode()


def unseen(samples: Sequence[Sample], spec: ModelSpec) -> list[Sample]:
    """The samples whose picture the model has not met, as far as its spec tells.

    Raises SpecError where what the spec says cannot be read, DataError where a picture cannot.
    """
    met = _seen_by(spec)
    if not met:
        return list(samples)
    digests = _digests([sample.image for sample in samples])
    return [sample for sample, digest in zip(samples, digests, strict=True) if digest not in met]


def _seen_by(spec: ModelSpec) -> set[bytes]:
    text = spec.provenance.get(KEY, "")
    try:
        packed = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise SpecError(f"{spec.name}: {KEY} in its provenance is not base64: {error}.") from error
    return {packed[start : start + BYTES] for start in range(0, len(packed), BYTES)}


def _digests(pictures: Sequence[Path]) -> list[bytes]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_digest, pictures))


def _digest(picture: Path) -> bytes:
    try:
        return bytes.fromhex(sha256(picture))[:BYTES]
    except OSError as error:
        raise DataError(f"{picture}: not readable: {error.strerror}.") from error
