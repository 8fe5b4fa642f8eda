"""Track ids over time, from boxes alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.values import Box, Face
from facecam.vision.track import MAX_MISSES, Tracker

FPS = 30.0


def at(x: float, y: float, size: float = 80, score: float = 0.9) -> Face:
    return Face((x, y, size, size), score)


def feed(tracker: Tracker, index: int, faces: list[Face]) -> list[int]:
    """One detection on a frame, by a full search; ids of the tracks hit on it."""
    tracker.update(index, index / FPS, None, faces)
    return [t.id for t in tracker.tracks if t.last == index]


def test_a_moving_face_keeps_its_id() -> None:
    tracker = Tracker()
    ids = {i for k in range(60) for i in feed(tracker, k, [at(10 + 6 * k, 50 + 20 * math.sin(k / 5))])}
    assert ids == {1}


def test_two_faces_that_pass_each_other_keep_their_ids() -> None:
    tracker = Tracker()
    first, second = {}, {}
    for k in range(0, 90, 3):
        faces = [at(5 * k, 100), at(450 - 5 * k, 190)]
        feed(tracker, k, faces)
        for track in tracker.tracks:
            (first if abs(track.box[1] - 100) < 40 else second)[k] = track.id
    assert len(set(first.values())) == 1 and len(set(second.values())) == 1


def test_a_short_gap_is_bridged_and_a_long_one_is_not() -> None:
    tracker = Tracker()
    for k in range(5):
        feed(tracker, k, [at(100, 100)])
    for k in range(5, 5 + MAX_MISSES):
        assert feed(tracker, k, []) == []
    assert feed(tracker, 12, [at(102, 100)]) == [1]
    for k in range(13, 14 + MAX_MISSES):
        feed(tracker, k, [])
    assert tracker.tracks == []
    assert feed(tracker, 30, [at(102, 100)]) == [2]


def test_a_weak_face_seen_once_is_not_believed() -> None:
    tracker = Tracker()
    feed(tracker, 0, [at(0, 0, score=0.2), at(300, 0, score=0.9)])
    assert [t.confirmed for t in tracker.tracks] == [False, True]
    feed(tracker, 3, [at(0, 0, score=0.2)])
    assert tracker.tracks[0].confirmed


def test_a_searched_face_that_was_followed_already_is_one_track() -> None:
    tracker = Tracker()
    feed(tracker, 0, [at(100, 100)])
    tracker.update(3, 0.1, [at(103, 100)], [at(101, 102), at(400, 100)])
    assert sorted(t.id for t in tracker.tracks) == [1, 2]


def test_two_tracks_do_not_live_on_one_face() -> None:
    tracker = Tracker()
    for k in range(3):
        feed(tracker, k, [at(100, 100), at(260, 100)])
    for k in range(3, 4 + MAX_MISSES + 1):  # the left one goes; both searches end on the right one
        tracker.update(k, k / FPS, [at(255, 100), at(258, 100)][: len(tracker.tracks)], [])
    assert [t.id for t in tracker.tracks] in ([1], [2])


def test_prediction_goes_on_with_the_speed_and_comes_to_rest() -> None:
    tracker = Tracker()
    for k in range(10):
        feed(tracker, k, [at(10 * k, 0)])
    near = tracker.predict(10 / FPS)[0]
    far, farther = tracker.predict(2.0)[0], tracker.predict(60.0)[0]
    assert abs(near[0] - 100) < 4
    assert far[0] - farther[0] == pytest.approx(0, abs=0.1) and 100 < far[0] < 160


faces = st.lists(
    st.tuples(st.floats(-50, 700), st.floats(-50, 400), st.floats(20, 300), st.floats(0.01, 1.1)).map(
        lambda v: Face((v[0], v[1], v[2], v[2]), v[3])
    ),
    max_size=6,
)


@given(st.lists(faces, max_size=15))
@settings(max_examples=60, deadline=None)
def test_ids_are_never_used_twice_and_boxes_stay_finite(frames: list[list[Face]]) -> None:
    tracker = Tracker()
    ended: set[int] = set()
    for k, found in enumerate(frames):
        gone = tracker.update(k, k / FPS, None, found)
        ended |= {t.id for t in gone}
        live = [t.id for t in tracker.tracks]
        assert len(live) == len(set(live))
        assert not ended & set(live)
        for track in tracker.tracks:
            box: Box = track.predict(k / FPS + 1)
            assert all(math.isfinite(v) for v in box) and box[2] > 0 and box[3] > 0
