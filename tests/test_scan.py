"""Searching ahead of the rest, and leaving out looks at faces that stay where they are: the outcome is the same."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.archive.analysis import Analysis
from facecam.errors import MediaError
from facecam.pipeline import Recogniser
from facecam.scan import Stillness, frames_ahead
from facecam.values import Box, Face, Frame, Image
from facecam.video.sources import SyntheticSource
from tests.test_pipeline import FakeDetector, frames, number, recogniser, still

IMAGES = frames(120)


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "searching"]


def outcome(script: dict[int, list[Box]], count: int, ahead: int) -> tuple[object, ...]:
    analysis = Analysis(recogniser(script))
    records = list(analysis.records(SyntheticSource(IMAGES[:count], fps=30), ahead=ahead))
    parts = [(part.track, part.count, None if part.total is None else part.total.tolist()) for part in analysis.parts]
    detector = cast(FakeDetector, analysis.recogniser.detector)
    return records, parts, analysis.together, sorted(detector.searched)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 110), st.integers(3, 90), st.integers(0, 2), st.integers(-3, 3)), max_size=3),
    st.integers(1, 120),
    st.integers(1, 60),
)
def test_searched_ahead_the_outcome_is_the_same(faces: list[tuple[int, int, int, int]], count: int, depth: int) -> None:
    script: dict[int, list[Box]] = {}
    for start, length, lane, speed in faces:
        for k in range(start, min(start + length, 120)):
            script.setdefault(k, []).append((10.0 + 100 * lane + speed * (k - start) / 4, 60.0, 80.0, 80.0))
    assert outcome(script, count, depth) == outcome(script, count, 0)
    assert not threads()


def test_it_is_a_bounded_number_of_frames_ahead() -> None:
    given_out = 0

    def counted() -> Iterator[Frame]:
        nonlocal given_out
        for frame in SyntheticSource(IMAGES, fps=30):
            given_out += 1
            yield frame

    analysis = Analysis(recogniser({}))
    taken, most = 0, 0
    take = analysis.recogniser.take

    def watched(seen):  # type: ignore[no-untyped-def]
        nonlocal taken, most
        most, taken = max(most, given_out - taken), taken + 1
        return take(seen)

    analysis.recogniser.take = watched  # type: ignore[method-assign]
    assert len(list(analysis.records(counted(), ahead=7))) == len(IMAGES)
    assert 1 <= most <= 7 + 2, "those that wait, one in the thread's hand, one being taken"


def test_large_pictures_wait_in_smaller_numbers() -> None:
    sizes = [(640, 360), (1920, 1080), (3840, 2160), (8192, 4320)]
    depths = [frames_ahead(*size) for size in sizes]
    assert depths == sorted(depths, reverse=True) and depths[-1] >= 6 and depths[0] <= 48
    assert all(1.5 * w * h * depth <= 64e6 or depth == 6 for (w, h), depth in zip(sizes, depths))


def test_an_error_of_the_source_comes_after_the_frames_before_it_and_no_thread_stays() -> None:
    def broken() -> Iterator[Frame]:
        yield from SyntheticSource(IMAGES[:30], fps=30)
        raise MediaError("broken")

    analysis = Analysis(recogniser({}))
    seen = []
    with pytest.raises(MediaError, match="broken"):
        for record in analysis.records(broken(), ahead=12):
            seen.append(record.index)
    assert seen == list(range(len(seen))), "in order, as far as they were known"
    assert not threads()


def test_left_early_no_thread_stays() -> None:
    records = Analysis(recogniser({})).records(SyntheticSource(IMAGES, fps=30), ahead=12)
    assert next(records).index == 0
    assert threads()
    records.close()
    assert not threads()


@pytest.mark.parametrize("patient", [False, True])
def test_levels_have_turns_by_turns(patient: bool) -> None:
    """A level is searched halfway between the turns of its neighbours."""
    pipeline = recogniser({})
    pipeline.patient = patient
    searched: dict[int, list[float]] = {}

    class Noting(FakeDetector):
        def levels(self, width: int, height: int, min_face: float) -> list[float]:
            return [2.0 / 2 ** (i / 2) for i in range(9)]

        def detect_levels(self, image: Image, scales: Sequence[float], changed: object = None) -> list[Face]:
            searched[number(image)] = [round(scale, 2) for scale in scales]
            return []

    pipeline.scan._detector = Noting({})
    pipeline.scan._cuts.is_cut = lambda frame: False  # type: ignore[method-assign]
    pipeline.scan._still = Stillness(1, 1, 1, 0)
    images = [np.random.default_rng(k).integers(0, 255, (480, 640, 3), np.uint8) for k in range(110)]
    for k, image in enumerate(images):
        image[0, 0] = (k, 0, 0)
    for frame in SyntheticSource(images, fps=30):
        pipeline.scan.see(frame)
    beat = 18 if patient else 9
    turns = {scale: [k for k, scales in searched.items() if scale in scales] for scale in (2.0, 1.41, 1.0, 0.71, 0.12)}
    assert searched[0] == [2.0, 1.41, 1.0, 0.71, 0.5, 0.35, 0.25, 0.18, 0.12], "of a new shot everything"
    assert turns[2.0] == turns[1.0] == list(range(0, 110, 2 * beat))
    assert turns[1.41] == turns[0.71] == [0, *range(beat, 110, 2 * beat)]
    assert turns[0.12] == list(range(0, 110, beat))


# --- faces that stay where they are ----------------------------------------------------------------------


class Watching(FakeDetector):
    """Notes on which frames faces were followed."""

    def __init__(self, script: dict[int, list[Box]]) -> None:
        super().__init__(script)
        self.followed: list[int] = []

    def follow(self, image: Image, boxes: Sequence[Box], sized: Collection[int] = ()) -> list[Face | None]:
        if boxes:
            self.followed.append(number(image))
        return super().follow(image, boxes, sized)


def watching(script: dict[int, list[Box]]) -> tuple[Recogniser, Watching]:
    pipeline = recogniser(script)
    pipeline.detector = detector = Watching(script)
    pipeline.scan._detector = detector
    return pipeline, detector


def test_faces_of_a_file_that_stay_are_followed_half_as_often_and_a_live_view_s_are_not() -> None:
    pipeline, detector = watching(still(50, 120))
    records = list(Analysis(pipeline).records(SyntheticSource(IMAGES, fps=30)))
    assert len(detector.followed) < 120 / 3 * 0.7
    assert all(record.faces for record in records), "the frames between are filled"
    live, seen = watching(still(50, 120))
    for frame in SyntheticSource(IMAGES, fps=30):
        live.step(frame)
    assert len(seen.followed) >= 120 / 3 - 1


def test_a_sudden_move_makes_the_frame_between_be_looked_at() -> None:
    """A face that stood jumps within a look that was left out: its boxes are where it was, not halfway."""
    for jump in range(60, 66):
        script = still(50, jump) | {k: [(90.0, 60.0, 80.0, 80.0)] for k in range(jump, 120)}
        pipeline, _ = watching(script)
        records = list(Analysis(pipeline).records(SyntheticSource(IMAGES, fps=30)))
        boxes = {record.index: record.faces[0][1][0] for record in records if record.faces}
        wrong = [k for k, x in boxes.items() if abs(x - script[k][0][0]) > 25]
        assert len(wrong) <= 3, f"only between two looks that are three frames apart, not in {wrong}"
        assert len(boxes) == 120


def test_without_faces_no_picture_is_converted_but_for_searches() -> None:
    converted = []

    def lazily(index: int, image: Image) -> Frame:
        def make() -> Image:
            converted.append(index)
            return image

        return Frame(index, index / 30, size=(320, 240), make_image=make, make_luma=lambda: image[::4, ::4, 1].copy())

    pipeline, detector = watching({})
    list(Analysis(pipeline).records(lazily(k, image) for k, image in enumerate(IMAGES)))
    assert converted == [k for k, _ in detector.searched] and len(converted) < 15
