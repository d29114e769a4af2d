"""The training loop: one file to read from top to bottom.

Every step follows from the recipe, the seed and the step's number; nothing else is random. So a run that
is killed at any moment goes on from its last saved step with the batches it would have seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fcn_edge.models.network import Network
from fcn_edge.training.log import Log
from fcn_edge.training.loss import label_loss, soft_loss
from fcn_edge.training.recipe import Recipe
from fcn_edge.training.run_state import RunState, load_state, save_state
from fcn_edge.training.samples import Crops, loader

LOG_EVERY = 10  # steps
SAVE_SECONDS = 60  # at most this much work is lost to a kill
CLIP_NORM = 5.0  # of the gradients: heads that start at zero meet a few wild batches at first


@dataclass(frozen=True)
class Progress:
    """What the loop tells its caller after each step."""

    step: int
    loss: float
    pictures_per_second: float
    mean_iou: float | None = None  # of the last validation, on the samples held back


def train(
    network: Network,
    pretrained: set[str],
    crops: Crops,
    folder: Path,
    validate: Callable[[Network], float],
    keep_best: Callable[[Network, float], None],
    workers: int = 1,
) -> Iterator[Progress]:
    """Train `network` in place, yielding after each step; ends with its averaged weights in it.

    pretrained: names of the parameters that came with weights and learn at the recipe's slower rate.
    validate:   mean IoU of a network on the samples held back; keep_best: called with each new best.
    folder:     holds the log, the curves and the state to resume from.
    """
    recipe = crops.recipe
    torch.manual_seed(recipe.seed)
    fabric = Fabric(accelerator="auto", devices=1, precision="bf16-mixed" if _has_bf16() else "32-true")
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(_parameter_groups(network, pretrained, recipe))
    model, optimizer = fabric.setup(network, optimizer)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))

    averaged = cast(Network, average.module)

    state = load_state(folder, recipe)
    step, best = (state.step, state.best) if state else (0, 0.0)
    if state:
        network.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        average.load_state_dict(state.ema)
    log = Log(folder, step)
    meter = _Meter(recipe.batch)
    saved = time.monotonic()

    batches: Iterable[Any] = ()
    if step < recipe.steps:
        batches = cast(Iterable[Any], fabric.setup_dataloaders(loader(crops, step, workers)))
    for batch in batches:
        model.train()
        _freeze(network, (*recipe.frozen, network.trunk) if step < recipe.frozen_trunk_steps else recipe.frozen)
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * _decay(step, recipe)
        with fabric.autocast():
            scores = model(batch["frame"])
        labels = label_loss(scores.float(), batch["mask"], network.geometry, recipe.loss_stride)
        soft = soft_loss(scores.float(), batch["soft"]) if "soft" in batch else torch.zeros(())
        loss = labels + recipe.soft_weight * soft
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(network)
        step += 1
        meter.add(loss=loss.item(), label_loss=labels.item(), soft_loss=soft.item())

        last = step == recipe.steps
        if step % LOG_EVERY == 0 or last:
            log.add(step=step, rate=optimizer.param_groups[0]["lr"], **meter.read())
        mean_iou = None
        if step % recipe.validate_every == 0 or last:
            mean_iou = validate(averaged)
            log.add(step=step, mean_iou=mean_iou)
            log.draw()
            if mean_iou > best:
                best = mean_iou
                keep_best(averaged, mean_iou)
            meter.restart()
        if last or mean_iou is not None or time.monotonic() - saved > SAVE_SECONDS:
            save_state(
                folder,
                RunState(step, best, network.state_dict(), optimizer.state_dict(), average.state_dict()),
                recipe,
            )
            saved = time.monotonic()
        yield Progress(step, meter.loss, meter.speed, mean_iou)
    network.load_state_dict(averaged.state_dict())


def _parameter_groups(network: nn.Module, pretrained: set[str], recipe: Recipe) -> list[dict]:
    """New parameters first; `base` is the rate that the schedule scales."""
    named = list(network.named_parameters())
    fresh = [parameter for name, parameter in named if name not in pretrained]
    slow = [parameter for name, parameter in named if name in pretrained]
    groups = [(fresh, recipe.rate), (slow, recipe.rate * recipe.pretrained_rate)]
    return [
        {"params": parameters, "lr": rate, "base": rate, "weight_decay": recipe.weight_decay}
        for parameters, rate in groups
        if parameters
    ]


def _freeze(network: Network, prefixes: tuple[str, ...]) -> None:
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))


def _decay(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then the polynomial schedule; a trunk that is let go later gets its own warm-up."""
    since = step - recipe.frozen_trunk_steps if step >= recipe.frozen_trunk_steps else step
    warm = min(1.0, (since + 1) / max(1, recipe.warmup))
    return warm * (1 - step / recipe.steps) ** recipe.power


def _has_bf16() -> bool:
    """Whether bf16 is computed rather than emulated here; emulated, it is slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


class _Meter:
    """Means since the last reading."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.loss, self.speed = float("nan"), 0.0
        self.sums: dict[str, float] = {}
        self.count = 0
        self.since = time.monotonic()

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
        self.sums, self.count, self.since = {}, 0, time.monotonic()
