from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from videoretalking.pipeline.stream import chunks, in_background, one_behind, threaded


def test_items_come_in_order_and_from_another_thread() -> None:
    def source() -> Iterator[tuple[int, int]]:
        for item in range(20):
            yield item, threading.get_ident()

    items = list(threaded(source()))
    assert [item for item, _ in items] == list(range(20))
    assert {thread for _, thread in items} != {threading.get_ident()}


def test_the_queue_is_bounded() -> None:
    produced = []

    def source() -> Iterator[int]:
        for item in range(100):
            produced.append(item)
            yield item

    stream = threaded(source(), depth=2)
    next(stream)
    time.sleep(0.2)
    assert len(produced) <= 1 + 2 + 1  # consumed, waiting, in the hand of the producer
    stream.close()  # type: ignore[attr-defined]


def test_errors_of_the_source_reach_the_consumer() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken stage")

    stream = threaded(source())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken stage"):
        next(stream)


def test_closing_early_closes_every_stage_and_ends_every_thread() -> None:
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    before = threading.active_count()
    stream = threaded(item + 1 for item in threaded(source()))
    assert next(stream) == 1
    stream.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert closed == [True]
    assert threading.active_count() == before


def test_stages_overlap() -> None:
    def slow(source: Iterator[int]) -> Iterator[int]:
        for item in source:
            time.sleep(0.02)
            yield item

    start = time.monotonic()
    assert len(list(slow(threaded(slow(threaded(slow(iter(range(10))))))))) == 10
    assert time.monotonic() - start < 0.45  # 0.6 s one after the other


def test_chunks() -> None:
    assert list(chunks(iter(range(7)), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunks(iter(range(7)), 3, first=[1, 2])) == [[0], [1, 2], [3, 4, 5], [6]]
    assert list(chunks(iter(range(3)), 3, first=[1, 2])) == [[0], [1, 2]]


def test_one_behind_makes_the_next_item_before_it_hands_over_the_last() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for item in range(3):
            made.append(item)
            yield item

    assert [(item, len(made)) for item in one_behind(source())] == [(0, 2), (1, 3), (2, 3)]
    assert list(one_behind(iter([]))) == []


def test_items_are_consumed_in_order_by_another_thread_before_the_block_ends() -> None:
    consumed: list[tuple[int, int]] = []

    def consume(item: int) -> None:
        time.sleep(0.002)
        consumed.append((item, threading.get_ident()))

    with in_background(consume) as hand_over:
        for item in range(20):
            hand_over(item)
            assert item - len(consumed) <= 1 + 1  # waiting, in the hand of the consumer
    assert [item for item, _ in consumed] == list(range(20))
    assert {thread for _, thread in consumed} != {threading.get_ident()}


@pytest.mark.parametrize("count", [1, 50])
def test_errors_of_the_consumer_reach_the_producer(count: int) -> None:
    def consume(item: int) -> None:
        raise ValueError(f"cannot write {item}")

    before = threading.active_count()
    with pytest.raises(ValueError, match="cannot write 0"), in_background(consume) as hand_over:
        for item in range(count):
            hand_over(item)
    assert threading.active_count() == before


def test_what_waits_is_dropped_when_the_producer_fails() -> None:
    consumed: list[int] = []
    begun, first = threading.Event(), threading.Event()

    def consume(item: int) -> None:
        begun.set()
        first.wait(5)
        consumed.append(item)

    def produce() -> None:
        with in_background(consume, depth=5) as hand_over:
            for item in range(4):
                hand_over(item)
            begun.wait(5)
            threading.Timer(0.1, first.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        produce()
    assert consumed == [0]
