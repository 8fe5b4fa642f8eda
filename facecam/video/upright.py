"""A decoded picture of a file, shown upright with square pixels: as BGR, as planes, as a grey thumbnail."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from facecam.errors import MediaError
from facecam.values import Image
from facecam.video.planar import Planar
from facecam.video.tones import HLG, PQ, ordinary

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

#: Formats whose first plane is 8-bit brightness, at full size.
LUMA_FIRST = frozenset(("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "nv21", "gray"))
_LUMA_WIDTH = 96
#: A picture of more pixels than this is taken for an attack or an error: 8192 x 4320 are 35 million, and a decoder
#: keeps up to 17 pictures.
MAX_PIXELS = 40_000_000
#: Transpose first, then cv2.flip with this code or not at all; None: shown as stored.
Turn = tuple[bool, int | None] | None


class Converter(threading.local):
    """One reformatter a thread: frames are converted by whichever thread asks, at the same time.

    Args:
        name: of the video, for messages.
    """

    def __init__(self, name: str) -> None:
        from av.video.reformatter import VideoReformatter

        self.name = name
        self.reformatter = VideoReformatter()


class Upright:
    """A decoded picture and what it takes to show it upright with square pixels."""

    __slots__ = ("_convert", "_picture", "_stored", "_turn", "size")

    def __init__(self, picture: VideoFrame, aspect: Any, turn: Turn, convert: Converter) -> None:
        self._picture = picture
        self._convert = convert
        width, height = picture.width, picture.height
        if aspect and aspect != 1 and 0.1 < aspect < 10:
            width = max(1, round(width * float(aspect)))
        if width * height > MAX_PIXELS:
            raise MediaError(
                f"{convert.name}: the video has pictures of {width} x {height}: more than "
                f"{MAX_PIXELS // 1_000_000} megapixels"
            )
        self._stored = width, height
        self._turn = turn
        self.size = (height, width) if self._turn and self._turn[0] else (width, height)

    def image(self) -> Image:
        """BGR uint8, contiguous, upright.

        Raises:
            MediaError: FFmpeg cannot convert its colours.
        """
        import av

        width, height = self._stored
        try:
            # One thread: sws_scale's own threads cost more than they gain up to 1080p (measured).
            converted = self._convert.reformatter.reformat(
                self._picture, width=width, height=height, format="bgr24", threads=1
            )
        except av.error.FFmpegError as error:  # YCgCo, ICtCp (Dolby Vision) and others that H.273 knows
            raise MediaError(
                f"{self._convert.name}: the video's colours are of an unusual kind ({self._picture.format.name}, "
                f"matrix {int(self._picture.colorspace)} of H.273); convert it to BT.709"
            ) from error
        image = self._turned(_pixels(converted, width, height))
        transfer = self._picture.color_trc
        return ordinary(image, transfer, self._picture.color_primaries) if transfer in (PQ, HLG) else image

    def planar(self) -> Planar | None:
        """The picture upright as planes, where it can be had so."""
        turn = self._turned if self._turn else None
        return Planar.of(self._picture, self._stored, turn, self._convert.reformatter)

    def _turned(self, image: Image) -> Image:
        if self._turn:
            import cv2

            transpose, flip = self._turn
            if transpose:
                image = cv2.transpose(image)  # type: ignore[assignment]
            if flip is not None:
                image = cv2.flip(image, flip)  # type: ignore[assignment]
        return image

    def luma(self) -> Image:
        """A grey thumbnail as stored (not turned), at most 96 pixels wide: strided from the Y plane."""
        plane: Any = self._picture.planes[0]
        step = max(1, -(-self._picture.width // _LUMA_WIDTH))
        rows = np.frombuffer(plane, np.uint8)[: plane.line_size * self._picture.height]
        rows = rows.reshape(self._picture.height, plane.line_size)
        first_row = min(step // 2, self._picture.height - 1)
        return rows[first_row::step, step // 2 : self._picture.width : step].copy()


def _pixels(picture: Any, width: int, height: int) -> Image:
    """The pixels of a bgr24 picture; not copied where its rows lie next to each other."""
    plane = picture.planes[0]
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * height].reshape(height, plane.line_size)
    return np.ascontiguousarray(rows[:, : width * 3]).reshape(height, width, 3)


def turn_of(picture: VideoFrame) -> Turn:
    """How the display matrix shows the picture.

    The matrix maps stored pixels to shown ones, x' = a x + c y, y' = b x + d y (16.16 fixed point;
    libavutil/display.h). Only its signs and its larger diagonal count: quarter turns and mirrors.
    """
    try:
        matrix: Any = picture.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV cannot list what it has no name for, as the EXIF of a camera's JPEG pictures
        angle = np.deg2rad(picture.rotation)  # counterclockwise; a mirror is lost
        a, b = np.rint((np.cos(angle), -np.sin(angle)))
        c, d = -b, a
    else:
        if matrix is None:
            return None
        a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(matrix)[:20], np.int32))
    transpose = abs(b) + abs(c) > abs(a) + abs(d)
    horizontal, vertical = (c < 0, b < 0) if transpose else (a < 0, d < 0)
    flip = -1 if horizontal and vertical else 1 if horizontal else 0 if vertical else None
    return (transpose, flip) if transpose or flip is not None else None
