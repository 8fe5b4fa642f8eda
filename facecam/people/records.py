"""What the gallery tells: people, their samples, all vectors of a space, and what a change did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecam.people.store import utc_now
from facecam.values import Sample


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a name.

    Attributes:
        id: stable while the person exists, also when renamed.
        created, updated: ISO 8601, UTC.
        samples, crops: how many pictures they were enrolled from, how many crops of these are kept.
        spaces: the vector spaces that at least one of the samples has a vector in, sorted.
    """

    id: int
    name: str
    created: str
    updated: str
    samples: int
    crops: int
    spaces: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A sample as the gallery keeps it.

    Attributes:
        digest: SHA-256 (hex) of the source's content.
        source: file name or "camera", without control characters.
        quality: 0 to 1.
        created: ISO 8601, UTC.
        vectors: float32 unit vectors by the name of their space.
        crop: PNG or JPEG bytes; None if not kept, or not asked for.
        crop_bytes: size of the kept crop, 0 without one.
        landmarks: float32, 5 x 2, pixels of the crop; None without.
        scheme: which points they are; None without landmarks.
    """

    digest: str
    source: str
    quality: float
    created: str
    vectors: Mapping[str, NDArray[np.float32]] = field(repr=False)
    crop: bytes | None = field(default=None, repr=False)
    crop_bytes: int = 0
    landmarks: NDArray[np.float32] | None = field(default=None, repr=False)
    scheme: str | None = None

    @classmethod
    def of(cls, sample: Sample) -> Record:
        """The record of a freshly made sample."""
        return cls(
            sample.digest,
            sample.source,
            sample.quality,
            utc_now(),
            {sample.template.space: sample.template.vector},
            sample.crop,
            len(sample.crop or b""),
            sample.landmarks,
            sample.scheme,
        )


@dataclass(frozen=True, slots=True)
class Added:
    """What `Gallery.add` did.

    Attributes:
        name: the person, in the form stored.
        new_person: True if nobody had that name before.
        added: how many samples gave something new.
        duplicates: sources that this person was already enrolled from; skipped.
        elsewhere: (source, other person) where the same picture is enrolled under another name, too.
    """

    name: str
    new_person: bool
    added: int
    duplicates: tuple[str, ...] = ()
    elsewhere: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """What `Gallery.merge` did: how many samples moved, how many the target had already."""

    target: str
    moved: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What `Gallery.remove` did.

    Attributes:
        backups: automatic copies of the whole gallery that were deleted with the person.
        problem: why traces may be left in the files for now; None when nothing is.
    """

    name: str
    samples: int
    crops: int
    backups: tuple[Path, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TemplateSet:
    """All vectors of one space, ready for matching.

    Attributes:
        names: the people with a vector in the space, sorted by code points.
        owner: int32, n: for each row the index of its person in ``names``, ascending.
        vectors: float32, n x D, contiguous, norm 1; a person's rows are in the order of their
            digests. The order of enrolment changes nothing. 0 x 0 when there are none.
    """

    names: tuple[str, ...]
    owner: NDArray[np.int32] = field(repr=False)
    vectors: NDArray[np.float32] = field(repr=False)
