"""Text on pictures: Unicode names, drawn with OpenCV's built-in font, fitted and kept in bounds."""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

import cv2
import numpy as np

from facecam.values import Image

Colour = tuple[int, int, int]
ELLIPSIS = "…"
#: Right-to-left letters and marks, by Unicode's bidirectional class (UAX #9).
_RIGHT_TO_LEFT = ("R", "AL")
_STRONG_OR_NUMBER = ("L", "EN", "AN")
#: Room that text is measured in, so that OpenCV never wraps a line: pixels.
_WIDE = (1 << 15, 256)


@functools.cache
def _font() -> Any:
    # "uni" carries Latin, Greek, Cyrillic, Hebrew, Arabic, Chinese, Japanese and Korean;
    # what it lacks (Thai, Devanagari, emoji) is drawn as a question mark.
    return cv2.FontFace("uni")


def clean(text: str) -> str:
    """``text`` as one line that the font renderer can be given.

    A lone surrogate makes OpenCV 5.0 crash the process, a NUL cuts the text, a line break leaves the
    strip: each such character becomes a space or a replacement sign.
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if "\ud800" <= char <= "\udfff" else " " if _is_control(char) else char
        for char in text
    )


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")


def visual(text: str) -> str:
    """Letters in the order in which they stand on the page, for Hebrew and Arabic.

    The renderer puts each character to the right of the one before. Runs of right-to-left letters, with
    the spaces and signs between them, are turned round here; letters keep their isolated form.
    """
    classes = [unicodedata.bidirectional(char) for char in text]
    if not any(kind in _RIGHT_TO_LEFT for kind in classes):
        return text
    out: list[str] = []
    position = 0
    while position < len(text):
        if classes[position] not in _RIGHT_TO_LEFT:
            out.append(text[position])
            position += 1
            continue
        end = last = position
        while end < len(text) and classes[end] not in _STRONG_OR_NUMBER:
            if classes[end] in (*_RIGHT_TO_LEFT, "NSM"):
                last = end
            end += 1
        out.append(text[position : last + 1][::-1])
        position = last + 1
    return "".join(out)


@functools.lru_cache(maxsize=1024)
def width_of(text: str, size: int) -> int:
    """Width of one line in pixels."""
    if not text:
        return 0
    left, _, width, _ = cv2.getTextSize(_WIDE, text, (0, 0), _font(), size)
    return int(left + width)


@functools.lru_cache(maxsize=1024)
def fitted(text: str, size: int, room: int, tail: str = "") -> str:
    """``text`` cleaned, in visual order, shortened with an ellipsis until it and ``tail`` fit ``room`` pixels.

    Args:
        size: height of the font, pixels.
        tail: kept whole as long as anything fits (the similarity).
    """
    text = clean(text)
    whole = visual(text) + tail
    if width_of(whole, size) <= room:
        return whole
    low, high = 0, len(text)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        if width_of(visual(text[:middle].rstrip()) + ELLIPSIS + tail, size) <= room:
            low = middle
        else:
            high = middle - 1
    if low:
        return visual(text[:low].rstrip()) + ELLIPSIS + tail
    return ELLIPSIS if width_of(ELLIPSIS, size) <= room else ""


def line_height(size: int) -> int:
    """Height of a strip that holds one line with its accents and descenders, pixels."""
    return size + max(4, size * 2 // 5)


def put(image: Image, text: str, left: int, top: int, size: int, colour: Colour) -> None:
    """Draw one line, its strip's top left corner at (left, top), in place; what lies outside is cut."""
    height, width = image.shape[:2]
    right, bottom = min(width, left + width_of(text, size) + size), min(height, top + line_height(size))
    x, y = max(0, left), max(0, top)
    if not text or x >= right or y >= bottom:
        return
    # A view of the strip: nothing outside can be touched, and a huge frame costs no more than a small one.
    view: Any = image[y:bottom, x:right]
    baseline = top + size + max(1, size // 12) - y
    wrap = (-(1 << 15), 1 << 15)
    cv2.putText(view, text, (left - x, baseline), colour, _font(), size, 0, cv2.PUT_TEXT_ALIGN_LEFT, wrap)


def strip(image: Image, left: int, top: int, width: int, height: int) -> np.ndarray[Any, Any]:
    """The part of a rectangle that lies on the image, as a view (it may be empty)."""
    rows, columns = image.shape[:2]
    return image[
        min(max(top, 0), rows) : min(max(top + height, 0), rows),
        min(max(left, 0), columns) : min(max(left + width, 0), columns),
    ]


def fill(image: Image, left: int, top: int, width: int, height: int, colour: Colour) -> None:
    """Fill the part of a rectangle that lies on the image."""
    region: Any = strip(image, left, top, width, height)
    if region.size:
        # Ten times as fast as assigning the colour to the view.
        cv2.rectangle(region, (0, 0), (region.shape[1], region.shape[0]), colour, cv2.FILLED)
