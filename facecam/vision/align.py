"""Landmarks to canonical crop: one similarity transform, whatever the scheme and the template."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.values import DLIB5, FIVE, Face, Image
from facecam.zoo.card import TEMPLATES

Points = NDArray[np.float32]

#: dlib's get_face_chip_details for five points, 150 px, padding 0.25: (p + 0.25) / 1.5 * 150, less half a pixel,
#: since its extraction takes the middle of the chip for (75, 75) and the middle pixel for 74.5.
_DLIB_150 = [(110.46, 45.85), (89.11, 47.40), (36.56, 45.87), (57.91, 47.41), (73.51, 87.28)]
#: Mean place of YuNet's and SCRFD's five points on that crop (eyes, tip of the nose, mouth corners).
_DLIB_150_FIVE = [(47.7, 47.1), (100.3, 47.1), (74.0, 77.2), (52.2, 107.9), (95.8, 107.9)]
#: InsightFace's arcface_dst for 112 px crops.
_ARCFACE_112 = [
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
]
#: Centres of the eyes and the base of the nose on the ArcFace crop; derived by mapping the two templates
#: above onto each other.
_ARCFACE_112_DLIB3 = [(38.29, 51.70), (73.53, 51.50), (56.0, 78.9)]

#: (template, scheme) -> where the points of the scheme lie on the crop, pixels.
TARGETS: Final[Mapping[tuple[str, str], Points]] = {
    ("dlib-150", DLIB5): np.array(_DLIB_150, np.float32),
    ("dlib-150", FIVE): np.array(_DLIB_150_FIVE, np.float32),
    ("arcface-112", FIVE): np.array(_ARCFACE_112, np.float32),
    ("arcface-112", DLIB5): np.array(_ARCFACE_112_DLIB3, np.float32),
}

#: Context crops: twice the face box, at most this many pixels a side.
CONTEXT_SIDE: Final = 256


def similarity_transform(source: Points, target: Points) -> NDArray[np.float64]:
    """Least-squares similarity (rotation, uniform scale, shift; no mirror) that takes source to target.

    The closed form in two dimensions of Umeyama, "Least-squares estimation of transformation
    parameters between two point patterns", 1991.

    Args:
        source, target: n x 2.

    Returns:
        float64, 2 x 3.

    Raises:
        ValueError: the source points all coincide.
    """
    a, b = source.astype(np.float64), target.astype(np.float64)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    a, b = a - mean_a, b - mean_b
    power = (a**2).sum()
    if power < 1e-12:
        raise ValueError("the landmarks all coincide: no similarity transform exists")
    cos = (a * b).sum() / power
    sin = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / power
    turn = np.array([[cos, -sin], [sin, cos]])
    return np.hstack([turn, (mean_b - turn @ mean_a)[:, None]])


def crop_transform(landmarks: Points, scheme: str, template: str) -> NDArray[np.float64]:
    """The similarity from frame pixels to crop pixels for a template of `zoo.card.TEMPLATES`."""
    target = TARGETS[(template, scheme)]
    points = landmarks
    if len(target) == 3:  # dlib5 has eye corners; this template is built on eye centres (image-left first)
        points = np.stack([landmarks[2:4].mean(axis=0), landmarks[0:2].mean(axis=0), landmarks[4]])
    return similarity_transform(points, target)


def align(image: Image, face: Face, template: str, *, zoom: float = 1.0) -> Image:
    """Cut the canonical crop of a face from the full-resolution frame.

    Args:
        image: BGR uint8, H x W x 3.
        face: with landmarks of any scheme.
        template: "dlib-150" or "arcface-112".
        zoom: shows the face larger (above 1) or smaller than the template says, about the crop's middle.

    Returns:
        BGR uint8, side x side x 3; black where the crop reaches over the frame.
    """
    if face.landmarks is None or face.scheme is None:
        raise ValueError("a face is aligned by its landmarks; locate them first")
    matrix, side = crop_transform(face.landmarks, face.scheme, template), TEMPLATES[template]
    if zoom != 1.0:
        matrix = matrix * zoom
        matrix[:, 2] += (1 - zoom) * (side - 1) / 2
    return _warp(image, matrix, side)


def _warp(image: Image, matrix: NDArray[np.float64], side: int) -> Image:
    """warpAffine that does not alias: a large face is first shrunk by area, only around itself."""
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    shrink = int(0.75 / scale) if scale > 0 else 1
    if shrink >= 2:
        corners = np.array([[0, 0], [side, 0], [0, side], [side, side]], np.float64)
        inverse = cv2.invertAffineTransform(matrix)
        reach = corners @ inverse[:, :2].T + inverse[:, 2]
        height, width = image.shape[:2]
        x0, y0 = np.floor(reach.min(axis=0)).astype(int) - 2 * shrink
        x1, y1 = np.ceil(reach.max(axis=0)).astype(int) + 2 * shrink
        x0, y0 = max(0, x0), max(0, y0)
        x1 = min(width, x0 + -(-(x1 - x0) // shrink) * shrink)
        y1 = min(height, y0 + -(-(y1 - y0) // shrink) * shrink)
        x1, y1 = x1 - (x1 - x0) % shrink, y1 - (y1 - y0) % shrink
        if x1 > x0 and y1 > y0:
            size = ((x1 - x0) // shrink, (y1 - y0) // shrink)
            image = np.asarray(cv2.resize(image[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA), np.uint8)
            # A pixel's centre is at +0.5: old = shrink * (new + 0.5) - 0.5 + origin.
            centre = (shrink - 1) / 2
            shift = matrix[:, :2] @ np.array([x0 + centre, y0 + centre]) + matrix[:, 2]
            matrix = np.hstack([matrix[:, :2] * shrink, shift[:, None]])
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR), np.uint8)


def context_crop(image: Image, face: Face) -> tuple[Image, Points]:
    """The upright context crop: twice the face box, at most 256 px a side, with the landmarks on it.

    Any later model's template can be cut from it, which a tight crop does not allow.

    Returns:
        the crop (BGR uint8, black beyond the frame) and the landmarks (float32, 5 x 2, its pixels).
    """
    if face.landmarks is None:
        raise ValueError("a context crop carries landmarks; locate them first")
    reach = max(2.0, 2.0 * face.size)
    side = max(2, min(CONTEXT_SIDE, round(reach)))
    scale = side / reach
    cx, cy = face.centre
    matrix = np.array([[scale, 0, (side - 1) / 2 - scale * cx], [0, scale, (side - 1) / 2 - scale * cy]])
    crop = _warp(image, matrix, side)
    points = face.landmarks @ matrix[:, :2].T.astype(np.float32) + matrix[:, 2].astype(np.float32)
    return crop, points.astype(np.float32)
