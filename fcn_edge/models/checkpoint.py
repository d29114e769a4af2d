"""Weights in and out of files, without ever running what a file holds.

A checkpoint is a safetensors file with the spec in its metadata; float16 halves it and costs no label
that was measured. Pretrained trunks come as bare state dicts, safetensors or `.pth`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fcn_edge import __version__, models
from fcn_edge.errors import ModelError, SpecError
from fcn_edge.models.network import Network
from fcn_edge.spec import METADATA_KEY, VOC_CLASSES, ModelSpec, Output, from_json

StateDict = dict[str, Tensor]
PICKLE_START = b"\x80"  # of the files that torch wrote before it wrote zip archives


def read_state(path: Path) -> tuple[StateDict, str | None]:
    """The tensors of a safetensors or `.pth` file in float32, and its spec as JSON if it has one.

    Raises ModelError where the file is missing, broken, or a pickle that holds more than tensors.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file.")
    if path.suffix == ".safetensors":
        try:
            with safe_open(str(path), "pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
                spec = (file.metadata() or {}).get(METADATA_KEY)
        except SafetensorError as error:
            raise ModelError(f"{path}: not a safetensors file ({error}). Copy it again, or export it anew.") from error
    else:
        state, spec = _read_pth(path), None
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, spec


def _read_pth(path: Path) -> StateDict:
    if not (zipfile.is_zipfile(path) or path.read_bytes()[:1] == PICKLE_START):
        raise ModelError(f"{path}: not a PyTorch weights file. Save model.state_dict() with torch.save.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a pickle protocol; the refusal below says what matters
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: this pickle holds more than tensors and could run code, so it was not opened. "
            "Save its state dict alone: torch.save(model.state_dict(), ...), or as safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelError(f"{path}: not a PyTorch weights file ({str(error).splitlines()[0]}).") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path}: holds no state dict (names to tensors). Save model.state_dict().")
    return state


def load(path: Path, variant: str | None = None, spec: ModelSpec | None = None) -> tuple[Network, ModelSpec]:
    """The network and spec of a checkpoint that `save_checkpoint` wrote, or of bare weights that `spec` describes.

    variant: what the caller takes the file for; ModelError where it is another.
    """
    state, text = read_state(path)
    if text is None and spec is None:
        raise SpecError(
            f"{path}: weights without a spec, so its variant and classes are unknown. "
            "Train from it with `fcn-edge train --weights`, or take a checkpoint that fcn-edge wrote."
        )
    if text is not None:
        spec = from_json(text, str(path))
    assert spec is not None
    if variant and variant != spec.variant:
        raise ModelError(f"{path} is a checkpoint of {spec.variant}, not of {variant}. Pass --variant {spec.variant}.")
    network = models.build(spec.variant, len(spec.classes))
    own = network.state_dict()
    wrong = [name for name in {**own, **state} if name not in own or name not in state]
    wrong += [name for name in own if name in state and own[name].shape != state[name].shape]
    if wrong:
        raise ModelError(
            f"{path} says that it is {spec.variant}, but {len(wrong)} tensors do not fit, first: {wrong[0]}. "
            "Export it again with this version."
        )
    network.load_state_dict(state)
    return network.eval(), spec


def untrained(variant: str, seed: int = 0) -> tuple[Network, ModelSpec]:
    """The variant with seeded noise for weights, for VOC's classes; its spec says so."""
    torch.manual_seed(seed)
    network = models.build(variant, len(VOC_CLASSES)).eval()
    return network, describe(network, variant, trained=False)


def describe(network: Network, variant: str, trained: bool = True, **provenance: Any) -> ModelSpec:
    """The spec of a network as it was built here, for VOC's classes."""
    geometry = network.geometry
    return ModelSpec(
        name=variant,
        variant=variant,
        classes=VOC_CLASSES,
        trained=trained,
        size=geometry.size,
        stride=geometry.stride,
        sides=geometry.sides,
        output=Output("scores", geometry.output_stride, geometry.grid),
        provenance={"fcn_edge": __version__, "torch": str(torch.__version__), **provenance},
    )


def save_checkpoint(path: Path, network: Network, spec: ModelSpec) -> None:
    """Write the network's parameters as float16 with its spec, by way of a temporary name."""
    state = {key: value.detach().half().contiguous() for key, value in network.state_dict().items()}
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(save(state, {METADATA_KEY: spec.to_json()}))
    os.replace(temporary, path)


def sha256(path: Path) -> str:
    """The hash by which provenance names a weights file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
