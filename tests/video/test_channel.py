from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from fcn_edge.video.channel import Channel


def test_it_takes_so_many_bytes_and_one_item_whatever_its_size():
    channel: Channel[str] = Channel(items=10, size=100)
    assert channel.put("huge", 500)
    taker = threading.Thread(target=channel.take)
    done = threading.Event()
    sender = threading.Thread(target=lambda: (channel.put("next", 1), done.set()))
    sender.start()
    assert not done.wait(0.05)
    taker.start()
    assert done.wait(5)
    taker.join()
    sender.join()


def test_what_waits_longest_makes_room():
    channel: Channel[int] = Channel(items=2, size=100)
    assert [channel.replace(number, 10) for number in range(4)] == [0, 0, 1, 1]
    assert channel.replace(4, 95) == 2
    channel.close()
    assert list(channel) == [4]


def test_a_channel_that_either_side_ended_frees_its_sender():
    for end in (Channel.abandon, Channel.close):
        channel: Channel[int] = Channel(items=1, size=100)
        channel.put(1, 1)
        with ThreadPoolExecutor(1) as sender:
            answer = sender.submit(channel.put, 2, 1)
            end(channel)
            assert answer.result(5) is False


def test_an_abandoned_channel_gives_nothing_and_a_closed_one_what_it_holds():
    for end, left in ((Channel.abandon, []), (Channel.close, [0, 1, 2])):
        channel: Channel[int] = Channel(items=3, size=100)
        for number in range(3):
            channel.put(number, 1)
        end(channel)
        assert list(channel) == left
        assert channel.ended


def test_taking_does_not_wait_longer_than_it_is_told():
    channel: Channel[int] = Channel(items=1, size=1)
    assert channel.take(0.01) is None
    assert not channel.ended
