"""dlib's max-margin detector on a pyramid: a whole frame, some of its levels, or near known faces.

The network sees windows of 80 x 80 pixels; the pyramid brings every face to about that size. Whoever knows
where faces were can search there, at their scale, for a hundredth of the price (`MmodDetector.follow`); where large
levels are worth a look, a small network says (`vision.scout`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.geometry import covers, iou
from facecam.values import Box, Face, Image
from facecam.vision.resize import Placed, cut, resized
from facecam.vision.scout import Place, Scout
from facecam.vision.tensor import feed
from facecam.vision.tiles import BORDER, FIRST, STRIDE, WINDOW, Tile, shows, tiles
from facecam.zoo.session import Model, spread

#: Between two pyramid levels. dlib uses 5/6; 1/sqrt(2) costs less than half and found as many faces.
STEP: Final = 1 / math.sqrt(2)
#: A frame is enlarged at most this often: beyond it pixels are invented, not found.
MAX_SCALE: Final = 4.0
#: Widths of what the network is given are a multiple of this: see `zoo.int8.BLOCK`.
ALIGN: Final = 4
#: No level is larger than this, pixels: in a very large picture the smallest face grows with the picture.
MAX_LEVEL: Final = 12e6
#: A level is worth running while its shorter side has this many pixels.
SMALLEST_SIDE: Final = 56
#: Score from which a cell is a face; the detector was trained with a margin around zero.
SCORE: Final = 0.0
NMS_IOU: Final = 0.35
#: Side of the crop that is searched around a known face, in windows, before scaling.
FOLLOW_REACH: Final = 1.6
#: Known faces are searched at two scales, this much below and above their size: the two scores tell
#: how the size has changed, which one scale cannot.
FOLLOW_SPREAD: Final = 1.15
#: A level of more pixels than this is looked at where the scout hints only; smaller ones cost little.
SCOUTED: Final = 0.1e6
#: Side of the crop that is searched about a hint, pixels of the level: a window, and how far off a hint may be. On
#: sheets of `benchmarks.scout` one face in 25 was missed with 128, one in 45 with 136 to 176, all alike.
HINT_SIDE: Final = 136
#: Fewer crops are not worth a thread of their own.
WORTH: Final = 2
#: Crops in one run of the network: its activations take 300 bytes a pixel.
MAX_CROPS: Final = 32


class Detector(Protocol):
    """Finds faces. Landmarks come along where the model gives them."""

    def detect(self, image: Image, min_face: float) -> list[Face]:
        """All faces of at least ``min_face`` pixels in a BGR uint8 image, best first."""

    def levels(self, width: int, height: int, min_face: float) -> list[float]:
        """The scales that `detect` runs at, largest first."""

    def detect_levels(
        self, image: Image, scales: Sequence[float], changed: NDArray[np.uint8] | None = None
    ) -> list[Face]:
        """Faces that show at some of those scales.

        Args:
            changed: the picture in cells, rows x columns; only faces whose window holds a cell above 0 are asked for,
                though others may come. None: all.
        """

    def follow(self, image: Image, boxes: Sequence[Box], sized: Collection[int] = ()) -> list[Face | None]:
        """For each box the face found near it, or None.

        Args:
            sized: numbers of the boxes whose size is right: where that is cheaper, the answer keeps it.
        """


@dataclass(frozen=True, slots=True)
class _Peak:
    x: float  # centre, pixels of the scaled image
    y: float
    score: float


class MmodDetector:
    """`Detector` with dlib's network; it gives no landmarks."""

    def __init__(self, model: Model, scout: Scout | None = None) -> None:
        """``scout``: says where large levels are looked at in `detect_levels`; None: they are looked at whole."""
        if model.card.decoder != "mmod":
            raise ValueError(f"{model.card.name} is not an MMOD detector")
        self.model = model
        self.scout = scout

    def levels(self, width: int, height: int, min_face: float) -> list[float]:
        scale = min(MAX_SCALE, WINDOW / min_face, math.sqrt(MAX_LEVEL / (width * height)))
        scales = [scale]
        while min(width, height) * scale * STEP >= SMALLEST_SIDE:
            scale *= STEP
            scales.append(scale)
        return scales

    def detect(self, image: Image, min_face: float) -> list[Face]:
        looks = self._looks(image, self.levels(image.shape[1], image.shape[0], min_face))
        return merge([face for faces in spread(_now, looks, self.model.lanes) for face in faces])

    def detect_levels(
        self, image: Image, scales: Sequence[float], changed: NDArray[np.uint8] | None = None
    ) -> list[Face]:
        area = image.shape[0] * image.shape[1]
        large = [scale for scale in scales if self.scout is not None and area * scale * scale > SCOUTED]
        looks = self._looks(image, [scale for scale in scales if scale not in large], changed)
        hints: dict[float, list[Place]] = {}

        def ask(scout: Scout) -> list[Face]:
            hints.update(scout.hints(image, large))
            return []

        if self.scout is not None and large:  # first, since what follows waits for it
            looks.insert(0, partial(ask, self.scout))
        found = [face for faces in spread(_now, looks, self.model.lanes) for face in faces]
        places, crowded = [], []
        for scale, near in hints.items():
            side = HINT_SIDE / scale
            some = [(x, y) for x, y in near if changed is None or shows(changed, image, (x, y), side)]
            if len(some) * side * side > area:
                crowded.append(scale)
            else:
                places += [(x - side / 2, y - side / 2, scale) for x, y in some]
        for faces in spread(_now, self._looks(image, crowded, changed), self.model.lanes):
            found += faces
        for score, placed in self._scores(image, places, HINT_SIDE):
            found += [_face(peak, *placed) for peak in _peaks(score, SCORE)]
        return merge(found)

    def _scores(
        self, image: Image, places: Sequence[tuple[float, float, float]], side: int
    ) -> list[tuple[NDArray[np.float32], Placed]]:
        """The map of each square of the image: left, top, scale of it; ``side`` pixels after scaling."""
        share = max(WORTH, min(MAX_CROPS, -(-len(places) // self.model.lanes)))

        def some(part: Sequence[tuple[float, float, float]]) -> list[tuple[NDArray[np.float32], Placed]]:
            crops = list(np.zeros((len(part), side, side, 3), np.uint8))
            placed = [cut(image, *place, crop) for place, crop in zip(part, crops)]
            return list(zip(feed(self.model, crops, alone=True)[:, 0], placed))

        parts = [places[i : i + share] for i in range(0, len(places), share)]
        return [answer for answers in spread(some, parts, self.model.lanes) for answer in answers]

    def _looks(
        self, image: Image, scales: Sequence[float], changed: NDArray[np.uint8] | None = None
    ) -> list[Callable[[], list[Face]]]:
        """The looks at those scales, largest first; each gives the faces that show in a part of a level."""
        height, width = image.shape[:2]
        # Each level is made from the one above it: cheaper than from the frame, and free of aliasing.
        source, made = image, 1.0
        looks: list[Callable[[], list[Face]]] = []
        for scale in sorted(scales, reverse=True):
            size = max(WINDOW // 2, round(width * scale)), max(WINDOW // 2, round(height * scale))
            level = resized(source if scale < made else image, size)
            if scale <= 1.0:
                source, made = level, scale
            fill = -(size[0] + 2 * BORDER) % ALIGN
            framed = np.asarray(
                cv2.copyMakeBorder(level, BORDER, BORDER, BORDER, BORDER + fill, cv2.BORDER_CONSTANT), np.uint8
            )
            zoom = size[0] / width, size[1] / height
            looks += [partial(self._look, tile, *zoom) for tile in tiles(framed, size, changed)]
        return looks

    def _look(self, tile: Tile, sx: float, sy: float) -> list[Face]:
        """Faces that show in a part of a level; the level's scales."""
        score = feed(self.model, [tile.pixels])[0, 0]
        left, top = (tile.left - BORDER) / sx, (tile.top - BORDER) / sy
        return [_face(p, sx, sy, left, top) for p in _peaks(score, SCORE) if tile.trusts(p.x, p.y)]

    def follow(self, image: Image, boxes: Sequence[Box], sized: Collection[int] = ()) -> list[Face | None]:
        if not boxes:
            return []
        side = round(WINDOW * FOLLOW_REACH)
        places, counts = [], []
        for number, (x, y, w, h) in enumerate(boxes):
            zooms = (1.0,) if number in sized else (1 / FOLLOW_SPREAD, FOLLOW_SPREAD)
            counts.append(len(zooms))
            for zoom in zooms:
                scale = WINDOW / (max(w, h) * zoom)
                places.append((x + w / 2 - side / 2 / scale, y + h / 2 - side / 2 / scale, scale))
        scores = iter(self._scores(image, places, side))
        found: list[Face | None] = []
        for count in counts:
            pair = []
            for score, placed in itertools.islice(scores, count):
                peaks = _peaks(score, SCORE - 0.5)
                if peaks:
                    # The crop is centred on the guess: of several faces the nearest one is this track's.
                    peak = max(peaks, key=lambda p: p.score - math.hypot(p.x - side / 2, p.y - side / 2) / 40)
                    pair.append(_face(peak, *placed))
            found.append(_between(pair))
        return found


def _now(look: Callable[[], list[Face]]) -> list[Face]:
    return look()


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
