"""The driver's errors as lines that say what to do.

Handles of two adapters fail alike, so what a status means is written here once, by its name in CUDA's driver
("CUDA Driver API", CUresult).
"""

from __future__ import annotations

from fcn_edge.errors import BackendError

UPDATE = "Update the NVIDIA driver."
RESTART = "Start the program anew: the GPU's context is lost."

NO_DRIVER = (
    "There is no NVIDIA driver, or it is too old for this cuda-python. On a machine with an NVIDIA GPU: install or "
    "update the driver, then nvidia-smi should list the GPU; on a Jetson it comes with JetPack."
)

MENDS = {
    "NO_DEVICE": "Is the GPU's driver loaded, and not hidden by CUDA_VISIBLE_DEVICES? In a container: --gpus all.",
    "INVALID_DEVICE": "Is it hidden by CUDA_VISIBLE_DEVICES?",
    "STUB_LIBRARY": "Take the toolkit's stubs/ off LD_LIBRARY_PATH, so that the driver's own libcuda is found.",
    "SYSTEM_DRIVER_MISMATCH": "The driver was updated while it was loaded: restart the machine.",
    "COMPAT_NOT_SUPPORTED_ON_DEVICE": UPDATE,
    "SYSTEM_NOT_READY": "On a machine with NVSwitch, start nvidia-fabricmanager.",
    "INVALID_IMAGE": UPDATE,
    "INVALID_PTX": UPDATE,
    "NO_BINARY_FOR_GPU": UPDATE,
    "UNSUPPORTED_PTX_VERSION": UPDATE,
    "JIT_COMPILER_NOT_FOUND": UPDATE,
    "OUT_OF_MEMORY": "Close what else runs on the GPU, or take a smaller size.",
    "MPS_CONNECTION_FAILED": "Start the MPS server, or unset CUDA_MPS_PIPE_DIRECTORY.",
    "DEVICE_UNAVAILABLE": "Another process has the GPU to itself: nvidia-smi says which.",
    "ILLEGAL_ADDRESS": RESTART,
    "LAUNCH_FAILED": RESTART,
    "LAUNCH_TIMEOUT": RESTART,
    "MISALIGNED_ADDRESS": RESTART,
    "ECC_UNCORRECTABLE": "The GPU's memory has failed: restart the machine, and see nvidia-smi -q -d ECC.",
}


def driver_error(call: str, status: str) -> BackendError:
    """The error for a call of the driver that gave back `status`, named without CUDA_ERROR_."""
    words = status.lower().replace("_", " ")
    return BackendError(f"CUDA says {words} ({call}). {MENDS.get(status, '')}".rstrip())


def no_gpu(index: int, count: int) -> BackendError:
    """The error for a GPU that is not there."""
    return BackendError(f"There is no GPU {index}: the driver lists {count}, counted from 0. {MENDS['NO_DEVICE']}")


def too_little(error: BackendError, nbytes: int, free: int) -> BackendError:
    """The error for memory that could not be had, with the figures."""
    return BackendError(f"{nbytes / 2**20:.1f} MB were asked for, {free / 2**20:.1f} MB are free. {error}")
