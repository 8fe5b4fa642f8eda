"""What people see on a frame: boxes, names, a status strip, help; and unknown faces made unreadable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from facecam.values import Box, Image, Sighting
from facecam.video.canvas import Canvas, Picture
from facecam.video.text import Colour, fitted, line_height, put, strip, width_of

#: BGR. Okabe and Ito's palette (2008), made for the colour-blind: sky blue, orange, white. The three
#: also differ in shape: a full box, a box without its middles, and corners only.
_KNOWN: Colour = (233, 180, 86)
_UNKNOWN: Colour = (0, 159, 230)
_UNDECIDED: Colour = (235, 235, 235)
_INK: Colour = (0, 0, 0)
_PAPER: Colour = (255, 255, 255)

#: A blurred face is what remains of so many cells a side: about 4 x 4 on the face itself, far below what
#: face recognition can use, and averaging cannot be undone.
_BLUR_CELLS = 6
#: How far the blur reaches beyond the box, of its size on each side: hair, ears and chin.
_BLUR_MARGIN = 0.25
#: Coordinates beyond this are the same as just outside of the frame; keeps whole numbers small.
_FAR = 1e6


@dataclass(frozen=True, slots=True)
class _Style:
    """Sizes for a frame's height, pixels."""

    line: int
    font: int

    @classmethod
    def of(cls, height: int, scale: float) -> _Style:
        # 360 lines: 13 px text and 2 px boxes; 1080 lines: 32 px and 4 px.
        return cls(
            line=max(1, min(40, round(max(2.0, height / 270) * scale))),
            font=max(6, min(400, round(max(13.0, height * 0.03) * scale))),
        )


#: Left, top, width, height, pixels.
_Place = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Label:
    text: str
    place: _Place
    colour: Colour


def draw(
    image: Image,
    sightings: Sequence[Sighting],
    *,
    hud: Sequence[str] | None = None,
    help_lines: Sequence[str] | None = None,
    blur_unknown: bool = False,
    scale: float = 1.0,
) -> None:
    """Draw sightings on ``image``, in place, and what belongs to a live view.

    Args:
        image: BGR uint8, H x W x 3.
        sightings: boxes may reach over the frame or lie outside.
        hud: lines for the strip at the top left (frames a second, device, REC).
        help_lines: lines for a panel in the middle (the keys).
        blur_unknown: make every face unreadable that has no name, undecided ones too.
        scale: factor on text and lines, 0.25 to 4; at 1 they follow the frame's height.

    Raises:
        ValueError: ``scale`` out of its range.
    """
    if not 0.25 <= scale <= 4:
        raise ValueError(f"scale is 0.25 to 4, not {scale}")
    style = _Style.of(image.shape[0], scale)
    canvas = Picture(image)
    if blur_unknown:
        for sighting in sightings:
            if sighting.match.name is None:
                blur(canvas, sighting.face.box)
    _mark(canvas, sightings, style, len(hud) * line_height(style.font) if hud else 0)
    if hud:
        _panel(image, hud, style, centred=False)
    if help_lines:
        _panel(image, help_lines, style, centred=True)


def mark(canvas: Canvas, sightings: Sequence[Sighting]) -> None:
    """Draw boxes and names, in place, as `draw` does."""
    _mark(canvas, sightings, _Style.of(canvas.size[0], 1.0), 0)


