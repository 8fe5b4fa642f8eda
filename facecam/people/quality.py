"""How good a crop is for recognition: size, sharpness, light and pose, as one number and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from facecam.values import DLIB5, Face, Image

#: Faces of this many pixels (longer side of the box) count in full; below, detail is missing.
FULL_SIZE: Final = 110.0
#: Variance of the Laplacian of the grey 150 px crop that counts in full. Sharp portraits give hundreds.
FULL_SHARPNESS: Final = 120.0
#: Below these a photo is refused for enrolment.
MIN_SIZE: Final = 40.0
MIN_SHARPNESS: Final = 8.0


#: Below these a photo is taken, but told: dark or blurred faces of different people resemble each other
#: (`python -m benchmarks.poor`). Measured on 82 photos of lfw_dev: as they are 1 % have less than 0.69 and less than
#: 14.7, at a quarter of the light 95 % less than 0.27, blurred by two pixels of the crop half less than 9.
DARK: Final = 0.3
SOFT: Final = 13.0
#: An unknown person gets a number only when seen this well: poor crops resemble each other.
STRANGER_QUALITY: Final = 0.5


@dataclass(frozen=True, slots=True)
class Quality:
    """Parts and whole, each above 0 (useless: but views are weighed by it, and must weigh something) to 1 (no better).

    Attributes:
        size, sharpness, light, frontal: the parts.
        pixels: longer side of the face box; laplacian: variance of the Laplacian of the crop.
    """

    size: float
    sharpness: float
    light: float
    frontal: float
    pixels: float
    laplacian: float

    @property
    def fault(self) -> str | None:
        """Why vectors of this view are not to be relied on, in a word; None: they are."""
        if self.light < DARK:
            return "dark"
        return "blurred" if self.laplacian < SOFT else None

    @property
    def overall(self) -> float:
        """Geometric mean: one bad part cannot be bought back by the others."""
        return float((self.size * self.sharpness * self.light * self.frontal) ** 0.25)


def measure(crop: Image, face: Face) -> Quality:
    """Judge a canonical crop.

    Args:
        crop: BGR uint8, the aligned crop of any template.
        face: the face in its frame, with landmarks.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    side = grey.shape[0]
    inner = grey[side // 8 : -side // 8, side // 8 : -side // 8]
    laplacian = float(cv2.Laplacian(inner, cv2.CV_32F).var())
    mean, spread = float(inner.mean()), float(inner.std())
    light = min(1.0, mean / 60.0, (255.0 - mean) / 45.0) * min(1.0, spread / 30.0)
    return Quality(
        size=min(1.0, face.size / FULL_SIZE),
        sharpness=max(0.02, min(1.0, laplacian / FULL_SHARPNESS) ** 0.5),
        light=max(0.02, light),
        frontal=max(0.05, 1.0 - abs(yaw(face)) / 1.1),
        pixels=face.size,
        laplacian=laplacian,
    )


def yaw(face: Face) -> float:
    """How far a face is turned, from its landmarks: 0 frontal, about +-1 profile, positive towards the image's right.

    The nose's place between the eyes, in units of half the distance between them.
    """
    if face.landmarks is None:
        raise ValueError("pose is read from landmarks; locate them first")
    points = face.landmarks.astype(np.float64)
    if face.scheme == DLIB5:
        left, right, nose = points[2:4].mean(axis=0), points[0:2].mean(axis=0), points[4]
    else:
        left, right, nose = points[0], points[1], points[2]
    axis = right - left
    length = float(axis @ axis)
    if length < 1e-6:
        return 1.0
    return float(2 * ((nose - left) @ axis) / length - 1)
