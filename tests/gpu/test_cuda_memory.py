"""Memory, streams, events, graphs and threads on a real GPU, through every adapter that is installed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fcn_edge.cuda import ADAPTERS, open_cuda
from fcn_edge.cuda.kernels import Kernels, Scale
from fcn_edge.cuda.memory import Cuda
from fcn_edge.errors import BackendError
from fcn_edge.spec import Input

pytestmark = pytest.mark.gpu

FRAME = (270, 480)


@pytest.fixture(params=ADAPTERS)
def cuda(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    try:
        cuda = open_cuda(request.param)
    except BackendError as error:
        pytest.skip(str(error))
    with cuda:
        yield cuda


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


class Work:
    """A frame up, scaled to half its sides, and back: three things for a stream or a graph to do."""

    def __init__(self, cuda: Cuda, kernels: Kernels) -> None:
        half = FRAME[0] // 2, FRAME[1] // 2
        self.scale = Scale(kernels, FRAME, half, half, Input())
        self.stream = cuda.stream()
        self.frame, self.out = cuda.device(self.scale.frame_bytes), cuda.device(self.scale.input_bytes)
        self.host, self.back = cuda.host((*FRAME, 3)), cuda.host((*half, 3))

    def queue(self) -> None:
        self.stream.upload(self.frame, self.host, self.host.nbytes)
        self.scale.launch(self.stream, self.frame.pointer, self.out.pointer)
        self.stream.download(self.back, self.out)

    def of(self, frame: np.ndarray) -> np.ndarray:
        self.host.array[...] = frame
        self.queue()
        self.stream.synchronize()
        return self.back.array.copy()

    def close(self) -> None:
        for thing in (self.scale, self.stream, self.frame, self.out, self.host, self.back):
            thing.close()


def test_the_gpu_says_what_it_is(cuda: Cuda) -> None:
    assert cuda.gpu.name
    assert cuda.gpu.compute_capability >= (7, 5)
    assert cuda.gpu.sm_count > 0
    assert 0 < cuda.free_memory() <= cuda.gpu.memory


@pytest.mark.parametrize("nbytes", [1, 3, 4096, 1 << 24])
def test_bytes_come_back_as_they_went(cuda: Cuda, nbytes: int) -> None:
    stream, there, copied = cuda.stream(), cuda.device(nbytes), cuda.device(nbytes)
    host, back = cuda.host(nbytes), cuda.host(nbytes)
    host.array[...] = noise(0, nbytes)
    stream.upload(there, host)
    stream.copy(copied, there)
    stream.download(back, copied)
    stream.synchronize()
    np.testing.assert_array_equal(back.array, host.array)


def test_a_copy_past_the_end_of_a_buffer_is_refused(cuda: Cuda) -> None:
    with pytest.raises(ValueError, match="5 bytes do not fit"):
        cuda.stream().upload(cuda.device(4), cuda.host(5))


def test_a_kernel_reads_and_writes_host_memory_in_place(cuda: Cuda) -> None:
    task = Scale(Kernels(cuda), FRAME, FRAME, FRAME, Input())
    host, back, stream = cuda.host(task.frame_bytes), cuda.host((*FRAME, 3)), cuda.stream()
    frame = noise(1, *FRAME, 3)
    host.array[: frame.size] = frame.ravel()
    task.launch(stream, host.pointer, back.pointer)
    stream.synchronize()
    np.testing.assert_array_equal(back.array, frame)


def test_a_graphs_replay_is_equal_to_plain_execution(cuda: Cuda) -> None:
    work = Work(cuda, Kernels(cuda))
    frames = [noise(seed, *FRAME, 3) for seed in range(5)]
    plain = [work.of(frame) for frame in frames]
    graph = work.stream.capture(work.queue)
    for frame, expected in zip(frames, plain, strict=True):
        work.host.array[...] = frame
        graph.launch(work.stream)
        work.stream.synchronize()
        np.testing.assert_array_equal(work.back.array, expected)


def test_a_capture_that_fails_leaves_the_stream_usable(cuda: Cuda) -> None:
    work = Work(cuda, Kernels(cuda))
    expected = work.of(noise(2, *FRAME, 3))

    def fail() -> None:
        work.queue()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        work.stream.capture(fail)
    with pytest.raises(BackendError):
        work.stream.capture(work.stream.synchronize)  # which no graph can hold
    np.testing.assert_array_equal(work.of(noise(2, *FRAME, 3)), expected)


def test_another_thread_may_allocate_during_a_capture(cuda: Cuda) -> None:
    work = Work(cuda, Kernels(cuda))
    expected = work.of(noise(3, *FRAME, 3))

    def queue() -> None:
        other = threading.Thread(target=lambda: cuda.device(1 << 20).close())
        other.start()
        other.join()
        work.queue()

    graph = work.stream.capture(queue)
    work.back.array[...] = 0
    graph.launch(work.stream)
    work.stream.synchronize()
    np.testing.assert_array_equal(work.back.array, expected)


def test_a_stream_waits_for_anothers_event(cuda: Cuda) -> None:
    nbytes = 1 << 27  # long enough on any bus that the second stream would be first if it did not wait
    first, second, event = cuda.stream(), cuda.stream(), cuda.event()
    host, there, back = cuda.host(nbytes), cuda.device(nbytes), cuda.host(nbytes)
    host.array[...] = 7
    back.array[...] = 0
    first.upload(there, host)
    event.record(first)
    second.wait(event)
    second.download(back, there)
    second.synchronize()
    assert (back.array == 7).all()


def test_events_tell_the_time_between_them(cuda: Cuda) -> None:
    stream, start, middle, end = cuda.stream(), cuda.event(True), cuda.event(True), cuda.event(True)
    host, there = cuda.host(1 << 26), cuda.device(1 << 26)
    start.record(stream)
    stream.upload(there, host)
    middle.record(stream)
    for _ in range(8):
        stream.upload(there, host)
    end.record(stream)
    end.synchronize()
    assert 0 < middle.since(start) < end.since(middle) < end.since(start) < 10


def test_threads_work_side_by_side_and_need_no_context_of_their_own(cuda: Cuda) -> None:
    kernels = Kernels(cuda)
    wrong: list[object] = []

    def run(seed: int) -> None:
        try:
            work = Work(cuda, kernels)
            expected = work.of(noise(seed, *FRAME, 3))
            for _ in range(100):
                if not np.array_equal(work.of(noise(seed, *FRAME, 3)), expected):
                    wrong.append(seed)
            work.close()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_grows_over_fifty_sizes_and_a_thousand_frames(cuda: Cuda) -> None:
    kernels = Kernels(cuda)
    work = Work(cuda, kernels)
    work.of(noise(4, *FRAME, 3))
    held, free = cuda.held, cuda.free_memory()
    for round in range(1000):
        work.of(noise(round, *FRAME, 3))
    for side in range(50):
        size = 100 + side, 200 + side
        task = Scale(kernels, FRAME, size, size, Input())
        source, out = cuda.device(task.frame_bytes), cuda.device(task.input_bytes)
        graph = work.stream.capture(lambda task=task, a=source, b=out: task.launch(work.stream, a.pointer, b.pointer))
        graph.launch(work.stream)
        work.stream.synchronize()
        for thing in (graph, task, source, out):
            thing.close()
    assert cuda.held == held
    assert cuda.free_memory() > free - (16 << 20)  # the driver keeps some of what it was given back


def test_closing_gives_everything_back_and_what_was_closed_says_so(cuda: Cuda) -> None:
    with open_cuda(cuda.driver.name) as second:
        free = cuda.free_memory()
        second.device(64 << 20)
        second.host(1 << 20)
        assert cuda.free_memory() <= free - (64 << 20)
    assert second.held == (0, 0)
    assert cuda.free_memory() >= free - (4 << 20)
    second.close()
    with pytest.raises(BackendError, match="was closed"):
        second.device(1)
    assert cuda.stream()  # the first still has the context


def test_too_much_memory_is_refused_with_the_figures_and_the_gpu_is_usable_after(cuda: Cuda) -> None:
    with pytest.raises(BackendError, match="MB are free") as refusal:
        cuda.device(2 * cuda.gpu.memory)
    assert "\n" not in str(refusal.value)
    cuda.device(1 << 20).close()


def test_a_gpu_that_is_not_there_is_named(cuda: Cuda) -> None:
    with pytest.raises(BackendError, match="no GPU 99"):
        open_cuda(cuda.driver.name, 99)


def test_an_image_of_nonsense_is_refused_in_one_line(cuda: Cuda) -> None:
    with pytest.raises(BackendError) as refusal:
        cuda.module(b"nonsense\0")
    assert "\n" not in str(refusal.value)
