"""Bytes to pixels: what counts as a whole picture, and how it becomes a square one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from facecam.errors import MediaError
from facecam.values import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
#: A JPEG's marker: not a stuffed byte, a restart or a fill byte; all but the picture's start and end have a length.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)


def check_picture(path: Path, data: bytes) -> tuple[int, int]:
    """Refuse what does not decode whole.

    Returns:
        height and width, pixels.

    Raises:
        MediaError: no picture, or one that ends early.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise MediaError(f"not a picture file ({path.suffix or 'no suffix'})")
    # OpenCV fills what is missing of a truncated file with grey; the end marker tells.
    if data[:2] == b"\xff\xd8" and not _jpeg_ends(data):
        raise MediaError("truncated JPEG")
    if data[:4] == b"\x89PNG" and b"IEND" not in data[-64:]:
        raise MediaError("truncated PNG")
    height, width = decode(data).shape[:2]
    return height, width


def _jpeg_ends(data: bytes) -> bool:
    """Whether the picture's own end marker is there: a thumbnail inside has one too, and phones append clips."""
    at = 2
    while found := _MARKER.search(data, at):
        at = found.end()
        if found[0] == b"\xff\xd9":
            return True
        if found[0] != b"\xff\xd8":
            at += int.from_bytes(data[at : at + 2], "big")
    return False


def decode(data: bytes) -> Image:
    """Encoded bytes -> RGB uint8, H x W x 3, upright.

    Raises:
        MediaError: the bytes are no picture.
    """
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise MediaError(f"not a decodable picture ({error.err})") from error
    if image is None:
        raise MediaError("not a decodable picture")
    return np.ascontiguousarray(image[:, :, ::-1])


def square(image: np.ndarray, size: int) -> Image:
    """RGB or grey uint8 -> RGB, size x size x 3: the whole picture, without regard to its proportions."""
    import cv2

    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.shape[:2] != (size, size):
        shrink = max(image.shape[:2]) > size
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    return np.asarray(image, np.uint8)
