"""Which rows of a picture a score looks at, found by asking the network itself."""

from __future__ import annotations

import torch
from torch import nn

from fcn_edge.models.network import Network


def rows_seen(network: Network, height: int, index: int) -> tuple[int, int]:
    """The first and the last row of a picture of `height` rows that the scores of row `index` depend on.

    Pools become means and convolutions take every weight as one, so that the gradient is positive wherever there
    is a path and zero elsewhere. The network is not fit for anything else afterwards.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            mean = nn.AvgPool2d(
                module.kernel_size, module.stride, module.padding, module.ceil_mode, count_include_pad=False
            )
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, mean)
        elif isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    planes = torch.ones(1, 3, height, 64, dtype=torch.float64, requires_grad=True)
    network.double().eval().scores(planes)[:, :, index].sum().backward()
    assert planes.grad is not None
    rows = planes.grad.sum((0, 1, 3)).nonzero().flatten()
    return int(rows[0]), int(rows[-1])
