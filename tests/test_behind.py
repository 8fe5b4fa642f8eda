"""Writing behind: order, errors, and that nobody waits for ever."""

from __future__ import annotations

import threading
import time

import pytest

from facecam.video.behind import WriteBehind


def _threads() -> int:
    return sum(thread.name == "encoding" for thread in threading.enumerate())


def test_everything_is_written_in_order_by_another_thread() -> None:
    written: list[tuple[int, int]] = []
    with WriteBehind(lambda a, b: written.append((a, threading.get_ident())), depth=2) as behind:
        for index in range(50):
            behind.put(index, None)
    assert [index for index, _ in written] == list(range(50))
    assert {thread for _, thread in written} != {threading.get_ident()}
    assert _threads() == 0


@pytest.mark.parametrize("puts", [3, 40])
def test_an_error_comes_to_who_puts_and_nothing_is_written_after_it(puts: int) -> None:
    written: list[int] = []

    def write(index: int) -> None:
        written.append(index)
        if index == 2:
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"), WriteBehind(write, depth=2) as behind:
        for index in range(puts):
            behind.put(index)
    assert written == [0, 1, 2]
    assert _threads() == 0


def test_an_exception_of_who_puts_stops_the_writing() -> None:
    written: list[int] = []
    slow = threading.Event()

    def write(index: int) -> None:
        slow.wait(0.05)
        written.append(index)

    with pytest.raises(KeyboardInterrupt), WriteBehind(write, depth=4) as behind:
        for index in range(4):
            behind.put(index)
        raise KeyboardInterrupt
    assert len(written) <= 1, "what waits is not written any more"
    assert _threads() == 0


def test_putting_waits_while_there_is_too_much_to_do() -> None:
    go = threading.Event()
    with WriteBehind(lambda index: go.wait(10), depth=2) as behind:
        done: list[int] = []

        def fill() -> None:
            for index in range(6):
                behind.put(index)
                done.append(index)

        filler = threading.Thread(target=fill)
        filler.start()
        time.sleep(0.1)
        assert len(done) == 3, "one is being written, two wait"
        go.set()
        filler.join(10)
        assert not filler.is_alive()
