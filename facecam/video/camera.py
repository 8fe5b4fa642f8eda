"""CameraSource: a camera or a network stream, the newest frame only (OpenCV)."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facecam.errors import SourceError
from facecam.values import Frame, Image, SourceInfo
from facecam.video.base import Source
from facecam.video.cv import quiet_ffmpeg

#: A source that gives no picture for so long is taken for dead, seconds.
STALL_SECONDS = 10.0
#: Opening a camera may wait for its driver, or for a host that does not answer, seconds.
OPEN_SECONDS = 15.0
#: How long ``close`` waits for a driver that hangs in a read, seconds; then the thread is left behind.
_JOIN_SECONDS = 1.5
#: Cameras refuse single reads while they start or change light; as many in a row are an end.
_REFUSALS = 10
_REFUSAL_PAUSE = 0.03


class Capture(Protocol):
    """What is used of cv2.VideoCapture; tests give their own."""

    def isOpened(self) -> bool: ...

    def read(self) -> tuple[bool, Any]: ...

    def get(self, prop: int, /) -> float: ...

    def set(self, prop: int, value: float, /) -> bool: ...

    def release(self) -> None: ...


class CameraSource(Source):
    """A live source. A thread keeps its newest frame; `read` waits for one newer than the last given.

    Times are seconds since the first picture, on a monotonic clock, taken as each picture arrives.

    Args:
        spec: number of a camera, or the URL of a stream.
        width, height, fps: asked of a camera; it may choose otherwise (see `info`).
        capture: makes the capture from ``spec``; default: OpenCV, with timeouts for a URL.

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
    ) -> None:
        self.name = f"camera {spec}" if isinstance(spec, int) else hide_credentials(spec)
        self._given = 0
        self._grabber = _Grabber(spec, self.name, (width, height, fps), capture or _opencv)
        self._grabber.start()
        try:
            grabbed = self._grabber.wait_newer(0, OPEN_SECONDS)
            if grabbed is None:
                raise SourceError(f"{self.name}: gave no picture within {OPEN_SECONDS:.0f} s{_hint(spec)}")
        except BaseException:
            self.close()
            raise
        first = grabbed[1]
        self.info = SourceInfo(
            name=self.name,
            width=first.shape[1],
            height=first.shape[0],
            fps=self._grabber.rate,
            live=True,
        )

    def read(self, timeout: float = STALL_SECONDS) -> Frame | None:
        """The newest frame, once it is newer than the last one given; None after `close`.

        Args:
            timeout: longest wait, seconds.

        Raises:
            SourceError: the source has stopped, or gave nothing new in time.
        """
        grabbed = self._grabber.wait_newer(self._given, timeout)
        if grabbed is None:
            if self._grabber.stopping:
                return None
            raise SourceError(f"{self.name}: gave no new picture for {timeout:.1f} s; check the device or network")
        self._given, image, seconds = grabbed
        return Frame(self._given - 1, seconds, image)

    def close(self) -> None:
        """Stop the thread; a driver that hangs is left to a daemon thread after 1.5 s."""
        self._grabber.stop()


class _Grabber(threading.Thread):
    """Opens, reads and releases the capture, all in this one thread: drivers are not thread-safe."""

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
        self.stopping = False

    def wait_newer(self, serial: int, timeout: float) -> tuple[int, Image, float] | None:
        """(serial, image, seconds) newer than ``serial``; None when stopped or not in time.

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
                raise self._failure
            return None

    def _is_newer(self, serial: int) -> bool:
        return self._newest is not None and self._newest[0] > serial

    def stop(self) -> None:
        with self._changed:
            self.stopping = True
            self._newest = None
            self._changed.notify_all()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(_JOIN_SECONDS)

    def run(self) -> None:
        try:
            capture = self._make(self._spec)
            try:
                if not capture.isOpened():
                    raise SourceError(f"{self._label}: cannot be opened{_hint(self._spec)}")
                self._configure(capture)
                self._grab(capture)
            finally:
                capture.release()
        except BaseException as error:  # raised again in the thread that reads
            with self._changed:
                self._failure = _explained(error, self._label)
                self._changed.notify_all()

    def _configure(self, capture: Capture) -> None:
        import cv2

        width, height, fps = self._wanted
        if isinstance(self._spec, int):
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
        serial, refusals, started = 0, 0, None
        while not self.stopping:
            ok, image = capture.read()
            now = time.monotonic()
            if not ok or image is None:
                refusals += 1
                if refusals >= _REFUSALS:
                    raise SourceError(f"{self._label}: has stopped giving pictures; check the device or network")
                time.sleep(_REFUSAL_PAUSE)
                continue
            refusals = 0
            started = now if started is None else started
            serial += 1
            with self._changed:
                if not self.stopping:
                    self._newest = serial, _as_bgr(image), now - started
                self._changed.notify_all()


def _explained(error: BaseException, label: str) -> BaseException:
    """A failure of the driver as a SourceError; a programmer's mistake as it is."""
    import cv2

    if isinstance(error, cv2.error | OSError):
        told = SourceError(f"{label}: the driver failed ({' '.join(str(error).split())[:200]})")
        told.__cause__ = error
        return told
    return error


def _as_bgr(image: Any) -> Image:
    """BGR uint8, contiguous, whatever the driver gives (some give grey)."""
    array = np.asarray(image)
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3], dtype=np.uint8)


def _opencv(spec: int | str) -> Capture:
    import cv2

    quiet_ffmpeg()
    if isinstance(spec, int):
        return cv2.VideoCapture(spec)
    # These two can be set only at construction.
    limits = [
        int(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC),
        int(OPEN_SECONDS * 800),
        int(cv2.CAP_PROP_READ_TIMEOUT_MSEC),
        int(STALL_SECONDS * 1000),
    ]
    return cv2.VideoCapture(spec, cv2.CAP_FFMPEG, limits)


def cameras_present() -> list[tuple[int, str]] | None:
    """Cameras that the system lists, as (number, name), without opening one; None where it cannot tell."""
    if not sys.platform.startswith("linux"):
        return None
    found = []
    for device in Path("/dev").glob("video*"):
        if device.name[5:].isdigit():
            name = device.name
            with contextlib.suppress(OSError):
                name = Path(f"/sys/class/video4linux/{device.name}/name").read_text(errors="replace").strip()
            found.append((int(device.name[5:]), name))
    return sorted(found)


def _hint(spec: int | str) -> str:
    """What to do when ``spec`` does not open."""
    if not isinstance(spec, int):
        return "; check the address, the network and the password"
    cameras = cameras_present()
    if cameras is None:
        return "; is it plugged in, free, and allowed for this program?"
    if not cameras:
        return "; no camera is connected (a video file can stand in: --source FILE)"
    if spec not in {number for number, _ in cameras}:
        return f"; cameras here: {', '.join(f'{number} ({name})' for number, name in cameras)}"
    return "; another program may hold it, or you may lack the right to read it (group video)"


def hide_credentials(url: str) -> str:
    """A URL for people to read: without user, password, or any value given as ``key=value``.

    Cameras take passwords in the user part (also unescaped, with @ and / in them), in the query, and
    in the path (``/user=admin&password=1``).
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    head = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in head:
        rest = rest[head.rindex("@") + 1 :]
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in rest and (":" in host and not re.fullmatch(r"(\[[0-9a-fA-F:.]*\]|[^:]*):\d+", host)):
        rest = rest.rpartition("@")[2]  # the password held a slash: host is still a part of it
    rest = re.sub(r"=[^&;/?#]*", "=***", rest)
    return scheme + separator + rest
