"""The picture of an unknown person that is kept when the user wants strangers remembered."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.people.records import Portrait
from facecam.values import Face, Image
from facecam.vision.align import context_crop


class Cutting:
    """A face's context crop, which becomes a `Portrait` when asked: most are replaced by a better one first."""

    __slots__ = ("_crop", "_made", "_points", "_quality", "_scheme")

    def __init__(self, crop: Image, points: NDArray[np.float32], scheme: str | None, quality: float) -> None:
        self._crop, self._points, self._scheme, self._quality = crop, points, scheme, quality
        self._made: Portrait | None = None

    @classmethod
    def of(cls, image: Image, face: Face, quality: float) -> Cutting:
        """See `portrait`."""
        return cls(*context_crop(image, face), face.scheme, quality)

    @property
    def portrait(self) -> Portrait:
        if self._made is None:
            done, data = cv2.imencode(".png", self._crop)
            if not done:
                raise ValueError(f"a crop of {self._crop.shape} cannot be encoded as PNG")
            self._made = Portrait(data.tobytes(), self._quality, self._points, self._scheme)
        return self._made


def portrait(image: Image, face: Face, quality: float) -> Portrait:
    """Cut a face's upright context crop, from which any later model can embed.

    Args:
        image: BGR uint8, H x W x 3: the frame.
        face: with landmarks.
        quality: 0 to 1 (`people.quality`).
    """
    return Cutting.of(image, face, quality).portrait
