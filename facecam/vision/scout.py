"""Where in a picture small faces may be: a small network's guess, for a small part of what it costs to find them.

The detector's network is dear, and most of a picture shows no face. Before it looks at a large level of the pyramid,
this network, trained here on the detector's own answers (`train.scout`), looks at the picture much reduced and says
where the detector might find something; there it looks itself. So nothing is found that the detector does not find.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.values import Image
from facecam.vision.resize import resized
from facecam.vision.tiles import WINDOW
from facecam.zoo.session import Model

#: Side of the smallest faces it was trained on, pixels of what it sees; its second map is of faces larger by `STEP`.
SMALLEST: Final = 24
STEP: Final = math.sqrt(2)
#: Pixels from one cell of its maps to the next.
STRIDE: Final = 8
#: Logit from which a cell is a hint (`python -m benchmarks.scout`).
HINT: Final = -2.5

Place = tuple[float, float]


class Scout:
    """Runs the network."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def hints(self, image: Image, scales: Sequence[float]) -> dict[float, list[Place]]:
        """Where the detector may find faces at some scales of a BGR uint8 picture: x, y of their middles, pixels.

        Scales that are a `STEP` apart are looked at together.
        """
        found: dict[float, list[Place]] = {}
        for scale in sorted(scales, reverse=True):
            if scale in found:
                continue
            maps, sx, sy = self._look(image, scale * SMALLEST / WINDOW)
            found[scale] = _places(maps[0], sx, sy)
            coarser = next((s for s in scales if abs(math.log(scale / s / STEP)) < 0.05), None)
            if coarser is not None:
                found[coarser] = _places(maps[1], sx, sy)
        return found

    def _look(self, image: Image, scale: float) -> tuple[NDArray[np.float32], float, float]:
        """Logits of the picture at a scale (2 x rows x columns), and its true scales (x, y)."""
        height, width = image.shape[:2]
        size = max(STRIDE, round(width * scale)), max(STRIDE, round(height * scale))
        seen = np.ascontiguousarray(resized(image, size))[None]
        return self.model.run({self.model.card.input: seen})[0][0], size[0] / width, size[1] / height


def _places(logits: NDArray[np.float32], sx: float, sy: float) -> list[Place]:
    """Where a map has a maximum above `HINT`, in the picture whose scales these are."""
    highest = cv2.dilate(logits, np.ones((3, 3), np.uint8))
    rows, cols = np.nonzero((logits >= highest) & (logits > HINT))
    return [(STRIDE * (c + 0.5) / sx, STRIDE * (r + 0.5) / sy) for r, c in zip(rows.tolist(), cols.tolist())]
