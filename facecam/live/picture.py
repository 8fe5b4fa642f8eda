"""What a live view shows: one source's picture, or a grid of several, with sightings and the state of each source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from facecam.live.channel import Channel
from facecam.values import Box, Face, Image, Sighting
from facecam.video.overlay import draw

#: Width of a grid of several sources, pixels; its tiles are 16:9.
_GRID_WIDTH: Final = 1280
#: A source that has not given a picture yet is shown with this many lines.
_UNSEEN: Final = 360


@dataclass(frozen=True, slots=True)
class Look:
    """How pictures are shown.

    Attributes:
        mirror: left and right change places. blur: faces without a name are made unreadable.
    """

    mirror: bool = False
    blur: bool = False


def fit(
    channel: Channel, sightings: Sequence[Sighting], size: tuple[int, int] | None, look: Look
) -> tuple[Image, list[Sighting]]:
    """A copy of the channel's last picture at a size, its sightings moved along.

    Args:
        size: (width, height) to fit into, with black borders; None: as it is.
    """
    frame = channel.frame
    if frame is None:
        width, height = size or (_UNSEEN * 16 // 9, _UNSEEN)
        return np.zeros((height, width, 3), np.uint8), []
    image, seen = frame.image, list(sightings)
    if look.mirror:
        image = np.ascontiguousarray(image[:, ::-1])
        seen = [_mirrored(s, frame.width) for s in seen]
    if size is None:
        # The worker may still be looking at the frame.
        return (image if look.mirror else image.copy()), seen
    width, height = size
    scale = min(width / frame.width, height / frame.height)
    inner = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=smooth)
    return canvas, [_moved(s, scale, left, top) for s in seen]


def finish(
    image: Image,
    sightings: Sequence[Sighting],
    look: Look,
    hud: Sequence[str] = (),
    help_lines: Sequence[str] | None = None,
    *,
    lost: bool = False,
) -> Image:
    """Draw on a picture of `fit`, in place.

    Args:
        lost: the source is not connected: its last picture is dark.
    """
    if lost:
        np.right_shift(image, 1, out=image)
    draw(image, sightings, hud=list(hud) or None, help_lines=help_lines, blur_unknown=look.blur)
    return image


class Grid:
    """Several sources in one picture; only the tiles that change are drawn anew."""

    def __init__(self, count: int) -> None:
        self._columns = math.ceil(math.sqrt(count))
        rows = math.ceil(count / self._columns)
        width = max(2, _GRID_WIDTH // self._columns)
        self.tile = width, max(2, round(width * 9 / 16))
        self.image: Image = np.zeros((self.tile[1] * rows, self.tile[0] * self._columns, 3), np.uint8)

    def put(self, index: int, tile: Image) -> None:
        width, height = self.tile
        row, column = divmod(index, self._columns)
        self.image[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile


def _mirrored(sighting: Sighting, width: int) -> Sighting:
    x, y, w, h = sighting.face.box
    box: Box = (width - x - w, y, w, h)
    return replace(sighting, face=Face(box, sighting.face.score))


def _moved(sighting: Sighting, scale: float, left: int, top: int) -> Sighting:
    x, y, w, h = sighting.face.box
    box: Box = (x * scale + left, y * scale + top, w * scale, h * scale)
    return replace(sighting, face=Face(box, sighting.face.score))
