"""One source of a live view: the thread that reads it, and what is known of its connection."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from facecam.live.attendance import Attendance
from facecam.live.worker import Lane
from facecam.pipeline import Recogniser
from facecam.values import Frame, Sighting
from facecam.video.base import FrameSource
from facecam.video.reconnect import Status

#: A source that comes and goes is told in the log at most this often, seconds; the events tell every time.
_TELL_EVERY: Final = 60.0


class Channel:
    """A source with its reader thread, its recognition and its events.

    Of a live source the newest frame counts; of another one every frame is kept until it is taken.

    Args:
        name: of the source in events and on the screen; no two channels of a view share one.

    Attributes:
        frame: the frame taken last. fresh: whether it is the first one of a new connection.
        ended: the source is over and its last frame taken. error: what it ended with, if with anything.
    """

    def __init__(
        self,
        name: str,
        source: FrameSource,
        recogniser: Recogniser,
        emit: Callable[[dict[str, Any]], None],
        note: Callable[[str], None],
        bell: threading.Condition,
    ) -> None:
        self.source = source
        self.name = name
        self.lane = Lane(self.name, recogniser)
        self.frame: Frame | None = None
        self.fresh = self.ended = False
        self.status = getattr(source, "status", Status())
        self.error: BaseException | None = None
        self._attendance = Attendance(self.name, emit)
        self._note = note
        self._bell = bell
        self._newest: tuple[Frame, Status] | None = None  # with the connection that it came by
        self._begin = -math.inf  # time of the first frame of this connection
        self._stopping = self._over = False
        self._told: float | None = None
        self._silent = 0
        self._said = True
        self._thread = threading.Thread(target=self._read, name="facecam-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether the last picture is an old one."""
        return not self.status.connected or self.error is not None

    @property
    def ready(self) -> bool:
        """Whether there is something to take, or the end; look with the bell's lock."""
        return self._newest is not None or (self._over and not self.ended)

    def take(self) -> Frame | None:
        """The newest frame, if there is one that was not taken yet; what has become of the connection is reported."""
        with self._bell:
            newest, self._newest = self._newest, None
            status = self._status() if newest is None else newest[1]
            ended = self._over and newest is None
            self._bell.notify_all()
        self._update(status)
        if newest is not None:
            self.frame = newest[0]
            if self.fresh:
                self._begin = self.frame.time
        if ended and not self.ended:
            self.ended = True
            self._attendance.close(self.moment)
        return None if newest is None else self.frame

    @property
    def moment(self) -> float:
        """Time of the last frame taken, seconds from the source's start."""
        return 0.0 if self.frame is None else self.frame.time - self.source.info.start_time

    def _status(self) -> Status:
        status: Status = getattr(self.source, "status", self.status)
        return status

    def _update(self, status: Status) -> None:
        """Note and report what has become of the connection; everybody leaves when it is lost."""
        if status is self.status:
            return
        was, self.status = self.status, status
        if status.outages > was.outages or (not status.connected and not was.attempt):
            self._attendance.close(self.moment)
            self._attendance.state("reconnecting", self.moment, reason=status.reason)
            self._tell(status)
        if status.connected and (status.outages > was.outages or not was.connected):
            self.fresh = True
            self._attendance.state("connected", self.moment, down=round(status.down, 3))
            if self._said:
                self._note(f"{self.name}: connected" + (f" again after {status.down:.1f} s" if status.down else ""))

    def _tell(self, status: Status) -> None:
        """A line for the log: once an outage, and no more than one a minute."""
        now = time.monotonic()
        self._said = self._told is None or now - self._told >= _TELL_EVERY
        if not self._said:
            self._silent += 1
            return
        more = f" ({self._silent} more interruptions since the last line)" if self._silent else ""
        self._told, self._silent = now, 0
        self._note(f"{self.name}: {status.reason}; reconnecting{more}")

    def see(self) -> list[Sighting]:
        """The sightings as of the frame taken last; an answer from before a loss tells nothing of a frame after it."""
        snapshot = self.lane.snapshot
        if self.frame is None or self.frame.time >= self._begin > snapshot.time:
            return []
        return snapshot.at(self.frame.time)

    def report(self) -> list[Sighting]:
        """The same, told as events; on the last picture of a source that is lost or over nobody comes or goes."""
        sightings = self.see()
        if self.frame is not None and self.status.connected and not (self.ended or self.fresh):
            self._attendance.update(self.moment, sightings)
        return sightings

    def stop(self) -> None:
        """End the reading; does not wait for it."""
        with self._bell:
            self._stopping = True
            self._bell.notify_all()
        if self.source.info.live:  # wakes its reader; another source is closed by the reader itself
            threading.Thread(target=self.source.close, name="facecam-closing", daemon=True).start()

    def join(self, deadline: float) -> None:
        """Wait until a moment of the monotonic clock for the thread, then report that everybody has left."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._attendance.close(self.moment)

    def _read(self) -> None:
        keep_all = not self.source.info.live
        try:
            while not self._stopping and (frame := self.source.read()) is not None:
                with self._bell:
                    if keep_all:
                        self._bell.wait_for(lambda: self._newest is None or self._stopping)
                    self._newest = frame, self._status()
                    self._bell.notify_all()
            if keep_all:
                self.source.close()
        except BaseException as error:  # raised again in the main thread
            self.error = error
        finally:
            with self._bell:
                self._over = True
                self._bell.notify_all()
