"""What is drawn on: a BGR picture, or the planes of a decoded one. Both look the same to within a pixel."""

from __future__ import annotations

import functools
from typing import Any, Final, Protocol

import numpy as np

from facecam.values import Image
from facecam.video.planar import Planar, planes_of
from facecam.video.text import Colour, fill, put, strip

#: Strips with names that are kept as planes, some kilobytes each.
_KEPT: Final = 256

#: left, top, width, height: pixels.
Place = tuple[int, int, int, int]


class Canvas(Protocol):
    """A picture to draw on; what lies outside of it is cut.

    Attributes:
        size: (height, width), pixels.
    """

    size: tuple[int, int]

    def fill(self, place: Place, colour: Colour) -> None:
        """Fill a rectangle."""

    def label(self, text: str, place: Place, indent: int, font: int, paper: Colour, ink: Colour) -> None:
        """A line of text, ``indent`` pixels from the left, on a filled strip."""

    def regions(self, place: Place) -> list[Image]:
        """The part of a rectangle that lies on the picture, as views (maybe empty) of the arrays it is made of."""


class Picture:
    """A BGR picture as a canvas."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self.size = int(image.shape[0]), int(image.shape[1])

    def fill(self, place: Place, colour: Colour) -> None:
        fill(self._image, *place, colour)

    def label(self, text: str, place: Place, indent: int, font: int, paper: Colour, ink: Colour) -> None:
        fill(self._image, *place, paper)
        put(self._image, text, place[0] + indent, place[1], font, ink)

    def regions(self, place: Place) -> list[Image]:
        return [strip(self._image, *place)]


class Planes:
    """The planes of a picture as a canvas: no more than what is drawn is ever converted.

    Half a line's colour may stand one pixel beside it, where lines have their dark rim, and strips begin on even
    pixels.
    """

    def __init__(self, picture: Planar) -> None:
        self._picture = picture
        self._matrix = picture.colours.told(picture.height)
        self.size = picture.height, picture.width

    def fill(self, place: Place, colour: Colour) -> None:
        left, top = max(place[0], 0), max(place[1], 0)
        right, bottom = place[0] + place[2], place[1] + place[3]
        if left >= right or top >= bottom:
            return
        planes, code = self._picture.planes, _code(colour, self._matrix)
        planes[0][top:bottom, left:right] = code[0]
        if code[1:] != (128, 128):  # a dark rim has no colour, and leaves its neighbours theirs
            area = slice(top // 2, -(-bottom // 2)), slice(left // 2, -(-right // 2))
            planes[1][area] = code[1]
            planes[2][area] = code[2]

    def label(self, text: str, place: Place, indent: int, font: int, paper: Colour, ink: Colour) -> None:
        left, top, width, height = place[0] & ~1, place[1] & ~1, place[2] + place[2] % 2, place[3] + place[3] % 2
        patch = _strip(text, width, height, indent, font, paper, ink, self._matrix)
        # Its place is in the picture, but for what a small picture cannot hold.
        for region, plane in zip(self.regions((left, top, width, height)), patch):
            region[...] = plane[: region.shape[0], : region.shape[1]]

    def regions(self, place: Place) -> list[Image]:
        left, top, width, height = place
        half = left // 2, top // 2, -((-left - width) // 2) - left // 2, -((-top - height) // 2) - top // 2
        light, blue, red = self._picture.planes
        return [strip(light, *place), strip(blue, *half), strip(red, *half)]


@functools.cache
def _code(colour: Colour, matrix: int) -> tuple[int, int, int]:
    """A BGR colour as the numbers of the planes."""
    light, blue, red = (int(plane[0, 0]) for plane in planes_of(np.full((2, 2, 3), colour, np.uint8), matrix))
    return light, blue, red


@functools.lru_cache(maxsize=_KEPT)
def _strip(
    text: str, width: int, height: int, indent: int, font: int, paper: Colour, ink: Colour, matrix: int
) -> tuple[Image, Image, Image]:
    """A strip of even size with its text, as planes."""
    image: Any = np.empty((height, width, 3), np.uint8)
    image[:] = paper
    put(image, text, indent, 0, font, ink)
    return planes_of(image, matrix)
