"""Arithmetic on boxes ``(x, y, w, h)``, shared by detection, tracking and output."""

from __future__ import annotations

import math
from typing import Final

from facecam.values import Box

#: How long a face is believed to keep its speed, seconds: heads start and stop within a few tenths.
MOMENTUM: Final = 0.2


def overlap(a: Box, b: Box) -> float:
    """Area that two boxes share, square pixels."""
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return w * h if w > 0 and h > 0 else 0.0


def iou(a: Box, b: Box) -> float:
    """Intersection over union, 0 to 1."""
    shared = overlap(a, b)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def covers(a: Box, b: Box) -> bool:
    """Whether most of the smaller box lies in the larger: a chin taken for a face, say."""
    return overlap(a, b) > 0.7 * min(a[2] * a[3], b[2] * b[3])


def between(a: Box, b: Box, share: float) -> Box:
    """The box that lies ``share`` (0 to 1) of the way from a to b."""
    x, y, w, h = (p + share * (q - p) for p, q in zip(a, b))
    return x, y, w, h


def coasted(box: Box, speed: tuple[float, float], dt: float) -> Box:
    """Where a box drifts to in ``dt`` seconds (either sign), its speed (pixels a second) dying away."""
    reach = math.copysign(MOMENTUM * (1 - math.exp(-abs(dt) / MOMENTUM)), dt)
    return box[0] + speed[0] * reach, box[1] + speed[1] * reach, box[2], box[3]
