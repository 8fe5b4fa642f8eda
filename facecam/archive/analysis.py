"""Frames of a file to tracks with one answer each: boxes between detections, all the evidence before the word."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from facecam.geometry import between
from facecam.people.quality import STRANGER_QUALITY
from facecam.people.unknown import UnknownBook
from facecam.pipeline import Evidence, Recogniser
from facecam.values import NOBODY, Box, Frame, Match
from facecam.vision.track import Track

#: A track that ended before it was decided may still be named when its best crop was this good.
LATE_QUALITY: Final = 0.35


@dataclass(slots=True)
class Record:
    """What is known of one frame.

    Attributes:
        index, time: of the frame; seconds as the container gives them.
        faces: (track id, box, detector's score).
    """

    index: int
    time: float
    faces: list[tuple[int, Box, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TrackResult:
    """The final word on a track.

    Attributes:
        match: who it is; its similarity is that of the track's mean vector.
        believed: False for what proved to be no face.
        mean, highest: of the similarities of the single views to the candidate; None without one.
        unknown: number of an unknown person; None for a named one and where too little was seen.
    """

    match: Match
    believed: bool
    mean: float | None = None
    highest: float | None = None
    unknown: int | None = None


class Analysis:
    """Runs a Recogniser over a file and gives records in order, a little late.

    Boxes on frames without detection lie between the hits before and after, so records wait until the
    next hit of every live track; the tracker's patience bounds the wait, and with it the memory.

    Attributes:
        results: track id -> answer, complete when `records` is exhausted.
    """

    def __init__(self, recogniser: Recogniser, book: UnknownBook | None = None, source: str = "") -> None:
        """Start.

        Args:
            book: numbers the unknown people; without one they stay without numbers.
            source: name of the file, for the book.
        """
        self.recogniser = recogniser
        self._book = book
        self._source = source
        self._strangers: list[tuple[float, int, float, Evidence]] = []
        recogniser.portraits = book is not None and book.remembers
        self.results: dict[int, TrackResult] = {}
        self._pending: deque[Record] = deque()
        self._hits: dict[int, tuple[int, Box]] = {}
        self._together: set[tuple[int, int]] = set()

    def records(self, frames: Iterable[Frame]) -> Iterator[Record]:
        """One record for each frame, in order."""
        for frame in frames:
            step = self.recogniser.step(frame)
            for track in step.ended:
                self._end(track)
            self._pending.append(Record(frame.index, frame.time))
            if step.looked:
                for track in self.recogniser.tracker.tracks:
                    if track.last == frame.index:
                        self._hit(track)
            yield from self._ready()
        for track in self.recogniser.tracker.clear():
            self._end(track)
        yield from self._ready()
        self._settle()

    def _settle(self) -> None:
        """Two tracks in one frame cannot be the same person: the more similar keeps the name."""
        order = sorted(self._together, key=lambda pair: -max(self._similarity(t) for t in pair))
        for pair in order:
            first, second = sorted(pair, key=lambda t: (-self._similarity(t), t))
            name = self.results[first].match.name
            if name is not None and self.results[second].match.name == name:
                loser = self.results[second]
                self.results[second] = replace(loser, match=replace(loser.match, name=None))
        self._number()

    def _number(self) -> None:
        """Give the unknown people their numbers, in order of appearance."""
        for since, track, until, evidence in sorted(self._strangers, key=lambda entry: entry[:2]):
            result = self.results[track]
            if self._book is not None and result.believed and result.match.name is None:
                number = self._book.identify(
                    evidence.vector, evidence.weight, (since, until), evidence.portrait, source=self._source
                )
                self.results[track] = replace(result, unknown=number)
        self._strangers.clear()

    def _similarity(self, track: int) -> float:
        result = self.results[track]
        return (result.match.similarity or 0.0) if result.believed else -1.0

    def _hit(self, track: Track) -> None:
        now = (track.last, track.box)
        before = self._hits.get(track.id)
        for record in self._pending:
            if record.index == now[0]:
                record.faces.append((track.id, track.box, track.score))
            elif before is not None and before[0] < record.index < now[0]:
                share = (record.index - before[0]) / (now[0] - before[0])
                record.faces.append((track.id, between(before[1], now[1], share), track.score))
        self._hits[track.id] = now

    def _end(self, track: Track) -> None:
        """A track is over. Not because it was missed: then its face was there until now (a cut, the end)."""
        last = self._hits.pop(track.id, None)
        if last is not None and track.misses == 0:
            for record in self._pending:
                if record.index > last[0]:
                    record.faces.append((track.id, track.predict(record.time), track.score))
        evidence = self.recogniser.forget(track.id)
        match = NOBODY
        if evidence is not None and evidence.count and (evidence.decided or evidence.best >= LATE_QUALITY):
            match = evidence.match
        mean = highest = None
        if evidence is not None and match.candidate is not None:
            views = self.recogniser.matcher.similarity_to(match.candidate, np.stack(evidence.views))
            mean, highest = float(views.mean()), float(views.max())
        self.results[track.id] = TrackResult(match, track.confirmed, mean, highest)
        if self._book is not None and evidence is not None and evidence.count and evidence.best >= STRANGER_QUALITY:
            since = evidence.since if evidence.since is not None else track.last_time
            self._strangers.append((since, track.id, track.last_time, evidence))

    def _ready(self) -> Iterator[Record]:
        oldest = min((index for index, _ in self._hits.values()), default=None)
        while self._pending and (oldest is None or self._pending[0].index <= oldest):
            record = self._pending.popleft()
            if len(record.faces) > 1:
                ids = sorted(face[0] for face in record.faces)
                self._together |= {(a, b) for i, a in enumerate(ids) for b in ids[i + 1 :]}
            yield record
