"""A network stream, picture by picture (PyAV), behind the interface of a capture.

PyAV instead of OpenCV: it says why a stream does not open, gives pictures the size that they have when it changes
under way, marks broken ones, and its timeouts hold for every read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from facecam.errors import SourceError
from facecam.values import Image
from facecam.video.address import hide_credentials
from facecam.video.upright import MAX_PIXELS

#: For FFmpeg. Looking into a stream may take a second, not its usual five: a picture late is better than none. TCP
#: first: UDP loses packets. The whitelist keeps a playlist from naming files of this machine.
_OPTIONS: Final = {
    "analyzeduration": "1000000",
    "rtsp_flags": "prefer_tcp",
    "protocol_whitelist": "rtsp,rtsps,http,https,httpproxy,rtmp,rtmps,rtp,srtp,udp,tcp,tls,crypto",
}


#: Codecs of which every picture stands alone; with others one may have to wait ten seconds for the next that does.
_ALONE: Final = frozenset({"mjpeg", "mjpegb", "png", "jpeg2000", "rawvideo"})


class AccessRefused(SourceError):
    """A stream's server wants another password, or none of us at all: asking often locks accounts."""


class StreamCapture:
    """What `video.camera` uses of a cv2.VideoCapture, for a stream.

    Args:
        url: with its credentials, if any; they are in no error.
        open_seconds, read_seconds: longest waits for the connection, and for data.

    Raises:
        SourceError: it cannot be opened, or shows no video. AccessRefused: wrong or no password.
    """

    def __init__(self, url: str, open_seconds: float, read_seconds: float) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self._name = hide_credentials(url)
        self._reformatter = VideoReformatter()
        self._ready: deque[Any] = deque()
        self._read_seconds, self._heard = read_seconds, 0.0
        self._given_up = False
        try:
            self._container = av.open(
                url, timeout=(open_seconds, read_seconds), options=dict(_OPTIONS), metadata_errors="replace"
            )
        except av.error.FFmpegError as error:
            # From None: the cause holds the address with its password.
            raise self._explained(error, "cannot be opened") from None
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{self._name}: shows no video; check the address")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None:
            self._container.close()
            raise SourceError(f"{self._name}: its pictures are of an unknown kind; let the camera send H.264")
        self._stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        self._packets: Iterator[Any] = self._container.demux(self._stream)

    @property
    def starting(self) -> bool:
        """Whether data comes, of a codec that may make us wait for its next picture that stands alone."""
        waits = self._stream.codec_context.name not in _ALONE
        return waits and time.monotonic() - self._heard < self._read_seconds

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, Image | None]:
        """The next sound picture, BGR; (False, None) at the end of the stream, and after `give_up`.

        Raises:
            SourceError: no data came in time, or the connection failed.
        """
        import av

        try:
            while not self._ready:
                packet = next(self._packets, None)
                if packet is None or self._given_up:
                    return False, None
                self._heard = time.monotonic()
                try:
                    pictures = packet.decode()
                except av.error.InvalidDataError:
                    continue  # lost or damaged data; whoever waits for a picture has a clock
                self._ready.extend(p for p in pictures if not p.is_corrupt)
            picture = self._ready.popleft()
            converted = self._reformatter.reformat(picture, format="bgr24", threads=1)
            image: Image = np.ascontiguousarray(converted.to_ndarray())
            return True, image
        except (av.error.EOFError, av.error.InvalidDataError):
            return False, None
        except av.error.FFmpegError as error:
            raise self._explained(error, "has stopped") from None

    def get(self, prop: int, /) -> float:
        """The nominal rate, whatever is asked for (nothing else is); 0 where unknown."""
        return float(self._stream.average_rate or self._stream.base_rate or 0)

    def set(self, prop: int, value: float, /) -> bool:
        return False

    def give_up(self) -> None:
        """End a `read` in another thread at its next packet: data without a single good picture can come for ever."""
        self._given_up = True

    def release(self) -> None:
        self._ready.clear()
        self._container.close()

    def _explained(self, error: Any, what: str) -> SourceError:
        """FFmpeg's error with the reason alone: its text holds the address."""
        import av

        if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
            return AccessRefused(f"{self._name}: refuses access; check the user and the password")
        if isinstance(error, av.error.ExitError):
            return SourceError(f"{self._name}: {what} (no answer in time); check the address and the network")
        reason = " ".join(str(error.strerror or type(error).__name__).split())
        return SourceError(f"{self._name}: {what} ({reason}); check the address, the network and the password")
