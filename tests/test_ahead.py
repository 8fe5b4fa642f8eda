"""Reading ahead: everything in order, errors where they belong, and no thread left behind whichever way it ends."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.errors import MediaError
from facecam.values import Frame
from facecam.video.ahead import ReadAhead
from facecam.video.sources import FileSource
from tests.fakes import make_clip, number_of, numbered

PIXEL = np.zeros((1, 1, 3), np.uint8)


class Reads:
    """Gives so many frames, then None or an error; counts what was taken."""

    def __init__(self, count: int, error: BaseException | None = None) -> None:
        self.count, self.error, self.given = count, error, 0

    def __call__(self) -> Frame | None:
        if self.given == self.count:
            if self.error is not None:
                raise self.error
            return None
        self.given += 1
        return Frame(self.given - 1, 0.0, PIXEL)


def decoding() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "decoding"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 30), st.integers(1, 8), st.booleans())
def test_all_frames_in_order_then_the_end_or_the_error(count: int, depth: int, fails: bool) -> None:
    ahead = ReadAhead(Reads(count, MediaError("broken") if fails else None), depth)
    seen = []
    try:
        seen += [frame.index for frame in ahead]
        assert not fails
    except MediaError:
        assert fails
        with pytest.raises(StopIteration):
            next(ahead)
    assert len(seen) == (0 if fails else count)
    assert not decoding()


def test_frames_before_an_error_are_given() -> None:
    ahead = ReadAhead(Reads(5, MediaError("broken")))
    assert [next(ahead).index for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(MediaError, match="broken"):
        next(ahead)
    assert not decoding()


def test_it_is_never_more_than_its_depth_ahead() -> None:
    reads = Reads(100)
    ahead = ReadAhead(reads, 3)
    for taken in range(1, 6):
        next(ahead)
        time.sleep(0.02)
        assert reads.given <= taken + 3 + 1, "three wait, and one is in the thread's hand"
    ahead.close()
    assert not decoding()


def test_closing_wakes_a_reader_and_may_be_done_twice() -> None:
    asked, go = threading.Event(), threading.Event()

    def slow() -> Frame | None:
        asked.set()
        go.wait(5)
        return None

    ahead = ReadAhead(slow)
    rest: list[list[Frame]] = []
    reader = threading.Thread(target=lambda: rest.append(list(ahead)))
    reader.start()
    asked.wait(5)
    threading.Timer(0.05, go.set).start()
    ahead.close()
    ahead.close()
    reader.join(5)
    assert rest == [[]] and not decoding()


def test_a_file_closed_in_the_middle_leaves_no_thread(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", [numbered(index) for index in range(40)])
    with FileSource(clip) as source:
        first = next(source.ahead())
        assert decoding()
    assert not decoding()
    assert number_of(first.image) == 0, "a frame given before stays usable"
    with FileSource(clip) as source:
        assert [number_of(frame.image) for frame in source.ahead()] == list(range(40))


def test_a_closed_file_is_let_go_of_without_the_garbage_collector(tmp_path: Path) -> None:
    """Else its decoder would be freed whenever, in a forked child even, where its threads are not."""
    clip = make_clip(tmp_path / "clip.mp4", [numbered(index) for index in range(20)])
    gc.collect()
    gc.disable()
    try:
        for take in (3, 100):
            with FileSource(clip) as source:
                alive = weakref.ref(source)
                for _ in zip(range(take), source.ahead()):
                    pass
            del source
            assert alive() is None
    finally:
        gc.enable()
