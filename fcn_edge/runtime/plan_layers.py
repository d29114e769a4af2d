"""What an engine's layers take, by TensorRT's profiler.

On a context of its own: a profiler makes every run wait for the GPU, and no graph that was captured without it tells
anything. TensorRT-RTX is given a plain context for the same reason, without its capturing of graphs.
"""

from __future__ import annotations

import json
from typing import Any

from fcn_edge.engine.inspection import type_name
from fcn_edge.engine.versions import Trt
from fcn_edge.runtime.common import Array
from fcn_edge.runtime.lane import Lane
from fcn_edge.runtime.plan import Context, Plan, choose
from fcn_edge.runtime.protocol import LayerTime


def profile(plan: Plan, trt: Trt, frames: Array, sides: tuple[int, int], runs: int, lane: Lane) -> list[LayerTime]:
    """Means of `runs`, after one that warms up; the CUDA context is current. Raises BackendError as `infer` does."""
    index = choose(plan.profiles, sides, len(frames))
    if index is None:
        raise plan.refused(sides, len(frames))
    plain = plan.tried("no execution context could be made", lambda: trt.make_context(plan.engine))
    context = Context(plan, plain, index, lane.stream)
    try:
        context.reshape(frames.shape, lane.stream.synchronize)
        lane.stage(frames, frames.nbytes)
        lane.stream.upload(context.input, lane.frame.host, frames.nbytes)
        profiler = plain.profiler = _profiler(trt.api)
        for run in range(runs + 1):
            context.execute(lane.stream)
            lane.stream.synchronize()
            if not run:
                profiler.taken.clear()
    finally:
        lane.stream.synchronize()
        context.close()
    told = _told(trt, plan.engine)
    return [_layer(trt, name, seconds / runs, told.get(name, {})) for name, seconds in profiler.taken.items()]


def _profiler(api: Any) -> Any:
    class Profiler(api.IProfiler):
        def __init__(self) -> None:
            api.IProfiler.__init__(self)  # pybind wants its own, by name
            self.taken: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.taken[layer_name] = self.taken.get(layer_name, 0.0) + ms / 1e3

    return Profiler()


def _told(trt: Trt, engine: Any) -> dict[str, dict[str, Any]]:
    """What the inspector says of each layer; of engines that were built to tell names alone, nothing."""
    text = engine.create_engine_inspector().get_engine_information(trt.api.LayerInformationFormat.JSON)
    layers: list[Any] = json.loads(text).get("Layers", [])
    return {layer["Name"]: layer for layer in layers if isinstance(layer, dict)}


def _layer(trt: Trt, name: str, seconds: float, told: dict[str, Any]) -> LayerTime:
    inputs: list[dict[str, Any]] = told.get("Inputs", [])
    outputs: list[dict[str, Any]] = told.get("Outputs", [])
    shape: list[int] = outputs[0].get("Dimensions", []) if outputs else []
    return LayerTime(
        name=name,
        op=str(told.get("LayerType", "")),
        seconds=seconds,
        precision=type_name(trt.tensor_type(inputs[0])) if inputs else None,
        output=tuple(shape) if shape and min(shape) > 0 else None,  # -1: a side that each frame decides
    )
