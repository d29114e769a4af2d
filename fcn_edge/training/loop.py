"""The training loop: one file to read from top to bottom.

Every step follows from the recipe, the seed and the step's number; nothing else is random. So a run that
is killed at any moment goes on from its last saved step with the batches it would have seen.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fcn_edge.errors import FcnEdgeError, UsageError
from fcn_edge.models.network import Network
from fcn_edge.training.log import Log
from fcn_edge.training.loss import at_pixels, label_loss, pixel_weights, soft_loss
from fcn_edge.training.recipe import SOFT_STRIDE, Recipe
from fcn_edge.training.run_state import RunState, load_state, save_state
from fcn_edge.training.samples import Part, Views, loader

LOG_EVERY = 10  # steps
SAVE_SECONDS = 60  # at most this much work is lost to a kill
SAVE_SHARE = 20  # saving takes at most a twentieth of the time: a VGG16 run's state has 1.6 GB
WORKERS = 8  # read ahead at most; a crop takes 10 ms, a GPU's step of 16 pictures 100 ms or more


class Quality(NamedTuple):
    """Figures on samples that are not trained on."""

    mean_iou: float
    pixel_accuracy: float


@dataclass(frozen=True)
class Progress:
    """What the loop tells its caller after each step."""

    step: int
    steps: int  # of the whole run
    loss: float
    pictures_per_second: float
    quality: Quality | None = None  # where this step ends with a validation


def connect(recipe: Recipe, steps: int, devices: int = 1, nodes: int = 1) -> Fabric:
    """The devices of a run, on this machine and on `nodes` in all; starts the processes that more than one needs."""
    # a trunk that is let go on the way has no gradients until then: those processes may not wait for them
    waits = devices * nodes == 1 or not 0 < recipe.frozen_trunk_steps < steps
    try:
        fabric = Fabric(
            accelerator="auto",
            devices=devices,
            num_nodes=nodes,
            strategy="auto" if waits else "ddp_find_unused_parameters_true",
            precision=precision(),
        )
    except (MisconfigurationException, ValueError) as error:
        raise UsageError(f"--devices {devices} --num-nodes {nodes}: {str(error).splitlines()[0].strip()}") from error
    fabric.launch()
    return fabric


def train(
    network: Network,
    pretrained: set[str],
    views: Views,
    folder: Path,
    validate: Callable[[Network], Quality],
    keep_best: Callable[[Network, Quality], None],
    fabric: Fabric,
    workers: int | None = None,
    class_weights: list[float] | None = None,
    origin: str = "",
) -> Iterator[Progress]:
    """Train `network` in place, yielding after each step; ends with its averaged weights in it.

    pretrained: names of the parameters that came with weights and learn at the recipe's slower rate.
    validate:   figures of a network on samples that are not trained on; keep_best: called with each new best.
    folder:     holds the log, the curves and the state to resume from; of several machines, on a disk that they share.
    origin:     a hash of all that the run starts from beside its recipe; another one is not continued.
    """
    recipe, steps = views.recipe, views.last_step
    kind = recipe.loss or network.loss
    always_frozen = (*recipe.frozen, network.trunk) if recipe.frozen_trunk_steps >= steps else recipe.frozen
    _freeze(network, always_frozen)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model, optimizer = fabric.setup(network, _optimizer(network, pretrained, recipe))
    for method in ("training_scores", "head_scores"):
        if hasattr(network, method):
            model.mark_forward_method(method)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema)) if recipe.ema else None
    averaged = cast(Network, average.module) if average else network
    weights = None if class_weights is None else torch.tensor(class_weights, device=fabric.device)

    state = load_state(folder, recipe, origin)
    step, best = (state.step, state.best) if state else (0, -1.0)
    if state:
        network.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        if average:
            average.load_state_dict(state.ema)
        del state
    leads = fabric.is_global_zero
    log = Log(folder, step) if leads else None
    meter, saving = _Meter(recipe.batch), _Saving()

    batches: Iterable[list[Part]] = ()
    if step < steps:
        workers = _workers() if workers is None else workers
        source = loader(views, step, workers, fabric.global_rank, fabric.world_size)
        batches = cast(Any, fabric.setup_dataloaders(source, use_distributed_sampler=False))
        model.train()
        _freeze(network, (*recipe.frozen, network.trunk) if step < recipe.frozen_trunk_steps else recipe.frozen)
    for parts in batches:
        if step == recipe.frozen_trunk_steps:
            _freeze(network, recipe.frozen)
        torch.manual_seed((recipe.seed * 1_000_003 + step) * fabric.world_size + fabric.global_rank)  # for dropout
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * _decay(step, recipe, steps)

        # Sums over the batch's own counts: how it is parted, on how many devices, changes nothing but rounding.
        counts = cast(Tensor, fabric.all_reduce(_counts(parts, recipe, weights), reduce_op="sum")).clamp(min=1)
        sums = torch.zeros(3, device=fabric.device)
        for number, part in enumerate(parts, 1):
            with fabric.no_backward_sync(model, enabled=number < len(parts)) if len(parts) > 1 else nullcontext():
                losses = _losses(_scores(model, part), part, network, recipe, weights, kind) / counts
                # the devices' gradients are averaged, and are to be summed
                fabric.backward(_total(losses, recipe) * fabric.world_size)
            sums += losses.detach()
        labels, aux, soft = cast(Tensor, fabric.all_reduce(sums, reduce_op="sum")).tolist()
        loss = _total((labels, aux, soft), recipe)
        if not math.isfinite(loss):
            raise FcnEdgeError(f"step {step + 1}: the loss is {loss}. Take a lower `rate` or a longer `warmup`.")
        if recipe.clip:
            fabric.clip_gradients(model, optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average:
            average.update_parameters(network)
        step += 1

        meter.add(loss=loss, label_loss=labels, aux_loss=aux, soft_loss=soft)
        if not leads:
            if _validates(step, steps, views):
                fabric.barrier()
            continue
        assert log is not None
        if step % LOG_EVERY == 0 or step == steps:
            epoch = step * recipe.batch / len(views.samples)
            log.add(step, epoch=epoch, rate=optimizer.param_groups[0]["lr"], **meter.read())
        quality = None
        if _validates(step, steps, views):
            quality = validate(averaged)
            log.add(step, **quality._asdict())
            log.draw()
            if quality.mean_iou > best:
                best = quality.mean_iou
                keep_best(averaged, quality)
            meter.restart()
        if step == steps or quality or saving.is_due():
            ema = average.state_dict() if average else {}
            with saving:
                save_state(
                    folder, RunState(step, best, network.state_dict(), optimizer.state_dict(), ema), recipe, origin
                )
        if quality:
            fabric.barrier()
        yield Progress(step, steps, meter.loss, meter.speed, quality)
    if log:
        log.close()
    if average:
        network.load_state_dict(averaged.state_dict())


def _validates(step: int, steps: int, views: Views) -> bool:
    return step == steps or views.recipe.validates_at(step, len(views.samples))


def _scores(model: Any, part: Part) -> list[Tensor]:
    """The main scores, then those of auxiliary heads; of kept features the heads that export has."""
    if "features" in part:
        return [model.head_scores(tuple(maps.float() for maps in part["features"])).float()]
    return [scores.float() for scores in model.training_scores(part["frame"])]


def _counts(parts: list[Part], recipe: Recipe, weights: Tensor | None) -> Tensor:
    """What the sums of the losses are divided by: labelled pixels twice, and positions that the teacher speaks of."""
    stride = recipe.loss_stride
    labelled = [pixel_weights(part["mask"][:, ::stride, ::stride], weights).sum() for part in parts]
    taught = [part["soft"].sum() for part in parts if "soft" in part]
    pixels = torch.stack(labelled).sum()
    return torch.stack([pixels, pixels, torch.stack(taught).sum() if taught else torch.zeros_like(pixels)])


def _losses(
    scores: list[Tensor], part: Part, network: Network, recipe: Recipe, weights: Tensor | None, kind: Any
) -> Tensor:
    """Sums (3,) over a part's pixels: of the main head, of the auxiliary ones, against the teacher."""
    grid, stride = network.geometry.grid, recipe.loss_stride
    size = tuple(part["mask"].shape[-2:])
    labels = part["mask"][:, ::stride, ::stride]
    main = at_pixels(scores[0], size, grid, stride)
    # an auxiliary head lies where bilinear interpolation finds it, as in torchvision's reference training
    aux = [label_loss(at_pixels(more, size, "half_pixel", stride), labels, kind, weights) for more in scores[1:]]
    nothing = main.new_zeros(())
    soft = nothing
    if "soft" in part:
        every = SOFT_STRIDE // stride
        soft = soft_loss(main[:, :, ::every, ::every], part["soft"], kind)
    return torch.stack([label_loss(main, labels, kind, weights), sum(aux, nothing), soft])


