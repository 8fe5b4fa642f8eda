"""dlib's max-margin detector on a pyramid: a whole frame, some of its levels, or near known faces.

The network sees windows of 80 x 80 pixels; the pyramid brings every face to about that size. Whoever knows
where faces were can search there, at their scale, for a hundredth of the price (`MmodDetector.follow`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.geometry import covers, iou
from facecam.values import Box, Face, Image
from facecam.vision.tensor import to_input
from facecam.zoo.session import Model

#: Side of the detector's window, stride of its map and centre of its first cell, pixels of the scaled image
#: (the loss layer's options in mmod_human_face_detector.dat; strides 2*2*2, half the window's reach).
WINDOW: Final = 80
STRIDE: Final = 8
FIRST: Final = 14
#: Between two pyramid levels. dlib uses 5/6; 1/sqrt(2) costs less than half and found as many faces.
STEP: Final = 1 / math.sqrt(2)
#: A frame is enlarged at most this often: beyond it pixels are invented, not found.
MAX_SCALE: Final = 4.0
#: Black border around each level, pixels: without it a face that the frame's edge cuts is out of the network's sight.
BORDER: Final = 8
#: No level is larger than this, pixels: in a very large picture the smallest face grows with the picture.
MAX_LEVEL: Final = 12e6
#: A larger level is looked at in tiles of at most this side that overlap by a window and its reach: the network's
#: activations take 300 bytes a pixel.
TILE: Final = 1408
OVERLAP: Final = 128
#: A level is worth running while its shorter side has this many pixels.
SMALLEST_SIDE: Final = 56
#: Score from which a cell is a face; the detector was trained with a margin around zero.
SCORE: Final = 0.0
NMS_IOU: Final = 0.35
#: Side of the crop that is searched around a known face, in windows, before scaling.
FOLLOW_REACH: Final = 2.0
#: Known faces are searched at two scales, this much below and above their size: the two scores tell
#: how the size has changed, which one scale cannot.
FOLLOW_SPREAD: Final = 1.15


class Detector(Protocol):
    """Finds faces. Landmarks come along where the model gives them."""

    def detect(self, image: Image, min_face: float) -> list[Face]:
        """All faces of at least ``min_face`` pixels in a BGR uint8 image, best first."""

    def levels(self, width: int, height: int, min_face: float) -> list[float]:
        """The scales that `detect` runs at, largest first."""

    def detect_levels(self, image: Image, scales: Sequence[float]) -> list[Face]:
        """Faces that show at some of those scales."""

    def follow(self, image: Image, boxes: Sequence[Box]) -> list[Face | None]:
        """For each box the face found near it, or None."""


@dataclass(frozen=True, slots=True)
class _Peak:
    x: float  # centre, pixels of the scaled image
    y: float
    score: float


class MmodDetector:
    """`Detector` with dlib's network; it gives no landmarks."""

    def __init__(self, model: Model) -> None:
        if model.card.decoder != "mmod":
            raise ValueError(f"{model.card.name} is not an MMOD detector")
        self.model = model

    def levels(self, width: int, height: int, min_face: float) -> list[float]:
        scale = min(MAX_SCALE, WINDOW / min_face, math.sqrt(MAX_LEVEL / (width * height)))
        scales = [scale]
        while min(width, height) * scale * STEP >= SMALLEST_SIDE:
            scale *= STEP
            scales.append(scale)
        return scales

    def detect(self, image: Image, min_face: float) -> list[Face]:
        return self.detect_levels(image, self.levels(image.shape[1], image.shape[0], min_face))

    def detect_levels(self, image: Image, scales: Sequence[float]) -> list[Face]:
        faces: list[Face] = []
        height, width = image.shape[:2]
        # Each level is made from the one above it: cheaper than from the frame, and free of aliasing.
        source, made = image, 1.0
        for scale in sorted(scales, reverse=True):
            size = max(WINDOW // 2, round(width * scale)), max(WINDOW // 2, round(height * scale))
            level = _resized(source if scale < made else image, size)
            if scale <= 1.0:
                source, made = level, scale
            sx, sy = size[0] / width, size[1] / height
            framed = cv2.copyMakeBorder(level, *(BORDER,) * 4, cv2.BORDER_CONSTANT)
            for left, top, tile in _tiles(np.asarray(framed, np.uint8)):
                score = self.model.run_batch(to_input([tile], self.model.card))[0, 0]
                for peak in _peaks(score, SCORE):
                    faces.append(_face(peak, sx, sy, (left - BORDER) / sx, (top - BORDER) / sy))
        return merge(faces)

    def follow(self, image: Image, boxes: Sequence[Box]) -> list[Face | None]:
        if not boxes:
            return []
        side = round(WINDOW * FOLLOW_REACH)
        crops, places = [], []
        for x, y, w, h in boxes:
            for spread in (1 / FOLLOW_SPREAD, FOLLOW_SPREAD):
                scale = WINDOW / (max(w, h) * spread)
                left, top = x + w / 2 - side / 2 / scale, y + h / 2 - side / 2 / scale
                crops.append(_cut(image, left, top, scale, side))
                places.append((left, top, scale))
        scores = self.model.run_batch(to_input(crops, self.model.card))[:, 0]
        found: list[Face | None] = []
        for i in range(len(boxes)):
            pair = []
            for k in (2 * i, 2 * i + 1):
                left, top, scale = places[k]
                peaks = _peaks(scores[k], SCORE - 0.5)
                if peaks:
                    # The crop is centred on the guess: of several faces the nearest one is this track's.
                    peak = max(peaks, key=lambda p: p.score - math.hypot(p.x - side / 2, p.y - side / 2) / 40)
                    pair.append(_face(peak, scale, scale, left, top))
            found.append(_between(pair))
        return found


def _tiles(level: Image) -> Iterator[tuple[int, int, Image]]:
    """The level itself, or overlapping parts of a large one: (left, top, part)."""
    height, width = level.shape[:2]
    for top in _starts(height):
        for left in _starts(width):
            yield left, top, level[top : top + TILE, left : left + TILE]


def _starts(length: int) -> list[int]:
    """Where tiles begin along one side, evenly spread, at least `OVERLAP` shared."""
    if length <= TILE:
        return [0]
    count = math.ceil((length - OVERLAP) / (TILE - OVERLAP))
    step = (length - TILE) / (count - 1)
    return [round(i * step / STRIDE) * STRIDE for i in range(count - 1)] + [length - TILE]


def _resized(image: Image, size: tuple[int, int]) -> Image:
    """The image at another size; averaging over areas, which is slow, only where linear sampling would alias."""
    if size == (image.shape[1], image.shape[0]):
        return image
    shrunk = size[0] < 0.6 * image.shape[1]
    flags = cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=flags), np.uint8)


