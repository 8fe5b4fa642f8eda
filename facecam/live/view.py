"""The live view: the newest frames are always shown; recognition runs beside them and never holds them up."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from facecam.errors import FacecamError, OutputError
from facecam.live.channel import Channel
from facecam.live.picture import Grid, Look, finish, fit
from facecam.live.watch import Change
from facecam.live.worker import Worker
from facecam.people.unknown import UnknownBook
from facecam.pipeline import Recogniser
from facecam.values import Image, Sighting, SourceInfo
from facecam.video.base import FrameSource
from facecam.video.photos import write_photo
from facecam.video.sinks import VideoSink, check_target

#: The window is served at least this often, also when no picture comes, seconds.
_IDLE: Final = 0.25
#: A grid is drawn at most this often, times a second.
_GRID_RATE: Final = 30.0
#: How long the end waits for the threads that read, seconds.
_JOIN_SECONDS: Final = 0.5
#: Without a window the answer of a frame is worth waiting for, seconds.
_DRAIN_SECONDS: Final = 2.0
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
    """Reads sources until they end, the view is quit or out of time; call `run` on the main thread.

    Args:
        sources: each with a recogniser of its own; the models behind these may be the same.
        changed: what is to be used when the gallery has changed, else None; asked from another thread.
        alive: called again and again while all is well, at least once a second.

    Raises:
        OutputError: the file to record to cannot be.
    """

    def __init__(
        self,
        sources: Sequence[tuple[FrameSource, Recogniser]],
        options: LiveOptions,
        *,
        screen: Screen | None = None,
        emit: Callable[[dict[str, Any]], None] = lambda event: None,
        changed: Callable[[], Change | None] = lambda: None,
        book: UnknownBook | None = None,
        note: Callable[[str], None] = lambda line: None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._options = options
        self._screen = screen
        self._note = note
        self._alive = alive
        self._bell = threading.Condition()
        names = _told_apart([source.info.name for source, _ in sources])
        self._channels = [
            Channel(name, source, recogniser, emit, note, self._bell)
            for name, (source, recogniser) in zip(names, sources)
        ]
        self._worker = Worker([channel.lane for channel in self._channels], changed, book, note)
        self._grids = (Grid(len(sources)), Grid(len(sources))) if len(sources) > 1 else None
        self._sink: VideoSink | None = None
        self._record_to: Path | None = None
        self._help = self._quit = False
        self._times: deque[float] = deque(maxlen=30)
        self._shown = 0.0
        self._start = 0.0
        self._outcome = Outcome()
        if options.record is not None:
            check_target(options.record)  # what cannot be written is told before anything starts
            self._record_to = options.record

    def stop(self) -> None:
        """End `run` soon and cleanly; may be called from a signal handler or another thread."""
        self._quit = True

    def run(self) -> Outcome:
        """Show, record and report until the end.

        Raises:
            SourceError: the only source, or the last one, stopped for good. Whatever ended recognition is
                raised here, too.
        """
        self._start = time.monotonic()
        self._worker.start()
        for channel in self._channels:
            channel.start()
        try:
            while not self._quit and not self._out_of_time() and self._round():
                self._alive()
            if not self._quit:
                self._worker.drain(_DRAIN_SECONDS)
        finally:
            self._finish()
        errors = [channel.error for channel in self._channels if channel.error is not None]
        if errors and len(errors) == len(self._channels):
            raise errors[-1]
        return self._outcome

    def _finish(self) -> None:
        self._worker.end()
        for channel in self._channels:
            channel.stop()
        deadline = time.monotonic() + _JOIN_SECONDS
        try:
            for channel in self._channels:
                channel.join(deadline)
            self._stop_recording()
        finally:
            self._outcome.seconds = time.monotonic() - self._start
            self._worker.close()

    def _out_of_time(self) -> bool:
        limit = self._options.max_seconds
        return limit is not None and time.monotonic() - self._start >= limit

    def _round(self) -> bool:
        """Take what came, hand it to recognition, show it; False when all sources are over."""
        with self._bell:
            self._bell.wait_for(lambda: self._quit or any(channel.ready for channel in self._channels), _IDLE)
        self._worker.check()
        news = []
        for channel in self._channels:
            over = channel.ended
            frame = channel.take()
            if frame is not None:
                self._worker.give(channel.lane, frame, fresh=channel.fresh)
                channel.fresh = False
                news.append(channel)
                self._outcome.frames += 1
            elif channel.ended and not over and channel.error is not None and len(self._channels) > 1:
                if not isinstance(channel.error, FacecamError):
                    raise channel.error
                self._note(f"{channel.error}; the other sources go on")
        if self._screen is None and news:
            self._worker.drain(_DRAIN_SECONDS)  # nobody looks: the answers of these frames are worth waiting for
        self._show(news)
        return not all(channel.ended for channel in self._channels)

    def _show(self, news: list[Channel]) -> None:
        for channel in self._channels:
            self._outcome.names |= {s.match.name for s in channel.report() if s.match.name is not None}
        if self._screen is None and self._sink is None and self._record_to is None:
            return
        now = time.monotonic()
        if self._grids is not None:
            if now - self._shown < 1 / _GRID_RATE:
                return
        elif not news and now - self._shown < _IDLE:
            return
        self._shown = now
        look = Look(self._options.mirror, self._options.blur)
        seen = {channel: channel.see() for channel in self._channels}
        if news and (self._sink is not None or self._record_to is not None):
            self._write(self._compose(seen, look, None), news[0])
        if self._screen is not None:
            self._times += [now] * bool(news)
            image = self._compose(seen, look, self._hud())
            self._key(self._screen.show(image), image)
            self._quit = self._quit or self._screen.closed

    def _compose(self, seen: dict[Channel, list[Sighting]], look: Look, hud: list[str] | None) -> Image:
        """The picture of all sources; ``hud`` None makes that of a recording, without lines on it."""
        help_lines = list(HELP) if self._help and hud is not None else None
        for channel, sightings in seen.items():
            grid = self._grids[hud is not None] if self._grids is not None else None
            image, placed = fit(channel, sightings, grid.tile if grid is not None else None, look)
            lines = list(hud or ())
            if grid is not None and hud is not None:
                lines = [channel.name, *(hud if channel is self._channels[0] else [])]
            if channel.lost and hud is not None:
                state = "stopped" if channel.error is not None else "reconnecting"
                lines.append(f"{state}: {channel.error or channel.status.reason}")
            finish(image, placed, look, lines, help_lines if channel is self._channels[0] else None, lost=channel.lost)
            if grid is None:
                return image
            grid.put(self._channels.index(channel), image)
        assert self._grids is not None
        return self._grids[hud is not None].image

    def _write(self, image: Image, channel: Channel) -> None:
        """Add a picture to the recording, which begins with the first one."""
        moment = time.monotonic() - self._start
        if self._grids is None and channel.frame is not None:
            moment = channel.frame.time
        try:
            if self._sink is None:
                path, self._record_to = self._record_to, None
                assert path is not None
                fps = channel.source.info.fps if self._grids is None else _GRID_RATE
                info = SourceInfo(channel.name, image.shape[1], image.shape[0], fps=fps, live=True)
                self._sink = VideoSink(path, info, live=True)
            self._sink.write(image, moment)
        except OutputError as error:  # the disk is full: watching goes on
            self._note(f"recording stopped, the rest goes on: {error}")
            self._sink = self._record_to = None

    def _hud(self) -> list[str]:
        span = self._times[-1] - self._times[0] if self._times else 0.0
        fps = (len(self._times) - 1) / span if span > 0 else 0.0
        latency = max(channel.lane.latency for channel in self._channels)
        line = f"{fps:.0f} fps  {self._options.device}  {latency * 1000:.0f} ms"
        lines = [line + ("  REC" if self._sink is not None else "") + "  h help"]
        if not len(self._channels[0].lane.recogniser.identities.matcher):
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
                self._record_to = self._options.snapshot_dir / f"facecam-{_stamp()}.mp4"
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

    def _stop_recording(self) -> None:
        self._record_to = None
        if self._sink is not None:
            sink, self._sink = self._sink, None
            try:
                sink.close()
                self._note(f"recorded {sink.path}")
            except OutputError as error:
                self._note(f"recording stopped: {error}")


def _told_apart(names: Sequence[str]) -> list[str]:
    """The names with numbers where they are the same: addresses may differ only in what is hidden of them."""
    return [
        name if names.count(name) == 1 else f"{name} #{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]


def _stamp() -> str:
    return datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
