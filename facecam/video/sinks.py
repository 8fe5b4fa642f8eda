"""Where labelled frames go: a video file with its sound, or a recording that outlives a kill."""

from __future__ import annotations

import contextlib
import math
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from facecam.errors import DependencyMissing, OutputError
from facecam.values import Image, SourceInfo
from facecam.video.atomic import Pending, output_error
from facecam.video.audio import AudioTrack
from facecam.video.clock import pictures
from facecam.video.planar import Colours, Planar

#: Suffix of a file to write -> name of the format.
VIDEO_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}

#: Measured on a talk of 640x360, one core, milliseconds and bytes a frame, PSNR of the brightness: superfast at crf 22
#: 1.71, 3166, 45.5 dB; ultrafast at crf 24 0.77, 4157, 43.8; at a constant quantiser of 24 0.61, 3545, 43.0; this with
#: deblocking 0.64, 3414, 44.3. A copy of a file costs time first; a live recording has time, and room counts.
_COPY = {"preset": "ultrafast", "qp": "24", "x264-params": "deblock=1"}
#: Live, the encoder keeps no picture back (zerolatency).
_RECORDING = {"preset": "superfast", "crf": "22", "tune": "zerolatency"}
#: x264 with AVX-512 took 0.66 ms a frame of the talk, with AVX2 0.53, and gave the same file to the byte (an Intel Xeon
#: of model 167; SSE4.2 alone 0.56): where there is AVX-512, AVX2 is used.
_NARROW = "asm=avx2"
#: OpenCV's number of the AVX-512 of servers (CV_CPU_AVX512_SKX, opencv2/core/cvdef.h), which is what x264 uses, too.
_AVX512 = 256
#: H.264 marks times of a live source in this unit (that of MPEG), seconds.
_TICK = Fraction(1, 90_000)
_LIMITED = 1
#: MP4 and MOV hold no step of more than 2^31 ticks (6.6 h of a live recording): the last picture is shown again this
#: often.
_LONGEST_STEP = 6 * 3600 * 90_000
#: A gap of more steps (a year) is a clock that is wrong.
_MOST_STEPS = 1500
#: A live recording reaches the disk in pieces of this length, seconds: as much is lost when the process is killed.
_PIECE = 0.5


class _Target(Protocol):
    """Where a file is written: `atomic.Pending`, or `_InPlace`."""

    temp: Path

    def commit(self) -> None: ...

    def discard(self) -> None: ...


