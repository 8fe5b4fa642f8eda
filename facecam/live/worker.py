"""Recognition beside the live view: one thread and one set of models for all sources, by turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from facecam.errors import FacecamError
from facecam.geometry import coasted
from facecam.live.watch import Change
from facecam.people.quality import STRANGER_QUALITY
from facecam.people.unknown import UnknownBook
from facecam.pipeline import CutTest, Recogniser
from facecam.values import Frame, Sighting

#: How long the end waits for recognition, seconds: a frame takes milliseconds; more, and something hangs.
_JOIN_SECONDS: Final = 0.6


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of recognition at a moment, safe to use from another thread.

    Attributes:
        time: presentation time of the frame it was taken from, seconds.
        seen: sightings with the speed of each, pixels a second.
    """

    time: float
    seen: tuple[tuple[Sighting, tuple[float, float]], ...]

    def at(self, moment: float) -> list[Sighting]:
        """The sightings moved on to another time."""
        dt = moment - self.time
        return [replace(s, face=s.face.at(coasted(s.face.box, speed, dt))) for s, speed in self.seen]


class Lane:
    """One source's recognition: its newest frame that waits, and the last answer.

    Attributes:
        name: of the source. snapshot: the last answer. latency: seconds from a frame to its answer, smoothed.
    """

    def __init__(self, name: str, recogniser: Recogniser) -> None:
        self.name = name
        self.recogniser = recogniser
        self.snapshot = Snapshot(0.0, ())
        self.latency = 0.0
        self.waiting: tuple[Frame, float] | None = None
        self.cut = False
        self._cuts = CutTest()
        self._numbers: dict[int, int] = {}

    def offer(self, frame: Frame, fresh: bool) -> None:
        """Let a frame wait; an older one is dropped. Call it with the worker's lock."""
        self.cut = self.cut or self._cuts.is_cut(frame) or fresh
        self.waiting = frame, time.monotonic()

    def recognise(self, frame: Frame, cut: bool, book: UnknownBook | None) -> None:
        """Take a frame and bring `snapshot` up to date."""
        step = self.recogniser.step(frame, cut)
        for track in step.ended:
            self.recogniser.identities.forget(track.id)
            if book is not None:
                self._numbers.pop(track.id, None)
                book.settle(track.id, self.name)
        speeds = {track.id: track.speed for track in self.recogniser.tracker.tracks}
        seen = [self._numbered(sighting, frame.time, book) for sighting in self.recogniser.sightings(frame.time)]
        self.snapshot = Snapshot(frame.time, tuple((s, speeds[s.track]) for s in seen))

    def renumber(self) -> None:
        """Forget the numbers of those who are here: another book is in use."""
        self._numbers.clear()

    def _numbered(self, sighting: Sighting, now: float, book: UnknownBook | None) -> Sighting:
        """An unknown face with its number from the book, once it was seen well enough."""
        evidence = self.recogniser.identities.evidence.get(sighting.track)
        if book is None or evidence is None or not sighting.decided:
            return sighting
        if sighting.match.name is not None:
            if self._numbers.pop(sighting.track, None) is not None:
                book.retract(sighting.track, self.name)
            return sighting
        if evidence.best >= STRANGER_QUALITY:
            span = (evidence.since if evidence.since is not None else now, now)
            self._numbers[sighting.track] = book.identify(
                evidence.vector, evidence.weight, span, evidence.portrait, source=self.name, track=sighting.track
            )
        return replace(sighting, unknown=self._numbers.get(sighting.track))


class Worker(threading.Thread):
    """Recognises the newest frame of each lane, the lanes by turns.

    An exception ends it and is raised again by `close`, `check` or the next `give`.

    Args:
        changed: what is to be used when the gallery has changed, else None; asked before every frame.
        book: numbers for unknown people, shared by all lanes.
        note: told, in a line, what goes wrong with the book and ends nothing.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        changed: Callable[[], Change | None] = lambda: None,
        book: UnknownBook | None = None,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__(name="facecam-recognition", daemon=True)
        self._lanes = list(lanes)
        self._changed = changed
        self._book = book
        self._note = note
        self._wake = threading.Condition()
        self._turn = 0
        self._idle = True
        self._ending = False
        self._error: BaseException | None = None
        self._keep_portraits()

    def give(self, lane: Lane, frame: Frame, *, fresh: bool = False) -> None:
        """Offer a frame of a lane; an older one that still waits is dropped.

        Args:
            fresh: the source was connected anew, so that faces are not followed from the frame before.
        """
        self.check()
        with self._wake:
            lane.offer(frame, fresh)  # cuts are seen on every frame, also on those that recognition leaves out
            self._wake.notify_all()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._error is not None:
            raise self._error

    def drain(self, timeout: float) -> None:
        """Wait until the last frame given of each lane is done."""
        done = lambda: (self._idle and not any(lane.waiting for lane in self._lanes)) or self._error  # noqa: E731
        with self._wake:
            self._wake.wait_for(done, timeout)

    def end(self) -> None:
        """Ask the thread to end, without waiting."""
        with self._wake:
            self._ending = True
            self._wake.notify_all()

    def close(self) -> None:
        """Stop and join; raises what ended the thread, if anything did."""
        self.end()
        self.join(_JOIN_SECONDS)
        self.check()

    def run(self) -> None:
        try:
            while (job := self._next()) is not None:
                lane, frame, given, cut = job
                change = self._changed()
                if change is not None:
                    self._restart(change)
                lane.recognise(frame, cut, self._book)
                lane.latency += 0.1 * (time.monotonic() - given - lane.latency)
            if self._book is not None:
                self._book.settle_all()
        except BaseException as error:  # handed to the thread that gives frames
            self._error = error
            with self._wake:
                self._wake.notify_all()

    def _next(self) -> tuple[Lane, Frame, float, bool] | None:
        """The next lane's frame, the lanes by turns; None at the end."""
        with self._wake:
            self._idle = True
            self._wake.notify_all()
            self._wake.wait_for(lambda: self._ending or any(lane.waiting for lane in self._lanes))
            if self._ending:
                return None
            self._idle = False
            order = self._lanes[self._turn :] + self._lanes[: self._turn]
            lane = next(lane for lane in order if lane.waiting)
            self._turn = (self._lanes.index(lane) + 1) % len(self._lanes)
            assert lane.waiting is not None
            (frame, given), lane.waiting = lane.waiting, None
            cut, lane.cut = lane.cut, False
            return lane, frame, given, cut

    def _restart(self, change: Change) -> None:
        for lane in self._lanes:
            lane.recogniser.identities.restart(change.matcher)
        if self._book is None:
            return
        if change.book is not None:  # whoever is here now gets a number of the new book, with all that was seen
            change.book.follow(self._book)
            self._book = change.book
            for lane in self._lanes:
                lane.renumber()
            self._keep_portraits()
            return
        try:
            self._book.refresh()
        except FacecamError as error:
            self._note(f"unknown people stay as they were known: {error}")

    def _keep_portraits(self) -> None:
        for lane in self._lanes:
            lane.recogniser.portraits = self._book is not None and self._book.remembers
