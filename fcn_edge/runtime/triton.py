"""Models on a Triton server, or on any other that speaks KServe's v2 protocol, over HTTP.

The server computes what is between a prepared frame and its scores; all else stays here, so a model behaves as its file
does. The client's connections belong to the thread that opened them (gevent), so the one for frames is opened, used and
closed by the backend's worker.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from fcn_edge.errors import BackendError, FcnEdgeError, ModelError, SpecError, UsageError
from fcn_edge.runtime.common import (
    Array,
    Worker,
    check_input,
    check_output,
    first_line,
    library,
    settle_precision,
    which_output,
    wrong_shape,
)
from fcn_edge.spec import METADATA_KEY, ModelSpec, from_json

INSTALL = "pip install 'tritonclient[http]'"
TYPES = {"UINT8": "uint8", "FP32": "float32", "FP16": "float16"}  # the protocol's names of NumPy's
CONNECT, ANSWER = 5.0, 60.0  # seconds until there is a connection, until a reply came

T = TypeVar("T")


class Triton:
    """The backend protocol over `tritonclient.http`. `path` is HOST:PORT/NAME, as `find_served` makes it."""

    name = "triton"
    library, distribution = "tritonclient.http", "tritonclient"
    install = INSTALL
    suffixes = ()
    compiles = False

    def __init__(self, path: Path, spec: ModelSpec, precision: str | None = None, threads: int | None = None) -> None:
        if threads is not None:
            raise BackendError(f"{path}: its server decides on threads. Drop --threads.")
        self._kit = _kit()
        self.precision = settle_precision(self.name, path, spec, precision, [spec.precision])
        server, model = ask(path, lambda client: (client.get_server_metadata(), _metadata(client, path)))
        self.device = f"server: {server['name']} {server['version']} at {path.parent}"
        self.versions: dict[str, str] = {
            "tritonclient": version(self.distribution),
            str(server["name"]): str(server["version"]),
        }
        self._path, self._spec = path, spec
        inputs: list[dict[str, Any]] = model["inputs"]
        outputs: list[dict[str, Any]] = model["outputs"]
        kind = str(inputs[0]["datatype"]) if inputs else ""
        check_input(path, spec, [each["name"] for each in inputs], TYPES.get(kind, kind))
        self._input: str = inputs[0]["name"]
        self._kind = kind
        self._taken = _sides(inputs[0])
        output = outputs[which_output(path, spec, [each["name"] for each in outputs])]
        self._output: str = output["name"]
        _check_frame(path, spec, self._taken)
        _check_scores(path, spec, _sides(output))
        self._client: Any = None
        self._worker = Worker(self._run, self._hang_up)

    @property
    def seconds(self) -> float:
        return self._worker.seconds

    def infer(self, frames: Array) -> Array:
        return self._worker.infer(frames)

    def submit(self, frames: Array) -> None:
        self._worker.submit(frames)

    def collect(self) -> Array:
        return self._worker.collect()

    def close(self) -> None:
        self._worker.close()

    def _run(self, frames: Array) -> Array:
        pairs = zip(self._taken[1:], frames.shape[1:], strict=True)  # of frames at once Triton takes fewer than it says
        if any(side not in (-1, given) for side, given in pairs):
            raise wrong_shape(self._path, self._taken, frames.shape)
        frame = self._kit.InferInput(self._input, list(frames.shape), self._kind)
        frame.set_data_from_numpy(frames)
        wanted = self._kit.InferRequestedOutput(self._output)
        with _answered(self._path):
            self._client = self._client or _open(self._path)
            reply = self._client.infer(self._path.name, [frame], outputs=[wanted])
            output: Array | None = reply.as_numpy(self._output)
        if output is None:
            raise ModelError(f"{self._path} gave no {self._output!r}, though it promised to.")
        return check_output(self._path, self._spec, output)

    def _hang_up(self) -> None:
        if self._client is not None:
            with suppress(Exception):  # its server may be gone
                self._client.close()


def find_served(url: str, model: str, spec: ModelSpec | None) -> tuple[Path, ModelSpec]:
    """HOST:PORT/NAME, and what the model is: `spec`, or what its configuration says under `fcn_edge.spec`.

    Raises UsageError where `url` is none, BackendError where nobody answers, ModelError where there is no such model,
    SpecError where the server does not say what it is.
    """
    if "://" in url or ":" not in url:
        raise UsageError(f"--url {url}: write HOST:PORT, as in localhost:8000; the port is the server's for HTTP.")
    if Path(model).name != model:
        raise UsageError(f"--model {model}: with --url it is the name that the server has for it, and no file's.")
    path = Path(url, model)
    if spec is not None:
        return path, spec
    text = ask(path, lambda client: _described(client, path))
    if text is None:
        raise SpecError(
            f"{path}: this server does not say what the model's classes and its input are. "
            "Describe it in a TOML file: --spec FILE."
        )
    return path, from_json(text, str(path))


def ask(path: Path, question: Callable[[Any], T]) -> T:
    """The answer of the server at HOST:PORT, over a connection of its own. Raises BackendError where there is none."""
    _kit()  # before anything is put down to the server
    with _answered(path):
        client = _open(path)
        try:
            return question(client)
        finally:
            client.close()


def _kit() -> Any:
    """The client library; without its extra it is there and raises an error of its own."""
    library("geventhttpclient", INSTALL)
    return library(Triton.library, INSTALL)


def _open(path: Path) -> Any:
    return _kit().InferenceServerClient(str(path.parent), connection_timeout=CONNECT, network_timeout=ANSWER)


@contextmanager
def _answered(path: Path) -> Generator[None, None, None]:
    """Turns what the client raises into a line: a server's refusal, or that there is no server."""
    try:
        yield
    except FcnEdgeError:
        raise
    except Exception as error:  # the client's, gevent's and the system's: they share no other base
        if type(error).__name__ == "InferenceServerException":
            raise BackendError(f"{path}: its server says: {first_line(error)}") from error
        reason = getattr(error, "strerror", None) or first_line(error).rstrip(".")
        raise BackendError(
            f"{path.parent}: nobody answers there: {reason}. Start the server, or correct --url: "
            "it is HOST:PORT of its HTTP, 8000 with Triton."
        ) from error


