"""FileSource: the frames of a video file, upright, at the times the container gives (PyAV).

OpenCV is not used for files: it rebases times, rescales a change of size in silence and cannot tell
an error from the end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facecam.errors import MediaError, NothingDecoded
from facecam.values import Frame, SourceInfo
from facecam.video.ahead import ReadAhead
from facecam.video.base import Source
from facecam.video.clock import Clock, packets, pictures
from facecam.video.content import HEAD, describe, kind_of_picture, unread_picture
from facecam.video.photos import IMAGE_SUFFIXES
from facecam.video.upright import LUMA_FIRST, MAX_PIXELS, Converter, Turn, Upright, turn_of
from facecam.video.wholeness import cut_short

if TYPE_CHECKING:
    import av
    from av.video.frame import VideoFrame

#: Playlists name other files and addresses; only what stands in the file itself is read.
_PLAYLISTS = frozenset({"hls", "concat", "dash", "imf", "sdp", "rtsp", "webm_dash_manifest"})
#: FFmpeg's names of transport and program streams, which say nothing of the pictures' shape themselves.
_BROADCASTS = frozenset({"mpegts", "mpeg"})
#: Reading goes on after this many errors of the container in a row, not for ever.
_PATIENCE = 20


class FileSource(Source):
    """A video file.

    Attributes:
        info: see SourceInfo; width and height are those of the upright first frame with square pixels.
        damaged: packets that could not be decoded, frames that the decoder marks as corrupt, and
            frames that a truncated file promises but does not hold; at least 1 for a truncated file that was
            read to its end. Final once `read` gave None.

    Args:
        start, end: presentation times, seconds: only frames from ``start`` on and before ``end`` are
            given, numbered from 0. Read from the key frame before ``start``.
        lean: decode one frame at a time. That takes longer, and a seventh to a quarter less work, where other threads
            have enough to do meanwhile.
        steady: decode with one thread. FFmpeg's threads conceal what is damaged now in this way, now in
            that; a whole video is the same with any number of them.

    Raises:
        MediaError: the file is missing, empty, not a video, cut short before its index, or no
            frame of it (or of the stretch) can be decoded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        start: float | None = None,
        end: float | None = None,
        *,
        steady: bool = False,
        lean: bool = False,
    ) -> None:
        self.path = Path(path)
        self.damaged = 0
        self._start, self._end, self._steady, self._lean = start, end, steady, lean
        self._landed: float | None = None
        self._clock: Clock | None = None
        self._reader: ReadAhead | None = None
        self._truncated = _check_file(self.path)
        self._container = _open(self.path)
        try:
            self._stream = self._video_stream()
            self._convert = Converter(str(self.path))
            self._turns: dict[int, Turn] = {}
            self._index = 0
            self._time: float | None = None
            self._step = 1 / float(self._stream.average_rate or 25)
            self._frames: Iterator[Frame] = iter(())
            self._ahead = self._first()
            if self._ahead is None and (start is not None or end is not None):
                raise NothingDecoded(f"{self.path}: no frame of the stretch that was asked for can be decoded")
            if self._ahead is None:
                raise NothingDecoded(f"{self.path}: no frame of the video can be decoded; the file is damaged")
            self.info = self._describe(self._ahead)
        except BaseException:
            self._container.close()
            raise

    def read(self) -> Frame | None:
        """The next frame in order of presentation, None at the end."""
        frame, self._ahead = self._ahead, None
        if frame is None:
            frame = next(self._frames, None)
        return frame

    def ahead(self) -> Iterator[Frame]:
        """The frames from here on, some of them decoded ahead by a thread; `close` ends it. No `read` beside it."""
        self._reader = ReadAhead(self.read)
        return self._reader

    def close(self) -> None:
        """Close the file. Frames given before stay usable."""
        # Let go of at once: in a circle of references the decoder's threads would live until the garbage is collected.
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        self._ahead = None
        self._frames = iter(())
        self._container.close()

    def _first(self) -> Frame | None:
        """The first frame to give, after going to where it is."""
        import av

        if self._start is not None and self._stream.time_base:
            with contextlib.suppress(av.error.FFmpegError):
                self._container.seek(round(Fraction(self._start) / self._stream.time_base), stream=self._stream)
        self._frames = self._decode()
        frame = next(self._frames, None)
        if self._start is not None and (self._landed is None or self._landed > self._start):
            # The file's index is missing or wrong: what lies before is read, too.
            self._container.close()
            self._container = _open(self.path)
            self._stream = self._video_stream()
            self._index, self._time, self._clock, self.damaged = 0, None, None, 0
            self._frames = self._decode()
            frame = next(self._frames, None)
        return frame

    def _video_stream(self) -> av.VideoStream:
        if self._container.format.name in _PLAYLISTS:
            raise MediaError(f"{self.path}: is a playlist, not a video; give the video files themselves")
        if self._container.format.name.endswith(("_pipe", "image2")):  # of FFmpeg's names those of single pictures
            head = _head(self.path)
            known = kind_of_picture(head)
            if known is None:
                unread = unread_picture(head)
                what = "a single picture" if unread is None else f"a picture of kind {unread}"
                raise MediaError(f"{self.path}: not a video: it is {what}, which is not read; convert it to JPEG")
            what, suffix = known
            named = self.path.suffix.lower() in IMAGE_SUFFIXES
            advice = "facecam label reads photos" if named else f"give it the suffix {suffix} to read it as a photo"
            raise MediaError(f"{self.path}: not a video: it is {what}; {advice}")
        stream: av.VideoStream | None = pictures(self._container)
        if stream is None:
            sound = "holds sound only" if self._container.streams.audio else "holds no pictures"
            raise MediaError(f"{self.path}: {sound} (there is no video stream in it); give a video file")
        context = stream.codec_context
        if context is None:
            raise MediaError(f"{self.path}: its pictures are of an unknown kind; convert it to H.264")
        if context.width * context.height > MAX_PIXELS:
            raise MediaError(
                f"{self.path}: the video says that its pictures are {context.width} x {context.height}; at most "
                f"{MAX_PIXELS // 1_000_000} megapixels are read"
            )
        context.options = {"max_pixels": str(MAX_PIXELS)}  # of pictures that grow later
        # Measured on two cores: AUTO decodes as fast as FRAME and faster than SLICE or one thread.
        stream.thread_type = "NONE" if self._steady else "SLICE" if self._lean else "AUTO"
        return stream

    def _describe(self, first: Frame) -> SourceInfo:
        import av

        stream = self._stream
        average, base = stream.average_rate, stream.base_rate
        steady = average and (not base or abs(float(average / base) - 1) < 0.01)
        duration = None
        if stream.duration and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration:
            start = (self._container.start_time or 0) / av.time_base
            duration = max(0.0, start + self._container.duration / av.time_base - first.time)
        return SourceInfo(
            name=os.fspath(self.path),
            width=first.width,
            height=first.height,
            fps=float(average) if average and steady else None,
            duration=duration,
            start_time=first.time,
            frames=stream.frames or None,
        )

    def _packets(self) -> Iterator[av.Packet]:
        """The packets of the stream, and one empty packet at the end, over errors of the container."""
        import av

        errors = 0
        while errors < _PATIENCE:
            try:
                for packet in packets(self._container, [self._stream]):
                    errors = 0
                    yield packet
                return
            except av.error.FFmpegError:
                self.damaged += 1
                errors += 1

    def _decode(self) -> Iterator[Frame]:
        import av

        for packet in self._packets():
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                self.damaged += self._inside(packet)
                continue
            for picture in decoded:
                time = self._time_of(picture)
                if self._landed is None:
                    self._landed = time
                if self._start is not None and time < self._start:
                    continue
                if self._end is not None and time >= self._end:
                    return
                self.damaged += bool(picture.is_corrupt)
                yield self._frame(picture, time)
        if self._truncated:
            self.damaged += self._promised() or not self.damaged

    def _promised(self) -> int:
        """Frames behind the last one of which the index of an MP4 tells; other kinds have none, or lost it."""
        if self._time is None or self._container.format.name.split(",")[0] != "mov":
            return 0
        if self._start is None:
            return max(0, len(self._stream.index_entries) - self._index)
        base = self._stream.time_base or 0
        last, end = self._time, self._end
        times = (float(entry.timestamp * base) for entry in self._stream.index_entries)
        return sum(last < time and (end is None or time < end) for time in times)

    def _inside(self, packet: av.Packet) -> bool:
        """Whether a packet belongs to the stretch that is read; one without a time does."""
        if packet.pts is None or packet.time_base is None:
            return True
        time = float(packet.pts * packet.time_base)
        return (self._start is None or time >= self._start) and (self._end is None or time < self._end)

    def _frame(self, picture: VideoFrame, time: float) -> Frame:
        # The matrix is looked at once: asking a picture for its side data ties it into a reference
        # cycle, and pictures would pile up until the garbage collector passes (hundreds of megabytes).
        angle = picture.rotation
        if angle not in self._turns:
            self._turns[angle] = turn_of(picture)
        upright = Upright(picture, self._aspect(), self._turns[angle], self._convert)
        frame = Frame(
            self._index,
            time,
            size=upright.size,
            make_image=upright.image,
            make_luma=upright.luma if picture.format.name in LUMA_FIRST else None,
            planar=upright.planar,
        )
        self._index += 1
        return frame

    def _aspect(self) -> Fraction | None:
        """Of a pixel. Broadcasts switch between 4:3 and 16:9 without a change of size: there the decoder's word counts,
        in other containers the container's.
        """
        coded = self._stream.codec_context.sample_aspect_ratio
        return coded if coded and self._container.format.name in _BROADCASTS else self._stream.sample_aspect_ratio

    def _time_of(self, picture: VideoFrame) -> float:
        """Presentation time, seconds, also over breaks of the file's clock. Without one (raw H.264) a frame follows
        the one before it.
        """
        base = picture.time_base or self._stream.time_base
        ticks = picture.pts if picture.pts is not None else picture.dts
        if ticks is not None and base is not None:
            if self._clock is None:
                self._clock = Clock(base)
            time = float((ticks + self._clock.shift(ticks, picture.duration or round(self._step / base))) * base)
        elif self._time is None:
            time = 0.0
        else:
            time = self._time + self._step
        if picture.duration and base is not None:
            self._step = float(picture.duration * base)
        self._time = time
        return time


def _check_file(path: Path) -> bool:
    """Refuse what is no file with content; returns whether it says that it is longer."""
    try:
        if path.exists() and not path.is_file():
            raise MediaError(f"{path}: is not a regular file; give a video file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise MediaError(f"{path}: the file is empty")
            return cut_short(file, size, path)
    except FileNotFoundError as error:
        raise MediaError(f"{path}: no such file") from error
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open(path: Path) -> Any:
    import av

    try:
        # "file:" keeps a name with a colon from being read as a protocol, and the whitelist keeps a
        # crafted file from making the demuxer open addresses.
        return av.open(f"file:{path.absolute()}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except av.error.FFmpegError as error:
        if isinstance(error, PermissionError):
            raise MediaError(f"{path}: cannot be opened as a video (Permission denied)") from error
        what = describe(_head(path))
        reason = "its kind is not known, or it is damaged" if what is None else f"it is {what}"
        raise MediaError(f"{path}: not a video: {reason}; expected MP4, MOV, MKV, WebM, AVI, MPEG or WMV") from error


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror or error})") from error
