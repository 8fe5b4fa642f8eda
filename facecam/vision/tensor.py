"""Pixels to the float tensor that a model's card asks for."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.values import Image
from facecam.zoo.card import ModelCard


def to_input(images: Sequence[Image], card: ModelCard) -> NDArray[np.float32]:
    """Images of one size as the batch that a model eats.

    Args:
        images: BGR uint8, H x W x 3 each.

    Returns:
        float32, N x 3 x H x W: (pixel - mean) / std in the card's colour order.
    """
    rgb = card.colour == "RGB"
    # blobFromImages subtracts the mean in the order that it gives out.
    blob = cv2.dnn.blobFromImages(list(images), 1.0 / card.std[0], mean=card.mean, swapRB=rgb)
    if len(set(card.std)) > 1:
        blob *= (card.std[0] / np.array(card.std, np.float32)).reshape(1, 3, 1, 1)
    result: NDArray[np.float32] = blob
    return result
