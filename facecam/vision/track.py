"""Faces over time: stable track ids from overlap and motion. Sees boxes, never pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from facecam.geometry import coasted, covers, iou
from facecam.values import Box, Face

#: Frames of detection in a row that a track may miss before it ends.
MAX_MISSES: Final = 5
#: A track is believed after this many hits, or at once when the detector is this sure.
CONFIRM_HITS: Final = 2
CONFIRM_SCORE: Final = 0.6
#: Overlap or nearness from which a face belongs to a track.
MATCH_IOU: Final = 0.25
MATCH_DISTANCE: Final = 0.6  # between centres, in face sizes
MATCH_RATIO: Final = 1.8  # between sizes
#: Share of a new measurement in box and speed: MMOD's cells are 8 px of an 80 px window apart, so that
#: single measurements jitter by a few per cent of the face.
BLEND: Final = 0.75
SPEED_BLEND: Final = 0.5


@dataclass(slots=True)
class Track:
    """One face through time.

    Attributes:
        id: from 1, never used twice by one Tracker.
        box: where it was at its last hit (smoothed), pixels; score: the detector's, then.
        speed: of the centre, pixels a second.
        hits: detections so far; misses: looked for and not found, in a row.
        measured: the face of the last hit as the detector gave it, landmarks included.
        rests: index of the frame before which nobody looks for it, so that it cannot be missed.
        first, last: index of the frame of the first and last hit; last_time: its time, seconds.
    """

    id: int
    box: Box
    score: float
    first: int
    last: int
    last_time: float
    hits: int = 1
    misses: int = 0
    speed: tuple[float, float] = (0.0, 0.0)
    best_score: float = 0.0
    measured: Face | None = None
    rests: int = 0

    @property
    def confirmed(self) -> bool:
        return self.hits >= CONFIRM_HITS or self.best_score >= CONFIRM_SCORE

    def predict(self, time: float) -> Box:
        """Where it should be at a time: on its way, ever more slowly."""
        return coasted(self.box, self.speed, max(0.0, time - self.last_time))

    def hit(self, face: Face, index: int, time: float) -> None:
        """Take a measurement."""
        dt = time - self.last_time
        expected = self.predict(time)
        x, y, w, h = (e + BLEND * (m - e) for e, m in zip(expected, face.box))
        if dt > 0:
            old_x, old_y = self.box[0] + self.box[2] / 2, self.box[1] + self.box[3] / 2
            measured = ((x + w / 2 - old_x) / dt, (y + h / 2 - old_y) / dt)
            share = 1.0 if self.hits == 1 else SPEED_BLEND
            self.speed = tuple(  # type: ignore[assignment]
                s + share * (m - s) for s, m in zip(self.speed, measured)
            )
        self.box, self.score = (x, y, w, h), face.score
        self.best_score = max(self.best_score, face.score)
        self.last, self.last_time = index, time
        self.measured = face
        self.hits += 1
        self.misses = 0


class Tracker:
    """Holds the tracks of one source.

    Attributes:
        tracks: the live ones, oldest first.
    """

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self._next = 1

    def predict(self, time: float) -> list[Box]:
        """The expected box of each live track, in the order of `tracks`."""
        return [track.predict(time) for track in self.tracks]

    def update(
        self, index: int, time: float, followed: Sequence[Face | None] | None, found: Sequence[Face]
    ) -> list[Track]:
        """Take what a detection saw.

        Args:
            followed: for each live track, in order, what was found near it (None: nothing), or None when
                nobody looked there and only ``found`` counts.
            found: faces of a search of the frame; they may be those followed, too.

        Returns:
            the tracks that ended.
        """
        expected = self.predict(time)
        answers: list[Face | None] = [None] * len(self.tracks)
        if followed is not None:
            answers = _without_doubles(list(followed), self.tracks)
        free = list(found)
        pairs = sorted(
            (
                (affinity(answer.box if answer else expected[i], face.box), i, k)
                for i, answer in enumerate(answers)
                for k, face in enumerate(free)
            ),
            reverse=True,
        )
        taken: set[int] = set()
        for value, i, k in pairs:
            if value <= 0:
                break
            if k in taken:
                continue
            answer = answers[i]
            if answer is None:
                answers[i] = free[k]
                taken.add(k)
            elif affinity(answer.box, free[k].box) > 0.5 or covers(answer.box, free[k].box):
                taken.add(k)  # the same face, seen twice
        for track, answer in zip(self.tracks, answers):
            if answer is not None:
                track.hit(answer, index, time)
            elif index >= track.rests:
                track.misses += 1
        ended = [t for t in self.tracks if t.misses > (MAX_MISSES if t.confirmed else 1)]
        self.tracks = [t for t in self.tracks if t not in ended]
        for k, face in enumerate(free):
            if k not in taken:
                self.tracks.append(
                    Track(
                        self._next,
                        face.box,
                        face.score,
                        index,
                        index,
                        time,
                        best_score=face.score,
                        measured=face,
                    )
                )
                self._next += 1
        return ended

    def split(self, track: Track) -> Track:
        """Give a live track a new id, because its face became another person's; returns what it was until now."""
        old = replace(track, last=max(track.first, track.last - 1))
        track.id, self._next = self._next, self._next + 1
        track.first, track.hits = track.last, CONFIRM_HITS
        return old

    def clear(self) -> list[Track]:
        """End every track (a cut, the end of the source); returns them."""
        ended, self.tracks = self.tracks, []
        return ended


def _without_doubles(answers: list[Face | None], tracks: Sequence[Track]) -> list[Face | None]:
    """Two tracks must not live on one face: the older, surer one keeps it."""
    order = sorted(range(len(answers)), key=lambda i: -tracks[i].hits)
    kept: list[Face] = []
    for i in order:
        answer = answers[i]
        if answer is None:
            continue
        if any(affinity(answer.box, other.box) > 0.5 for other in kept):
            answers[i] = None
        else:
            kept.append(answer)
    return answers


def affinity(a: Box, b: Box) -> float:
    """How well two boxes agree: IoU, or some credit for nearness when motion left no overlap; 0: not at all."""
    ratio = max(a[2], b[2]) / min(a[2], b[2])
    if ratio > MATCH_RATIO:
        return 0.0
    value = iou(a, b)
    if value >= MATCH_IOU:
        return value
    gap = math.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2)
    nearness = gap / (0.5 * (a[2] + b[2]))
    return 0.2 * (1 - nearness / MATCH_DISTANCE) if nearness < MATCH_DISTANCE else 0.0