def _mark(canvas: Canvas, sightings: Sequence[Sighting], style: _Style, top: int) -> None:
    """Boxes, then labels, none of which reaches above ``top``. In a crowd names are drawn over what has none."""
    known = [sighting for sighting in sightings if sighting.match.name is not None]
    others = [sighting for sighting in sightings if sighting.match.name is None]
    labels: list[tuple[Sighting, _Label]] = []
    for sighting in (*known, *others):
        label = _label(canvas.size, sighting, style, top, [other.place for _, other in labels])
        if label is not None:
            labels.append((sighting, label))
    for group in (others, known):
        for sighting in group:
            _box(canvas, sighting, style)
        for sighting, label in labels:
            if (sighting.match.name is None) == (group is others):
                canvas.label(label.text, label.place, style.font // 3, style.font, label.colour, _INK)


def blur(canvas: Canvas, box: Box) -> None:
    """Make a face unreadable, in place: the box with a margin becomes a few averaged, smeared cells."""
    x, y, w, h = box
    margin_x, margin_y = w * _BLUR_MARGIN, h * _BLUR_MARGIN
    left, top, right, bottom = _corners((x - margin_x, y - margin_y, w + 2 * margin_x, h + 2 * margin_y))
    for region in canvas.regions((left, top, right - left, bottom - top)):
        rows, columns = region.shape[:2]
        if not region.size:
            continue
        cells = cv2.resize(region, (min(_BLUR_CELLS, columns), min(_BLUR_CELLS, rows)), interpolation=cv2.INTER_AREA)
        region[:] = cv2.resize(cells, (columns, rows), interpolation=cv2.INTER_LINEAR)


def _corners(box: Box) -> tuple[int, int, int, int]:
    """left, top, right, bottom as whole pixels of a sane size."""
    x, y, w, h = (float(v) for v in box)
    left, top, right, bottom = (round(min(max(v, -_FAR), _FAR)) for v in (x, y, x + w, y + h))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _look(sighting: Sighting) -> tuple[Colour, str, str]:
    """Colour, label and the tail that is never cut off."""
    match = sighting.match
    if match.name is not None:
        tail = "" if match.similarity is None else f" {match.similarity:.2f}"
        return _KNOWN, match.name, tail
    if not sighting.decided:
        return _UNDECIDED, "?", ""
    return _UNKNOWN, "unknown" if sighting.unknown is None else f"Unknown {sighting.unknown}", ""


def _box(canvas: Canvas, sighting: Sighting, style: _Style) -> None:
    left, top, right, bottom = _corners(sighting.face.box)
    colour = _look(sighting)[0]
    # How much of each side is drawn from either corner.
    share = 0.5 if sighting.match.name is not None else 0.35 if sighting.decided else 0.2
    across, down = math.ceil((right - left) * share), math.ceil((bottom - top) * share)
    # A thin black rim keeps the box visible on a background of its own colour.
    for grow, ink in ((1, _INK), (0, colour)):
        thick = style.line + 2 * grow
        near_x, near_y = left - grow, top - grow
        far_x, far_y = right - style.line - grow, bottom - style.line - grow
        if share == 0.5:  # both halves at once
            across_parts, down_parts = [(near_x, right + grow - near_x)], [(near_y, bottom + grow - near_y)]
        else:
            across_parts = [(near_x, across + grow), (right - across, across + grow)]
            down_parts = [(near_y, down + grow), (bottom - down, down + grow)]
        for x, width in across_parts:
            canvas.fill((x, near_y, width, thick), ink)
            canvas.fill((x, far_y, width, thick), ink)
        for y, height in down_parts:
            canvas.fill((near_x, y, thick, height), ink)
            canvas.fill((far_x, y, thick, height), ink)


def _label(
    size: tuple[int, int], sighting: Sighting, style: _Style, free_from: int, taken: Sequence[_Place]
) -> _Label | None:
    """The name on a strip above the box, or below or in it where there is no room; always in the frame.

    Args:
        size: rows and columns of the frame. taken: where labels are already; one without a name gives way to these.
    """
    rows, columns = size
    left, top, right, bottom = _corners(sighting.face.box)
    if right <= 0 or bottom <= 0 or left >= columns or top >= rows:
        return None
    colour, name, tail = _look(sighting)
    pad = style.font // 3
    # A wide face may carry a long name; a small one at least twelve letters or so.
    room = min(columns - 2 * pad, max(right - left, 9 * style.font) + 3 * style.font)
    text = fitted(name, style.font, room, tail)
    width, height = width_of(text, style.font) + 2 * pad, line_height(style.font)
    x = min(max(left, 0), max(0, columns - width))
    above = [top - height] if top - height >= free_from else []
    below = [bottom] if bottom + height <= rows else []
    places = [(x, min(max(y, 0), max(0, rows - height)), width, height) for y in (*above, *below, max(top, free_from))]
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    if not free and sighting.match.name is None:
        return None
    return _Label(text, (free or places)[0], colour)


def _overlap(a: _Place, b: _Place) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _panel(image: Image, lines: Sequence[str], style: _Style, *, centred: bool) -> None:
    """Lines of white text on darkened picture, at the top left or in the middle."""
    rows, columns = image.shape[:2]
    pad, height = style.font // 3, line_height(style.font)
    texts = [fitted(line, style.font, columns - 2 * pad) for line in lines]
    width = max(width_of(text, style.font) for text in texts) + 2 * pad
    left = max(0, (columns - width) // 2) if centred else 0
    top = max(0, (rows - height * len(texts)) // 2) if centred else 0
    region = strip(image, left, top, width, height * len(texts))
    np.right_shift(region, 2, out=region)
    for number, text in enumerate(texts):
        put(image, text, left + pad, top + number * height, style.font, _PAPER)
