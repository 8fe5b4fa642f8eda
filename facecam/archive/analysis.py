"""Frames of a file to tracks with one answer each: boxes between detections, all the evidence before the word."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from facecam.archive.naming import Part, TrackResult, name_tracks
from facecam.geometry import between, coasted, iou
from facecam.people.unknown import UnknownBook
from facecam.pipeline import Recogniser
from facecam.scan import Seen, scan_ahead
from facecam.values import Box, Frame
from facecam.vision.track import Track, affinity

__all__ = ["Analysis", "Record", "TrackResult"]

#: Decoded pictures that are kept to follow faces back, bytes (1.5 a pixel).
KEPT_BYTES: Final = 96_000_000
#: A face that agrees this much with another track's is that one's.
SAME: Final = 0.3
#: A face that would overlap another this much, where nobody looked, is behind it.
HIDES: Final = 0.5


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


class Analysis:
    """Runs a Recogniser over a file and gives records in order, a little late.

    Boxes on frames without detection lie between the hits before and after, so records wait until the
    next hit of every live track. A new face is followed back to the frame it came on, through the pictures since the
    last search, so that searches may be rare. Both waits are bounded, and with them the memory.

    Attributes:
        parts: what was seen of each track that is over.
        together: pairs of tracks, the smaller id first, that show in one frame.
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
        self.parts: list[Part] = []
        self.together: set[tuple[int, int]] = set()
        recogniser.portraits = book is not None and book.remembers
        self.results: dict[int, TrackResult] = {}
        self._pending: deque[Record] = deque()
        self._hits: dict[int, tuple[int, Box]] = {}
        self._past: deque[Frame] = deque()
        self._untraced: dict[int, tuple[int, float, Box]] = {}
        recogniser.patient = True

    def records(self, frames: Iterable[Frame], *, ahead: int = 0) -> Generator[Record, None, None]:
        """One record for each frame, in order.

        Args:
            ahead: let a thread ask for the frames and search them, at most so many frames ahead; the records are the
                same. Close the iterator, should it be left before its end.
        """
        if not ahead:
            yield from self._records(self.recogniser.scan.see(frame) for frame in frames)
            return
        with scan_ahead(frames, self.recogniser.scan, ahead) as seen:
            yield from self._records(seen)

    def _records(self, frames: Iterable[Seen]) -> Iterator[Record]:
        for seen in frames:
            frame = seen.frame
            step = self.recogniser.take(seen)
            for track in step.ended:
                self._end(track)
            if step.cut:
                self._past.clear()
                self._untraced.clear()
            self._pending.append(Record(frame.index, frame.time))
            if step.looked:
                for track in self.recogniser.tracker.tracks:
                    if track.last == frame.index:
                        if track.id in step.moved:
                            self._look_between(track)
                        self._hit(track.id, frame.index, track.box, track.score)
                        if track.hits > 1 and track.confirmed:  # from then on its speed is known
                            self._trace(track)
            if step.looked or step.passed:
                self._keep(frame)
            yield from self._ready()
        for track in self.recogniser.tracker.clear():
            self._end(track)
        self._past.clear()
        yield from self._ready()
        matcher = self.recogniser.identities.matcher
        self.results = name_tracks(self.parts, self.together, matcher, self._book, self._source)

    def _hit(self, id: int, index: int, box: Box, score: float) -> None:
        before = self._hits.get(id)
        for record in self._pending:
            if record.index == index:
                record.faces.append((id, box, score))
            elif before is not None and before[0] < record.index < index:
                guess = between(before[1], box, (record.index - before[0]) / (index - before[0]))
                if all(iou(guess, other) <= HIDES for _, other, _ in record.faces):
                    record.faces.append((id, guess, score))
        if before is None:
            self._untraced[id] = index, self._pending[-1].time, box
        self._hits[id] = index, box

    def _look_between(self, track: Track) -> None:
        """Follow a track that moved otherwise than expected through the pictures between, where no look was taken."""
        before = self._hits.get(track.id)
        for frame in list(self._past):
            if before is None or not before[0] < frame.index < track.last:
                continue
            with self.recogniser.timing.stage("detect"):
                share = (frame.index - before[0]) / (track.last - before[0])
                face = self.recogniser.detector.follow(frame.image, [between(before[1], track.box, share)])[0]
                frame.release()
            if face is not None:
                self._hit(track.id, frame.index, face.box, face.score)

    def _keep(self, frame: Frame) -> None:
        """Keep a frame that was looked at until no face can be found any more that was there already."""
        frame.release()
        self._past.append(frame)
        room = max(1, KEPT_BYTES * 2 // (3 * frame.width * frame.height))
        while len(self._past) > room or self._past[0].index <= frame.index - self.recogniser.reach:
            self._past.popleft()

    def _trace(self, track: Track) -> None:
        """Follow a new face back from its first hit, to where it came or to another track; once."""
        if track.id not in self._untraced:
            return
        index, time, box = self._untraced.pop(track.id)
        speed, score = track.speed, track.score
        records = {record.index: record for record in self._pending}
        with self.recogniser.timing.stage("detect"):
            for frame in reversed(self._past):
                if frame.index >= index:
                    continue
                expected = coasted(box, speed, frame.time - time)
                face = self.recogniser.detector.follow(frame.image, [expected])[0]
                frame.release()
                if face is None or any(affinity(face.box, other) > SAME for _, other, _ in records[frame.index].faces):
                    return
                records[frame.index].faces.append((track.id, face.box, face.score))
                for middle in range(frame.index + 1, index):
                    share = (middle - frame.index) / (index - frame.index)
                    if middle in records:
                        records[middle].faces.append((track.id, between(face.box, box, share), score))
                speed = _speed(face.box, box, time - frame.time) if time > frame.time else speed
                index, time, box, score = frame.index, frame.time, face.box, face.score

    def _end(self, track: Track) -> None:
        """A track is over. Not because it was missed: then its face was there until now (a cut, the end)."""
        if track.confirmed:
            self._trace(track)
        last = self._hits.pop(track.id, None)
        self._untraced.pop(track.id, None)
        if last is not None and track.misses == 0:
            for record in self._pending:
                if record.index > last[0]:
                    record.faces.append((track.id, track.predict(record.time), track.score))
        self.parts.append(Part.of(track, self.recogniser.identities.forget(track.id)))

    def _ready(self) -> Iterator[Record]:
        oldest = min((index for index, _ in self._hits.values()), default=None)
        if self._past:
            oldest = min(self._past[0].index - 1, self._past[0].index if oldest is None else oldest)
        while self._pending and (oldest is None or self._pending[0].index <= oldest):
            record = self._pending.popleft()
            # Two tracks on one face, for a moment, are not two people.
            for (a, box, _), (b, other, _) in itertools.combinations(sorted(record.faces), 2):
                if (a, b) not in self.together and iou(box, other) <= SAME:
                    self.together.add((a, b))
            yield record


def _speed(before: Box, after: Box, seconds: float) -> tuple[float, float]:
    """Of the middle of a box, pixels a second."""
    x, y = (after[i] - before[i] + (after[i + 2] - before[i + 2]) / 2 for i in (0, 1))
    return x / seconds, y / seconds
