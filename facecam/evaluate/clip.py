"""A labelled clip against the truth: who was named when, rightly, wrongly, late, or not at all."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facecam.archive.analysis import Analysis
from facecam.engine import Engine
from facecam.evaluate.faces import facts
from facecam.evaluate.truth import Appearance
from facecam.evidence import Matches
from facecam.pipeline import Recogniser
from facecam.values import Frame
from facecam.video.sources import FileSource

#: Called with (frames done, frames in all or None).
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame as the tool labelled it.

    Attributes:
        index: of the frame; time: seconds from the first frame.
        tracks: (track, name or None) of each face, as `facecam label` writes it: named from its first frame on.
        live: names from the decision on, as `facecam run` shows them, which looks more often and may be sooner.
    """

    index: int
    time: float
    tracks: tuple[tuple[int, str | None], ...]
    live: frozenset[str] = frozenset()


def watch(recogniser: Recogniser, source: Iterable[Frame], progress: Progress, total: int | None) -> list[Seen]:
    """Label frames by the way of `facecam label`, and note what a live view would have shown at each."""
    shown: dict[int, frozenset[str]] = {}

    def watched() -> Iterator[Frame]:
        for frame in source:
            yield frame
            # Asked for the next frame, the recogniser has done with this one.
            names = (s.match.name for s in recogniser.sightings(frame.time) if s.decided)
            shown[frame.index] = frozenset(name for name in names if name is not None)
            progress(len(shown), total)

    analysis = Analysis(recogniser)
    records = list(analysis.records(watched()))  # boxes only; what a track is called is known at the end
    start = records[0].time if records else 0.0
    seen = []
    for record in records:
        results = ((face[0], analysis.results[face[0]]) for face in record.faces)
        tracks = tuple((track, result.match.name) for track, result in results if result.believed)
        seen.append(Seen(record.index, record.time - start, tracks, shown.get(record.index, frozenset())))
    return seen


