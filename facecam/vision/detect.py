"""dlib's max-margin detector on a pyramid: a whole frame, some of its levels, or near known faces.

The network sees windows of 80 x 80 pixels; the pyramid brings every face to about that size. Whoever knows
where faces were can search there, at their scale, for a hundredth of the price (`MmodDetector.follow`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.geometry import covers, iou
from facecam.values import Box, Face, Image
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


#: Where the map of a coarser level is lower than this, there may be a face (`python -m benchmarks.hints`).
HINT: Final = -3.1
HINT_RADIUS: Final = 2
#: Side of the crop that is searched about a hint, pixels of the finer level: a window, and the cells about the hint.
HINT_SIDE: Final = 160
#: Crops in one run of the network: its activations take 300 bytes a pixel.
MAX_CROPS: Final = 32


class Detector(Protocol):
    """Finds faces. Landmarks come along where the model gives them."""

    def detect(self, image: Image, min_face: float) -> list[Face]:
        """All faces of at least ``min_face`` pixels in a BGR uint8 image, best first."""

    def levels(self, width: int, height: int, min_face: float) -> list[float]:
        """The scales that `detect` runs at, largest first."""

    def detect_levels(
        self,
        image: Image,
        scales: Sequence[float],
        changed: NDArray[np.uint8] | None = None,
        guides: Mapping[float, float] | None = None,
    ) -> list[Face]:
        """Faces that show at some of those scales.

        Args:
            changed: the picture in cells, rows x columns; only faces whose window holds a cell above 0 are asked for,
                though others may come. None: all.
            guides: for a scale another of them that is searched whole: where faces may be at the one need only be
                looked at where the other hints.
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


