"""Open-set matching: a name, or unknown, and how sure. One matrix product over contiguous rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facecam.people.nearest import MANY, Exact, Halves, Rows, half_precision_installed
from facecam.values import NOBODY, Match

#: A name must lead the next person by this much cosine similarity; closer than that, nobody is named.
#: Measured on lfw_dev with 50 people: at one threshold it takes a third of the false names and 0.4 % of the right.
MARGIN: Final = 0.015
#: A single sample speaks for its person less surely than the prototype does: what it lacks to 1 counts this many
#: times. Measured on lfw_dev (facecam eval openset, 20 halves): mean DIR at FPIR 1 % is 0.941 at 1, 0.945 from 1.2
#: on. Kept small, so that a profile among frontal samples can still be matched by itself.
SAMPLE_DISCOUNT: Final = 1.2
#: The nearest single samples that an index is asked for first; more are asked for while all are one person's.
_SAMPLES_ASKED: Final = 32


class Matcher:
    """Compares vectors with the people of a gallery.

    A person's similarity is that to their prototype (the normalised mean of the samples) or, if higher, that to
    their nearest sample at a discount (`SAMPLE_DISCOUNT`): a probe equal to a sample always ranks first. The single
    sample of a person is their prototype and is kept once.

    Attributes:
        names: of all people, those without samples included. threshold, margin: see `__init__`.
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
        many: int = MANY,
    ) -> None:
        """Build from the gallery's templates.

        Args:
            names: N people.
            owner: int32, n: for each row of vectors the index of its person.
            vectors: float32, n x D, rows of norm 1. They are not changed, and may be kept.
            threshold: cosine similarity from which a face gets a name.
            margin: lead over the next person without which nobody is named.
            offsets: added to the threshold of single people, by name.
            negatives: int32 owner (as above) and float32 vectors of "this is not NAME": who resembles one of
                a person's negatives more than the person does not get that name.
            many: people from which rows are kept in half precision, if FAISS is installed.
        """
        if vectors.ndim != 2 or len(owner) != len(vectors):
            raise ValueError(f"owner and vectors do not fit: {owner.shape} and {vectors.shape}")
        self.names: tuple[str, ...] = ()
        self.threshold = threshold
        self.margin = margin
        self._many = many
        self._offsets = dict(offsets or {})
        self._negatives: dict[str, NDArray[np.float32]] = {}
        self._people: list[str] = []  # with samples: the columns of `similarities`
        self._prototypes: Rows = Exact(vectors.shape[1])
        self._samples: Rows = Exact(vectors.shape[1])  # of people who have several
        self._sample_owner: NDArray[np.int32] = np.zeros(0, np.int32)  # ascending columns
        self._runs: tuple[NDArray[np.int32], NDArray[np.int64]] | None = None  # owners and starts, made when needed
        self.extend(names, owner, vectors)
        if negatives is not None:
            for person in np.unique(negatives[0]).tolist():
                self._negatives[self.names[person]] = negatives[1][negatives[0] == person]

    def __len__(self) -> int:
        return len(self._people)

    @property
    def advice(self) -> str | None:
        """What would make it smaller and faster, in a line; None where it is as it should be."""
        if len(self) <= self._many or isinstance(self._prototypes, Halves):
            return None
        return f"{len(self)} people take half the memory with FAISS; run: pip install 'facecam[large]'"

    # --- people come and go ------------------------------------------------------------------------------

    def extend(self, names: Sequence[str], owner: NDArray[np.int32], vectors: NDArray[np.float32]) -> None:
        """Add people who are not there yet, at the price of these people alone; arguments as in `__init__`."""
        if len(owner) > 1 and (owner[1:] < owner[:-1]).any():
            order = np.argsort(owner, kind="stable")
            owner, vectors = owner[order], vectors[order]
        present, first, counts = np.unique(owner, return_index=True, return_counts=True)
        column = len(self._people)
        self.names += tuple(names)
        self._people += [names[person] for person in present.tolist()]
        if len(self._people) > self._many and isinstance(self._prototypes, Exact) and half_precision_installed():
            self._prototypes, self._samples = _halved(self._prototypes), _halved(self._samples)
        if len(present) == len(vectors):
            self._prototypes.append(vectors)
            return
        prototypes = np.add.reduceat(vectors, first, axis=0)
        several = counts > 1
        norms = np.maximum(np.linalg.norm(prototypes[several], axis=1, keepdims=True), 1e-9)
        prototypes[several] /= norms
        self._prototypes.append(prototypes)
        self._samples.append(vectors[np.repeat(several, counts)])
        self._runs = None
        columns = np.arange(column, column + len(present), dtype=np.int32)
        self._sample_owner = np.concatenate([self._sample_owner, np.repeat(columns[several], counts[several])])

    def remove(self, name: str) -> None:
        """Drop a person; nothing else is computed anew.

        Raises:
            ValueError: nobody has that name.
        """
        if name not in self.names:
            raise ValueError(f"nobody is called {name!r}")
        self.names = tuple(other for other in self.names if other != name)
        self._negatives.pop(name, None)
        if name in self._people:
            column = self._people.index(name)
            del self._people[column]
            self._prototypes.delete(column, column + 1)
            self._runs = None
            start, stop = np.searchsorted(self._sample_owner, [column, column + 1]).tolist()
            self._samples.delete(start, stop)
            owner = np.delete(self._sample_owner, slice(start, stop))
            self._sample_owner = np.where(owner > column, owner - 1, owner).astype(np.int32)

    # --- comparing ---------------------------------------------------------------------------------------

    def similarity_to(self, name: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32, M: cosine similarity of each vector to one person by name."""
        column = self._people.index(name)
        result: NDArray[np.float32] = vectors @ self._prototypes.take(column, column + 1)[0]
        start, stop = np.searchsorted(self._sample_owner, [column, column + 1]).tolist()
        if stop > start:
            nearest = (vectors @ self._samples.take(start, stop).T).max(axis=1)
            result = np.maximum(result, _discounted(nearest))
        return result

    def similarities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32, M x people: cosine similarity of each vector to each person that has samples."""
        result = self._prototypes.products(vectors)
        if len(self._samples):
            if self._runs is None:
                self._runs = np.unique(self._sample_owner, return_index=True)
            owners, starts = self._runs
            nearest = np.maximum.reduceat(self._samples.products(vectors), starts, axis=1)
            result[:, owners] = np.maximum(result[:, owners], _discounted(nearest))
        return result

    def match(self, vectors: NDArray[np.float32]) -> list[Match]:
        """Answer for each row (float32, M x D, norm 1)."""
        if not len(self._people):
            return [NOBODY] * len(vectors)
        leaders = self._by_index(vectors) if isinstance(self._prototypes, Halves) else self._by_product(vectors)
        return [self._judge(vector, *leader) for vector, leader in zip(vectors, leaders)]

    def _judge(
        self, vector: NDArray[np.float32], best: int, similarity: float, runner_up: tuple[str, float] | None
    ) -> Match:
        name = self._people[best]
        negatives = self._negatives.get(name)
        refused = negatives is not None and float((negatives @ vector).max()) > similarity
        sure = (
            similarity >= self.threshold + self._offsets.get(name, 0.0)
            and (runner_up is None or similarity - runner_up[1] >= self.margin)
            and not refused
        )
        return Match(name if sure else None, similarity, runner_up, name)

    def _by_product(self, vectors: NDArray[np.float32]) -> Iterable[tuple[int, float, tuple[str, float] | None]]:
        """The best column of each vector, its similarity and the runner-up, from all similarities."""
        for row in self.similarities(vectors):
            best = int(row.argmax())
            similarity = float(row[best])
            runner_up = None
            if len(row) > 1:
                row[best] = -np.inf
                second = int(row.argmax())
                runner_up = (self._people[second], float(row[second]))
            yield best, similarity, runner_up

    def _by_index(self, vectors: NDArray[np.float32]) -> Iterable[tuple[int, float, tuple[str, float] | None]]:
        """The same from the nearest rows alone.

        The two best people have their similarity from a prototype or from a sample. One who has it from a prototype
        is among the two nearest prototypes, since whoever is before them there is more similar as a person, too; one
        who has it from a sample is among the first two people of the nearest samples, for the same reason.
        """
        near, columns = self._prototypes.best(vectors, 2)
        for i, vector in enumerate(vectors):
            found = dict(zip(columns[i].tolist(), near[i].tolist()))
            for column, similarity in self._nearest_samples(vector):
                found[column] = max(similarity, found.get(column, -np.inf))
            (best, similarity), *others = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:2]
            yield best, similarity, (self._people[others[0][0]], others[0][1]) if others else None

    def _nearest_samples(self, vector: NDArray[np.float32]) -> list[tuple[int, float]]:
        """Columns of nearest single samples with their discounted similarity; at least two people, if there are."""
        asked = _SAMPLES_ASKED
        while len(self._samples):
            near, rows = self._samples.best(vector[None], asked)
            owners = self._sample_owner[rows[0]]
            if asked >= len(self._samples) or (owners != owners[0]).any():
                return list(zip(owners.tolist(), _discounted(near[0]).tolist()))
            asked *= 4
        return []


def _halved(rows: Rows) -> Rows:
    halves = Halves(rows.take(0, 0).shape[1])
    halves.append(rows.take(0, len(rows)))
    return halves


def _discounted(similarity: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the similarity to a single sample counts."""
    result: NDArray[np.float32] = 1 - (1 - similarity) * np.float32(SAMPLE_DISCOUNT)
    return result


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