def _cut(image: Image, left: float, top: float, scale: float, side: int) -> Image:
    """A square of the frame at a scale, black beyond the border; area-averaged where it shrinks."""
    if scale < 0.75:
        x0, y0 = max(0, math.floor(left)), max(0, math.floor(top))
        x1 = min(image.shape[1], math.ceil(left + side / scale))
        y1 = min(image.shape[0], math.ceil(top + side / scale))
        if x1 - x0 >= 2 and y1 - y0 >= 2:
            part = image[y0:y1, x0:x1]
            size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
            small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            out = np.zeros((side, side, 3), np.uint8)
            ox, oy = max(0, round((x0 - left) * scale)), max(0, round((y0 - top) * scale))
            fits = small[: side - oy, : side - ox]
            out[oy : oy + fits.shape[0], ox : ox + fits.shape[1]] = fits
            return out
    half = (scale - 1) / 2  # pixel centres: new = scale * (old + 0.5) - 0.5
    matrix = np.array([[scale, 0, half - scale * left], [0, scale, half - scale * top]])
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR), np.uint8)


def _peaks(score: NDArray[np.float32], threshold: float) -> list[_Peak]:
    """Local maxima of the map above a threshold, refined between the cells by their neighbours."""
    if not (score > threshold).any():
        return []
    highest = cv2.dilate(score, np.ones((3, 3), np.uint8))
    rows, cols = np.nonzero((score >= highest) & (score > threshold))
    peaks = []
    for r, c in zip(rows.tolist(), cols.tolist()):
        peaks.append(
            _Peak(
                STRIDE * (c + _vertex(score[r, :], c)) + FIRST,
                STRIDE * (r + _vertex(score[:, c], r)) + FIRST,
                float(score[r, c]),
            )
        )
    return peaks


def _vertex(line: NDArray[np.float32], i: int) -> float:
    """Offset of a parabola's top through a maximum and its neighbours, in cells, -0.5 to 0.5."""
    if not 0 < i < len(line) - 1:
        return 0.0
    before, here, after = float(line[i - 1]), float(line[i]), float(line[i + 1])
    bend = before - 2 * here + after
    return 0.0 if bend >= -1e-6 else max(-0.5, min(0.5, 0.5 * (before - after) / bend))


def _face(peak: _Peak, sx: float, sy: float, left: float, top: float) -> Face:
    w, h = WINDOW / sx, WINDOW / sy
    cx, cy = (peak.x + 0.5) / sx - 0.5 + left, (peak.y + 0.5) / sy - 0.5 + top
    return Face((cx - w / 2, cy - h / 2, w, h), peak.score)


def _between(faces: Sequence[Face]) -> Face | None:
    """One face from its answers at neighbouring scales: place and size weighted by how sure each was."""
    best = max(faces, key=lambda f: f.score, default=None)
    if best is None or best.score <= SCORE:
        return None
    near = [f for f in faces if f is best or iou(f.box, best.box) > NMS_IOU]
    weights = np.exp([3.0 * (f.score - best.score) for f in near])
    weights /= weights.sum()
    centre = np.array([f.centre for f in near]).T @ weights
    size = math.exp(float(np.log([f.size for f in near]) @ weights))
    return Face((float(centre[0]) - size / 2, float(centre[1]) - size / 2, size, size), best.score)


def merge(faces: Sequence[Face]) -> list[Face]:
    """Non-maximum suppression across levels; what a winner suppresses still votes for its place and size."""
    rest = sorted(faces, key=lambda f: -f.score)
    kept: list[Face] = []
    while rest:
        best = rest[0]
        group = [f for f in rest if f is best or iou(f.box, best.box) > NMS_IOU or covers(f.box, best.box)]
        rest = [f for f in rest if f not in group]
        if best.landmarks is None:
            voters = [f for f in group if iou(f.box, best.box) > NMS_IOU]
            kept.append(_between(voters) or best)
        else:
            kept.append(best)
    return kept
