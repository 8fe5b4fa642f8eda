"""Pictures as decoders give and encoders take them: brightness at full size, two colours at half (4:2:0).

A labelled copy differs from its video by some lines and names. Turned into BGR and back it costs more than decoding
it, and loses a little everywhere; drawn on as it is, nothing of that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from facecam.values import Image

#: 8-bit formats that become 4:2:0 of limited range without a change of what the colours mean.
_FORMATS: Final = frozenset(("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "nv21"))
#: Numbers of ITU-T H.273: how brightness and colours come from red, green and blue.
_BT709, _UNTOLD = 1, 2
_BT601 = (5, 6)
#: What PQ and HLG (16 and 18) show as bright would be wrong in 8 bits that say so.
_TRANSFERS: Final = frozenset((1, 2, 4, 5, 6, 7, 8, 13))
#: A picture without a word about its colours is of high definition from so many lines on.
_HD_LINES = 600
_LIMITED = 1
#: PyAV gives no planes of pictures of a line or two.
_SMALLEST = 16


@dataclass(frozen=True, slots=True)
class Colours:
    """What numbers of a picture mean, as H.273 counts: matrix, primaries, transfer; the range is the limited one."""

    matrix: int = _BT709
    primaries: int = _BT709
    transfer: int = _BT709

    def told(self, height: int) -> int:
        """The matrix that players take: 1 (BT.709) or 5 (BT.601)."""
        return _BT709 if self.matrix == _BT709 or (self.matrix == _UNTOLD and height >= _HD_LINES) else _BT601[0]


class Planar:
    """An upright picture of even size as planes of 4:2:0.

    Attributes:
        width, height: pixels. colours: what its numbers mean.
    """

    __slots__ = ("_picture", "_planes", "colours", "height", "width")

    def __init__(self, picture: Any, colours: Colours) -> None:
        """``picture``: an av.VideoFrame, yuv420p of limited range; it is not changed."""
        self.width: int = picture.width
        self.height: int = picture.height
        self.colours = colours
        self._picture = picture
        self._planes: tuple[Image, Image, Image] | None = None

    @classmethod
    def of(
        cls, picture: Any, size: tuple[int, int], turn: Callable[[Image], Image] | None, reformatter: Any
    ) -> Self | None:
        """A decoded picture; None where it can only be had as BGR (odd sizes, ten bits, unusual colours).

        Args:
            picture: av.VideoFrame. size: (width, height) it is shown in, before ``turn`` turns it.
            turn: gives an array turned or mirrored, H x W uint8.
        """
        kind = picture.format.name
        colours = Colours(picture.colorspace, picture.color_primaries, picture.color_trc)
        if (
            kind not in _FORMATS
            or size[0] % 2
            or size[1] % 2
            or min(size) < _SMALLEST
            or colours.transfer not in _TRANSFERS
        ):
            return None
        if colours.matrix not in (_BT709, _UNTOLD, *_BT601):
            return None
        # The letter j in an old format's name says full range, as 2 does.
        if kind != "yuv420p" or picture.color_range == 2 or (picture.width, picture.height) != size:
            picture = reformatter.reformat(
                picture, *size, format="yuv420p", dst_color_range=_LIMITED, threads=1
            )  # fmt: skip
        made = cls(picture, colours)
        if turn is not None:
            made._take([turn(plane) for plane in _views(picture)])
        return made

    @property
    def planes(self) -> tuple[Image, Image, Image]:
        """Brightness H x W, blue and red difference H/2 x W/2 each, uint8; what is drawn on them is on the picture."""
        if self._planes is None:  # a decoder still looks at its own picture, so draw on another
            self._take(_views(self._picture))
        assert self._planes is not None
        return self._planes

    @property
    def picture(self) -> Any:
        """An av.VideoFrame of it, yuv420p."""
        return self._picture

    def _take(self, planes: list[Image]) -> None:
        import av

        self.height, self.width = planes[0].shape
        # Not from_numpy_buffer: PyAV 18 takes a height that four does not divide for a smaller one.
        self._picture = av.VideoFrame(self.width, self.height, "yuv420p")
        luma, blue, red = _views(self._picture)
        self._planes = luma, blue, red
        for mine, plane in zip(self._planes, planes):
            mine[:] = plane


def _views(picture: Any) -> list[Image]:
    """The planes of a yuv420p picture, not copied."""
    return [
        np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height].reshape(plane.height, -1)[:, : plane.width]
        for plane in picture.planes
    ]


@functools.cache
def _weights(matrix: int) -> np.ndarray[Any, Any]:
    """3 x 4: blue, green, red of 0 to 255 and 1 to brightness and differences of limited range (H.273, 8.3)."""
    red, blue = (0.2126, 0.0722) if matrix == _BT709 else (0.299, 0.114)
    grey = np.array([blue, 1 - red - blue, red])
    to_blue = (np.array([1, 0, 0]) - grey) / (2 * (1 - blue))
    to_red = (np.array([0, 0, 1]) - grey) / (2 * (1 - red))
    rows = np.stack([grey * 219, to_blue * 224, to_red * 224]) / 255
    return np.hstack([rows, [[16.0], [128.0], [128.0]]])


def planes_of(image: Image, matrix: int) -> tuple[Image, Image, Image]:
    """A small BGR picture of even size as planes.

    Args:
        image: BGR uint8, H x W x 3. matrix: 1 (BT.709) or 5 (BT.601).
    """
    weights = _weights(matrix)
    coded = image @ weights[:, :3].T + weights[:, 3]
    rows, columns = image.shape[:2]
    halves = coded[..., 1:].reshape(rows // 2, 2, columns // 2, 2, 2).mean(axis=(1, 3))
    return tuple(np.rint(plane).astype(np.uint8) for plane in (coded[..., 0], halves[..., 0], halves[..., 1]))
