"""CameraSource: a camera or a network stream, the newest frame only, connected again when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from facecam.errors import SourceError
from facecam.values import Frame, Image, SourceInfo
from facecam.video.address import hide_credentials
from facecam.video.base import Source
from facecam.video.grabber import Capture, Grabber, hint, open_capture
from facecam.video.reconnect import Reconnect, Status, pause
from facecam.video.stream import AccessRefused

#: A source that gives no picture for so long is taken for dead, where nothing else is said, seconds.
STALL_SECONDS: Final = 10.0
#: Opening a camera may wait for its driver, or for a host that does not answer, seconds.
OPEN_SECONDS = 15.0
#: Threads left behind in a driver that hangs; no further one is risked before one of them is back.
_MOST_HANGING: Final = 3
#: Opening anew may take this much longer than ``stall``, seconds: cameras need a second or two to start. Together with
#: the shortest pause it stays within the three seconds in which a source that is well again is noticed.
_OPEN_MORE: Final = 2.0
#: A connection that held for less than this is no recovery: the pauses go on growing, seconds.
_SETTLED: Final = 10.0
#: What a source says of itself before its first picture.
_UNSEEN_SIZE: Final = (640, 480)


class CameraSource(Source):
    """A live source. A thread keeps its newest frame; `read` waits for one newer than the last given.

    Times are seconds since the first picture, on a monotonic clock, taken as each picture arrives; the clock
    runs on while the connection is lost. A driver that hangs in a read is left behind with its thread, which can
    hold up neither `read` nor `close` nor the end of the program.

    Args:
        spec: number of a camera, path of its device file (a link under /dev/v4l keeps its meaning when cameras
            are plugged in elsewhere), or the URL of a stream.
        width, height, fps: asked of a camera; it may choose otherwise (see `info`).
        capture: makes the capture from ``spec``; default: OpenCV for a camera, PyAV for a URL.
        reconnect: how a lost connection is tried again; None: never, `read` raises.

    Attributes:
        status: the state of the connection; replaced, never changed, so any thread may look.

    Raises:
        SourceError: it cannot be opened, or gives no first picture.
    """

    def __init__(
        self,
        spec: int | str,
        width: int | None = None,
        height: int | None = None,
        fps: float | None = None,
        capture: Callable[[int | str], Capture] | None = None,
        reconnect: Reconnect | None = None,
    ) -> None:
        self.name = f"camera {spec}" if isinstance(spec, int) else hide_credentials(spec)
        self.status = Status()
        self._spec, self._wanted, self._make = spec, (width, height, fps), capture
        self._reconnect = reconnect or Reconnect(attempts=0, stall=STALL_SECONDS)
        self._closed = threading.Event()
        self._grabber: Grabber | None = None
        self._hanging: list[Grabber] = []
        self._given, self._before = 0, 0  # pictures of this connection given; of all connections before
        self._failures, self._since = 0, 0.0  # attempts in a row that failed; when this connection began
        self._tried = 0.0  # when it was tried
        self._started: float | None = None
        self._ahead: tuple[int, Image, float] | None = None
        self.info = SourceInfo(self.name, *_UNSEEN_SIZE, live=True)
        if self._reconnect.at_start:
            self.status = Status(connected=False, reason="connecting")
            return
        try:
            self._ahead = self._connect(max(OPEN_SECONDS, self._reconnect.stall))
        except BaseException:
            self.close()
            raise

    def read(self, timeout: float | None = None) -> Frame | None:
        """The newest frame, once it is newer than the last one given; None after `close`.

        Args:
            timeout: longest wait for a picture, seconds; default: the stall time of ``reconnect``.

        Raises:
            SourceError: the source has stopped, or gave nothing new in time, and may not be tried again (any more).
        """
        while not self._closed.is_set():
            try:
                grabbed, self._ahead = self._ahead or self._next(timeout), None
            except SourceError as error:
                self._lost(error)
                continue
            if grabbed is not None:
                return self._frame(grabbed)
        return None

    def close(self) -> None:
        """Stop the thread; a driver that hangs is left to a daemon thread after half a second."""
        self._closed.set()
        if self._grabber is not None:
            self._grabber.stop()

    def _next(self, timeout: float | None) -> tuple[int, Image, float] | None:
        """The next picture of the connection there is, or the first of a new one; None when closed."""
        stall = self._reconnect.stall if timeout is None else timeout
        if self._grabber is None:
            return self._connect(stall + _OPEN_MORE)
        grabbed = self._grabber.wait_newer(self._given, stall)
        if grabbed is None and not self._closed.is_set():
            raise SourceError(f"{self.name}: gave no new picture for {stall:.1f} s; check the device or network")
        return grabbed

    def _connect(self, patience: float) -> tuple[int, Image, float] | None:
        self._hanging = [grabber for grabber in self._hanging if grabber.is_alive()]
        if len(self._hanging) >= _MOST_HANGING:
            raise SourceError(f"{self.name}: the driver does not answer; unplug the device or restart the machine")
        make = self._make or (lambda spec: open_capture(spec, patience, self._reconnect.stall))
        self._grabber = Grabber(self._spec, self.name, self._wanted, make)
        if self._closed.is_set():
            return None
        self._tried = time.monotonic()
        self._grabber.start()
        first = self._grabber.wait_newer(0, patience)
        if first is None and self._grabber.starting:
            first = self._grabber.wait_newer(0, max(0.0, OPEN_SECONDS - patience))
        if first is None:
            if self._closed.is_set():
                return None
            raise SourceError(f"{self.name}: gave no picture within {patience:.0f} s{hint(self._spec)}")
        now = time.monotonic()
        if not self.status.connected:
            down = 0.0 if self._started is None else now - self._since
            self.status = Status(True, self.status.outages, 0, self.status.reason, down)
        self._since = now
        height, width = first[1].shape[:2]
        self.info = replace(self.info, width=width, height=height, fps=self._grabber.rate)
        return first

    def _lost(self, error: SourceError) -> None:
        """Give the connection up and wait for the time of the next attempt.

        Raises:
            SourceError: ``error``, when there is to be none.
        """
        now = time.monotonic()
        was = self.status
        if was.connected:
            if now - self._since > _SETTLED:
                self._failures = 0
            self._since = now
        attempt = 1 if was.connected else was.attempt + 1
        if attempt > self._reconnect.attempts:
            if self._reconnect.attempts:
                raise SourceError(f"{error}; gave up after {was.attempt} attempts to reconnect") from error
            raise error
        reason = str(error).removeprefix(f"{self.name}: ")
        self.status = Status(False, was.outages + was.connected, attempt, reason)
        self._failures += 1
        if self._grabber is not None:
            grabber, self._grabber = self._grabber, None
            self._before += grabber.count
            self._given = 0
            grabber.stop(0.05)
            if grabber.is_alive():
                self._hanging.append(grabber)
        wait = pause(self._failures, refused=isinstance(error, AccessRefused))
        if not was.connected:  # an attempt that took long was a pause itself
            wait = max(min(wait, pause(1)), wait - (time.monotonic() - self._tried))
        self._closed.wait(wait)

    def _frame(self, grabbed: tuple[int, Image, float]) -> Frame:
        self._given, image, moment = grabbed
        self._started = moment if self._started is None else self._started
        return Frame(self._before + self._given - 1, moment - self._started, image)
