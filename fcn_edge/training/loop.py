"""The training loop: one file to read from top to bottom.

Every step follows from the recipe, the seed and the step's number; nothing else is random. So a run that
is killed at any moment goes on from its last saved step with the batches it would have seen.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
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
from fcn_edge.training.clock import Meter, Saving
from fcn_edge.training.log import Log
from fcn_edge.training.loss import at_pixels, label_loss, pixel_weights, soft_loss
from fcn_edge.training.recipe import SOFT_STRIDE, Recipe
from fcn_edge.training.run_state import RunState, save_state
from fcn_edge.training.samples import Part, Views, loader

log = logging.getLogger(__name__)
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of the precision in words of its own

LOG_EVERY = 10  # steps
WORKERS = 8  # read ahead at most; a crop takes 10 ms, a GPU's step of 16 pictures 100 ms or more


class Quality(NamedTuple):
    """Figures on samples that are not trained on."""

    mean_iou: float
    pixel_accuracy: float


@dataclass(frozen=True)
class Progress:
    """What the loop tells its caller before the first step and after each."""

    step: int  # those that are done
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
    state: RunState | None = None,
    shipped: Callable[[Network], AbstractContextManager[Any]] | None = None,
) -> Iterator[Progress]:
    """Train `network` in place, yielding before the first step and after each; ends with its averaged weights in it.

    A caller that closes it on the way finds the state of the step that it saw last in `folder`.

    pretrained: names of the parameters that came with weights and learn at the recipe's slower rate.
    validate:   figures of a network on samples that are not trained on; keep_best: called with each new best.
    folder:     holds the log, the curves and the state to resume from; of several machines, on a disk that they share.
    origin:     a hash of all that the run starts from beside its recipe, kept with the state.
    state:      to go on from; None starts anew, whatever `folder` holds.
    shipped:    a context in which the network computes as it will where it runs; None: it computes as it is.
    """
    recipe, steps = views.recipe, views.last_step
    learner = _set_up(network, pretrained, views, fabric, class_weights, shipped(network) if shipped else nullcontext())
    if state:
        learner.restore(state)
    step = state.step if state else 0
    record = _Record(learner, views, folder, origin, state) if fabric.is_global_zero else None
    del state  # as large as the network and its optimizer
    try:
        if record:
            yield Progress(step, steps, record.meter.loss, 0.0)
        for parts in _batches(learner, views, step, workers):
            losses = _step(learner, parts, step, steps)
            step += 1
            validates = step == steps or recipe.validates_at(step, len(views.samples))
            if record:
                quality = record.measure(step, losses, validate if validates else None, keep_best)
            if validates:
                fabric.barrier()  # the first process is busy with it
            if record:
                yield Progress(step, steps, record.meter.loss, record.meter.speed, quality)
    except GeneratorExit:
        if record:
            record.save(step)
        raise
    finally:
        if record:
            record.log.close()
    if learner.average:
        network.load_state_dict(learner.averaged.state_dict())


@dataclass
class _Learner:
    """What learns, and what it learns with."""

    fabric: Fabric
    network: Network
    model: Any  # `network` as it runs on the devices
    optimizer: Optimizer
    average: AveragedModel | None
    recipe: Recipe
    class_weights: Tensor | None
    idle: tuple[str, ...]  # prefixes of the parameters that never learn
    shipped: AbstractContextManager[Any]  # entered whenever the network computes

    @property
    def averaged(self) -> Network:
        """What is validated and kept."""
        return cast(Network, self.average.module) if self.average else self.network

    def state(self) -> dict[str, dict[str, Any]]:
        ema = self.average.state_dict() if self.average else {}
        return {"model": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "ema": ema}

    def restore(self, state: RunState) -> None:
        self.network.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        if self.average:
            self.average.load_state_dict(state.ema)


def _set_up(
    network: Network,
    pretrained: set[str],
    views: Views,
    fabric: Fabric,
    class_weights: list[float] | None,
    shipped: AbstractContextManager[Any],
) -> _Learner:
    recipe = views.recipe
    idle = recipe.frozen
    if recipe.frozen_trunk_steps >= views.last_step:
        idle = (*idle, network.trunk)
    if views.features is not None:
        idle = (*idle, *_unread(network, views[0]["features"]))
    _freeze(network, idle)  # before the devices' processes settle which gradients to wait for
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model, optimizer = fabric.setup(network, _optimizer(network, pretrained, recipe))
    for method in ("training_scores", "head_scores"):
        if hasattr(network, method):
            model.mark_forward_method(method)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema)) if recipe.ema else None
    weights = None if class_weights is None else torch.tensor(class_weights, device=fabric.device)
    return _Learner(fabric, network, model, optimizer, average, recipe, weights, idle, shipped)


def _unread(network: Network, features: list[Tensor]) -> list[str]:
    """The parameters that have no part in the scores of kept features: those of auxiliary heads."""
    scores = cast(Any, network.eval()).head_scores(tuple(maps[None].float() for maps in features))
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(scores.sum(), parameters, allow_unused=True)
    return [name for name, gradient in zip(names, gradients, strict=True) if gradient is None]


def _batches(learner: _Learner, views: Views, step: int, workers: int | None) -> Iterable[list[Part]]:
    """Those from `step` on, this process's share; the network is made ready to learn from them."""
    if step >= views.last_step:
        return ()
    learner.model.train()
    _freeze_until(learner, step)
    fabric = learner.fabric
    workers = _workers() if workers is None else workers
    source = loader(views, step, workers, fabric.global_rank, fabric.world_size)
    return cast(Any, fabric.setup_dataloaders(source, use_distributed_sampler=False))


