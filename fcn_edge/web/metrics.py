"""The run's figures as Prometheus reads them, made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from fcn_edge.web.hub import Hub
from fcn_edge.web.status import status

QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99", "max": "1"}


class _Run(Collector):
    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def collect(self) -> Iterator[Metric]:
        told = status(self.hub)
        model = {name: str(told["model"][name]) for name in ("name", "backend", "device", "precision", "trained")}
        yield InfoMetricFamily("fcn_edge", "The model and what computes it.", {"version": told["version"], **model})
        yield GaugeMetricFamily("fcn_edge_watching", "Requests for pictures under way.", told["watching"])
        counters = {
            "frames": CounterMetricFamily("fcn_edge_frames", "Frames finished.", labels=["source", "name"]),
            "dropped": CounterMetricFamily("fcn_edge_dropped_frames", "Frames nobody took.", labels=["source", "name"]),
            "reconnects": CounterMetricFamily(
                "fcn_edge_reconnects", "Times lost and found again.", labels=["source", "name"]
            ),
        }
        rate = GaugeMetricFamily("fcn_edge_frames_per_second", "Over the last seconds.", labels=["source", "name"])
        lost = GaugeMetricFamily(
            "fcn_edge_source_lost_seconds", "Since its last frame; 0: there.", labels=["source", "name"]
        )
        age = GaugeMetricFamily(
            "fcn_edge_age_seconds", "From capture to output.", labels=["source", "name", "quantile"]
        )
        sent = CounterMetricFamily("fcn_edge_written_results", "By output.", labels=["source", "name", "output"])
        late = CounterMetricFamily("fcn_edge_lost_results", "It was too slow for.", labels=["source", "name", "output"])
        area = GaugeMetricFamily("fcn_edge_class_area_ratio", "Part of the frame.", labels=["source", "name", "class"])
        stage = GaugeMetricFamily(
            "fcn_edge_stage_seconds", "Time a frame.", labels=["source", "name", "stage", "quantile"]
        )
        for source in told["sources"]:
            name = [str(source["id"]), source["name"]]
            for key, family in counters.items():
                family.add_metric(name, source[key])
            rate.add_metric(name, source["fps"])
            lost.add_metric(name, source["lost_for"] or 0.0)
            for held, share in source["classes"].items():
                area.add_metric([*name, held], share)
            for taken, figures in source["stages_ms"].items():
                _add(stage, [*name, taken], figures)
            _add(age, name, source["age_ms"] or {})
            for output in source["outputs"]:
                sent.add_metric([*name, output["name"]], output["written"])
                late.add_metric([*name, output["name"]], output["lost"])
        yield from (*counters.values(), rate, lost, area, stage, age, sent, late)


def _add(family: GaugeMetricFamily, labels: list[str], milliseconds: dict[str, float]) -> None:
    for name, quantile in QUANTILES.items():
        if name in milliseconds:
            family.add_metric([*labels, quantile], milliseconds[name] / 1e3)


def exposition(hub: Hub) -> tuple[bytes, str]:
    """The text and its media type."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Run(hub))
    return generate_latest(registry), CONTENT_TYPE_LATEST
