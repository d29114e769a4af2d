"""The two HTML pages: the live one, and the door where a token is asked for."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fcn_edge.web.hub import Hub
from fcn_edge.web.status import status

FOLDER = Path(__file__).parent


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def live(hub: Hub) -> str:
    """The page with what does not change in a run; its script fills in the rest."""
    alpha = next((view.painter.alpha for view in hub.views.values()), 0.5)
    return _templates().get_template("live.html").render(status=status(hub), alpha=alpha)


def door(wrong: bool) -> str:
    return _templates().get_template("door.html").render(wrong=wrong)
