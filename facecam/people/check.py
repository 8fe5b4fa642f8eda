"""Does the gallery hold what it should? Twins, people enrolled twice, pictures of somebody else, single samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facecam.people.gallery import Gallery

#: A sample is an outlier when it falls this far short of the threshold, as a share of what lies between
#: the threshold and 1. Measured on lfw_dev with three samples a person (bound 0.907): 0.2 % of the right
#: pictures and 97.8 % of wrong ones put among them are found; with five samples 0.3 % and 97.9 %.
SLACK: Final = 0.5
#: People whose samples are compared with everybody's in one step, to bound the memory.
_BLOCK: Final = 256


@dataclass(frozen=True, slots=True)
class Pair:
    """Two people whom the threshold does not keep apart.

    Attributes:
        names: of both, sorted.
        similarity: of their two most similar samples; sources: of these, in the order of the names.
        mean: similarity of all their samples in the mean. At the threshold or above it everything says
            that they are one person (or twins); below it, single pictures do.
    """

    names: tuple[str, str]
    similarity: float
    sources: tuple[str, str]
    mean: float


@dataclass(frozen=True, slots=True)
class Outlier:
    """A sample that does not look like its own person.

    Attributes:
        similarity: to the person's other samples, the highest.
        looks_like: another person whom it matches, and how well; None if nobody.
    """

    name: str
    source: str
    digest: str
    similarity: float
    looks_like: tuple[str, float] | None


@dataclass(frozen=True, slots=True)
class Shared:
    """One picture that several people are enrolled from: (name, source) of each."""

    digest: str
    people: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found, the worst first.

    Attributes:
        people, samples: how many were looked at.
        threshold: cosine similarity from which two samples match.
        single: people with one sample.
    """

    people: int
    samples: int
    threshold: float
    pairs: tuple[Pair, ...]
    outliers: tuple[Outlier, ...]
    shared: tuple[Shared, ...]
    single: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not (self.pairs or self.outliers or self.shared or self.single)


def check(gallery: Gallery, space: str, threshold: float) -> Report:
    """Compare everybody's samples with everybody's.

    Args:
        space: samples without a vector in it are left out.
        threshold: cosine similarity that says "the same person" of two pictures.

    Raises:
        GalleryDamaged: a stored vector is wrong.
    """
    templates, labels = gallery.labelled_templates(space)
    names, owner, vectors = templates.names, templates.owner, templates.vectors
    counts = np.bincount(owner, minlength=len(names))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
    sums = np.zeros((len(names), vectors.shape[1]), np.float32)
    np.add.at(sums, owner, vectors)
    pairs: list[Pair] = []
    nearest: list[tuple[int, float]] = []  # of each sample, the most similar person other than its own
    for first in range(0, len(names), _BLOCK):
        people = range(first, min(first + _BLOCK, len(names)))
        begin, end = starts[people[0]], starts[people[-1]] + counts[people[-1]]
        similar = vectors[begin:end] @ vectors.T
        by_person = np.maximum.reduceat(similar, starts, axis=1)
        by_person[np.arange(end - begin), owner[begin:end]] = -2.0
        nearest += [(int(i), float(row[i])) for row, i in zip(by_person, by_person.argmax(axis=1), strict=True)]
        peaks = np.maximum.reduceat(by_person, starts[list(people)] - begin, axis=0)
        for row, other in np.argwhere(peaks >= threshold):
            one = people[int(row)]
            if one < other:
                block = similar[starts[one] - begin : starts[one] - begin + counts[one], starts[other] :][
                    :, : counts[other]
                ]
                a, b = np.unravel_index(int(block.argmax()), block.shape)
                sources = (labels[starts[one] + int(a)][1], labels[starts[other] + int(b)][1])
                mean = float(sums[one] @ sums[other] / (counts[one] * counts[other]))
                pairs.append(Pair((names[one], names[other]), float(block[a, b]), sources, mean))
    outliers = _outliers(names, owner, vectors, labels, nearest, threshold)
    return Report(
        len(names),
        len(vectors),
        threshold,
        tuple(sorted(pairs, key=lambda p: (-p.similarity, p.names))),
        tuple(sorted(outliers, key=lambda o: (o.similarity, o.name, o.digest))),
        _shared(gallery),
        tuple(person.name for person in gallery.people() if person.samples == 1),
    )


def outlier_bound(threshold: float) -> float:
    """Similarity to the rest of its person below which a sample is taken for somebody else's."""
    return threshold - SLACK * (1.0 - threshold)


def _outliers(
    names: tuple[str, ...],
    owner: NDArray[np.int32],
    vectors: NDArray[np.float32],
    labels: tuple[tuple[str, str], ...],
    nearest: list[tuple[int, float]],
    threshold: float,
) -> list[Outlier]:
    bound = outlier_bound(threshold)
    found = []
    for person in range(len(names)):
        rows = np.flatnonzero(owner == person)
        if len(rows) < 2:
            continue
        for row, similarity in zip(rows, own_similarity(vectors[rows]), strict=True):
            if similarity < bound:
                other, strength = nearest[row]
                digest, source = labels[row]
                like = (names[other], strength) if strength >= threshold else None
                found.append(Outlier(names[person], source, digest, float(similarity), like))
    return found


def own_similarity(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each sample of a person looks like the person without it.

    The higher of its similarity to the nearest other sample and to the mean of the others: one wrong picture
    spoils that mean, but not the nearest of the right ones.

    Args:
        vectors: float32, n x D, norm 1, n of 2 or more.
    """
    similar = vectors @ vectors.T
    rest = vectors.sum(axis=0) - vectors
    rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-9)
    to_mean = np.einsum("nd,nd->n", rest, vectors)
    np.fill_diagonal(similar, -2.0)
    result: NDArray[np.float32] = np.maximum(similar.max(axis=1), to_mean)
    return result


def _shared(gallery: Gallery) -> tuple[Shared, ...]:
    with gallery.store.read() as db:
        rows = db.execute(
            "SELECT digest, name, source FROM sample JOIN person ON person.id = person WHERE digest IN"
            " (SELECT digest FROM sample GROUP BY digest HAVING count(*) > 1) ORDER BY digest, name"
        ).fetchall()
    found: dict[str, list[tuple[str, str]]] = {}
    for digest, name, source in rows:
        found.setdefault(digest, []).append((name, source))
    return tuple(Shared(digest, tuple(people)) for digest, people in found.items())
