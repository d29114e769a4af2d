"""Where a deep learning accelerator can serve: TensorRT, JetPack and board have to agree, and shapes be static.

Only AGX Orin and Orin NX have one. What it cannot compute goes to the GPU layer by layer, and each crossing costs a
copy, so the layers that fall back are listed: transposed convolutions with padding and most ways to resize are among
them ("DLA Supported Layers and Restrictions").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fcn_edge.engine.machine import Machine
from fcn_edge.engine.profiles import Profile
from fcn_edge.engine.versions import Trt
from fcn_edge.errors import BackendError

if TYPE_CHECKING:
    import tensorrt

CORES = {"AGX Orin": 2, "Orin NX": 2}  # "Deep-Learning-Accelerator-SW FAQ"; the 8 GB Orin NX has one
JETPACK = "JetPack 6 with TensorRT 10.3, or on AGX Orin JetPack 7.2.2 with 11.4.1"


def check_dla(trt: Trt, machine: Machine, core: int, profiles: Sequence[Profile], types: Mapping[str, int]) -> None:
    """Raises BackendError, with the first of the reasons that hold, where that DLA core cannot serve this engine.

    types: layers of the parsed network by type, as `builder.count_types` gives them.
    """
    reason = _product(trt, machine) or _board(trt, machine, core) or _network(profiles, types)
    if reason:
        raise BackendError(f"no DLA can serve here: {reason}.")


def _product(trt: Trt, machine: Machine) -> str:
    if trt.is_rtx:
        return "TensorRT-RTX is for graphics cards alone. On a Jetson take --backend tensorrt"
    if not trt.dla_boards:
        return f"TensorRT {machine.version} does not serve it. It takes {JETPACK}"
    return ""


def _board(trt: Trt, machine: Machine, core: int) -> str:
    if machine.board is None:
        return "this machine is no Jetson, or does not say which. Build on the board, and elsewhere without --dla-core"
    board = next((board for board in CORES if board in machine.board), None)
    if board is None:
        return f"{machine.board} has none, only {' and '.join(CORES)} have. Build without --dla-core"
    if board not in trt.dla_boards:
        return f"TensorRT {machine.version} serves it on {' and '.join(trt.dla_boards)} alone. It takes {JETPACK}"
    if core >= CORES[board]:
        return f"{machine.board} has the cores 0 to {CORES[board] - 1}, not {core}"
    return ""


def _network(profiles: Sequence[Profile], types: Mapping[str, int]) -> str:
    if len(profiles) != 1 or not profiles[0].static:
        shapes = ", ".join(map(str, profiles))
        return f"it takes one static shape, and these were asked for: {shapes}. Name one, as in --shapes 288x512"
    if not types.get("fp16") and not types.get("int8"):
        return "it computes in fp16 and int8, and the file is fp32. Export it so: fcn-edge export --precision fp16"
    return ""


def place(trt: Trt, network: tensorrt.INetworkDefinition, config: Any, core: int) -> list[str]:
    """Put the network on that core, and return the names of the layers that fall back to the GPU."""
    config.default_device_type = trt.api.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.api.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = trt.api.DataType
    arithmetic_of_shapes = (kinds.INT32, kinds.INT64, kinds.BOOL)  # folded away where the shape is static
    computing = [layer for layer in layers if layer.get_output(0).dtype not in arithmetic_of_shapes]
    return [layer.name for layer in computing if not config.can_run_on_DLA(layer)]