def _total(losses: Any, recipe: Recipe) -> Any:
    return losses[0] + recipe.aux_weight * losses[1] + recipe.soft_weight * losses[2]


def _optimizer(network: Network, pretrained: set[str], recipe: Recipe) -> Optimizer:
    """New parameters first; `base` is the rate that the schedule scales."""
    apart = (recipe.bias_rate, recipe.bias_decay) != (1.0, 1.0)
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        key = (name in pretrained, apart and name.endswith(".bias"))
        groups.setdefault(key, []).append(parameter)
    described = []
    for (is_pretrained, is_bias), parameters in sorted(groups.items(), key=lambda item: item[0]):
        rate = recipe.rate * (recipe.pretrained_rate if is_pretrained else 1) * (recipe.bias_rate if is_bias else 1)
        decay = recipe.weight_decay * (recipe.bias_decay if is_bias else 1)
        described.append({"params": parameters, "lr": rate, "base": rate, "weight_decay": decay})
    return SGD(described, momentum=recipe.momentum) if recipe.optimizer == "sgd" else AdamW(described)


def _freeze(network: Network, prefixes: tuple[str, ...]) -> None:
    """Parameters under `prefixes` stay as they are, and so do what their layers have measured of the pictures."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))
    for name, module in network.named_modules():
        if name and not any(module.children()):
            module.train(network.training and not f"{name}.".startswith(prefixes))


def _decay(step: int, recipe: Recipe, steps: int) -> float:
    """Linear warm-up, then the polynomial schedule; a trunk that is let go later gets its own warm-up."""
    since = step - recipe.frozen_trunk_steps if step >= recipe.frozen_trunk_steps else step
    warm = min(1.0, (since + 1) / max(1, recipe.warmup))
    return warm * (1 - step / steps) ** recipe.power


def precision() -> Literal["bf16-mixed", "32-true"]:
    """bf16 where it is computed; emulated, it is slower than float32."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    computed = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    return "bf16-mixed" if computed else "32-true"


def _workers() -> int:
    """Processes that read ahead: on a CPU the loop itself needs the cores."""
    return min(WORKERS, (os.cpu_count() or 2) // 2) if torch.cuda.is_available() else 1


class _Saving:
    """When the state is worth saving again."""

    def __init__(self) -> None:
        self.ended, self.took, self.began = time.monotonic(), 0.0, 0.0

    def is_due(self) -> bool:
        return time.monotonic() - self.ended > max(SAVE_SECONDS, SAVE_SHARE * self.took)

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.ended = time.monotonic()
        self.took = self.ended - self.began


class _Meter:
    """Means since the last reading."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.loss, self.speed = float("nan"), 0.0
        self.restart()

    def add(self, **values: float) -> None:
        self.count += 1
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value

    def read(self) -> dict[str, float]:
        now = time.monotonic()
        means = {key: value / self.count for key, value in self.sums.items()}
        self.loss, self.speed = means["loss"], self.count * self.batch / (now - self.since)
        self.restart()
        return means | {"pictures_per_second": self.speed}

    def restart(self) -> None:
        self.sums: dict[str, float] = {}
        self.count, self.since = 0, time.monotonic()
