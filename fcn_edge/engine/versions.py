"""Which TensorRT is there, and every difference between its versions: the one file that compares them.

An importable `tensorrt` proves nothing: packages of that name exist that hold no library at all, so it counts from
where it has a Builder. What is written here against 8.6 (JetPack 6.0) follows NVIDIA's documents and was never run;
10.13 is held against its type stubs, TensorRT-RTX against the product.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_edge.errors import BackendError, unknown

if TYPE_CHECKING:
    import tensorrt  # the stubs of 10.13, in .venv/stubs

Version = tuple[int, ...]
Line = tuple[int, str]  # severity as TensorRT counts it (0 internal error, 1 error, 2 warning), and the text

ERROR = 1
TYPED = (10,)  # strongly typed networks work from here on; 9 was for data centres alone
ALWAYS_TYPED = (11,)  # and are all there is from here on ("Migrating from TensorRT 10.x to 11.x")
LAST_DLA_OF_10 = (10, 7)
DLA_AGAIN = (11, 4, 1)
NEXT_MAJOR = ((8, 10), (10, 11))  # the only steps across major versions for an engine that is version-compatible
JETPACK_RELEASE = Path("/etc/nv_tegra_release")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Product:
    """One of NVIDIA's two builders. Their engines are not each other's."""

    title: str
    module: str
    oldest: Version


PRODUCTS = {
    "tensorrt": Product("TensorRT", "tensorrt", (8, 6)),
    "tensorrt-rtx": Product("TensorRT-RTX", "tensorrt_rtx", (1, 4)),
}


class Trt:
    """A TensorRT that was loaded, with one logger for the process: TensorRT keeps the first that it is given."""

    def __init__(self, product: str, module: Any, version: Version) -> None:
        self.product = product
        self.title = PRODUCTS[product].title
        self.version = version  # (10, 3, 0) or (1, 7, 1, 116)
        self.module = module
        self._listeners: list[list[Line]] = []
        self.logger = _logger(self.api, self._listeners)

    @property
    def api(self):  # no annotation: so pyright takes 10.13's stubs for the module
        """The Python module. What not every version has is a method here instead."""
        if TYPE_CHECKING:
            return tensorrt
        return self.module

    @contextmanager
    def listening(self) -> Generator[list[Line], None, None]:
        """Within it, what TensorRT logs is added to the list that is yielded."""
        lines: list[Line] = []
        self._listeners.append(lines)
        try:
            yield lines
        finally:
            self._listeners[:] = [each for each in self._listeners if each is not lines]

    @property
    def is_rtx(self) -> bool:
        return self.product == "tensorrt-rtx"

    @property
    def is_typed(self) -> bool:
        """Whether a network's types are the file's; before, they are hints that flags have to allow."""
        return self.is_rtx or self.version >= TYPED

    @property
    def network_flags(self) -> int:
        """What `create_network` takes for a typed network with an explicit batch axis."""
        flags = self.module.NetworkDefinitionCreationFlag
        if self.is_rtx or self.version >= ALWAYS_TYPED:
            return 0
        return 1 << int(flags.STRONGLY_TYPED if self.is_typed else flags.EXPLICIT_BATCH)

    def allow_types(self, config: Any, types: Mapping[str, int]) -> None:
        """Before networks were typed: allow the types that the file has, and demand them layer by layer."""
        if self.is_typed:
            return
        flags = self.module.BuilderFlag
        for name, flag in (("fp16", flags.FP16), ("int8", flags.INT8)):
            if types.get(name):
                config.set_flag(flag)
        config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)

    @property
    def has_progress(self) -> bool:
        """Whether a build tells how far it is, and can be cancelled."""
        return hasattr(self.module, "IProgressMonitor")

    @property
    def has_timing_cache(self) -> bool:
        """TensorRT-RTX measures nothing while it builds: its calls for one do nothing."""
        return not self.is_rtx

    @property
    def targets(self) -> tuple[str, ...]:
        """The compute capabilities, as in "8.9", that can be built for without their GPU; TensorRT-RTX alone."""
        if not self.is_rtx:
            return ()
        found = (re.fullmatch(r"SM(\d+)(\d)", name) for name in dir(self.module.ComputeCapability))
        return tuple(f"{match[1]}.{match[2]}" for match in found if match)

    def set_targets(self, config: Any, targets: Sequence[str]) -> None:
        """Build for these compute capabilities, each one of `self.targets`."""
        config.num_compute_capabilities = len(targets)  # has to be set before the first is named
        for index, target in enumerate(targets):
            member = getattr(self.module.ComputeCapability, f"SM{target.replace('.', '')}")
            config.set_compute_capability(member, index)

    @property
    def hardware_levels(self) -> dict[str, Any]:
        """The hardware compatibilities that can be asked for, by name."""
        if self.is_rtx:
            return {}
        members = self.module.HardwareCompatibilityLevel
        return {name.lower(): getattr(members, name) for name in _LEVELS if hasattr(members, name)}

    @property
    def dla_boards(self) -> tuple[str, ...]:
        """The Jetson boards whose accelerator this version serves, by words in their names ("Working with DLA")."""
        if self.is_rtx:
            return ()
        if self.version[:2] <= LAST_DLA_OF_10:
            return ("AGX Orin", "Orin NX")
        return ("AGX Orin",) if self.version >= DLA_AGAIN else ()

    def parser_complaints(self, parser: Any) -> list[tuple[str, str, str]]:
        """Node, operator and description of each error; before 10 the node's number is all that is known."""
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        if hasattr(self.module.ParserError, "node_name"):
            return [(error.node_name(), error.node_operator(), error.desc()) for error in errors]
        return [(f"number {error.node()}", "", error.desc()) for error in errors]

    def make_context(self, engine: Any) -> Any:
        """An execution context; from 10 on its memory follows the profile in use instead of the largest."""
        if not self.is_typed:
            return engine.create_execution_context()
        return engine.create_execution_context(self.api.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE)

    def activation_bytes(self, engine: Any) -> int:
        """Device memory that an execution context of the engine takes, over all its profiles."""
        return int(engine.device_memory_size_v2 if self.is_typed else engine.device_memory_size)

    def tensor_type(self, tensor: Mapping[str, Any]) -> str:
        """What the engine inspector says of a tensor's type: a field of its own since 11, before with its format."""
        return str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "")


