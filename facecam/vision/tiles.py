"""Which parts of a pyramid's level the detector looks at: all of it, or where the picture changed, in tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.values import Image

#: Side of the detector's window, stride of its map and centre of its first cell, pixels of the scaled image
#: (the loss layer's options in mmod_human_face_detector.dat; strides 2*2*2, half the window's reach).
WINDOW: Final = 80
STRIDE: Final = 8
FIRST: Final = 14
#: Black border around each level, pixels: without it a face that the frame's edge cuts is out of the network's sight.
BORDER: Final = 8
#: A larger level is looked at in tiles of at most this side that overlap by a window and its reach: the network's
#: activations take 300 bytes a pixel.
TILE: Final = 1408
OVERLAP: Final = 128
#: What a face is searched with around its middle, pixels of the scaled image: as much as in the crops that follow.
CONTEXT: Final = 64
#: A map's maximum this near to where a part was cut may be the slope of one outside.
EDGE: Final = 24
#: Where so much of a level is to be searched, all of it is.
MOST: Final = 0.7
#: Parts of a level begin and end at multiples of this, so that the network's sizes stay few.
GRID: Final = 32

#: A rectangle of a framed level: left, top, right, bottom.
Area = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a level with its border.

    Attributes:
        left, top: where it begins; pixels: BGR uint8.
        trusted: where maxima count, in pixels of the level with its border.
    """

    left: int
    top: int
    pixels: Image
    trusted: Area

    def trusts(self, x: float, y: float) -> bool:
        """Whether a maximum at this place of the tile counts."""
        left, top, right, bottom = self.trusted
        return left <= self.left + x < right and top <= self.top + y < bottom


def tiles(framed: Image, size: tuple[int, int], changed: NDArray[np.uint8] | None) -> Iterator[Tile]:
    """What of a level is looked at.

    Args:
        framed: the level with its border. size: of the level without, (width, height).
        changed: the picture in cells, rows x columns: windows that hold a cell above 0 are looked at; None: all.
    """
    for area in _areas(framed, size, changed):
        x0, y0, x1, y1 = area
        trusted = _trusted(area, framed)
        for top in starts(y1 - y0):
            for left in starts(x1 - x0):
                pixels = framed[y0 + top : min(y0 + top + TILE, y1), x0 + left : min(x0 + left + TILE, x1)]
                yield Tile(x0 + left, y0 + top, pixels, trusted)


def shows(changed: NDArray[np.uint8], image: Image, place: tuple[float, float], window: float) -> bool:
    """Whether a window (its side, pixels) about a place of the image (x, y) holds a cell above 0."""
    rows, columns = changed.shape
    x, y = place[0] * columns / image.shape[1], place[1] * rows / image.shape[0]
    dx, dy = window / 2 * columns / image.shape[1], window / 2 * rows / image.shape[0]
    top, left = max(0, int(y - dy)), max(0, int(x - dx))
    return bool(changed[top : math.ceil(y + dy), left : math.ceil(x + dx)].any())


def starts(length: int) -> list[int]:
    """Where tiles begin along one side, evenly spread, at least `OVERLAP` shared."""
    if length <= TILE:
        return [0]
    count = math.ceil((length - OVERLAP) / (TILE - OVERLAP))
    step = (length - TILE) / (count - 1)
    return [round(i * step / STRIDE) * STRIDE for i in range(count - 1)] + [length - TILE]


def _areas(framed: Image, size: tuple[int, int], changed: NDArray[np.uint8] | None) -> list[Area]:
    """The parts in which faces may be whose window holds a changed cell, with their surroundings; none overlap."""
    height, width = framed.shape[:2]
    whole = [(0, 0, width, height)]
    if changed is None:
        return whole
    cell_w, cell_h = size[0] / changed.shape[1], size[1] / changed.shape[0]
    # A face's middle is half a window from its edge, and the map may be a stride beside it.
    reach = [math.ceil((WINDOW / 2 + STRIDE) / side) for side in (cell_w, cell_h)]
    middles = cv2.dilate(changed, np.ones((2 * reach[1] + 1, 2 * reach[0] + 1), np.uint8))
    areas: list[Area] = []
    for left, top, w, h, _ in cv2.connectedComponentsWithStats(middles, connectivity=8)[2][1:].tolist():
        x0, x1 = _stretch(left * cell_w, (left + w) * cell_w, width)
        y0, y1 = _stretch(top * cell_h, (top + h) * cell_h, height)
        area = (x0, y0, x1, y1)
        while met := [a for a in areas if a[0] < area[2] and area[0] < a[2] and a[1] < area[3] and area[1] < a[3]]:
            areas = [a for a in areas if a not in met]
            lefts, tops, rights, bottoms = zip(area, *met)
            area = (min(lefts), min(tops), max(rights), max(bottoms))
        areas.append(area)
    if sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in areas) > MOST * width * height:
        return whole
    return areas


def _stretch(start: float, end: float, length: int) -> tuple[int, int]:
    """A stretch of a level with its surroundings, on the grid, within the framed level's length."""
    first = max(0, math.floor((start + BORDER - CONTEXT) / GRID) * GRID)
    return first, min(length, math.ceil((end + BORDER + CONTEXT) / GRID) * GRID)


def _trusted(area: Area, framed: Image) -> Area:
    """An area without what is too near to where it was cut out of its level; the level's own edges do not count."""
    height, width = framed.shape[:2]
    x0, y0, x1, y1 = area
    far = 10**9
    return (
        x0 + EDGE if x0 else -far,
        y0 + EDGE if y0 else -far,
        x1 - EDGE if x1 < width else far,
        y1 - EDGE if y1 < height else far,
    )
