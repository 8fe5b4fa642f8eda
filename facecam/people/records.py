"""What the gallery tells: people, their samples, all vectors of a space, and what a change did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecam.people.sqlite import utc_now
from facecam.values import Sample


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person agreed to: in the user's words, and on which day (2026-01-31)."""

    note: str
    date: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a name.

    Attributes:
        id: stable while the person exists, also when renamed.
        created, updated: ISO 8601, UTC.
        samples, crops: how many pictures they were enrolled from, how many crops of these are kept.
        spaces: the vector spaces that at least one of the samples has a vector in, sorted.
        consent: None when nothing was noted.
    """

    id: int
    name: str
    created: str
    updated: str
    samples: int
    crops: int
    spaces: tuple[str, ...]
    consent: Consent | None = None


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
        renewed: the user's backups that were made anew without the person.
        stale: the user's backups that could not be, and still hold the person.
    """

    name: str
    samples: int
    crops: int
    backups: tuple[Path, ...] = ()
    problem: str | None = None
    renewed: tuple[Path, ...] = ()
    stale: tuple[Path, ...] = ()


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

    def indexed(self, names: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The rows as another list of people numbers them; rows of people who are not in it are left out.

        Args:
            names: without repetition.

        Returns:
            owner (int32, m: indices into ``names``) and vectors (float32, m x D).
        """
        place = {name: i for i, name in enumerate(names)}
        owner = np.array([place.get(self.names[i], -1) for i in self.owner], np.int32)
        kept = owner >= 0
        return owner[kept], self.vectors[kept]


@dataclass(frozen=True, slots=True)
class Negative:
    """A picture of which the user said: "this is not NAME".

    Attributes:
        digest: SHA-256 (hex) of the source's content; source: its name; created: ISO 8601, UTC.
        spaces: in which it has a vector.
    """

    digest: str
    source: str
    created: str
    spaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """What `Gallery.reject` did: for whom, how many pictures came new, which were there already."""

    name: str
    added: int
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What `Gallery.unreject` did: which negatives are gone, and as in `Removed` what else."""

    negatives: tuple[Negative, ...]
    backups: tuple[Path, ...] = ()
    problem: str | None = None
    renewed: tuple[Path, ...] = ()
    stale: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """The best picture of an unknown person so far.

    Attributes:
        image: PNG or JPEG bytes of the upright context crop (at most 256 px a side).
        quality: 0 to 1.
        landmarks: float32, 5 x 2, pixels of the image; None without.
        scheme: which points they are; None without landmarks.
    """

    image: bytes = field(repr=False)
    quality: float
    landmarks: NDArray[np.float32] | None = field(default=None, repr=False)
    scheme: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Somebody without a name whom the user chose to remember.

    Attributes:
        number: of "Unknown 12"; nobody else ever gets it.
        first_seen, last_seen: when facecam saw them, ISO 8601, UTC (of a file: when it was looked at).
        source: where they were seen last.
        seen: how many tracks and photos showed them.
        crop_bytes: size of the kept picture, 0 without one.
        spaces: the vector spaces that they have a template in, sorted.
        also: numbers that they had before they were found to be one person.
    """

    number: int
    first_seen: str
    last_seen: str
    source: str
    seen: int
    crop_bytes: int
    spaces: tuple[str, ...]
    also: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"Unknown {self.number}"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What forgetting did: who is gone, and as in `Removed` the copies deleted and why traces may be left."""

    numbers: tuple[int, ...]
    backups: tuple[Path, ...] = ()
    problem: str | None = None
    renewed: tuple[Path, ...] = ()
    stale: tuple[Path, ...] = ()
