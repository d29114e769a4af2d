"""report.json: what `fcn-edge bench` writes, and all that pages, comparisons and recommendations are made of.

Seconds, bytes and shares throughout, no strings to be parsed; null where something was not measured, with the reason
in `not_measured`. docs/report.md names every key.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from fcn_edge.errors import DataError
from fcn_edge.files import replacing

KIND, SCHEMA = "fcn-edge report", 1


class Machine(Struct, frozen=True):
    """Where it was measured, and in what state."""

    name: str  # a column's head, the user's or made of board, GPU and CPU: "2x AMD EPYC 9R14"
    system: str
    cpu: str
    flags: list[str]  # instruction sets that decide which kernels run
    cores: int  # physical, that the process may use
    memory: int | None
    gpu: str | None
    board: str | None  # a Jetson's model
    power_mode: str | None  # nvpmodel's name
    governor: str | None  # of the CPU's clock
    clocks: dict[str, str]  # "cpu": "2.6 GHz, may change"; what is locked, and at what
    versions: dict[str, str]  # python, numpy, opencv, every backend's library, driver
    before: dict[str, float]  # load average, temperatures (Celsius), clocks (Hz) when it began
    after: dict[str, float]  # the same keys when it ended
    noise: list[str]  # what makes the figures doubtful, a sentence each: other load, throttling


class Protocol(Struct, frozen=True):
    """What was timed."""

    frame: tuple[int, int]  # (height, width) of the frame in memory that latency starts from
    threads: int | None  # None: as many as each backend takes
    rounds: int
    runs: int  # of one candidate in a round, at least
    seconds: float  # of one candidate in a round, at least
    timer_overhead: float  # seconds that timing itself adds to a run
    warm_up: str  # a sentence


class Data(Struct, frozen=True):
    """A labelled set that accuracy was measured on."""

    name: str  # as ROOT:LIST was given, without the folders above ROOT
    images: int
    identity: str  # SHA-256 over ids and masks: the same in two reports where the set was
    classes: list[str]
    over: list[str] | None = None  # the classes that means are over; null: all


class Summary(Struct, frozen=True):
    """Of many runs, in seconds."""

    runs: int
    mean: float
    low: float  # 95 % confidence interval of the mean, bootstrapped over rounds
    high: float
    p50: float
    p90: float
    p95: float
    p99: float
    least: float
    most: float


class Latency(Struct, frozen=True):
    """A frame in memory to labels at its size in memory, one at a time."""

    total: Summary
    stages: dict[str, Summary]  # prepare, to_device, infer, from_device, decode or refine, draw; those that there are
    rounds: list[list[float]]  # every run's seconds, a list a round, to six digits; outliers too
    outliers: int  # runs beyond p75 + 3 * (p75 - p25); all are in every figure
    noisy: str | None  # why this cell's figures are doubtful


class Throughput(Struct, frozen=True):
    alone: float  # frames a second, one at a time
    best: float  # frames a second at the best concurrency
    concurrency: int  # frames under way at a time
    how: str = ""  # "one at a time", "a stream with two in flight", "4 Segmenters side by side"


class Memory(Struct, frozen=True):
    """Peaks in bytes."""

    host: int | None  # of the candidate's process, resident
    base: int | None  # of the same process before the model was opened
    device: int | None


class Energy(Struct, frozen=True):
    source: str  # "NVML", "tegrastats", "RAPL"
    watts: float  # mean while it ran
    idle: float | None  # mean just before
    joules: float  # a frame, idle power included


class Accuracy(Struct, frozen=True):
    data: str  # Data.name
    images: int
    left_out: int  # pictures that the model was trained or calibrated on
    mean_iou: float
    pixel_accuracy: float
    boundary_f: float | None
    per_class_iou: dict[str, float | None]
    agreement: float | None  # share of pixels with the label of the fp32 reference; None where it has none


class Layer(Struct, frozen=True):
    """One of the runtime's own layers, which may be several of the network's."""

    name: str
    op: str
    seconds: float  # mean a run
    share: float  # of all layers' time
    precision: str | None
    output: list[int] | None


class Roofline(Struct, frozen=True):
    operations: float  # a frame; a multiply-add is two
    traffic: float  # bytes a frame, at least: weights, input and output once
    peak: float  # operations a second of this machine in this precision, measured
    bandwidth: float  # bytes a second, measured
    fraction: float  # of what the roof allows at this intensity


class Cell(Struct, frozen=True):
    """One candidate: an artefact on a backend in a precision at a size."""

    key: str  # unique in a report, equal in two reports of the same matrix: "fcn8s-lite openvino int8 512"
    model: str  # as it was named, without folders
    backend: str
    precision: str  # what is really computed in; what was asked for where it failed
    size: str  # as asked: "512", "384x512"
    refine: str | None = None  # the back end that made its labels
    failed: str | None = None  # one line, with the mend; then what could not be measured below is null
    variant: str | None = None
    trained: bool = True
    device: str | None = None
    network: tuple[int, int] | None = None  # (h, w) of the network for the protocol's frame
    sha256: str | None = None  # of the artefact
    bytes: int | None = None
    parameters: int | None = None
    operations: float | None = None  # of the network for that frame; a multiply-add is two
    load: float | None = None  # seconds from the file to a backend that is ready
    first: float | None = None  # seconds of the first frame
    latency: Latency | None = None
    throughput: Throughput | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    accuracy: list[Accuracy] = []
    layers: list[Layer] = []
    roofline: Roofline | None = None
    seen: str | None = None  # what its weights were trained on, from provenance
    file: str | None = None  # that ran, from the folder where `command` was given; null: a bundled name
    spec: str | None = None  # the file that describes it, likewise; null: it describes itself
    not_measured: dict[str, str] = {}  # field: why


class Picture(Struct, frozen=True):
    """A frame on which candidates differ; files lie in the folder `pictures` beside report.json."""

    frame: str
    truth: str | None
    labels: dict[str, str]  # Cell.key: file
    agreement: float  # share of pixels on which all of them agree
    data: str | None = None  # Data.name: whose classes the masks' indices mean; null: the first data's


class Report(Struct, frozen=True):
    kind: str
    schema: int
    made_by: str  # "fcn-edge 0.4.0"
    begun: str  # UTC, ISO 8601
    ended: str
    command: str  # that reproduces it, home folder left out
    machine: Machine
    protocol: Protocol
    data: list[Data]
    cells: list[Cell]
    pictures: list[Picture] = []

    @property
    def failed(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.failed]


class _Head(Struct):
    kind: str = ""
    schema: int = 0


def read_report(path: Path) -> Report:
    """The report in a file, or in `report.json` of a folder.

    Raises DataError in one line where there is none, it is not ours, damaged, or of a newer schema.
    """
    path = path / "report.json" if path.is_dir() else path
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. `fcn-edge bench --out DIR` writes one.") from error
    try:
        head = msgspec.json.decode(text, type=_Head)
    except msgspec.DecodeError as error:
        raise DataError(f"{path} is no report of fcn-edge: {error}.") from error
    if head.kind != KIND:
        raise DataError(f"{path} is no report of fcn-edge. `fcn-edge bench --out DIR` writes one.")
    if head.schema > SCHEMA:
        raise DataError(f"{path} has schema {head.schema}, this fcn-edge reads up to {SCHEMA}. Update fcn-edge.")
    try:
        return msgspec.json.decode(text, type=Report)
    except msgspec.DecodeError as error:  # ValidationError is one
        raise DataError(f"{path} is damaged: {error}. Measure anew.") from error


def write_report(report: Report, path: Path) -> None:
    """Write it whole or not at all. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
