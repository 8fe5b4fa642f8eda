"""Open-set matching: a name, or unknown, and how sure. One matrix product over contiguous rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facecam.values import NOBODY, Match

#: A name must lead the next person by this much cosine similarity; closer than that, nobody is named.
MARGIN: Final = 0.0


class Matcher:
    """Compares vectors with the people of a gallery.

    A person's similarity is the highest of their samples and of their prototype (the normalised mean
    of the samples), so that a probe equal to a sample always ranks first.
    """

    def __init__(
        self,
        names: Sequence[str],
        owner: NDArray[np.int32],
        vectors: NDArray[np.float32],
        *,
        threshold: float,
        margin: float = MARGIN,
    ) -> None:
        """Build from the gallery's templates.

        Args:
            names: N people.
            owner: int32, n: for each row of vectors the index of its person.
            vectors: float32, n x D, rows of norm 1.
            threshold: cosine similarity from which a face gets a name.
        """
        if vectors.ndim != 2 or len(owner) != len(vectors):
            raise ValueError(f"owner and vectors do not fit: {owner.shape} and {vectors.shape}")
        self.names = tuple(names)
        self.threshold = threshold
        self.margin = margin
        order = np.argsort(owner, kind="stable")
        owner, vectors = owner[order], vectors[order]
        present = np.unique(owner)
        prototypes = np.zeros((len(present), vectors.shape[1]), np.float32)
        np.add.at(prototypes, np.searchsorted(present, owner), vectors)
        prototypes /= np.maximum(np.linalg.norm(prototypes, axis=1, keepdims=True), 1e-9)
        rows = np.concatenate([vectors, prototypes])
        owners = np.concatenate([owner, present])
        order = np.argsort(owners, kind="stable")
        self._rows: NDArray[np.float32] = np.ascontiguousarray(rows[order], np.float32)
        self._people = present
        self._starts = np.searchsorted(owners[order], present)

    def __len__(self) -> int:
        return len(self._people)

    def similarities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32, M x people: cosine similarity of each vector to each person that has samples."""
        if not len(self._people):
            return np.zeros((len(vectors), 0), np.float32)
        result: NDArray[np.float32] = np.maximum.reduceat(vectors @ self._rows.T, self._starts, axis=1)
        return result

    def match(self, vectors: NDArray[np.float32]) -> list[Match]:
        """Answer for each row (float32, M x D, norm 1)."""
        if not len(self._people):
            return [NOBODY] * len(vectors)
        answers = []
        for row in self.similarities(vectors):
            best = int(row.argmax())
            name, similarity = self.names[self._people[best]], float(row[best])
            runner_up = None
            if len(row) > 1:
                second = int(np.argpartition(-row, 1)[:2][np.argpartition(-row, 1)[:2] != best][0])
                runner_up = (self.names[self._people[second]], float(row[second]))
            sure = similarity >= self.threshold and (runner_up is None or similarity - runner_up[1] >= self.margin)
            answers.append(Match(name if sure else None, similarity, runner_up, name))
        return answers
