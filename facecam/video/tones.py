"""Pictures of high dynamic range as ordinary ones: as they are they look dim and pale, and faces lose their names."""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np

from facecam.values import Image

#: Transfers of ITU-T H.273: PQ (SMPTE ST 2084) and HLG (ARIB STD-B67).
PQ: Final = 16
HLG: Final = 18
_BT2020: Final = 9
#: White paper in such a video, and the brightest that HLG is mastered for, cd/m2 (ITU-R BT.2408, 2.2; BT.2100,
#: table 5).
_PAPER: Final = 203.0
_PEAK: Final = 1000.0
#: Linear light of BT.2020 as that of BT.709 (ITU-R BT.2407, 2.2); both blue, green, red.
_PRIMARIES: Final[Any] = np.array(
    [[1.1187, -0.1006, -0.0182], [-0.0083, 1.1329, -0.1246], [-0.0728, -0.5876, 1.6605]], np.float32
)
#: Light above this share of paper is pressed together, so that bright skin does not become a white patch (a choice).
_KNEE: Final = 0.6
#: Light is looked up by its root, which has steps enough in the dark, up to four times that of paper.
_STEPS: Final = 4096
_MOST: Final = 4.0


def ordinary(image: Image, transfer: int, primaries: int) -> Image:
    """A picture of PQ or HLG as one of BT.709.

    Args:
        image: BGR uint8, H x W x 3, as coded. transfer: `PQ` or `HLG`. primaries: as H.273 counts.

    Returns:
        BGR uint8, a new array.
    """
    import cv2

    light: Any = cv2.LUT(image, _light(transfer))
    if primaries == _BT2020:
        light = cv2.transform(light, _PRIMARIES)
    np.clip(light, 0, _MOST, out=light)
    return _shown()[(cv2.sqrt(light) * ((_STEPS - 1) / _MOST**0.5)).astype(np.uint16)]


@functools.cache
def _light(transfer: int) -> Any:
    """256 values: what a coded value shows, in shares of paper."""
    coded = np.arange(256) / 255
    if transfer == PQ:  # ITU-R BT.2100, table 4
        root = coded ** (1 / 78.84375)
        light = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    else:  # table 5
        scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        light = _PEAK * scene**1.2
    return (light / _PAPER).astype(np.float32)


@functools.cache
def _shown() -> Any:
    """Step of the root of light -> value for a screen of BT.1886, whose gamma is 2.4."""
    light = (np.arange(_STEPS) / (_STEPS - 1)) ** 2 * _MOST
    room = 1 - _KNEE
    pressed = np.where(light <= _KNEE, light, _KNEE + room * np.tanh((light - _KNEE) / room))
    return np.rint(pressed ** (1 / 2.4) * 255).astype(np.uint8)
