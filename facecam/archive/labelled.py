"""What came of an input, as an index tells it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from facecam.archive import report
from facecam.archive.index import ArchiveIndex, Entry
from facecam.archive.inputs import PHOTO, VIDEO


@dataclass(slots=True)
class Labelled:
    """What came of one input.

    Attributes:
        people: name -> seconds (video) or faces (photo); unknown: tracks or faces without a name.
        outputs: files written. kept: they were written by an earlier run.
        frames, seconds: work done and how long it took. warnings: lines about the sound that a user should read.
    """

    path: Path
    kind: str = VIDEO
    people: dict[str, float] = field(default_factory=dict)
    unknown: int = 0
    frames: int = 0
    seconds: float = 0.0
    damaged: int = 0
    outputs: list[Path] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept: bool = False


def labelled(entry: Entry, index: ArchiveIndex) -> Labelled:
    """What came of a file of the index."""
    done = Labelled(entry.item.path, entry.item.kind)
    done.path = Path(entry.source)
    seen = index.answers(entry.id)
    counts = entry.info.get("counts", {})
    if entry.item.kind == PHOTO:
        done.people = dict(Counter(s.result.match.name for s in seen.values() if s.result.match.name is not None))
        done.unknown = sum(s.result.match.name is None for s in seen.values())
        done.frames = 1
    else:
        spans = {track: (s.start, s.stop, s.frames) for track, s in seen.items() if s.result.believed}
        rows = report.intervals(entry.source, spans, {track: s.result for track, s in seen.items()})
        last = report.summary(counts, rows, {}, 0)
        done.people = {name: values["seconds"] for name, values in last["people"].items()}
        done.unknown = last["unknown_tracks"]
        done.frames = counts["frames"]
    timing = entry.info.get("timing", {})
    done.seconds = timing.get("seconds", 0.0) + entry.outputs.get("seconds", 0.0)
    done.damaged = entry.info.get("damaged", 0)
    done.outputs = [Path(name) for name in entry.outputs.get("shown", [])]
    return done
