"""Where frames come from: `open_source` chooses; files, cameras, synthetic and paced sources."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from facecam.errors import MediaError, SourceError
from facecam.values import Frame, Image, SourceInfo
from facecam.video.address import SCHEMES, hide_credentials, mistyped, scheme_of
from facecam.video.base import FrameSource, Source
from facecam.video.camera import CameraSource
from facecam.video.container import FileSource
from facecam.video.devices import is_device
from facecam.video.reconnect import Reconnect

__all__ = [
    "CameraSource",
    "FileSource",
    "FrameSource",
    "PacedSource",
    "SyntheticSource",
    "hide_credentials",
    "open_source",
]


class SyntheticSource(Source):
    """Pictures made by a program: for tests and benchmarks.

    Args:
        frames: BGR uint8 images, or a function of the index that makes one.
        size: (width, height) in pixels; default: that of the first image.
        fps: frames a second; times start at ``start``, seconds.
        count: how many frames; default: as many as there are images (they repeat when ``count`` is
            more), without end for a function.
    """

    def __init__(
        self,
        frames: Sequence[Image] | Callable[[int], Image],
        size: tuple[int, int] | None = None,
        fps: float = 30.0,
        count: int | None = None,
        *,
        start: float = 0.0,
        name: str = "synthetic",
    ) -> None:
        if callable(frames):
            self._make = frames
        else:
            images = list(frames)
            count = len(images) if count is None else count
            self._make = lambda index: images[index % len(images)]
        if size is None:
            height, width = self._make(0).shape[:2]
            size = int(width), int(height)
        self._count, self._fps, self._next, self._closed = count, fps, 0, False
        self.info = SourceInfo(
            name=name,
            width=size[0],
            height=size[1],
            fps=fps,
            duration=None if count is None else count / fps,
            start_time=start,
            frames=count,
        )

    def read(self) -> Frame | None:
        if self._closed or self._next == self._count:
            return None
        index = self._next
        self._next += 1
        return Frame(index, self.info.start_time + index / self._fps, self._make(index))

    def close(self) -> None:
        self._closed = True


class PacedSource(Source):
    """Plays another source in real time, as a camera would: late frames are dropped.

    Attributes:
        dropped: frames that came too late to be given.
    """

    #: A gap longer than this is a break in the file's clock, not a pause to sit through, seconds.
    _GAP = 10.0
    #: A file that decodes slower than it plays still gives a frame this often, seconds.
    _PATIENCE = 0.5

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._closed = threading.Event()
        self._reading = threading.Lock()  # a file must not be closed under the thread that reads it
        self._ahead: Frame | None = None
        self._last: float | None = None
        self._offset = 0.0  # monotonic clock minus presentation time
        self.info = replace(source.info, live=True, duration=None, frames=None)
        self.dropped = 0

    def read(self) -> Frame | None:
        """The frame that is due, after waiting for it; None at the end and after `close`."""
        frame, self._ahead = self._ahead or self._following(), None
        asked = time.monotonic()
        while frame is not None and not self._closed.is_set():
            if self._last is None or not 0 <= frame.time - self._last <= self._GAP:
                self._offset = time.monotonic() - frame.time
            self._last = frame.time
            following = self._following()
            now = time.monotonic()
            due_next = None if following is None else following.time + self._offset
            late = due_next is not None and due_next <= now and following.time >= frame.time  # type: ignore[union-attr]
            if not late or now - asked > self._PATIENCE:
                self._ahead = following
                wait = frame.time + self._offset - now
                return None if wait > 0 and self._closed.wait(wait) else frame
            self.dropped += 1
            frame = following
        return None

    def close(self) -> None:
        self._closed.set()
        with self._reading:
            self._source.close()

    def _following(self) -> Frame | None:
        with self._reading:
            return None if self._closed.is_set() else self._source.read()


def open_source(
    spec: str,
    *,
    width: int | None = None,
    height: int | None = None,
    fps: float | None = None,
    paced: bool = False,
    reconnect: Reconnect | None = None,
) -> FrameSource:
    """Open what ``--source`` names.

    Args:
        spec: digits: a camera; a device file (/dev/v4l/by-id/...) or its stable name: that camera; an address
            (rtsp://, http:// ...): a stream; else: a video file.
        width, height, fps: asked of a camera.
        paced: play a file in real time, dropping late frames.
        reconnect: how a lost camera or stream is tried again; None: not at all.

    Raises:
        SourceError: it cannot be opened.
    """
    text = spec.strip()
    if text.isascii() and text.isdigit() and len(text) <= 4:
        return CameraSource(int(text), width, height, fps, reconnect=reconnect)
    scheme = scheme_of(text)
    if scheme in SCHEMES:
        return CameraSource(text, reconnect=reconnect)
    if is_device(text):
        return CameraSource(text, width, height, fps, reconnect=reconnect)
    if scheme == "file":
        text = text[len("file://") :]
    elif scheme and not Path(text).exists():
        raise SourceError(f"{hide_credentials(text)}: unknown kind of address; known are {', '.join(SCHEMES)}")
    elif (meant := mistyped(text)) and not Path(text).exists():
        raise SourceError(f"{meant}: an address begins with {meant}://; correct what stands before the host")
    try:
        source: FrameSource = FileSource(text if scheme else os.fspath(spec))
    except MediaError as error:
        raise SourceError(str(error)) from error
    return PacedSource(source) if paced else source
