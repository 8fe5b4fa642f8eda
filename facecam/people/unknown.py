"""The book of unknown people: the same stranger gets the same number, within a run and, if wanted, across runs.

A stranger is compared by the mean cosine similarity to all that was seen of them (`people.cluster` says
why not by a running average). Two faces that are seen at the same time are never one person.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facecam.errors import GalleryError, OutputError
from facecam.people import sightings, strangers
from facecam.people.gallery import Gallery
from facecam.people.names import escaped
from facecam.people.records import Portrait
from facecam.people.sightings import unknown_name
from facecam.people.strangers import unknown_number
from facecam.settings import seconds_of

__all__ = ["UnknownBook", "unknown_name", "unknown_number"]

#: Two faces of one source that show for this long together are two people, seconds.
TOGETHER: Final = 0.2
#: Strangers and times kept in memory: a camera in a street must not fill it. The longest unseen go first.
MOST: Final = 10_000
#: Seconds between two looks for people to be deleted: terms are hours or longer.
PURGE_EVERY: Final = 3600.0


@dataclass(slots=True)
class _Entry:
    """A stranger: what the gallery has of them, and what only this run knows so far.

    Attributes:
        parts: sightings in ``own``; slot: row of the matrix; kept: the gallery has, or had, the number.
    """

    stored: NDArray[np.float64]
    stored_weight: float
    own: NDArray[np.float64]
    own_weight: float = 0.0
    parts: int = 0
    slot: int = 0
    kept: bool = False

    @property
    def mean(self) -> NDArray[np.float64]:
        weight = self.stored_weight + self.own_weight
        return (self.stored + self.own) / weight if weight > 0 else self.own


@dataclass(slots=True)
class _Open:
    """A track that has a number and is not over."""

    number: int
    share: sightings.Total
    span: tuple[float, float] | None
    picture: Portrait | None


class UnknownBook:
    """Numbers for the unknown people of a run. One thread uses it.

    Attributes:
        remembers: whether they are written to the gallery: the user turned it on before the run, and
            writing works. Without it numbers hold for this run only; people whom the gallery
            remembers from before are recognised all the same.
    """

    def __init__(
        self,
        gallery: Gallery | None,
        space: str,
        threshold: float,
        *,
        note: Callable[[str], None] = lambda line: None,
        forget_after: str | None = None,
    ) -> None:
        """Read whom the gallery remembers.

        Args:
            gallery: open as long as the book is used; None when there is none.
            space: of all vectors that come.
            threshold: mean cosine similarity from which two sightings show one person: the embedder's
                own default for two pictures, not the stricter one for a gallery of many.
            note: told, in a line, when unknown people can no longer be written to the gallery, or were deleted.
            forget_after: delete remembered people whom nobody saw for this long ("7d"), now and every hour.

        Raises:
            GalleryDamaged: a stored template is wrong.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"a threshold is above 0 and at most 1, not {threshold}")
        self.space = space
        self.threshold = threshold
        self.remembers = gallery is not None and strangers.remembers(gallery)
        self._gallery = gallery
        self._note = note
        self._keep = None if forget_after is None else seconds_of(forget_after)
        self._purged = 0.0
        self._entries: dict[int, _Entry] = {}  # the one seen last comes last
        self._rows: NDArray[np.float64] = np.zeros((0, 0))
        self._owners: list[int] = []  # slot -> number, 0 for a free one
        self._free: list[int] = []
        self._open: dict[tuple[str, int], _Open] = {}
        self._spans: deque[tuple[int, str, float, float]] = deque(maxlen=MOST)
        self._last = 0
        if gallery is not None and self.remembers and gallery.store.obstacle is not None:
            self._give_up(gallery.store.obstacle)
        self._purge()
        self.refresh()

    def __len__(self) -> int:
        return len(self._entries)

    # One sighting after another

    def identify(
        self,
        vector: NDArray[np.float32],
        weight: float,
        span: tuple[float, float] | None = None,
        picture: Portrait | None = None,
        *,
        source: str = "",
        track: int | None = None,
    ) -> int:
        """The number of an unknown face: that of the stranger whom it resembles, else a new one.

        Args:
            vector: float32, D, norm 1: the mean of the track's vectors.
            weight: how much it counts, positive: the sum of their weights.
            span: first and last time at which the face showed, seconds of its source. Whoever showed
                in the same source at the same time is somebody else. For a photo (0, 1).
            picture: the track's best, kept if the user has strangers remembered.
            source: the name of the camera or file; with the track it names a sighting.
            track: of a face that still shows. Its sighting can be given again with more evidence and
                keeps its number; it counts for good with `settle` and not at all after `retract`.
                Without a track the sighting counts at once.

        Returns:
            1 or more.

        Raises:
            ValueError: not a unit vector of the space, or a weight that is not positive.
        """
        share = self._share(vector, weight)
        key = None if track is None else (source, track)
        if key is not None and key in self._open:
            seen = self._open[key]
            self._count(seen.number, seen.share, -1)
            self._count(seen.number, share, 1)
            self._open[key] = _Open(seen.number, share, span or seen.span, picture or seen.picture)
            return seen.number
        taken = self._together(source, span)
        number = self._nearest(share[0] / weight, taken)
        if number is None:
            number = self._new(share[0] / weight, taken)
        self._count(number, share, 1)
        seen = _Open(number, share, span, picture)
        if key is None:
            self._close(source, seen)
        else:
            self._open[key] = seen
        return number

    def recall(
        self, number: int, vector: NDArray[np.float32], weight: float, span: tuple[float, float], *, source: str
    ) -> None:
        """A sighting that an earlier run numbered and that is kept elsewhere: counts here, is written nowhere.

        Args: as `identify`.
        """
        share = self._share(vector, weight)
        entry = self._entries.get(number)
        if entry is None or not entry.kept:
            self._count(number, share, 1)
        self._spans.append((number, source, *span))
        self._last = max(self._last, number)

    def settle(self, track: int, source: str = "") -> None:
        """The track is over and still unknown: its sighting counts for good. One without a number is ignored."""
        seen = self._open.pop((source, track), None)
        if seen is not None:
            self._close(source, seen)
        if self._purge():
            self.refresh()

    def retract(self, track: int, source: str = "") -> None:
        """The track proved to be somebody with a name, or no face: its sighting does not count."""
        seen = self._open.pop((source, track), None)
        if seen is not None:
            self._count(seen.number, seen.share, -1)
            self._drop_if_empty(seen.number)

    def settle_all(self) -> None:
        """The run is over: every open track counts as it stands."""
        for source, track in list(self._open):
            self.settle(track, source)

    def refresh(self) -> None:
        """Read the gallery again after another process changed it: merged, named or forgot, or turned remembering off.

        Turned on it is from the next run: the numbers of this one may be others' by now.
        """
        if self._gallery is None:
            return
        self.remembers = self.remembers and strangers.remembers(self._gallery)
        self._last = max(self._last, sightings.highest(self._gallery))
        stored = sightings.totals(self._gallery, self.space)
        for number in [n for n, entry in self._entries.items() if entry.stored_weight > 0 and n not in stored]:
            entry = self._entries[number]
            entry.stored, entry.stored_weight = np.zeros_like(entry.stored), 0.0
            self._place(number, entry)
            self._drop_if_empty(number)
        self._take(stored)

    def follow(self, before: UnknownBook) -> None:
        """Go on where the book of another gallery ended: no number that it gave is given to somebody else."""
        self._last = max(self._last, before._last)

    # Who it is

    def _share(self, vector: NDArray[np.float32], weight: float) -> sightings.Total:
        known = self._rows.shape[1]
        if vector.ndim != 1 or (known and vector.size != known) or not abs(float(np.linalg.norm(vector)) - 1) < 1e-3:
            raise ValueError(f"expected a unit vector of space {self.space}, not {vector.shape}")
        if not 0 < weight < np.inf:
            raise ValueError(f"a sighting's weight is positive, not {weight}")
        return vector.astype(np.float64) * weight, float(weight)

    def _together(self, source: str, span: tuple[float, float] | None) -> set[int]:
        """Who showed in the source during the span."""
        if span is None:
            return set()
        others = [(n, s, a, b) for n, s, a, b in self._spans if s == source]
        others += [(o.number, key[0], *o.span) for key, o in self._open.items() if key[0] == source and o.span]
        return {n for n, _, start, end in others if min(end, span[1]) - max(start, span[0]) > TOGETHER}

    def _nearest(self, vector: NDArray[np.float64], taken: set[int]) -> int | None:
        if not self._entries:
            return None
        similar = self._rows @ vector
        for number in taken & self._entries.keys():
            similar[self._entries[number].slot] = -1.0
        best = int(similar.argmax())
        return self._owners[best] if similar[best] >= self.threshold else None

    def _new(self, vector: NDArray[np.float64], taken: set[int]) -> int:
        if self._gallery is not None and self.remembers:
            try:
                self._take(sightings.totals(self._gallery, self.space, after=self._last))  # of other processes
                number = self._nearest(vector, taken)
                if number is not None:
                    return number
                self._last = sightings.reserve(self._gallery, self._last)
                return self._last
            except (GalleryError, OutputError) as error:
                self._give_up(str(error))
        self._last += 1
        return self._last

    # What is kept

    def _close(self, source: str, seen: _Open) -> None:
        if seen.span is not None:
            self._spans.append((seen.number, source, *seen.span))
        if self._gallery is None or not self.remembers or seen.number not in self._entries:
            return
        try:
            self._write(self._gallery, source, seen)
        except (GalleryError, OutputError) as error:
            self._give_up(str(error))

    def _write(self, gallery: Gallery, source: str, seen: _Open) -> None:
        entry = self._entries[seen.number]
        target = sightings.write(
            gallery, seen.number, self.space, seen.share, new=not entry.kept, source=source, picture=seen.picture
        )
        entry.kept = True
        self._count(seen.number, seen.share, -1)
        if target == seen.number:
            entry.stored, entry.stored_weight = entry.stored + seen.share[0], entry.stored_weight + seen.share[1]
            self._place(seen.number, entry)
        else:  # merged, named or forgotten by another process
            self.refresh()
            self._drop_if_empty(seen.number)

    def _purge(self) -> bool:
        """Delete whoever was not seen for too long; whether anybody was."""
        now = time.monotonic()
        if self._keep is None or self._gallery is None or (self._purged and now < self._purged + PURGE_EVERY):
            return False
        self._purged = now
        try:
            gone = strangers.forget_older(self._gallery, self._keep)
        except (GalleryError, OutputError) as error:
            self._note(f"unknown people were not deleted in time: {error}")
            return False
        if gone.numbers:
            self._note(f"unknown people deleted, whom nobody saw for long: {len(gone.numbers)}")
        for path in gone.backups:
            self._note(f"deleted as well, since it held them: {escaped(str(path))}")
        for path in gone.renewed:
            self._note(f"made anew without them: the backup {escaped(str(path))}")
        stale = [f"{escaped(str(path))} could not be made anew" for path in gone.stale]
        for left in [*([gone.problem] if gone.problem else []), *stale]:
            self._note(f"traces of unknown people may be left: {left}")
        return bool(gone.numbers)

    def _give_up(self, reason: str) -> None:
        self.remembers = False
        self._note(f"unknown people are not written to the gallery: {reason}")

    def _take(self, stored: dict[int, sightings.Total]) -> None:
        for number, (total, weight) in stored.items():
            entry = self._entries.get(number) or self._add(number, total.size)
            entry.stored, entry.stored_weight, entry.kept = total, weight, True
            self._place(number, entry)
            self._last = max(self._last, number)

    def _count(self, number: int, share: sightings.Total, sign: int) -> None:
        entry = self._entries.pop(number, None)
        if entry is None:
            if sign < 0:
                return  # forgotten meanwhile
            entry = self._add(number, share[0].size)
        self._entries[number] = entry
        entry.parts += sign
        if entry.parts:
            entry.own, entry.own_weight = entry.own + sign * share[0], entry.own_weight + sign * share[1]
        else:  # exactly nothing, whatever rounding left
            entry.own, entry.own_weight = np.zeros_like(entry.own), 0.0
        self._place(number, entry)

    def _add(self, number: int, size: int) -> _Entry:
        while len(self._entries) >= MOST:
            busy = {seen.number for seen in self._open.values()}
            oldest = next((n for n in self._entries if n not in busy), None)
            if oldest is None:
                break
            self._drop(oldest)
        if not self._free:
            more = max(16, len(self._owners))
            rows = np.zeros((len(self._owners) + more, size))
            rows[: len(self._owners)] = self._rows if len(self._owners) else 0.0
            self._free = list(range(len(rows) - 1, len(self._owners) - 1, -1))
            self._owners += [0] * more
            self._rows = rows
        entry = _Entry(np.zeros(size), 0.0, np.zeros(size), slot=self._free.pop())
        self._owners[entry.slot] = number
        self._entries[number] = entry
        return entry

    def _place(self, number: int, entry: _Entry) -> None:
        self._rows[entry.slot] = entry.mean

    def _drop_if_empty(self, number: int) -> None:
        entry = self._entries.get(number)
        if entry is not None and not entry.parts and entry.stored_weight == 0:
            self._drop(number)

    def _drop(self, number: int) -> None:
        entry = self._entries.pop(number)
        self._rows[entry.slot] = 0.0
        self._owners[entry.slot] = 0
        self._free.append(entry.slot)
