"""Canonical crops to unit vectors, batched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from facecam.values import Image
from facecam.vision.tensor import feed
from facecam.zoo.session import Model

#: Crops in one call of the model: above this a batch brings nothing on a CPU and costs memory.
MAX_BATCH: Final = 32


class Embeds(Protocol):
    """Turns crops into unit vectors: `Embedder`, or `vision.classify.Classifier`."""

    @property
    def space(self) -> str: ...

    @property
    def template(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def embed(self, crops: Sequence[Image], *, mirror: bool = False) -> NDArray[np.float32]: ...


class Embedder:
    """Turns crops of the template that the model's card names into vectors.

    Attributes:
        space: the vector space; template: the crop that it eats; dim: length of a vector.
    """

    def __init__(self, model: Model) -> None:
        card = model.card
        if card.kind != "embedder" or card.template is None or card.space is None:
            raise ValueError(f"{card.name} is a {card.kind}, not an embedder")
        self.model = model
        self.space: str = card.space
        self.template: str = card.template
        self.dim = card.dim
        self._mirrors = card.mirror

    def embed(self, crops: Sequence[Image], *, mirror: bool = False) -> NDArray[np.float32]:
        """Embed all the crops that wait, of one frame or of many.

        Args:
            crops: BGR uint8, side x side x 3 each.
            mirror: average each vector with that of the mirrored crop (normalised, averaged,
                normalised): a little surer, twice the cost; for enrolment and evaluation. A model that does so
                itself (ModelCard.mirror) is not asked twice.

        Returns:
            float32, N x dim, rows of norm 1.
        """
        if not crops:
            return np.zeros((0, self.dim), np.float32)
        if mirror and not self._mirrors:
            both = self.embed([*crops, *(np.ascontiguousarray(c[:, ::-1]) for c in crops)])
            total = both[: len(crops)] + both[len(crops) :]
            unit: NDArray[np.float32] = total / np.linalg.norm(total, axis=1, keepdims=True)
            return unit
        parts = [feed(self.model, crops[i : i + MAX_BATCH]) for i in range(0, len(crops), MAX_BATCH)]
        return np.concatenate(parts)
