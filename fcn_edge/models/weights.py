"""Where a network's weights come from: a file, the project, the package, their publisher, or a seeded noise.

Whoever names a variant alone means "the best that is at hand", so the sources are gone through in the order
in which a user would want them, and none of them is noise: that has to be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fcn_edge import models
from fcn_edge.errors import DownloadError, ModelError, SpecError, unknown
from fcn_edge.files import sha256
from fcn_edge.models.checkpoint import adopt, describe, load, untrained
from fcn_edge.models.network import CAFFE, Network, Normalisation
from fcn_edge.models.published import WEIGHTS, Published, of_variant
from fcn_edge.resources import DEFAULT_MODEL
from fcn_edge.runtime.files import bundled, newest_checkpoints, spec_text
from fcn_edge.spec import VOC_CLASSES, ModelSpec, Padding, from_json

Origin = Literal["file", "project", "bundled", "published", "untrained"]
Fetch = Callable[[str], Path]  # a published name to the file in the cache


@dataclass(frozen=True)
class Resolved:
    """A network with weights, and where they came from; no path for noise."""

    network: Network
    spec: ModelSpec
    origin: Origin
    path: Path | None = None


def resolve(
    weights: str | None,
    variant: str | None,
    padding: Padding | None,
    project: Path,
    fetch: Fetch,
    table: Mapping[str, Published] = WEIGHTS,
) -> Resolved:
    """The network that `--weights`, `--variant` and `--padding` mean.

    weights: a file, "published", "untrained", or None: the project's newest checkpoint of the variant, else the
        bundled one, else the published one.
    variant: None leaves it to the file, or else means the bundled default.
    padding: None leaves it to the checkpoint, or else means the variant's default.
    Raises UsageError for unknown names, DownloadError and ModelError with the choices that are left.
    """
    if variant is not None and variant not in models.VARIANTS:
        raise unknown("variant", variant, models.VARIANTS)
    if weights not in (None, "published", "untrained"):
        path = Path(weights)
        return Resolved(*_open(path, variant, padding), "file", path)
    variant = variant or DEFAULT_MODEL
    if weights == "untrained":
        return Resolved(*untrained(variant, padding=padding or models.VARIANTS[variant].padding[0]), "untrained")
    if weights is None and (path := newest_checkpoints(project).get(variant)):
        return Resolved(*_open(path, variant, padding), "project", path)
    if weights is None and variant in bundled():
        path = bundled()[variant].with_suffix(".safetensors")
        return Resolved(*_open(path, variant, padding), "bundled", path)
    return _published(variant, padding, project, fetch, table, searched=weights is None)


def pretrained(
    weights: str, fetch: Fetch, table: Mapping[str, Published] = WEIGHTS
) -> tuple[Path, Normalisation | None]:
    """A file to start training from, and the normalisation that it was trained on where its publisher tells it.

    weights: a file, or a name in `table`, which is fetched.
    """
    if Path(weights).exists() or weights not in table:
        return Path(weights), None
    return fetch(weights), CAFFE if table[weights].caffe else None


def _open(path: Path, variant: str | None, padding: Padding | None) -> tuple[Network, ModelSpec]:
    """The network of a checkpoint, or of a bare state dict that is taken for `variant`."""
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file. --weights takes a file, published or untrained.")
    text = spec_text(path)
    if text is not None:
        spec = from_json(text, str(path))  # one that cannot be read is an error: what it says is not guessed
        network, form = load(path, variant, padding=padding)
        # figures that were measured on one form are not the other's
        return network, form if form.padding == spec.padding else replace(form, quality={})
    if variant is None:
        raise SpecError(f"{path}: weights without a spec. Name the variant that they are of: --variant NAME.")
    return _bare(path, variant, padding, {})


def _bare(path: Path, variant: str, padding: Padding | None, about: dict[str, Any]) -> tuple[Network, ModelSpec]:
    """A state dict that has to hold the whole network, for VOC's classes."""
    network = models.build(variant, len(VOC_CLASSES), padding or models.VARIANTS[variant].padding[0])
    missing = network.state_dict().keys() - network.fixed() - adopt(network, path)
    missing = sorted(name for name in missing if not name.endswith("num_batches_tracked"))
    if missing:
        raise ModelError(
            f"{path} is not a whole {variant}: {len(missing)} tensors are missing, first: {missing[0]}. "
            f"Start from it: fcn-edge train --variant {variant} --weights {path}"
        )
    return network.eval(), describe(network, variant, weights=path.name, sha256=sha256(path), **about)


def _published(
    variant: str,
    padding: Padding | None,
    project: Path,
    fetch: Fetch,
    table: Mapping[str, Published],
    searched: bool,
) -> Resolved:
    names = of_variant(variant, table=table)
    if not names:
        none = f"no checkpoint in {project / 'runs'}, none bundled, none published" if searched else "none published"
        raise ModelError(f"{variant} has no weights: {none}. {_choices(variant)}")
    entry = table[names[0]]
    try:
        path = fetch(names[0])
    except DownloadError as error:
        raise DownloadError(f"{error} {_choices(variant)}") from error
    about = {"data": entry.data, "seen": entry.seen, "license": entry.licence, "source": entry.source}
    told = {key: value for key, value in about.items() if value}
    return Resolved(*_bare(path, variant, padding, told), "published", path)


def _choices(variant: str) -> str:
    """What a user can do about a variant without weights."""
    trunks = of_variant(variant, trunk=True)
    start = f" --weights {trunks[0]}" if trunks else ""
    return (
        f"Choose: name a file, --weights FILE; train it, fcn-edge train --variant {variant}{start} --data ...; "
        "or --weights untrained, for speed alone."
    )