class _InPlace:
    """A file that stands under its own name from its first byte on (mode 0600) and keeps what was written.

    Raises:
        OutputError: it exists already or cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        pending = Pending(path)  # the same checks, the same words
        pending.discard()
        self.temp = pending.path
        try:
            os.close(os.open(self.temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise output_error(path, error) from error

    def commit(self) -> None:
        """Make the file durable."""
        try:
            with open(self.temp, "rb+") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(self.temp, error) from error

    def discard(self) -> None:
        """Leave what there is; a file without a byte goes."""
        with contextlib.suppress(OSError):
            if not self.temp.stat().st_size:
                self.temp.unlink()


class VideoSink:
    """An H.264 video file; it appears at ``path`` whole, on `close`, or not at all; or, ``live``, from the start.

    Pictures keep their presentation times exactly, in the time base of ``audio_from``'s video, so a
    variable frame rate stays variable; in a gap that is too long for MP4 and MOV the picture before it is
    repeated. Odd sizes are padded by one pixel, since H.264 with 4:2:0 colour needs even ones; a picture of
    another size than the first is fitted in with black borders.

    Args:
        path: .mp4, .m4v, .mov or .mkv.
        info: of the source; gives size and nominal rate.
        audio_from: the media file whose sound goes along and whose time base is used.
        stretch: of that file, (from, to) in seconds: its sound goes along as far, and begins at 0.
        colours: of the planes that are written; a BGR picture is converted to them.
        overwrite: replace an existing file.
        live: write under ``path`` itself, in pieces each of which can be played as soon as it is written: a kill or
            a full disk costs the last half second. Without sound; a file that is there is never replaced.

    Attributes:
        frames: pictures written so far.
        warnings: lines about the sound that a user should read.

    Raises:
        OutputError: the file cannot be written (exists, folder, permission, disk full, format).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        info: SourceInfo,
        audio_from: str | os.PathLike[str] | None = None,
        *,
        stretch: tuple[float, float | None] | None = None,
        colours: Colours | None = None,
        overwrite: bool = False,
        live: bool = False,
    ) -> None:
        if live and (audio_from or overwrite):
            raise ValueError("a live recording has no sound and replaces nothing")
        self.path = Path(path)
        self._live = live
        self.frames = 0
        self._stretch = stretch or (None, None)
        self._colours = colours or Colours()
        self._size = info.width + info.width % 2, info.height + info.height % 2
        kind = _format_of(self.path)
        self._fills = kind != "matroska"
        self._pending: _Target = _InPlace(path) if live else Pending(path, overwrite=overwrite)
        self._container: Any = None
        self._audio: AudioTrack | None = None
        self._last: int | None = None
        self._held: Any = None  # the last picture, where gaps are filled with it
        self._open = True
        try:
            with self._explained():
                self._start(kind, info, audio_from)
        except BaseException:
            self.abort()
            raise

    @property
    def warnings(self) -> list[str]:
        return self._audio.warnings if self._audio else []

    def _start(self, kind: str, info: SourceInfo, audio_from: str | os.PathLike[str] | None) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        base = _time_base(audio_from) if audio_from else _TICK
        options = {}
        if self._live:
            options["flush_packets"] = "1"
            if kind == "matroska":
                options["cluster_time_limit"] = str(round(_PIECE * 1000))
            else:  # fragments, each with its own index, in place of one index at the end
                options |= {"movflags": "empty_moov+default_base_moof", "frag_duration": str(round(_PIECE * 1e6))}
        if kind != "matroska":
            # MP4 keeps where a track starts in units of the movie, 1/1000 s if not told otherwise. A
            # multiple of it and of the video's own unit loses neither start.
            options["movie_timescale"] = str(min(math.lcm(1000, base.denominator), 10_000_000))
        self._container = av.open(f"file:{self._pending.temp}", "w", format=kind, options=options)
        rate = Fraction(info.fps or 30).limit_denominator(1001)
        try:
            stream = self._container.add_stream("libx264", rate=rate)
        except av.codec.codec.UnknownCodecError as error:
            raise DependencyMissing(
                "this build of PyAV has no H.264 encoder; run: pip install --force-reinstall av"
            ) from error
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.options = _coder(_RECORDING if self._live else _COPY)
        context = stream.codec_context
        context.thread_count = encoding_threads()
        # The stream's and the encoder's: the encoder counts in 1/rate otherwise and rounds times.
        stream.time_base = context.time_base = self._base = base
        context.colorspace, context.color_primaries = self._colours.matrix, self._colours.primaries
        context.color_trc, context.color_range = self._colours.transfer, _LIMITED
        self._stream = stream
        if audio_from:
            self._audio = AudioTrack(audio_from, self._container, *self._stretch)

    def fits(self, picture: Planar) -> bool:
        """Whether a picture can be written as it is."""
        return (picture.width, picture.height) == self._size and picture.colours == self._colours

    def write(self, image: Image | Planar, time: float) -> None:
        """Add a picture.

        Args:
            image: BGR uint8, H x W x 3, which may be changed afterwards; or planes that fit, which may not.
            time: presentation time, seconds, later than that of the picture before.

        Raises:
            OutputError: disk full, or another failure of the file; nothing is left of it.
        """
        import av

        if not self._open:
            raise ValueError("the sink is closed")
        if isinstance(image, Planar):
            coded = image.picture
            coded.pict_type = 0  # a decoder's word on what it was; the encoder would follow it
        else:
            coded = av.VideoFrame.from_numpy_buffer(self._fitted(image), format="bgr24")
            matrix = self._colours.told(self._size[1])
            coded = self._reformatter.reformat(coded, format="yuv420p", dst_colorspace=matrix, threads=1)
        ticks = round(time * self._base.denominator / self._base.numerator)
        # Times that stand still or go back (a join of two files) would be refused.
        coded.pts = ticks if self._last is None else max(ticks, self._last + 1)
        coded.time_base = self._base
        with self._explained():
            self._bridge(coded.pts)
            self._container.mux(self._stream.encode(coded))
            if self._audio:
                self._audio.pump(time)
        self._last = coded.pts
        if self._fills:
            self._held = coded
        self.frames += 1

    def _bridge(self, ticks: int) -> None:
        """Show the picture before again until ``ticks``, where that is more than a step away."""
        if self._held is None or self._last is None or ticks - self._last > _MOST_STEPS * _LONGEST_STEP:
            return
        for moment in range(self._last + _LONGEST_STEP, ticks, _LONGEST_STEP):
            self._held.pts = moment
            self._container.mux(self._stream.encode(self._held))

    def close(self) -> None:
        """Finish the file and let it appear. Without a single picture there is nothing to appear.

        Raises:
            OutputError: as `write`.
        """
        if not self._open:
            return
        if not self.frames:
            self.abort()
            return
        with self._explained():
            self._container.mux(self._stream.encode(None))
            if self._audio:
                self._audio.pump()
            self._container.close()
        self._release()
        self._pending.commit()

    def abort(self) -> None:
        """Give up: remove what was written."""
        if self._open:
            self._release()
            self._pending.discard()

    def _release(self) -> None:
        import av

        self._open = False
        if self._audio:
            self._audio.close()
        if self._container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                self._container.close()

    @contextlib.contextmanager
    def _explained(self) -> Any:
        """Turn the encoder's and the file's errors into an OutputError, and remove the file."""
        import av

        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self.abort()
            told = output_error(self.path, error if isinstance(error, OSError) else OSError(str(error)))
            raise told from error

    def _fitted(self, image: Image) -> Image:
        """The picture at the file's size, contiguous."""
        import cv2

        width, height = self._size
        rows, columns = image.shape[:2]
        if (columns, rows) == (width, height):
            return np.ascontiguousarray(image)
        if (columns + columns % 2, rows + rows % 2) == (width, height):
            border = (0, height - rows, 0, width - columns)
            return cv2.copyMakeBorder(image, *border, cv2.BORDER_REPLICATE)  # type: ignore[return-value]
        scale = min(width / columns, height / rows)
        inner = max(1, min(width, round(columns * scale))), max(1, min(height, round(rows * scale)))
        canvas = np.zeros((height, width, 3), np.uint8)
        left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
        smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=smooth)
        return canvas

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def check_target(path: Path) -> None:
    """Whether a new video can be written at ``path``.

    Raises:
        OutputError: it exists, its folder cannot be written, or its name has another ending.
    """
    _format_of(path)
    Pending(path).discard()


def encoding_threads() -> int:
    """Of an encoder: half of the cores, since decoding needs the others; two cost a quarter more of them than one."""
    return max(1, (os.cpu_count() or 1) // 2)


def _coder(options: dict[str, str]) -> dict[str, str]:
    """The encoder's options on this machine."""
    import cv2

    if not cv2.checkHardwareSupport(_AVX512):
        return options
    return options | {"x264-params": ":".join(filter(None, (options.get("x264-params"), _NARROW)))}


def _format_of(path: Path) -> str:
    kind = VIDEO_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path}: a video is written as {', '.join(VIDEO_FORMATS)}; choose one of these")
    return kind


def _time_base(path: str | os.PathLike[str]) -> Fraction:
    """The unit in which ``path`` counts the times of its video, seconds."""
    import av

    try:
        with av.open(
            f"file:{Path(path).absolute()}", options={"protocol_whitelist": "file"}, metadata_errors="replace"
        ) as container:
            stream = pictures(container)
            base = None if stream is None else stream.time_base
    except av.error.FFmpegError:
        return _TICK
    # MP4 counts in whole ticks of at most 2^31 a second; finer clocks than this are noise.
    return base if base and base.numerator > 0 and base.denominator <= 10_000_000 else _TICK