_LEVELS = ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")


@lru_cache
def load(product: str) -> Trt:
    """The product's Python module, usable: it has a Builder and is not too old.

    Raises UsageError for an unknown product, BackendError with the line that installs it on this platform.
    """
    if product not in PRODUCTS:
        raise unknown("TensorRT", product, PRODUCTS)
    chosen = PRODUCTS[product]
    try:
        module = importlib.import_module(chosen.module)
    except (ImportError, OSError) as error:  # OSError: a library that it loads itself is missing
        missing = isinstance(error, ModuleNotFoundError) and error.name == chosen.module
        state = "is not installed" if missing else f"is installed, but does not load ({_first_line(error)})"
        raise BackendError(f"{chosen.title} {state}. {install_line(product)}") from error
    if not hasattr(module, "Builder"):
        raise BackendError(
            f"{chosen.title} is an empty package here: {chosen.module} holds no Builder. {install_line(product)}"
        )
    version = tuple(int(part) for part in re.findall(r"\d+", str(module.__version__)))
    if version < chosen.oldest:
        oldest = ".".join(map(str, chosen.oldest))
        raise BackendError(
            f"{chosen.title} {module.__version__} is too old, {oldest} is the least. {install_line(product)}"
        )
    return Trt(product, module, version)


def runs_compatible(built: Version, here: Version) -> bool:
    """Whether a version-compatible engine of TensorRT `built` runs in `here`: "Engine Portability", 11.4.1."""
    return here >= built and (here[0] == built[0] or (built[0], here[0]) in NEXT_MAJOR)


def install_line(product: str) -> str:
    """How the product gets onto this platform, as a sentence."""
    if not JETPACK_RELEASE.exists():
        return f"Install it: pip install {product}"
    if product == "tensorrt":  # pip's would be for other GPUs than the board's
        return (
            "JetPack brings it: sudo apt install python3-libnvinfer, and make the environment with "
            "python3 -m venv --system-site-packages"
        )
    return "It does not serve Jetson boards: take --backend tensorrt"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _logger(api: Any, listeners: list[list[Line]]) -> Any:
    """TensorRT's logger, which must not raise: it is called from C++."""

    class Logger(api.ILogger):
        def __init__(self) -> None:
            api.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            for lines in listeners:
                lines.append((int(severity), message))
            if int(severity) <= ERROR:
                log.debug("%s", message)

    return Logger()
