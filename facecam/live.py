"""The live view: the newest frame is always shown; recognition runs beside it and never holds it up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from facecam.errors import FacecamError, OutputError
from facecam.geometry import coasted
from facecam.people.quality import STRANGER_QUALITY
from facecam.people.unknown import UnknownBook
from facecam.pipeline import CutTest, Matches, Recogniser
from facecam.values import Box, Face, Frame, Image, Sighting, SourceInfo
from facecam.video.base import FrameSource
from facecam.video.overlay import draw
from facecam.video.photos import write_photo
from facecam.video.sinks import VideoSink

#: A person is gone when no track has shown them for this long, seconds.
GONE_AFTER: Final = 1.0
#: How often a changed gallery is looked for, seconds.
RELOAD_EVERY: Final = 1.0
HELP: Final = (
    "q Esc  quit",
    "s  snapshot",
    "r  record",
    "b  blur unknown faces",
    "m  mirror",
    "h  help",
)


class Screen(Protocol):
    """Shows pictures and hands back keys (video.window.Window)."""

    @property
    def closed(self) -> bool: ...

    def show(self, image: Image) -> str | None: ...


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


class Worker(threading.Thread):
    """Recognises the newest frame that it is given, again and again.

    An exception ends it and is raised again by `close` or the next `give`.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        reload: Callable[[], Matches | None],
        book: UnknownBook | None = None,
        source: str = "",
    ) -> None:
        super().__init__(name="recognition", daemon=True)
        self._book = book
        self._source = source
        self._numbers: dict[int, int] = {}
        recogniser.portraits = book is not None and book.remembers
        self.snapshot = Snapshot(0.0, ())
        self.latency = 0.0
        self._recogniser = recogniser
        self._reload = reload
        self._wake = threading.Condition()
        self._frame: tuple[Frame, float] | None = None
        self._idle = True
        self._ending = False
        self._error: BaseException | None = None
        self._checked = time.monotonic()
        self._cuts = CutTest()
        self._cut = False

    def give(self, frame: Frame) -> None:
        """Offer a frame; an older one that still waits is dropped."""
        if self._error is not None:
            raise self._error
        cut = self._cuts.is_cut(frame)  # seen on every frame, also on those that recognition leaves out
        with self._wake:
            self._cut = self._cut or cut
            self._frame = (frame, time.monotonic())
            self._wake.notify()

    def drain(self, timeout: float) -> None:
        """Wait until the last frame given is done."""
        with self._wake:
            self._wake.wait_for(lambda: (self._frame is None and self._idle) or self._error is not None, timeout)

    def close(self) -> None:
        """Stop and join; raises what ended the thread, if anything did."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self.join(5.0)
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        try:
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._frame is not None or self._ending)
                    if self._ending or self._frame is None:
                        break
                    (frame, given), self._frame, self._idle = self._frame, None, False
                    cut, self._cut = self._cut, False
                self._recognise(frame, cut)
                self.latency += 0.1 * (time.monotonic() - given - self.latency)
                with self._wake:
                    self._idle = True
                    self._wake.notify_all()
            if self._book is not None:
                self._book.settle_all()
        except BaseException as error:  # handed to the thread that gives frames
            self._error = error
            with self._wake:
                self._wake.notify_all()

    def _recognise(self, frame: Frame, cut: bool) -> None:
        if time.monotonic() - self._checked > RELOAD_EVERY:
            self._checked = time.monotonic()
            matcher = self._reload()
            if matcher is not None:
                self._recogniser.restart(matcher)
                if self._book is not None:
                    self._book.refresh()
        step = self._recogniser.step(frame, cut)
        for track in step.ended:
            self._recogniser.forget(track.id)
            if self._book is not None:
                self._numbers.pop(track.id, None)
                self._book.settle(track.id, self._source)
        speeds = {track.id: track.speed for track in self._recogniser.tracker.tracks}
        seen = [self._numbered(sighting, frame.time) for sighting in self._recogniser.sightings(frame.time)]
        self.snapshot = Snapshot(frame.time, tuple((s, speeds[s.track]) for s in seen))

    def _numbered(self, sighting: Sighting, now: float) -> Sighting:
        """An unknown face with its number from the book, once it was seen well enough."""
        evidence = self._recogniser.evidence.get(sighting.track)
        if self._book is None or evidence is None or not sighting.decided:
            return sighting
        if sighting.match.name is not None:
            if self._numbers.pop(sighting.track, None) is not None:
                self._book.retract(sighting.track, self._source)
            return sighting
        if evidence.best >= STRANGER_QUALITY:
            span = (evidence.since if evidence.since is not None else now, now)
            self._numbers[sighting.track] = self._book.identify(
                evidence.vector, evidence.weight, span, evidence.portrait, source=self._source, track=sighting.track
            )
        return replace(sighting, unknown=self._numbers.get(sighting.track))


@dataclass(slots=True)
class _Presence:
    since: float
    last: float
    track: int
    best: float
    unknown: int | None = None


class Attendance:
    """Turns sightings into events: somebody appeared, somebody left. One person once, however many tracks."""

    def __init__(self, source: str, emit: Callable[[dict[str, Any]], None]) -> None:
        self._source = source
        self._emit = emit
        self._present: dict[tuple[str | None, int], _Presence] = {}

    def update(self, moment: float, sightings: list[Sighting]) -> None:
        """Take the sightings of a time (seconds of the source)."""
        for sighting in sightings:
            if not sighting.decided:
                continue
            name = sighting.match.name
            # A stranger with a number is one person however many tracks; without one, each track is somebody.
            key = (name, 0 if name is not None else -(sighting.unknown or 0) or sighting.track)
            similarity = sighting.match.similarity or 0.0
            if key not in self._present:
                # A track whose answer turned: what it was called before leaves at once.
                for other in [k for k, p in self._present.items() if p.track == sighting.track and k != key]:
                    self._leave(other, moment)
                self._present[key] = _Presence(moment, moment, sighting.track, similarity)
                self._present[key].unknown = sighting.unknown
                self._say("appear", key, moment, {"similarity": _rounded(sighting.match.similarity)})
            presence = self._present[key]
            presence.last, presence.track = moment, sighting.track
            presence.best = max(presence.best, similarity)
        for key in [k for k, p in self._present.items() if moment - p.last > GONE_AFTER]:
            self._leave(key, self._present[key].last)

    def close(self, moment: float) -> None:
        """The source is over: everybody leaves."""
        for key in list(self._present):
            self._leave(key, max(self._present[key].last, min(moment, self._present[key].last + GONE_AFTER)))

    def _leave(self, key: tuple[str | None, int], moment: float) -> None:
        presence = self._present[key]
        more = {"duration": round(moment - presence.since, 3), "similarity": round(presence.best, 4)}
        self._say("leave", key, moment, more)
        del self._present[key]

    def _say(self, kind: str, key: tuple[str | None, int], moment: float, more: dict[str, Any]) -> None:
        presence = self._present[key]
        event = {
            "type": kind,
            "time": round(moment, 3),
            "wall": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "source": self._source,
            "name": key[0],
            "unknown": presence.unknown,
            "track": presence.track,
        }
        self._emit(event | more)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


@dataclass(slots=True)
class LiveOptions:
    """What the live view does beside recognising."""

    record: Path | None = None
    mirror: bool = False
    blur: bool = False
    max_seconds: float | None = None
    device: str = "cpu"
    snapshot_dir: Path = field(default_factory=Path.cwd)


@dataclass(slots=True)
class Outcome:
    """How a live run went."""

    frames: int = 0
    seconds: float = 0.0
    names: set[str] = field(default_factory=set)


class LiveView:
    """Reads a source until it ends, is quit or runs out of time; call `run` on the main thread."""

    def __init__(
        self,
        source: FrameSource,
        recogniser: Recogniser,
        options: LiveOptions,
        *,
        screen: Screen | None = None,
        emit: Callable[[dict[str, Any]], None] | None = None,
        reload: Callable[[], Matches | None] = lambda: None,
        book: UnknownBook | None = None,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._source = source
        self._recogniser = recogniser
        self._options = options
        self._screen = screen
        self._reload = reload
        self._book = book
        self._note = note
        self._sink: VideoSink | None = None
        self._help = False
        self._times: deque[float] = deque(maxlen=30)
        self._outcome = Outcome()
        self._attendance = Attendance(source.info.name, emit or (lambda event: None))

    def run(self) -> Outcome:
        """Show, record and report until the end.

        Raises:
            SourceError: the source stopped for good. Whatever ended recognition is raised here, too.
        """
        info = self._source.info
        worker = Worker(self._recogniser, self._reload, self._book, info.name)
        worker.start()
        start = time.monotonic()
        moment = info.start_time
        with contextlib.ExitStack() as stack:
            stack.callback(self._stop_recording)
            if self._options.record is not None:
                self._record(self._options.record, info)
            try:
                while (frame := self._source.read()) is not None:
                    moment = frame.time
                    worker.give(frame)
                    if self._screen is None:
                        worker.drain(2.0)  # nobody looks: the answer of this frame is worth waiting for
                    self._show(frame, worker)
                    self._outcome.frames += 1
                    if self._quit or (
                        self._options.max_seconds is not None and time.monotonic() - start >= self._options.max_seconds
                    ):
                        break
                worker.drain(2.0)
            finally:
                worker.close()
                self._attendance.close(moment - info.start_time)
                self._outcome.seconds = time.monotonic() - start
        return self._outcome

    _quit = False

    def _show(self, frame: Frame, worker: Worker) -> None:
        sightings = worker.snapshot.at(frame.time)
        self._attendance.update(frame.time - self._source.info.start_time, sightings)
        self._outcome.names |= {s.match.name for s in sightings if s.match.name is not None}
        if self._screen is None and self._sink is None:
            return
        image = frame.image.copy()  # the worker may still be looking at the frame
        if self._options.mirror:
            image = np.ascontiguousarray(image[:, ::-1])
            sightings = [_mirrored(s, frame.width) for s in sightings]
        plain = image.copy() if self._sink is not None and self._screen is not None else image
        if self._sink is not None:
            draw(plain, sightings, blur_unknown=self._options.blur)
            try:
                self._sink.write(plain, frame.time)
            except OutputError as error:  # the disk is full: watching goes on
                self._note(f"recording stopped: {error}")
                self._sink = None
        if self._screen is not None:
            help_lines = list(HELP) if self._help else None
            hud = self._hud(worker)
            draw(image, sightings, hud=hud, help_lines=help_lines, blur_unknown=self._options.blur)
            self._key(self._screen.show(image), image)
            self._quit = self._quit or self._screen.closed

    def _hud(self, worker: Worker) -> list[str]:
        self._times.append(time.monotonic())
        span = self._times[-1] - self._times[0]
        fps = (len(self._times) - 1) / span if span > 0 else 0.0
        line = f"{fps:.0f} fps  {self._options.device}  {worker.latency * 1000:.0f} ms"
        lines = [line + ("  REC" if self._sink is not None else "") + "  h help"]
        if not len(self._recogniser.matcher):
            lines.append("nobody enrolled: facecam enroll --name NAME")
        return lines

    def _key(self, key: str | None, image: Image) -> None:
        if key in ("q", "esc"):
            self._quit = True
        elif key == "s":
            self._snapshot(image)
        elif key == "r":
            if self._sink is not None:
                self._stop_recording()
            else:
                self._record(self._options.snapshot_dir / f"facecam-{_stamp()}.mp4", self._source.info)
        elif key == "b":
            self._options.blur = not self._options.blur
        elif key == "m":
            self._options.mirror = not self._options.mirror
        elif key == "h":
            self._help = not self._help

    def _snapshot(self, image: Image) -> None:
        path = self._options.snapshot_dir / f"facecam-{_stamp()}.jpg"
        try:
            write_photo(path, image)
            self._note(f"snapshot {path}")
        except FacecamError as error:
            self._note(str(error))

    def _record(self, path: Path, info: SourceInfo) -> None:
        try:
            self._sink = VideoSink(path, info)
        except OutputError as error:
            if path == self._options.record:
                raise
            self._note(str(error))

    def _stop_recording(self) -> None:
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.close()
            self._note(f"recorded {sink.path}")


def _stamp() -> str:
    return datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]


def _mirrored(sighting: Sighting, width: int) -> Sighting:
    x, y, w, h = sighting.face.box
    box: Box = (width - x - w, y, w, h)
    return replace(sighting, face=Face(box, sighting.face.score))
