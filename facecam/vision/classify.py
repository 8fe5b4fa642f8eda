"""Canonical crops to names without enrolment: a classifier that python -m export wrote.

A `Classifier` stands where an embedder stands and a `LabelMatcher` where the gallery's matcher stands. Between
them travel unit vectors: the square roots of a crop's probabilities, the last value for "none of them". Their dot
product is the Bhattacharyya coefficient of two answers (1 the same, 0 nothing in common), so that a track
gathers and doubts evidence exactly as it does with embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facecam.errors import ModelInvalid
from facecam.values import Image, Match
from facecam.vision.tensor import to_input
from facecam.zoo.card import TEMPLATES, ModelCard
from facecam.zoo.session import Model

#: Crops in one call of the model, as for embedders.
MAX_BATCH: Final = 32


class Classifier:
    """Turns crops into answers.

    Attributes:
        labels: the people it knows. template: the crop that it eats. threshold: probability from which a name is said.
        dim: length of an answer, one more than there are labels. space: name of the model; answers of two models
            do not compare.
    """

    def __init__(self, model: Model) -> None:
        """Wrap a loaded model.

        Raises:
            ModelInvalid: it is no classifier of faces.
        """
        card = model.card
        if card.kind != "classifier":
            raise ModelInvalid(f"{card.name}: expected a classifier, its card says {card.kind}; see: facecam models")
        if card.template is None or card.template not in TEMPLATES:
            raise ModelInvalid(
                f"{card.name}: classifies whole pictures, not faces; train on the crops of: facecam crop DIR OUT"
            )
        if card.threshold is None:
            raise ModelInvalid(f"{card.name}: its card states no threshold; export it again")
        self.model = model
        self.labels = card.labels
        self.template: str = card.template
        self.threshold = card.threshold.value
        self.dim = len(card.labels) + 1
        self.space = f"classifier:{card.name}"

    def probabilities(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """float32, N x labels, each 0 to 1; a row may sum to less than 1: the rest is nobody's.

        Args:
            crops: BGR uint8, side x side x 3 each, of the card's template.
        """
        if not crops:
            return np.zeros((0, len(self.labels)), np.float32)
        card: ModelCard = self.model.card
        parts = [
            self.model.run_batch(to_input(crops[i : i + MAX_BATCH], card)) for i in range(0, len(crops), MAX_BATCH)
        ]
        return np.concatenate(parts)

    def embed(self, crops: Sequence[Image], *, mirror: bool = False) -> NDArray[np.float32]:
        """Answers as unit vectors, float32, N x dim; the interface of `vision.embed.Embedder`.

        Args:
            mirror: average the probabilities with those of the mirrored crops.
        """
        rows = self.probabilities(crops)
        if mirror and len(crops):
            other = self.probabilities([np.ascontiguousarray(c[:, ::-1]) for c in crops])
            return answers((rows + other) * np.float32(0.5))
        return answers(rows)


def answers(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities N x K as unit vectors N x (K + 1)."""
    known = np.clip(probabilities.astype(np.float64), 0.0, 1.0)
    rest = np.clip(1.0 - known.sum(axis=1, keepdims=True), 0.0, 1.0)
    full = np.concatenate([known, rest], axis=1)
    unit: NDArray[np.float32] = np.sqrt(full / full.sum(axis=1, keepdims=True)).astype(np.float32)
    return unit


class LabelMatcher:
    """Names what a classifier has answered; the interface of `people.match.Matcher`.

    Attributes:
        names: the labels. threshold: probability from which a name is said, below it the face is unknown.
    """

    def __init__(self, labels: Sequence[str], threshold: float) -> None:
        self.names = tuple(labels)
        self.threshold = threshold

    def __len__(self) -> int:
        return len(self.names)

    def similarity_to(self, name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32, M: probability of one label for each row."""
        return np.asarray(vectors[:, self.names.index(name)] ** 2, np.float32)

    def match(self, vectors: NDArray[np.float32]) -> list[Match]:
        """Answer for each row of `Classifier.embed` (or a normalised mean of such rows)."""
        found = []
        for row in vectors.astype(np.float64) ** 2:
            known = row[: len(self.names)]
            order = np.argsort(-known, kind="stable")[:2]
            best, probability = int(order[0]), float(known[order[0]])
            runner_up = (self.names[order[1]], float(known[order[1]])) if len(order) > 1 else None
            name = self.names[best]
            found.append(Match(name if probability >= self.threshold else None, probability, runner_up, name))
        return found
