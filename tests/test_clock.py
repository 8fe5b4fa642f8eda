"""Times that go on where a file's clock goes back."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from facecam.video.clock import JITTER, Clock

BASE = Fraction(1, 1000)
STEP = 40

parts = st.lists(
    st.tuples(st.integers(0, 100_000), st.integers(20, 60)), min_size=1, max_size=5
)  # where a recording's clock begins, and how many pictures it has


@given(parts)
def test_joined_recordings_follow_each_other(parts: list[tuple[int, int]]) -> None:
    clock, given_out, breaks = Clock(BASE), [], []
    for start, count in parts:
        breaks.append(len(given_out))
        for number in range(count):
            time = start + STEP * number
            given_out.append(time + clock.shift(time, STEP))
    for index, (one, other) in enumerate(pairwise(given_out), 1):
        if index not in breaks:
            assert other - one == STEP
        else:  # forward as it was, back never
            assert other - one >= -JITTER / BASE
    assert given_out[: parts[0][1]] == [parts[0][0] + STEP * number for number in range(parts[0][1])]


@given(st.lists(st.integers(-round(JITTER / BASE) + STEP, 400), min_size=1, max_size=50))
def test_times_that_do_not_go_back_far_are_left_as_they_are(steps: list[int]) -> None:
    clock, time, highest = Clock(BASE), 1_000_000, 1_000_000
    for step in steps:
        time = max(time + step, highest - round(JITTER / BASE) + 1)
        highest = max(highest, time)
        assert clock.shift(time, STEP) == 0


def test_one_damaged_time_moves_nothing_but_itself() -> None:
    clock = Clock(BASE)
    times = [10_000, 10_040, 3_000, 10_120, 10_160]
    assert [time + clock.shift(time, STEP) for time in times] == [10_000, 10_040, 10_080, 10_120, 10_160]


def test_the_clock_of_a_recording_is_not_taken_for_that_of_the_one_before() -> None:
    clock = Clock(BASE)
    times = [*range(0, 8000, STEP), *range(0, 12_000, STEP)]
    assert [time + clock.shift(time, STEP) for time in times] == list(range(0, 20_000, STEP))
