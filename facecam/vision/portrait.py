"""The picture of an unknown person that is kept when the user wants strangers remembered."""

from __future__ import annotations

import cv2

from facecam.people.records import Portrait
from facecam.values import Face, Image
from facecam.vision.align import context_crop


def portrait(image: Image, face: Face, quality: float) -> Portrait:
    """Cut a face's upright context crop, from which any later model can embed.

    Args:
        image: BGR uint8, H x W x 3: the frame.
        face: with landmarks.
        quality: 0 to 1 (`people.quality`).
    """
    crop, points = context_crop(image, face)
    done, data = cv2.imencode(".png", crop)
    if not done:
        raise ValueError(f"a crop of {crop.shape} cannot be encoded as PNG")
    return Portrait(data.tobytes(), quality, points, face.scheme)
