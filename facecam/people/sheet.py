"""A contact sheet: the kept pictures of unknown people, with their numbers, on one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from facecam.people.images import image_size
from facecam.people.incoming import CROP_SIDE_MAX
from facecam.people.records import Portrait, Unknown
from facecam.values import Image
from facecam.video.text import fitted, line_height, put

#: Side of a picture, space around it, height of its letters, pixels.
SIDE: Final = 160
GAP: Final = 10
LETTERS: Final = 16
#: Tiles in a row at most, and on a sheet: 400 make a picture of 6,800 x 4,000 px.
COLUMNS: Final = 40
MOST: Final = 400
_PAPER: Final = (245, 245, 245)
_EMPTY: Final = (205, 205, 205)
_INK: Final = (30, 30, 30)
_FAINT: Final = (110, 110, 110)


def contact_sheet(people: Sequence[tuple[Unknown, Portrait | None]]) -> Image:
    """Draw a tile for each, in the order given.

    Args:
        people: at least one, at most `MOST`.

    Returns:
        BGR uint8; who has no picture gets an empty tile that says so.
    """
    if not 1 <= len(people) <= MOST:
        raise ValueError(f"a sheet shows 1 to {MOST} people, not {len(people)}")
    columns = min(COLUMNS, max(1, math.ceil(math.sqrt(len(people) * 1.6))))
    line = line_height(LETTERS)
    width, height = SIDE + GAP, SIDE + 2 * line + GAP
    rows = math.ceil(len(people) / columns)
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), _PAPER, np.uint8)
    for i, (who, picture) in enumerate(people):
        left, top = GAP + i % columns * width, GAP + i // columns * height
        image = None if picture is None else _decoded(picture.image)
        if image is None:
            sheet[top : top + SIDE, left : left + SIDE] = _EMPTY
            put(sheet, "no picture", left + GAP, top + SIDE // 2, LETTERS, _FAINT)
        else:
            sheet[top : top + SIDE, left : left + SIDE] = _fitting(image)
        put(sheet, fitted(who.name, LETTERS, SIDE), left, top + SIDE, LETTERS, _INK)
        often = f"{who.seen}x, last {who.last_seen[:10]}" if who.last_seen else f"{who.seen}x"
        put(sheet, fitted(often, LETTERS - 3, SIDE), left, top + SIDE + line, LETTERS - 3, _FAINT)
    return sheet


def _decoded(data: bytes) -> Image | None:
    """The picture, None if it is damaged or larger than a kept crop can be."""
    size = image_size(data)
    if size is None or not all(1 <= side <= CROP_SIDE_MAX for side in size):
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else np.asarray(image, np.uint8)


def _fitting(image: Image) -> Image:
    """The picture, square, of `SIDE` pixels, nothing cut off."""
    scale = SIDE / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    small = small[:SIDE, :SIDE]
    tile = np.full((SIDE, SIDE, 3), _EMPTY, np.uint8)
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile
