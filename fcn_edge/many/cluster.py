"""Ray: who does the work, how it is handed out, and what happens when a worker dies.

Ray Data keeps a pool of actors, one a core or GPU, each with a Segmenter of its own, and hands them small groups of
pictures. A worker that dies is started again and its group is done again; a group that took its worker with it twice is
given up, and its pictures are tried one by one, so that the one that kills is found and the others are done.

Ray Data does not run through Ray's client (ray-project/ray#41333). So the handing out is itself an actor, and what
comes from it are results, twice a second. On one machine, too: there it keeps what Ray Data prints out of the terminal.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

import fcn_edge
from fcn_edge.errors import BackendError, FcnEdgeError, UsageError
from fcn_edge.many.manifest import Record
from fcn_edge.many.pictures import Picture
from fcn_edge.many.work import Job, Workbench
from fcn_edge.runtime.common import first_line, library
from fcn_edge.runtime.host import physical_cores

LOCAL, DISTANT = "local", "ray://"
INSTALL = "pip install 'ray[data]<2.64' grpcio"
QUIET = {  # read when Ray is imported or starts its processes; what the user has set stays
    "RAY_USAGE_STATS_ENABLED": "0",  # it would report every run to its makers
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # not a minute, where one signal ended its processes and this one
}
TOKEN = Path("~/.ray/auth_token")  # where Ray itself lays it and looks for it
STORE = 100 * 2**20  # bytes of shared memory: only paths and records go through it, and Ray takes no less than 75 MiB
GROUPS_EACH = 16  # a worker: so that all end at about the same time
SMALLEST_GROUP, LARGEST_GROUP = 8, 64  # pictures; groups are handed out ten times a second, and a death costs one
IN_FLIGHT = 4  # groups with each worker, so that none waits for the next
HOW = {"log_to_driver": False, "logging_level": logging.ERROR}
TRIES = 2  # of a group, before its pictures are tried alone
GATHER = 0.5  # seconds of records that come at once
REACH = 5.0  # seconds that a cluster may take to accept a connection
ON_GPU = ("tensorrt", "tensorrt-rtx")  # backends that get a GPU a worker; any other a core


class Crew:
    """The workers of one cluster, ready to be given work."""

    def __init__(self, ray: Any, workers: int | None, gpu: bool) -> None:
        self._ray = ray
        self._gpu = gpu
        self.workers = workers or _count(ray, gpu)

    def results(self, job: Job, pictures: Sequence[Picture]) -> Generator[list[Record], None, None]:
        """A record of every picture, in groups as they come, or none for a while. To leave early, close the iterator.

        Raises BackendError where the cluster cannot do it.
        """
        foreman = self._ray.remote(num_cpus=0, max_concurrency=1)(_Foreman)
        there = foreman.remote(job, pictures, self.workers, self._gpu)
        try:
            over, taken = False, there.take.remote()
            while not over:
                if not self._ray.wait([taken], timeout=GATHER)[0]:
                    yield []
                    continue
                data, over = self._ray.get(taken)
                taken = None if over else there.take.remote()
                yield msgspec.json.decode(data, type=list[Record])
        finally:
            self._ray.kill(there)


@contextmanager
def cluster(on: str, workers: int | None, job: Job) -> Iterator[Crew]:
    """The workers at `on`: of this machine, started for this run ("local"), or of a cluster (ray://HOST:PORT).

    workers: how many; null: one a core, or one a GPU for a backend that wants one.
    Raises as `reach` does, and BackendError where Ray fails or the cluster has another fcn-edge.
    """
    reach(on)
    distant = on.startswith(DISTANT)
    gpu = job.model["backend"] in ON_GPU
    ray = library("ray", INSTALL)
    with _told(on), ExitStack() as stack:
        stack.enter_context(_silent())
        if distant:
            stack.callback(ray.shutdown)
            with _own_signals():
                ray.init(on, **HOW)
            _check_version(ray, on)
        else:
            folder = stack.enter_context(TemporaryDirectory(prefix="fcn-edge-", ignore_cleanup_errors=True))
            stack.callback(ray.shutdown)  # before its folder goes
            cores = {} if gpu else {"num_cpus": workers or physical_cores()}
            with _own_signals():
                ray.init("local", include_dashboard=False, object_store_memory=STORE, _temp_dir=folder, **cores, **HOW)
        yield Crew(ray, workers, gpu)


@contextmanager
def _silent() -> Iterator[None]:
    """A thread of Ray prints each death of a worker to stdout, whatever it was told about logs (2.60)."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in the place of ours, which ends the run well."""
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in ours.items():
        signal.signal(number, handler)


@contextmanager
def _told(on: str) -> Iterator[None]:
    """What Ray raises, as one line."""
    try:
        yield
    except FcnEdgeError:
        raise
    except Exception as error:  # its exceptions share no base, and carry pages of another process's traceback
        raise BackendError(f"--on {on}: Ray failed: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The line that says why: the last of a traceback that came from another process."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback") or "traceback" in line for line in lines):
        return lines[-1].rstrip(".") + "."
    return first_line(error)


def reach(on: str) -> None:
    """Raise UsageError where `on` is no address, BackendError where Ray is missing or nobody listens there.

    Ray's client would try for half a minute, and then say little.
    """
    if on != LOCAL and not on.startswith(DISTANT):
        raise UsageError(f"--on {on}: is neither local nor an address like ray://HOST:10001.")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if on != LOCAL and TOKEN.expanduser().exists():  # a head asks for it where it has one; Ray's client does not look
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    library("ray", INSTALL)
    if on == LOCAL:
        return
    host, _, port = on.removeprefix(DISTANT).partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--on {on}: is no address. Write ray://HOST:PORT; the port is 10001 where none was chosen.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except OSError as error:
        reason = error.strerror or f"no answer within {REACH:.0f} s"
        raise BackendError(
            f"--on {on}: nobody answers there: {reason}. Start it on the head: ray start --head "
            "--ray-client-server-port=10001"
        ) from error
    library("grpc", INSTALL)  # Ray does without it, its client does not


def _check_version(ray: Any, on: str) -> None:
    """Raise BackendError unless the cluster has this fcn-edge: outputs of two versions need not be the same."""
    try:
        there = ray.get(ray.remote(num_cpus=0)(_version).remote())
    except Exception as error:
        if "No module named 'fcn_edge" not in str(error):
            raise
        there = "none"
    if there != fcn_edge.__version__:
        raise BackendError(
            f"--on {on}: the cluster has fcn-edge {there}, here is {fcn_edge.__version__}. Install one version on all."
        )


def _version() -> str:
    from fcn_edge import __version__

    return __version__


def _count(ray: Any, gpu: bool) -> int:
    kind = "GPU" if gpu else "CPU"
    count = int(ray.cluster_resources().get(kind, 0))
    if not count:
        raise BackendError(f"Ray finds no {kind} to work on. Name another --backend, or how many: --workers 4.")
    return count


class _Foreman:
    """What hands the work out, where the workers are."""

    def __init__(self, job: Job, pictures: Sequence[Picture], workers: int, gpu: bool) -> None:
        self._groups = _hand_out(job, pictures, workers, gpu)

    def take(self) -> tuple[bytes, bool]:
        """Records that came since the last time, as JSON, and whether they were the last."""
        records: list[Record] = []
        until = time.monotonic() + GATHER
        for group in self._groups:
            records += group
            if time.monotonic() >= until:
                return msgspec.json.encode(records), False
        return msgspec.json.encode(records), True


def _hand_out(job: Job, pictures: Sequence[Picture], workers: int, gpu: bool) -> Iterator[list[Record]]:
    """Every picture's record: in groups first, then one by one what came back of no group."""
    left = {picture.name: picture for picture in pictures}
    for size in dict.fromkeys((_group_size(len(pictures), workers), 1)):
        for group in _once(job, list(left.values()), workers, gpu, size):
            for record in group:
                left.pop(record.name, None)
            yield group
        if not left:
            return
    lost = "its worker died each time it was tried: it takes more memory than there is, or breaks a decoder."
    yield [Record(each.name, each.path, problem=f"{each.path}: {lost}") for each in left.values()]


def _group_size(pictures: int, workers: int) -> int:
    wanted = min(max(pictures // (GROUPS_EACH * workers), SMALLEST_GROUP), LARGEST_GROUP)
    return max(1, min(wanted, pictures // workers))


def _once(job: Job, pictures: list[Picture], workers: int, gpu: bool, size: int) -> Iterator[list[Record]]:
    data = library("ray.data", INSTALL)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # what is lost with its worker is found missing afterwards
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    rows = [{"path": picture.path, "name": picture.name} for picture in pictures]
    groups = -(-len(rows) // size)
    waiting = IN_FLIGHT if size > 1 else 1  # what waits with a worker that dies is counted as tried, too
    pool = data.ActorPoolStrategy(size=min(workers, groups), max_tasks_in_flight_per_actor=waiting)
    done = data.from_items(rows, override_num_blocks=groups).map_batches(
        _Worker,
        fn_constructor_args=(job,),
        batch_size=None,
        compute=pool,
        **({"num_gpus": 1} if gpu else {"num_cpus": 1}),
        max_restarts=-1,  # 2.64 is to take neither of these; without them a picture that kills would be tried for ever
        max_task_retries=TRIES - 1,
    )
    for batch in done.iter_batches(batch_size=None, prefetch_batches=0):
        yield [msgspec.json.decode(record, type=Record) for record in batch["record"]]


class _Worker:
    """An actor of the pool: opens the model once, then does what it is given."""

    def __init__(self, job: Job) -> None:
        threads = job.model["threads"] or (None if job.model["backend"] in ON_GPU else 1)
        self._failure = ""
        try:
            self._bench = Workbench(replace(job, model={**job.model, "threads": threads}))
        except FcnEdgeError as error:  # Ray would try to open it for ever
            self._failure = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        pictures = [Picture(str(path), str(name)) for path, name in zip(batch["path"], batch["name"], strict=True)]
        if self._failure:
            records = [Record(each.name, each.path, problem=self._failure, fatal=True) for each in pictures]
        else:
            records = [self._bench.do(picture) for picture in pictures]
        return {"record": [msgspec.json.encode(record).decode() for record in records]}
