"""Pictures at another size, whole or a square of one."""

from __future__ import annotations

import cv2
import numpy as np

from facecam.values import Image

#: How a square of the image was cut: the true scales (x, y), left and top.
Placed = tuple[float, float, float, float]


def resized(image: Image, size: tuple[int, int]) -> Image:
    """The image at another size (width, height).

    Halved as often as it goes, then sampled linearly: that does not alias, and takes a tenth of averaging over areas.
    """
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1]:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        even = image[: 2 * height, : 2 * width]  # OpenCV is quick where four pixels become one
        image = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    if size == (image.shape[1], image.shape[0]):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def cut(image: Image, left: float, top: float, scale: float, crop: Image) -> Placed:
    """Fill a square of black with that part of the image, at about that place and scale: whole pixels are cut.

    Returns:
        the true scales, left and top.
    """
    side = crop.shape[0]
    span = max(1, round(side / scale))
    scale = side / span
    x, y = round(left), round(top)
    (x0, x1, to_x0, to_x1), (y0, y1, to_y0, to_y1) = (
        _shared(start, span, length, side) for start, length in ((x, image.shape[1]), (y, image.shape[0]))
    )
    if to_x1 > to_x0 and to_y1 > to_y0:
        crop[to_y0:to_y1, to_x0:to_x1] = resized(image[y0:y1, x0:x1], (to_x1 - to_x0, to_y1 - to_y0))
    return scale, scale, float(x), float(y)


def _shared(start: int, span: int, length: int, side: int) -> tuple[int, int, int, int]:
    """What a stretch of ``span`` pixels shares with the image: from, to, and where that lies among ``side`` pixels."""
    first, last = max(0, start), min(length, start + span)
    if last <= first:
        return 0, 0, 0, 0
    return first, last, round((first - start) * side / span), round((last - start) * side / span)
