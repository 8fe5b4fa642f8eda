"""Who is there: sightings become events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from facecam.values import Sighting

#: A person is gone when no track has shown them for this long, seconds.
GONE_AFTER: Final = 1.0


@dataclass(slots=True)
class _Presence:
    since: float
    last: float
    track: int
    best: float | None
    unknown: int | None = None


class Attendance:
    """Turns sightings into events: somebody appeared, somebody left. One person once, however many tracks."""

    def __init__(self, source: str, emit: Callable[[dict[str, Any]], None]) -> None:
        self._source = source
        self._emit = emit
        self._present: dict[tuple[str | None, int], _Presence] = {}

    def update(self, moment: float, sightings: list[Sighting]) -> None:
        """Take the sightings of a time (seconds of the source)."""
        for sighting in sightings:
            if not sighting.decided:
                continue
            name = sighting.match.name
            # A stranger with a number is one person however many tracks; without one, each track is somebody.
            key = (name, 0 if name is not None else -(sighting.unknown or 0) or sighting.track)
            similarity = sighting.match.similarity
            if key not in self._present:
                # A track whose answer turned: what it was called before leaves at once.
                for other in [k for k, p in self._present.items() if p.track == sighting.track and k != key]:
                    self._leave(other, moment)
                self._present[key] = _Presence(moment, moment, sighting.track, similarity)
                self._present[key].unknown = sighting.unknown
                self._say("appear", key, moment, {"similarity": _rounded(similarity)})
            presence = self._present[key]
            presence.last, presence.track = moment, sighting.track
            if similarity is not None and (presence.best is None or similarity > presence.best):
                presence.best = similarity
        for key in [k for k, p in self._present.items() if moment - p.last > GONE_AFTER]:
            self._leave(key, self._present[key].last)

    def close(self, moment: float) -> None:
        """The source is over, or its connection lost: everybody leaves."""
        for key in list(self._present):
            self._leave(key, max(self._present[key].last, min(moment, self._present[key].last + GONE_AFTER)))

    def state(self, kind: str, moment: float, **more: Any) -> None:
        """Report the source itself ("reconnecting", "connected").

        Args:
            moment: of its last picture, seconds of the source.
        """
        self._emit({"type": kind, "time": round(moment, 3), "wall": _wall(), "source": self._source} | more)

    def _leave(self, key: tuple[str | None, int], moment: float) -> None:
        presence = self._present[key]
        more = {"duration": round(moment - presence.since, 3), "similarity": _rounded(presence.best)}
        self._say("leave", key, moment, more)
        del self._present[key]

    def _say(self, kind: str, key: tuple[str | None, int], moment: float, more: dict[str, Any]) -> None:
        presence = self._present[key]
        event = {
            "type": kind,
            "time": round(moment, 3),
            "wall": _wall(),
            "source": self._source,
            "name": key[0],
            "unknown": presence.unknown,
            "track": presence.track,
        }
        self._emit(event | more)


def _wall() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