def _metadata(client: Any, path: Path) -> dict[str, Any]:
    if not client.is_model_ready(path.name):
        others = _others(client)
        known = f"It serves: {', '.join(others)}." if others else "Load it, or name another: --model NAME."
        raise ModelError(f"{path.parent} serves no model {path.name!r}. {known}")
    return client.get_model_metadata(path.name)


def _others(client: Any) -> list[str]:
    """What the server serves, where it tells: the protocol does not ask it to."""
    with suppress(Exception):
        index: list[dict[str, Any]] = client.get_model_repository_index()
        return sorted({str(entry["name"]) for entry in index if entry.get("state", "READY") == "READY"})
    return []


def _described(client: Any, path: Path) -> str | None:
    """The spec in the model's configuration, which Triton gives and the protocol does not know of."""
    _metadata(client, path)
    with suppress(Exception):
        parameters: dict[str, dict[str, str]] = client.get_model_config(path.name)["parameters"]
        return parameters[METADATA_KEY]["string_value"]
    return None


def _sides(tensor: dict[str, Any]) -> list[int]:
    """-1 where a side is free. Some servers give numbers as text."""
    return [int(side) for side in tensor["shape"]]


def _check_frame(path: Path, spec: ModelSpec, taken: Sequence[int]) -> None:
    last = spec.input.layout == "NHWC"
    channels, other = (3, 1) if last else (1, 3)
    if len(taken) != 4 or taken[channels] not in (-1, 3) or (taken[channels], taken[other]) == (-1, 3):
        order = "(N, H, W, 3)" if last else "(N, 3, H, W)"
        raise ModelError(f"{path} takes frames of {_text(taken)}, its spec says {order}. Mend the spec's input.layout.")


def _check_scores(path: Path, spec: ModelSpec, given: Sequence[int]) -> None:
    classes = len(spec.classes)
    if spec.output.kind == "scores" and len(given) == 4 and given[1] not in (-1, classes) and given[3] != classes:
        raise ModelError(
            f"{path} gives scores of {_text(given)}, its spec names {classes} classes. Name the model's own classes."
        )


def _text(sides: Sequence[int]) -> str:
    return "x".join("?" if side < 0 else str(side) for side in sides)
