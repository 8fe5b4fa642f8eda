"""Open-set matching: a name, or unknown, and how sure. One matrix product over contiguous rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facecam.values import NOBODY, Match

#: A name must lead the next person by this much cosine similarity; closer than that, nobody is named.
#: Measured on lfw_dev with 50 people: at one threshold it takes a third of the false names and 0.4 % of the right.
MARGIN: Final = 0.015
#: A single sample speaks for its person less surely than the prototype does: what it lacks to 1 counts this many
#: times. Measured on lfw_dev (facecam eval openset, 20 halves): mean DIR at FPIR 1 % is 0.941 at 1, 0.945 from 1.2
#: on. Kept small, so that a profile among frontal samples can still be matched by itself.
SAMPLE_DISCOUNT: Final = 1.2


class Matcher:
    """Compares vectors with the people of a gallery.

    A person's similarity is that to their prototype (the normalised mean of the samples) or, if higher, that to
    their nearest sample at a discount (`SAMPLE_DISCOUNT`): a probe equal to a sample always ranks first.
    """

    def __init__(
        self,
        names: Sequence[str],
        owner: NDArray[np.int32],
        vectors: NDArray[np.float32],
        *,
        threshold: float,
        margin: float = MARGIN,
        offsets: Mapping[str, float] | None = None,
        negatives: tuple[NDArray[np.int32], NDArray[np.float32]] | None = None,
    ) -> None:
        """Build from the gallery's templates.

        Args:
            names: N people.
            owner: int32, n: for each row of vectors the index of its person.
            vectors: float32, n x D, rows of norm 1.
            threshold: cosine similarity from which a face gets a name.
            margin: lead over the next person without which nobody is named.
            offsets: added to the threshold of single people, by name.
            negatives: int32 owner (as above) and float32 vectors of "this is not NAME": who resembles one of
                a person's negatives more than the person does not get that name.
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
        self._gain = np.where(order < len(vectors), SAMPLE_DISCOUNT, 1.0).astype(np.float32)
        self._people = present
        self._starts = np.searchsorted(owners[order], present)
        extra = offsets or {}
        self._thresholds = [threshold + extra.get(self.names[person], 0.0) for person in present]
        self._negatives = {}
        if negatives is not None:
            for index, person in enumerate(present):
                if (mine := negatives[0] == person).any():
                    self._negatives[index] = negatives[1][mine]

    def __len__(self) -> int:
        return len(self._people)

    def similarity_to(self, name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32, M: cosine similarity of each vector to one person by name."""
        column = [self.names[person] for person in self._people].index(name)
        return self.similarities(vectors)[:, column]

    def similarities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32, M x people: cosine similarity of each vector to each person that has samples."""
        if not len(self._people):
            return np.zeros((len(vectors), 0), np.float32)
        scores = 1 - (1 - vectors @ self._rows.T) * self._gain
        result: NDArray[np.float32] = np.maximum.reduceat(scores, self._starts, axis=1)
        return result

    def match(self, vectors: NDArray[np.float32]) -> list[Match]:
        """Answer for each row (float32, M x D, norm 1)."""
        if not len(self._people):
            return [NOBODY] * len(vectors)
        answers = []
        for vector, row in zip(vectors, self.similarities(vectors)):
            best = int(row.argmax())
            name, similarity = self.names[self._people[best]], float(row[best])
            runner_up = None
            if len(row) > 1:
                second = next(int(i) for i in np.argpartition(-row, 1)[:2] if i != best)
                runner_up = (self.names[self._people[second]], float(row[second]))
            refused = best in self._negatives and float((self._negatives[best] @ vector).max()) > similarity
            sure = (
                similarity >= self._thresholds[best]
                and (runner_up is None or similarity - runner_up[1] >= self.margin)
                and not refused
            )
            answers.append(Match(name if sure else None, similarity, runner_up, name))
        return answers


def one_each(matches: Sequence[Match]) -> list[Match]:
    """Faces of one picture cannot share a name: the most similar keeps it, the others become unknown."""
    order = sorted(range(len(matches)), key=lambda i: -(matches[i].similarity or 0.0))
    taken: set[str] = set()
    result = list(matches)
    for i in order:
        name = matches[i].name
        if name is None:
            continue
        if name in taken:
            result[i] = replace(matches[i], name=None)
        taken.add(name)
    return result
