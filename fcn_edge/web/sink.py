"""The pipeline's end of the web page."""

from __future__ import annotations

from fcn_edge.video.sinks import Result
from fcn_edge.web.hub import View


class WebSink:
    """Leaves each result where the page finds it; nothing is encoded, and nothing drawn but a heat map."""

    live = True

    def __init__(self, view: View) -> None:
        self.view = view
        self.where = "web page"
        self.notes: list[str] = []

    @property
    def wants_picture(self) -> bool:
        return self.view.painter.heat is not None  # the scores that it is drawn from go no further than the pipeline

    def write(self, result: Result) -> None:
        self.view.put(result)

    def __enter__(self) -> WebSink:
        return self

    def __exit__(self, *error: object) -> None:
        self.view.end()
