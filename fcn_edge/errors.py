"""What can go wrong, told in one line.

    FcnEdgeError            the input or the environment is wrong; exit status 1
    ├── SpecError           a model file says of itself what cannot be, or says nothing
    ├── ModelError          a model file cannot be opened, or is not what it claims to be
    ├── BackendError        a backend is missing, or cannot do what was asked
    ├── SourceError         a picture, video or camera cannot be read
    ├── SinkError           an output cannot be written
    ├── DataError           a data set is not as its layout promises
    └── DownloadError       a published file cannot be fetched, or is not what was published
    UsageError              the command line itself is wrong; exit status 2

Every message is one sentence of what, where and how to mend it; the measured value is in it.
Anything else that escapes is a defect of fcn-edge.
"""

from __future__ import annotations

from collections.abc import Iterable


class FcnEdgeError(Exception):
    """The input or the environment is wrong; `str()` of it is the line that a user reads."""


class SpecError(FcnEdgeError):
    """A model file says of itself what cannot be, or says nothing."""


class ModelError(FcnEdgeError):
    """A model file cannot be opened, or is not what it claims to be."""


class BackendError(FcnEdgeError):
    """A backend is missing, or cannot do what was asked."""


class SourceError(FcnEdgeError):
    """A picture, video or camera cannot be read."""


class SinkError(FcnEdgeError):
    """An output cannot be written."""


class DataError(FcnEdgeError):
    """A data set is not as its layout promises."""


class DownloadError(FcnEdgeError):
    """A published file cannot be fetched, or is not what was published."""


class UsageError(FcnEdgeError):
    """The command line is wrong: an unknown name, or options that contradict each other."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that no registry holds: it lists the names that would do."""
    return UsageError(f"there is no {kind} {name!r}. Known: {', '.join(sorted(known))}")
