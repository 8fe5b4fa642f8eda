"""YuNet: boxes and five landmarks in one pass; an alternative to dlib's detector.

Anchor-free heads at strides 8, 16 and 32 (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector",
2023; decoding as in libfacedetection.train). A cell (r, c) of stride s gives, with its four numbers
(dx, dy, lw, lh), a box centred at ((c + dx) s, (r + dy) s) of size (s exp lw, s exp lh), points at
((c + px) s, (r + py) s), and the score sqrt(cls * obj). Its points are the eye on the image's left, the
eye on its right, the tip of the nose, the left and the right mouth corner: the scheme `values.FIVE`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.errors import ModelInvalid
from facecam.values import FIVE, Box, Face, Image
from facecam.vision.detect import iou, merge
from facecam.vision.tensor import to_input
from facecam.zoo.session import Model

STRIDES: Final = (8, 16, 32)
HEADS: Final = ("cls", "obj", "bbox", "kps")
#: Score from which a cell is a face: of 250 LFW faces, 24 pixels high or higher, it finds 99.6 % or more.
SCORE: Final = 0.6
NMS_IOU: Final = 0.3
#: The smallest wanted face is brought to this height, pixels of the scaled image. Measured on those faces:
#: found at 16 px (89 %) and 20 px (99 %), but then the landmarks are off by 0.26 and 0.15 of the distance of
#: the eyes; by 0.10 at 32 px and 0.07 from 64 px on.
SMALLEST: Final = 32.0
#: Smaller ones than this (scaled) are dropped: their landmarks are too coarse to align by.
FLOOR: Final = 24.0
#: Faces above this height (scaled) fall apart into pieces; a coarser level sees them whole.
LARGEST: Final = 400.0
#: Between two levels: the coarser one begins to see well below what the finer one loses.
STEP: Final = 1 / 6
#: A frame is enlarged at most this often.
MAX_SCALE: Final = 2.0
#: Side of the crop that is searched around a known face, which fills half of it.
FOLLOW_SIDE: Final = 128
FOLLOW_SCORE: Final = 0.5
FOLLOW_IOU: Final = 0.2
#: Pixels in one call of the model: a batch larger than this brings nothing and costs memory.
_BATCH_PIXELS: Final = 1 << 21


class YuNetDetector:
    """A `vision.detect.Detector` with YuNet; the faces carry landmarks of the scheme "five"."""

    def __init__(self, model: Model, *, score: float = SCORE, nms: float = NMS_IOU) -> None:
        """
        Args:
            model: its card says decoder "yunet"; size (0, 0), or the fixed (height, width) it eats.
            score: 0 to 1; detections below are dropped.
            nms: IoU above which the weaker of two boxes is dropped.

        Raises:
            ModelInvalid: the model lacks one of the twelve outputs.
        """
        card = model.card
        if card.decoder != "yunet":
            raise ValueError(f"{card.name} is not a YuNet detector")
        self._names = [f"{head}_{stride}" for stride in STRIDES for head in HEADS]
        if missing := set(self._names) - set(card.outputs):
            raise ModelInvalid(
                f"{card.name}: a YuNet detector has outputs cls, obj, bbox, kps of strides 8, 16, 32; "
                f"it lacks {sorted(missing)}; see: facecam models"
            )
        if any(side % STRIDES[-1] or 0 < side < FOLLOW_SIDE for side in card.size):
            raise ModelInvalid(
                f"{card.name}: a YuNet detector's size is free or a multiple of {STRIDES[-1]} from "
                f"{FOLLOW_SIDE} on, not {card.size}; export it again"
            )
        self.model = model
        self.score = score
        self.nms = nms

    def levels(self, width: int, height: int, min_face: float) -> list[float]:
        """The scales that `detect` runs at for frames of this size, largest first; mostly one or two."""
        if self.model.card.size != (0, 0):
            fixed_h, fixed_w = self.model.card.size
            return [min(fixed_w / width, fixed_h / height)]
        scale = min(MAX_SCALE, SMALLEST / min_face)
        scales = [scale]
        while max(width, height) * scale > LARGEST:
            scale *= STEP
            scales.append(scale)
        return scales

    def detect(self, image: Image, min_face: float) -> list[Face]:
        """All faces of at least ``min_face`` pixels in a BGR uint8 image, best first."""
        return self.detect_many([image], min_face)[0]

    def detect_many(self, images: Sequence[Image], min_face: float) -> list[list[Face]]:
        """`detect` for several images of one size, in as few calls of the model as is sensible."""
        if not images:
            return []
        height, width = images[0].shape[:2]
        found = self._search(images, self.levels(width, height, min_face))
        return [[f for f in faces if f.size >= min_face] for faces in found]

    def detect_levels(
        self, image: Image, scales: Sequence[float], changed: NDArray[np.uint8] | None = None
    ) -> list[Face]:
        """Faces that show at some of those scales, best first; all of the picture is searched."""
        return self._search([image], scales)[0]

    def follow(self, image: Image, boxes: Sequence[Box], sized: Collection[int] = ()) -> list[Face | None]:
        """For each box the face found near it at about its size, or None."""
        if not boxes:
            return []
        crops, places = [], []
        for x, y, w, h in boxes:
            side = max(2, round(2 * max(w, h)))
            left, top = round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)
            crops.append(self._padded(_cut(image, left, top, side)))
            places.append((FOLLOW_SIDE / side, FOLLOW_SIDE / side, left, top))
        found: list[Face | None] = []
        for box, place, faces in zip(boxes, places, self._run(crops, FOLLOW_SCORE), strict=True):
            near = [(iou(face.box, box), face) for face in (_moved(f, *place) for f in faces)]
            overlap, face = max(near, key=lambda pair: pair[0], default=(0.0, None))
            found.append(face if overlap > FOLLOW_IOU else None)
        return found

    def _search(self, images: Sequence[Image], scales: Sequence[float]) -> list[list[Face]]:
        """Faces of images of one size at some scales, in pixels of the images."""
        height, width = images[0].shape[:2]
        if any(image.shape != images[0].shape for image in images):
            raise ValueError("images of one call have one size")
        found: list[list[Face]] = [[] for _ in images]
        for i, scale in enumerate(sorted(scales, reverse=True)):
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = [self._padded(_resized(im, size)) for im in images]
            largest = LARGEST if i < len(scales) - 1 else float("inf")
            for faces, level in zip(found, self._run(small, self.score), strict=True):
                faces += [
                    _moved(face, size[0] / width, size[1] / height, 0.0, 0.0)
                    for face in level
                    if FLOOR <= face.size <= largest
                ]
        return [merge(faces) if len(scales) > 1 else faces for faces in found]

    def _padded(self, image: Image) -> Image:
        """The image with black to the right and below, up to what the network's strides (or its card) ask."""
        height, width = image.shape[:2]
        if self.model.card.size != (0, 0):
            full_h, full_w = self.model.card.size
        else:
            full_h, full_w = (-(-side // STRIDES[-1]) * STRIDES[-1] for side in (height, width))
        padded = np.zeros((full_h, full_w, 3), np.uint8)
        padded[:height, :width] = image
        return padded

    def _run(self, images: Sequence[Image], threshold: float) -> list[list[Face]]:
        """Faces of images of one size that the network takes as they are, in their pixels, best first."""
        height, width = images[0].shape[:2]
        card = self.model.card
        step = max(1, _BATCH_PIXELS // (height * width))
        found: list[list[Face]] = []
        for start in range(0, len(images), step):
            part = images[start : start + step]
            outputs = self.model.run({card.input: to_input(part, card)})
            named = {name: np.asarray(out) for name, out in zip(card.outputs, outputs, strict=True)}
            rows = [_decode(named, stride, len(part), width // stride, threshold) for stride in STRIDES]
            which = np.concatenate([row[0] for row in rows])
            values = np.concatenate([row[1] for row in rows])
            found += [self._suppressed(values[which == i]) for i in range(len(part))]
        return found

    def _suppressed(self, values: NDArray[np.float32]) -> list[Face]:
        """Non-maximum suppression. ``values``: n x 15, score, box (x, y, w, h), five points."""
        if not len(values):
            return []
        keep = cv2.dnn.NMSBoxes(values[:, 1:5].tolist(), values[:, 0].tolist(), 0.0, self.nms)
        faces = []
        for row in values[np.asarray(keep, np.int64).ravel()]:
            x, y, w, h = (float(v) for v in row[1:5])
            faces.append(Face((x, y, w, h), float(row[0]), row[5:].reshape(5, 2).copy(), FIVE))
        return sorted(faces, key=lambda f: -f.score)


def _decode(
    named: dict[str, NDArray[np.float32]], stride: int, batch: int, columns: int, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The cells of one stride that hold a face.

    The batch is taken from the number of values, not from their shape: a file exported for one image
    gives (1, batch * cells, n).

    Returns:
        index in the batch (n) and n x 15 float32: score, box (x, y, w, h), five points.
    """
    cls, obj = (named[f"{head}_{stride}"].reshape(batch, -1) for head in ("cls", "obj"))
    score = np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1))
    which, cell = np.nonzero(score >= threshold)
    box = named[f"bbox_{stride}"].reshape(batch, -1, 4)[which, cell]
    points = named[f"kps_{stride}"].reshape(batch, -1, 5, 2)[which, cell]
    origin = np.stack([cell % columns, cell // columns], axis=1).astype(np.float32)
    # exp(8) strides are more than any picture: a limit keeps damaged weights from overflowing.
    size = np.exp(np.clip(box[:, 2:], -8, 8)) * stride
    corner = (origin + box[:, :2]) * stride - size / 2
    points = (points + origin[:, None]) * stride
    values = np.hstack([score[which, cell][:, None], corner, size, points.reshape(-1, 10)])
    sound = np.isfinite(values).all(axis=1)
    return which[sound], values[sound].astype(np.float32)


def _cut(image: Image, left: int, top: int, side: int) -> Image:
    """A square of the frame, black beyond its border, at FOLLOW_SIDE pixels a side."""
    height, width = image.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + side), min(height, top + side)
    if x1 > x0 and y1 > y0:
        square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return _resized(square, (FOLLOW_SIDE, FOLLOW_SIDE))


def _resized(image: Image, size: tuple[int, int]) -> Image:
    """At (width, height), averaged over areas where it shrinks."""
    if size == (image.shape[1], image.shape[0]):
        return image
    method = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _moved(face: Face, sx: float, sy: float, left: float, top: float) -> Face:
    """From pixels of a scaled part to pixels of the frame (pixel centres: old = (new + 0.5) / s - 0.5)."""
    x, y, w, h = face.box
    scale = np.array([sx, sy], np.float32)
    assert face.landmarks is not None
    points = (face.landmarks + 0.5) / scale - 0.5 + np.array([left, top], np.float32)
    box = ((x + 0.5) / sx - 0.5 + left, (y + 0.5) / sy - 0.5 + top, w / sx, h / sy)
    return replace(face, box=box, landmarks=points.astype(np.float32))
