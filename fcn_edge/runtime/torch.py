"""PyTorch, for checkpoints: what training looks at before anything is exported.

The one file of the run side that may import torch and the networks, and only when it is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fcn_edge.errors import BackendError
from fcn_edge.runtime.common import Array, Worker, check_output, first_line, library, settle_precision
from fcn_edge.runtime.host import cpu_device, physical_cores
from fcn_edge.runtime.protocol import LayerTime
from fcn_edge.spec import ModelSpec

INSTALL = "pip install torch (for a machine without a GPU, PyTorch's own page names a smaller build)"


def read_pickle_spec(path: Path) -> ModelSpec:
    """The spec of a `.pth` checkpoint; a pickle that holds code is refused."""
    library("torch", INSTALL)
    return library("fcn_edge.models.checkpoint", INSTALL).load(path)[1]


class Torch:
    """The backend protocol over a network of `fcn_edge.models`, on the first GPU or else on the CPU."""

    name = "torch"
    library = distribution = "torch"
    install = INSTALL
    suffixes = (".safetensors", ".pth", ".pt")
    compiles = False

    @classmethod
    def precisions(cls) -> list[str]:
        """What a checkpoint can be computed in, the default first. Not asked of torch, which takes seconds to load."""
        return ["fp32", "bf16"]

    def __init__(self, path: Path, spec: ModelSpec, precision: str | None = None, threads: int | None = None) -> None:
        torch = self._torch = library(self.library, self.install)
        self.versions: dict[str, str] = {"torch": str(torch.__version__)}
        gpu = torch.cuda.is_available()
        self.precision = settle_precision(self.name, path, spec, precision, self.precisions())
        self._place: Any = torch.device("cuda" if gpu else "cpu")
        if threads:
            torch.set_num_threads(threads)
        self.device = f"GPU: {torch.cuda.get_device_name()}" if gpu else cpu_device(threads or physical_cores())
        network, _ = library("fcn_edge.models.checkpoint", INSTALL).load(path, spec=spec)
        self._network: Any = network.eval().to(self._place, memory_format=torch.channels_last)
        self._path, self._spec = path, spec
        self._worker = Worker(self._run)

    @property
    def seconds(self) -> float:
        return self._worker.seconds

    def infer(self, frames: Array) -> Array:
        return self._worker.infer(frames)

    def submit(self, frames: Array) -> None:
        self._worker.submit(frames)

    def collect(self) -> Array:
        return self._worker.collect()

    def profile(self, frames: Array, runs: int) -> list[LayerTime]:
        """As protocol.ProfilingBackend says; operators in their order, as PyTorch does not say which module calls."""
        kit = self._torch.profiler
        if self._place.type != "cpu":
            raise BackendError("PyTorch's layers are told on the CPU alone. Take an ONNX file or an engine.")
        self._run(frames)
        with kit.profile(activities=[kit.ProfilerActivity.CPU], record_shapes=True) as told:
            for _ in range(runs):
                self._run(frames)
        events: list[Any] = [event for event in told.events() if event.cpu_parent is None]
        each = len(events) // runs  # the same ones in every run
        times = [sum(event.cpu_time_total for event in events[at::each]) / 1e6 / runs for at in range(each)]
        return [
            LayerTime(
                f"{at} of {'x'.join(map(str, event.input_shapes[0]))}", event.name.removeprefix("aten::"), seconds
            )
            for at, (event, seconds) in enumerate(zip(events, times, strict=False))
        ]

    @property
    def parameters(self) -> int:
        """Numbers that it learnt."""
        return sum(each.numel() for each in self._network.parameters())

    def count(self, frames: Array) -> tuple[float, tuple[int, ...]]:
        """Operations for `frames`, a multiply-add being two, as PyTorch counts them, and the output's shape."""
        counter: Any = library("torch.utils.flop_counter", INSTALL).FlopCounterMode(display=False)
        with counter:
            output = self._run(frames)
        return float(counter.get_total_flops()), output.shape

    def close(self) -> None:
        self._worker.close()
        self._network = None

    def _run(self, frames: Array) -> Array:
        torch = self._torch
        lower = torch.autocast(self._place.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
        with torch.inference_mode(), lower, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            try:
                output = self._network(torch.from_numpy(frames).to(self._place))
            except RuntimeError as error:
                raise BackendError(f"PyTorch failed on {self._path}: {first_line(error)}") from error
            return check_output(self._path, self._spec, output.float().cpu().numpy())