#: How a square of the image was cut: `_face`'s scales (x, y), left and top.
_Placed = tuple[float, float, float, float]
#: A tile of a level's map: where it begins on the level, and its scores.
_Part = tuple[int, int, NDArray[np.float32]]


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
        faces = []
        for _, _, found in self._searched(image, self.levels(image.shape[1], image.shape[0], min_face)):
            faces += found
        return merge(faces)

    def detect_levels(
        self,
        image: Image,
        scales: Sequence[float],
        changed: NDArray[np.uint8] | None = None,
        guides: Mapping[float, float] | None = None,
    ) -> list[Face]:
        """Faces that show at some of those scales, some of which are searched where another hints only.

        The detector was trained not to take a part of a face, or a face smaller than its window, for a face: there its
        answer is far below what it says of walls and trees. So the map of a level shows where smaller faces may be.
        """
        guides = guides or {}
        faces: list[Face] = []
        hints: dict[float, list[tuple[float, float]]] = {}
        for scale, maps, found in self._searched(image, [s for s in scales if s not in guides], changed):
            faces += found
            if scale in guides.values():
                places = (place for part in maps for place in _hints(*part, scale))
                hints[scale] = [p for p in places if changed is None or shows(changed, image, p, WINDOW / 2 / scale)]
        known = merge(faces)
        for scale in sorted(set(guides).intersection(scales), reverse=True):
            faces += self._near_hints(image, scale, hints[guides[scale]], known)
        return merge(faces)

    def _near_hints(
        self, image: Image, scale: float, hints: Sequence[tuple[float, float]], known: Sequence[Face]
    ) -> list[Face]:
        """Faces at a scale about some places of the image, but for those within faces that are known already."""
        places = []
        for x, y in hints:
            if any(f.box[0] < x < f.box[0] + f.box[2] and f.box[1] < y < f.box[1] + f.box[3] for f in known):
                continue
            places.append((x - HINT_SIDE / 2 / scale, y - HINT_SIDE / 2 / scale, scale))
        if len(places) * HINT_SIDE**2 > image.shape[0] * image.shape[1] * scale * scale:
            return [face for _, _, found in self._searched(image, [scale]) for face in found]
        return [
            _face(peak, *placed)
            for score, placed in self._scores(image, places, HINT_SIDE)
            for peak in _peaks(score, SCORE)
        ]

    def _scores(
        self, image: Image, places: Sequence[tuple[float, float, float]], side: int
    ) -> list[tuple[NDArray[np.float32], _Placed]]:
        """The map of each square of the image: left, top, scale of it; ``side`` pixels after scaling."""
        share = max(1, min(MAX_CROPS, -(-len(places) // self.model.lanes)))

        def some(part: Sequence[tuple[float, float, float]]) -> list[tuple[NDArray[np.float32], _Placed]]:
            crops = list(np.zeros((len(part), side, side, 3), np.uint8))
            placed = [_cut(image, *place, crop) for place, crop in zip(part, crops)]
            return list(zip(feed(self.model, crops, alone=True)[:, 0], placed))

        parts = [places[i : i + share] for i in range(0, len(places), share)]
        return [answer for answers in spread(some, parts, self.model.lanes) for answer in answers]

    def _searched(
        self, image: Image, scales: Sequence[float], changed: NDArray[np.uint8] | None = None
    ) -> list[tuple[float, list[_Part], list[Face]]]:
        """Each scale with its map and the faces on it, largest first. The map comes in tiles: left, top, scores."""
        height, width = image.shape[:2]
        # Each level is made from the one above it: cheaper than from the frame, and free of aliasing.
        source, made = image, 1.0
        ordered = sorted(scales, reverse=True)
        looks: list[tuple[int, Tile]] = []
        for number, scale in enumerate(ordered):
            size = max(WINDOW // 2, round(width * scale)), max(WINDOW // 2, round(height * scale))
            level = _resized(source if scale < made else image, size)
            if scale <= 1.0:
                source, made = level, scale
            fill = -(size[0] + 2 * BORDER) % ALIGN
            framed = np.asarray(
                cv2.copyMakeBorder(level, BORDER, BORDER, BORDER, BORDER + fill, cv2.BORDER_CONSTANT), np.uint8
            )
            looks += [(number, tile) for tile in tiles(framed, size, changed)]
        scores = spread(lambda look: feed(self.model, [look[1].pixels])[0, 0], looks, self.model.lanes)
        found: list[tuple[float, list[_Part], list[Face]]] = [(scale, [], []) for scale in ordered]
        for (number, tile), score in zip(looks, scores):
            scale, maps, faces = found[number]
            sx = max(WINDOW // 2, round(width * scale)) / width
            sy = max(WINDOW // 2, round(height * scale)) / height
            left, top = tile.left - BORDER, tile.top - BORDER
            maps.append((left, top, score))
            faces += [_face(p, sx, sy, left / sx, top / sy) for p in _peaks(score, SCORE) if tile.trusts(p.x, p.y)]
        return found

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


def _hints(left: int, top: int, score: NDArray[np.float32], scale: float) -> list[tuple[float, float]]:
    """Places in the image at which a part of the map of a scale hints at smaller faces."""
    lowest = cv2.erode(score, np.ones((2 * HINT_RADIUS + 1,) * 2, np.uint8))
    rows, cols = np.nonzero((score <= lowest) & (score < HINT))
    return [
        ((STRIDE * c + FIRST + left + 0.5) / scale, (STRIDE * r + FIRST + top + 0.5) / scale)
        for r, c in zip(rows.tolist(), cols.tolist())
    ]


def _resized(image: Image, size: tuple[int, int]) -> Image:
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


def _cut(image: Image, left: float, top: float, scale: float, crop: Image) -> _Placed:
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
        crop[to_y0:to_y1, to_x0:to_x1] = _resized(image[y0:y1, x0:x1], (to_x1 - to_x0, to_y1 - to_y0))
    return scale, scale, float(x), float(y)


def _shared(start: int, span: int, length: int, side: int) -> tuple[int, int, int, int]:
    """What a stretch of ``span`` pixels shares with the image: from, to, and where that lies among ``side`` pixels."""
    first, last = max(0, start), min(length, start + span)
    if last <= first:
        return 0, 0, 0, 0
    return first, last, round((first - start) * side / span), round((last - start) * side / span)


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
