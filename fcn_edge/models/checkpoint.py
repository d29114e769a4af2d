"""Weights in and out of files, without ever running what a file holds.

A checkpoint is a safetensors file with the spec in its metadata; float16 halves it and costs no label
that was measured. Pretrained trunks come as bare state dicts, safetensors or `.pth`.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from fcn_edge import __version__, models
from fcn_edge.errors import ModelError, SpecError
from fcn_edge.files import replacing
from fcn_edge.files import sha256 as sha256
from fcn_edge.models.network import Network, Normalisation
from fcn_edge.spec import METADATA_KEY, VOC_CLASSES, ModelSpec, Output, Padding, Triple, from_json

StateDict = dict[str, Tensor]
PICKLE_START = b"\x80"  # of the files that torch wrote before it wrote zip archives


def read_state(path: Path) -> tuple[StateDict, str | None]:
    """The tensors of a safetensors or `.pth` file in float32, and its spec as JSON if it has one.

    Raises ModelError where the file is missing, broken, or a pickle that holds more than tensors.
    """
    state, metadata = _read(path)
    return state, metadata.get(METADATA_KEY)


def _read(path: Path) -> tuple[StateDict, dict[str, str]]:
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file.")
    if path.suffix == ".safetensors":
        try:
            with safe_open(str(path), "pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
                metadata = file.metadata() or {}
        except SafetensorError as error:
            raise ModelError(f"{path}: not a safetensors file ({error}). Copy it again, or export it anew.") from error
    else:
        state, metadata = _read_pth(path), {}
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, metadata


def adopt(network: Network, path: Path, normalisation: Normalisation | None = None) -> set[str]:
    """Take over a file's pretrained tensors, of a whole checkpoint or of a trunk; returns their names in `network`.

    normalisation: of the pictures that they were trained on, where the caller knows it. A safetensors file may say
        it in its metadata: `mean` and `std` as three numbers in units of 0..1, joined by commas, in the order R, G, B,
        and `color`, the order of the planes. Else the variant judges it by the tensors' names.
    Raises ModelError where the file cannot be read or its tensors do not fit, SpecError where its metadata are wrong.
    """
    state, metadata = _read(path)
    if normalisation is None and METADATA_KEY not in metadata:
        normalisation = _normalisation(metadata, path)
    return network.adopt(state, str(path), normalisation)


def _normalisation(metadata: dict[str, str], path: Path) -> Normalisation | None:
    if not {"mean", "std"} <= metadata.keys():
        return None
    mean, std = (_triple(metadata[key], key, path) for key in ("mean", "std"))
    color = metadata.get("color", "RGB")
    if color not in ("RGB", "BGR") or min(std) <= 0:
        raise SpecError(
            f"{path}: its metadata say color {color!r} and std {metadata['std']!r}; RGB or BGR, and three positive "
            "numbers are possible."
        )
    return Normalisation(mean, std, color)


def _triple(text: str, key: str, path: Path) -> Triple:
    try:
        first, second, third = (round(255 * float(part), 4) for part in text.split(","))
    except ValueError as error:
        raise SpecError(
            f"{path}: its metadata say {key} {text!r}; three numbers joined by commas are needed."
        ) from error
    return first, second, third


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


def load(
    path: Path, variant: str | None = None, spec: ModelSpec | None = None, padding: Padding | None = None
) -> tuple[Network, ModelSpec]:
    """The network and spec of a checkpoint that `save_checkpoint` wrote, or of bare weights that `spec` describes.

    variant: what the caller takes the file for; ModelError where it is another.
    padding: the form to build; the checkpoint's own where None. The weights of one form are those of the other.
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
    network = models.build(spec.variant, len(spec.classes), padding or spec.padding)
    if network.padding != spec.padding:
        spec = replace(spec, padding=network.padding, output=replace(spec.output, grid=network.geometry.grid))
    own = network.state_dict()
    wrong = [name for name in {**own, **state} if name not in own or name not in state]
    wrong += [name for name in own if name in state and own[name].shape != state[name].shape]
    if wrong:
        raise ModelError(
            f"{path} says that it is {spec.variant}, but {len(wrong)} tensors do not fit, first: {wrong[0]}. "
            "Export it again with this version."
        )
    network.take(state, str(path))
    return network.eval(), spec


def untrained(variant: str, seed: int = 0, padding: Padding = "same") -> tuple[Network, ModelSpec]:
    """The variant with seeded noise for weights, for VOC's classes; its spec says so.

    Scores differ from place to place and class to class, score layers that training finds at zero included: one
    class everywhere would flatter a comparison of labels and the decoder's speed.
    """
    torch.manual_seed(seed)
    network = models.build(variant, len(VOC_CLASSES), padding).eval()
    spec = describe(network, variant, trained=False)
    for name, layer in network.named_modules():
        if name.endswith(".bn3"):  # the last norm of a ResNet's block: at 1, sums over 33 blocks leave float16's range
            nn.init.constant_(layer.get_parameter("weight"), 0.5)
    scores = [
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.out_channels == len(VOC_CLASSES)
    ]
    for layer in scores:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    hooks = [layer.register_forward_hook(_center) for layer in scores]
    picture = F.interpolate(torch.rand(1, 3, 12, 12) * 255, (spec.side(160), spec.side(160)), mode="bilinear")
    with torch.no_grad():
        network(picture.permute(0, 2, 3, 1).to(torch.uint8))
    for hook in hooks:
        hook.remove()
    return network, spec


def _center(layer: nn.Module, _: tuple[Tensor], scores: Tensor) -> Tensor:
    """A forward hook: from now on the layer gives each class a mean of zero, and all of them a deviation of one."""
    assert isinstance(layer, nn.Conv2d)
    mean = scores.mean((0, 2, 3))
    scores = scores - mean[:, None, None]
    deviation = scores.std()
    if layer.bias is not None and deviation > 0:
        layer.weight /= deviation
        layer.bias.copy_((layer.bias - mean) / deviation)
    return scores / deviation


def describe(
    network: Network,
    variant: str,
    *,
    classes: Sequence[str] = VOC_CLASSES,
    palette: Sequence[tuple[int, int, int]] = (),
    trained: bool = True,
    **provenance: Any,
) -> ModelSpec:
    """The spec of a network as it was built here, with as many classes as `classes` names.

    palette: their colours, RGB; VOC's where empty.
    """
    geometry = network.geometry
    return ModelSpec(
        name=variant,
        variant=variant,
        padding=network.padding,
        classes=tuple(classes),
        palette=tuple(palette),
        trained=trained,
        size=geometry.size,
        stride=geometry.stride,
        sides=geometry.sides,
        output=Output("scores", geometry.output_stride, geometry.grid),
        provenance={"fcn_edge": __version__, "torch": str(torch.__version__), **provenance},
    )


def save_checkpoint(path: Path, network: Network, spec: ModelSpec) -> None:
    """Write the network's parameters as float16 with its spec, whole or not at all.

    Buffers keep their type: a running variance may lie beyond float16's range.
    """
    halves = {name for name, _ in network.named_parameters()}
    state = {key: value.half() if key in halves else value for key, value in network.state_dict().items()}
    data = save({key: value.contiguous() for key, value in state.items()}, {METADATA_KEY: spec.to_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(data)
