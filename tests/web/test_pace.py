from __future__ import annotations

import asyncio
import threading
import time

from fcn_edge.web.pace import Bell, Share, Turns


def test_whoever_waits_hears_a_bell_that_another_thread_rings():
    bell, rung = Bell(), []

    async def wait() -> list[bool]:
        return await asyncio.gather(*(bell.wait_for(lambda: bool(rung), 30) for _ in range(20)))

    def ring() -> None:
        time.sleep(0.05)
        rung.append(True)
        bell.ring()

    thread = threading.Thread(target=ring)
    thread.start()
    assert asyncio.run(wait()) == [True] * 20
    thread.join()


def test_a_ring_for_something_else_wakes_nobody_for_good():
    bell, asked = Bell(), []

    def ready() -> bool:
        asked.append(True)
        return len(asked) == 3

    async def wait() -> bool:
        waiting = asyncio.create_task(bell.wait_for(ready, 30))
        for _ in range(2):
            await asyncio.sleep(0.01)
            bell.ring()
        return await waiting

    assert asyncio.run(wait())
    assert len(asked) == 3


def test_a_wait_ends_where_nothing_comes():
    assert asyncio.run(Bell().wait_for(lambda: False, 0.05)) is False


def test_a_bell_whose_loop_is_gone_may_be_rung():
    bell = Bell()
    asyncio.run(bell.wait_for(lambda: False, 0.01))
    bell.ring()


def test_work_leaves_the_rest_of_the_time_free():
    share = Share(0.1)
    assert share.free
    before = time.monotonic()
    share.spent(0.02)
    assert not share.free
    assert 0.17 < share.free_at - before < 0.19  # nine times as long


def test_turns_come_in_order_and_no_faster_than_their_rate():
    turns, done = Turns(200), []

    async def take(number: int) -> None:
        await turns.take()
        done.append((number, time.monotonic()))

    async def everybody() -> None:
        await asyncio.gather(*map(take, range(20)))

    asyncio.run(everybody())
    assert [number for number, _ in done] == list(range(20))
    assert done[-1][1] - done[0][1] >= 0.09