@dataclass(slots=True)
class _Person:
    """Counts of one person, in frames; see `score`."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    switches: int = 0
    appearances: list[dict[str, Any]] = field(default_factory=list)

    def figures(self, enrolled: bool) -> dict[str, Any]:
        named, there = self.right + self.wrong, self.right + self.missed
        waits = [a["face_to_name"] for a in self.appearances if a["face_to_name"] is not None]
        return {
            "enrolled": enrolled,
            "precision": self.right / named if named else None,
            "recall": self.right / there if there else None,
            "f1": 2 * self.right / (named + there) if named + there else None,
            "frames": there,
            "named_right": self.right,
            "named_wrong": self.wrong,
            "identity_switches": self.switches,
            "time_to_name": waits[0] if waits else None,
            "appearances": self.appearances,
        }


def score(seen: Sequence[Seen], truth: Sequence[Appearance], enrolled: set[str]) -> dict[str, Any]:
    """Compare, frame by frame.

    A name in a frame is right when the truth has that person there; it is wrong when not, or when another face of
    the frame has it, too. What the truth does not require is neither asked for nor wrong. Faces are compared by
    their number, since a truth by time has no boxes.

    Args:
        seen: all frames of the clip, in order.
        enrolled: people of the gallery; others of the truth are strangers, whom any name is wrong for.
    """
    people: dict[str, _Person] = {a.name: _Person() for a in truth if a.name is not None and a.name in enrolled}
    faces = {"found": 0, "expected": 0, "hit": 0, "fitting": 0, "named": 0}
    wrong_before: Counter[tuple[int, str]] = Counter()
    false_names: list[dict[str, Any]] = []
    for frame in seen:
        there = [a for a in truth if a.covers(frame.index, frame.time)]
        names = {a.name for a in there if a.name is not None}
        required = {a.name for a in there if a.name is not None and a.required}
        given = Counter(name for _, name in frame.tracks if name is not None)
        for name in required & people.keys():
            people[name].right += name in given
            people[name].missed += name not in given
        wrong_now: Counter[tuple[int, str]] = Counter()
        taken: set[str] = set()
        for track, name in ((t, n) for t, n in frame.tracks if n is not None):
            if name in names and name not in taken:
                taken.add(name)
                continue
            people.setdefault(name, _Person()).wrong += 1
            wrong_now[(track, name)] += 1
            if (track, name) in wrong_before:
                next(f for f in reversed(false_names) if (f["track"], f["name"]) == (track, name))["frames"] += 1
            else:
                false_names.append(
                    {"name": name, "track": track, "start": round(frame.time, 3), "frame": frame.index, "frames": 1}
                )
        wrong_before = wrong_now
        faces["found"] += len(frame.tracks)
        faces["named"] += sum(given.values())
        faces["expected"] += (asked := sum(a.required for a in there))
        faces["hit"] += min(asked, len(frame.tracks))
        faces["fitting"] += min(len(there), len(frame.tracks))
    for appearance in truth:
        if appearance.name is not None and appearance.required and appearance.name in enrolled:
            follow(seen, appearance, people[appearance.name])
    minutes = _duration(seen) / 60
    rows = {name: person.figures(name in enrolled) for name, person in sorted(people.items())}
    right, wrong, missed = (sum(getattr(p, key) for p in people.values()) for key in ("right", "wrong", "missed"))
    return {
        "precision": right / (right + wrong) if right + wrong else None,
        "recall": right / (right + missed) if right + missed else None,
        "f1": 2 * right / (2 * right + wrong + missed) if right + wrong + missed else None,
        "false_names": len(false_names),
        "false_names_per_minute": len(false_names) / minutes if minutes else None,
        "false_name_frames": sum(entry["frames"] for entry in false_names),
        "identity_switches": sum(person.switches for person in people.values()),
        "time_to_name": max((r["time_to_name"] for r in rows.values() if r["time_to_name"] is not None), default=None),
        "faces": {
            "found": faces["found"],
            "expected": faces["expected"],
            "recall": faces["hit"] / faces["expected"] if faces["expected"] else None,
            "precision": faces["fitting"] / faces["found"] if faces["found"] else None,
            "named": faces["named"],
        },
        "people": rows,
        "false_name_list": false_names,
    }


def follow(seen: Sequence[Seen], appearance: Appearance, person: _Person) -> None:
    """One appearance of a person: when the face was first seen and first named, and how often its track changed."""
    name = appearance.name
    assert name is not None
    inside = [frame for frame in seen if appearance.covers(frame.index, frame.time)]
    if not inside:
        return
    carriers = [[track for track, n in frame.tracks if n == name] for frame in inside]
    last: int | None = None
    for tracks in carriers:
        if tracks and last not in tracks:
            person.switches += last is not None
            last = tracks[0]
    mine = {track for tracks in carriers for track in tracks}
    start = inside[0].time
    face = next((f.time for f in inside if any(track in mine for track, _ in f.tracks)), None)
    named = next((f.time for f in inside if name in f.live), None)
    person.appearances.append(
        {
            "start": round(start, 3),
            "frames": len(inside),
            "first_face": None if face is None else round(face - start, 3),
            "first_name": None if named is None else round(named - start, 3),
            "face_to_name": None if face is None or named is None else round(max(0.0, named - face), 3),
        }
    )


def _duration(seen: Sequence[Seen]) -> float:
    """Seconds: from the first frame until the last one stops being shown."""
    if len(seen) < 2:
        return 0.0
    return seen[-1].time + (seen[-1].time - seen[0].time) / (len(seen) - 1)


def run_clip(
    engine: Engine,
    matcher: Matches,
    clip: Path,
    truth: Sequence[Appearance],
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Label a clip and compare; the result is ready for JSON.

    Raises:
        MediaError: the clip cannot be decoded.
    """
    with FileSource(clip) as source:
        seen = watch(engine.recogniser(matcher), source, progress, source.info.frames)
    with clip.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    data = {
        "clip": clip.name,
        "clip_sha256": digest,
        "frames": len(seen),
        "seconds": round(_duration(seen), 3),
        "people_enrolled": len(matcher),
        "truth_appearances": len(truth),
    }
    return facts(engine, "clip", data) | {"threshold": matcher.threshold} | score(seen, truth, set(matcher.names))