def _step(learner: _Learner, parts: list[Part], step: int, steps: int) -> dict[str, float]:
    """One update of the weights; the losses of the whole batch, over all devices."""
    fabric, recipe, optimizer = learner.fabric, learner.recipe, learner.optimizer
    if step == recipe.frozen_trunk_steps:
        _freeze_until(learner, step)
    torch.manual_seed((recipe.seed * 1_000_003 + step) * fabric.world_size + fabric.global_rank)  # for dropout
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * _decay(step, recipe, steps)

    # Sums over the batch's own counts: how it is parted, on how many devices, changes nothing but rounding.
    counts = _counts(parts, recipe, learner.class_weights)
    counts = cast(Tensor, fabric.all_reduce(counts, reduce_op="sum")).clamp(min=1)
    sums = torch.zeros(3, device=fabric.device)
    for number, part in enumerate(parts, 1):
        more_follow = number < len(parts)
        with fabric.no_backward_sync(learner.model) if more_follow else nullcontext():
            with learner.shipped:
                scores = _scores(learner.model, part)
            losses = _losses(scores, part, learner) / counts
            # the devices' gradients are averaged, and are to be summed
            fabric.backward(_total(losses, recipe) * fabric.world_size)
        sums += losses.detach()
    labels, aux, soft = cast(Tensor, fabric.all_reduce(sums, reduce_op="sum")).tolist()
    loss = _total((labels, aux, soft), recipe)
    if not math.isfinite(loss):
        raise FcnEdgeError(
            f"step {step + 1}: the loss is {loss}. Take a lower `rate` or a longer `warmup`, "
            "and with it another --out, or --force to start anew in this one."
        )

    norm = fabric.clip_gradients(learner.model, optimizer, max_norm=recipe.clip or math.inf, error_if_nonfinite=False)
    if norm is not None and not math.isfinite(norm):  # of a thousand steps in bfloat16 one may come out so
        log.warning("step %d: its gradient is not finite though its loss is; it was left out.", step + 1)
    else:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if learner.average:
        learner.average.update_parameters(learner.network)
    return {"loss": loss, "label_loss": labels, "aux_loss": aux, "soft_loss": soft}


class _Record:
    """What the first process does after each step: log, validate, save."""

    def __init__(self, learner: _Learner, views: Views, folder: Path, origin: str, state: RunState | None) -> None:
        self.learner, self.views, self.folder, self.origin = learner, views, folder, origin
        self.best, self.saving = state.best if state else -1.0, Saving()
        self.meter = Meter(learner.recipe.batch, *((state.sums, state.count) if state else ({}, 0)))
        if state is None:
            self.save(0)  # before anything else: what lies in a folder without a state is not this run's
        self.log = Log(folder, state.step if state else 0)

    def measure(
        self,
        step: int,
        losses: dict[str, float],
        validate: Callable[[Network], Quality] | None,
        keep_best: Callable[[Network, Quality], None],
    ) -> Quality | None:
        """The figures where this step ends with a validation."""
        recipe, last = self.learner.recipe, step == self.views.last_step
        self.meter.add(losses)
        if step % LOG_EVERY == 0 or last:
            epoch = step * recipe.batch / len(self.views.samples)
            self.log.add(step, epoch=epoch, rate=self.learner.optimizer.param_groups[0]["lr"], **self.meter.read())
        quality = None
        if validate:
            with self.meter.paused():
                quality = validate(self.learner.averaged)
                self.log.add(step, **quality._asdict())
                self.log.draw()
                if quality.mean_iou > self.best:
                    self.best = quality.mean_iou
                    keep_best(self.learner.averaged, quality)
        if quality or self.saving.is_due():
            self.save(step)
        return quality

    def save(self, step: int) -> None:
        state = RunState(step, self.best, **self.learner.state(), sums=self.meter.sums, count=self.meter.count)
        with self.saving:
            save_state(self.folder, state, self.learner.recipe, self.origin)


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


def _losses(scores: list[Tensor], part: Part, learner: _Learner) -> Tensor:
    """Sums (3,) over a part's pixels: of the main head, of the auxiliary ones, against the teacher."""
    grid, stride = learner.network.geometry.grid, learner.recipe.loss_stride
    kind, weights = learner.recipe.loss or learner.network.loss, learner.class_weights
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


def _freeze_until(learner: _Learner, step: int) -> None:
    """What learns from this step on: the trunk too, or not yet."""
    early = step < learner.recipe.frozen_trunk_steps
    _freeze(learner.network, (*learner.idle, learner.network.trunk) if early else learner.idle)


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
