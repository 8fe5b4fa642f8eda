"""One connection to a camera or stream: a thread that opens, reads and releases it, and keeps its newest picture.

Cameras are read through OpenCV, streams through PyAV (`video.stream`).
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final, Protocol

import numpy as np

from facecam.errors import SourceError
from facecam.values import Image
from facecam.video.address import scheme_of
from facecam.video.devices import cameras_present, device_number
from facecam.video.stream import StreamCapture

#: How long ``stop`` waits for a driver that hangs in a read, seconds; then the thread is left behind.
_JOIN_SECONDS: Final = 0.5
#: Cameras refuse single reads while they start or change light; as many in a row are an end.
_REFUSALS: Final = 10
_REFUSAL_PAUSE: Final = 0.03


class Capture(Protocol):
    """What is used of cv2.VideoCapture; tests give their own."""

    def isOpened(self) -> bool: ...

    def read(self) -> tuple[bool, Any]: ...

    def get(self, prop: int, /) -> float: ...

    def set(self, prop: int, value: float, /) -> bool: ...

    def release(self) -> None: ...


class Grabber(threading.Thread):
    """Opens, reads and releases one capture, all in this one thread: drivers are not thread-safe."""

    def __init__(
        self,
        spec: int | str,
        name: str,
        wanted: tuple[int | None, int | None, float | None],
        make: Callable[[int | str], Capture],
    ) -> None:
        super().__init__(name="facecam-grabber", daemon=True)
        self._spec, self._label, self._wanted, self._make = spec, name, wanted, make
        self._changed = threading.Condition()
        self._newest: tuple[int, Image, float] | None = None
        self._failure: BaseException | None = None
        self.rate: float | None = None
        self.count = 0
        self.stopping = False
        self._capture: Capture | None = None

    def wait_newer(self, serial: int, timeout: float) -> tuple[int, Image, float] | None:
        """(serial, image, monotonic seconds) newer than ``serial``; None when stopped or not in time.

        Raises:
            SourceError: the source cannot be opened or has stopped.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.stopping or self._failure or self._is_newer(serial), timeout)
            if self.stopping:
                return None
            if self._is_newer(serial):
                return self._newest
            if self._failure is not None:
                raise self._taken_failure()
            return None

    def _taken_failure(self) -> BaseException:
        """The failure, which is then nobody's: kept here it would hold, by its traceback, this thread and its pictures
        until Python looks for cycles (measured: 18 MB between two searches, a failure every two seconds)."""
        failure, self._failure = self._failure, None
        assert failure is not None
        return failure

    @property
    def starting(self) -> bool:
        """Whether a stream sends data and only its first picture that stands alone is not there yet."""
        return bool(getattr(self._capture, "starting", False))

    def _is_newer(self, serial: int) -> bool:
        return self._newest is not None and self._newest[0] > serial

    def stop(self, patience: float = _JOIN_SECONDS) -> None:
        """End the thread; after ``patience`` seconds it is left to itself."""
        with self._changed:
            again, self.stopping = self.stopping, True
            self._newest = None
            self._changed.notify_all()
        give_up = getattr(self._capture, "give_up", None)
        if give_up is not None:
            give_up()
        if not again and self.is_alive() and threading.current_thread() is not self:
            self.join(patience)

    def run(self) -> None:
        try:
            capture = self._capture = self._make(self._spec)
            try:
                if not capture.isOpened():
                    raise SourceError(f"{self._label}: cannot be opened{hint(self._spec)}")
                self._configure(capture)
                self._grab(capture)
            finally:
                capture.release()
                del capture
                self._capture = None
                _give_memory_back()
        except BaseException as error:  # raised again in the thread that reads
            with self._changed:
                self._failure = _explained(error, self._label)
                self._changed.notify_all()

    def _configure(self, capture: Capture) -> None:
        import cv2

        width, height, fps = self._wanted
        if not _is_stream(self._spec):
            if width or height or fps:
                # Raw pictures of more than VGA size do not fit through USB at full rate.
                capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            for prop, value in (
                (cv2.CAP_PROP_FRAME_WIDTH, width),
                (cv2.CAP_PROP_FRAME_HEIGHT, height),
                (cv2.CAP_PROP_FPS, fps),
            ):
                if value:
                    capture.set(prop, value)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if 1 <= rate <= 240 else None

    def _grab(self, capture: Capture) -> None:
        refusals = 0
        while not self.stopping:
            ok, image = capture.read()
            now = time.monotonic()
            if not ok or image is None or not np.size(image):
                refusals += 1
                if refusals >= _REFUSALS:
                    raise SourceError(f"{self._label}: has stopped giving pictures; check the device or network")
                time.sleep(_REFUSAL_PAUSE)
                continue
            refusals = 0
            with self._changed:
                if not self.stopping:
                    self.count += 1
                    self._newest = self.count, _as_bgr(image), now
                self._changed.notify_all()


@cache
def _trimmer() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


def _give_memory_back() -> None:
    """Return what was freed to the system (glibc; elsewhere nothing happens).

    Every connection is read by a thread of its own, and what such threads free stays in their arenas otherwise:
    measured 40 kB more with every connection, without end.
    """
    trim = _trimmer()
    if trim is not None:
        trim(0)


def _explained(error: BaseException, label: str) -> BaseException:
    """A failure of the driver as a SourceError, without the frames it passed, which hold pictures and connections;
    a programmer's mistake as it is."""
    import cv2

    if isinstance(error, cv2.error | OSError):
        return SourceError(f"{label}: the driver failed ({' '.join(str(error).split())[:200]})")
    if isinstance(error, SourceError):
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)
    return error


def _as_bgr(image: Any) -> Image:
    """BGR uint8, contiguous, whatever the driver gives (some give grey)."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3], dtype=np.uint8)


def _is_stream(spec: int | str) -> bool:
    return isinstance(spec, str) and scheme_of(spec) is not None


def open_capture(spec: int | str, open_seconds: float, read_seconds: float) -> Capture:
    """The capture of a camera or of a stream; its own timeouts end a thread that was left behind."""
    import cv2

    if isinstance(spec, str) and scheme_of(spec) is not None:
        return StreamCapture(spec, open_seconds, read_seconds)
    number = spec if isinstance(spec, int) else device_number(spec)
    if number is None:
        raise SourceError(f"{spec}: is not connected{hint(spec)}")
    return cv2.VideoCapture(number)


def hint(spec: int | str) -> str:
    """What to do when ``spec`` does not open."""
    if _is_stream(spec):
        return "; check the address, the network and the password"
    cameras = cameras_present()
    if cameras is None:
        return "; is it plugged in, free, and allowed for this program?"
    if not cameras:
        return "; no camera is connected (a video file can stand in: --source FILE)"
    if (spec if isinstance(spec, int) else device_number(spec)) not in {number for number, _ in cameras}:
        return f"; cameras here: {', '.join(f'{number} ({name})' for number, name in cameras)}"
    return "; another program may hold it, or you may lack the right to read it (group video)"
