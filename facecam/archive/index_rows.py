"""Rows of an archive index to values and back."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from facecam.archive.inputs import Item
from facecam.archive.naming import Part, TrackResult
from facecam.archive.pieces import Edges
from facecam.people.records import Portrait
from facecam.people.rows import points_of
from facecam.values import Image, Match

#: A segment's limits: presentation times, seconds; None: the file's own beginning or end.
Limits = tuple[float | None, float | None]


@dataclass(slots=True)
class Entry:
    """A file of the index.

    Attributes:
        item: path and kind, and the stem of its outputs; source: how outputs call it. state: see `index_schema`.
        info: source (fields of SourceInfo), header (of the sightings), counts (of the timeline).
        outputs: what was written for it: see `outputs`. problem: why it failed.
    """

    id: int
    item: Item
    source: str
    state: str
    space: str
    size: int
    modified: int
    digest: str
    params: str
    info: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A track of the index: the answer, and when it shows (seconds from the file's first frame; frames)."""

    result: TrackResult
    start: float
    stop: float
    frames: int
    given: str | None = None


COLUMNS: Final = "id, path, source, stem, kind, state, space, size, modified, digest, params, info, outputs, problem"
FACTS: Final = ("frames", "taken", "damaged", "seconds", "stages", "detections", "embeddings", "size")
PART: Final = (
    *("segment", "track", "believed", "until", "since", "weight", "count", "best", "decided", "total", "views"),
    *("scheme", "landmarks", "quality", "picture"),
)
SEEN: Final = (
    "track, believed, name, unknown, given, candidate, similarity, second, second_similarity, mean, highest,"
    " start, stop, frames"
)


def as_bytes(path: Path | str) -> bytes:
    return os.fsencode(path)


def as_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def entry_of(row: tuple[Any, ...]) -> Entry:
    id, path, source, stem, kind, state, space, size, modified, digest, params, info, outputs, problem = row
    item = Item(Path(os.fsdecode(path)), kind, os.fsdecode(stem))
    return Entry(
        id, item, os.fsdecode(source), state, space, size, modified, digest, params,
        json.loads(info), json.loads(outputs), problem,
    )  # fmt: skip


def part_out(segment: int, part: Part) -> tuple[Any, ...]:
    picture = part.portrait
    return (
        segment, part.track, int(part.believed), float(part.until), None if part.since is None else float(part.since),
        float(part.weight), part.count, float(part.best), int(part.decided),
        None if part.total is None else part.total.astype("<f8").tobytes(),
        b"".join(view.astype("<f4").tobytes() for view in part.views),
        *((picture.scheme, None if picture.landmarks is None else picture.landmarks.astype("<f4").tobytes(),
           float(picture.quality), picture.image) if picture is not None else (None, None, None, None)),
    )  # fmt: skip


def part_in(row: tuple[Any, ...]) -> Part:
    track, believed, until, since, weight, count, best, decided, total, views, *picture = row
    vector = None if total is None else np.frombuffer(total, "<f8").astype(np.float64)
    rows = np.frombuffer(views, "<f4").astype(np.float32)
    portrait = None
    if picture and picture[3] is not None:
        portrait = Portrait(picture[3], picture[2], points_of(picture[1]), picture[0])
    split = [] if vector is None or not rows.size else list(rows.reshape(-1, vector.size))
    return Part(track, bool(believed), until, since, vector, weight, count, best, bool(decided), split, portrait)


def seen_out(file: int, track: int, seen: Seen) -> tuple[Any, ...]:
    result, match = seen.result, seen.result.match
    second, second_similarity = match.runner_up or (None, None)
    return (
        file, track, int(result.believed), match.name, result.unknown, seen.given, match.candidate, match.similarity,
        second, second_similarity, result.mean, result.highest, seen.start, seen.stop, seen.frames,
    )  # fmt: skip


def seen_in(row: tuple[Any, ...]) -> Seen:
    believed, name, unknown, given, candidate, similarity, second, second_similarity, mean, highest, *when = row
    runner_up = None if second is None else (second, second_similarity)
    match = Match(name, similarity, runner_up, candidate)
    return Seen(TrackResult(match, bool(believed), mean, highest, unknown), when[0], when[1], when[2], given)


def edges_out(edges: Edges) -> dict[str, Any]:
    lumas = {
        name: None if luma is None else [*luma.shape, base64.b64encode(luma.tobytes()).decode()]
        for name, luma in (("first_luma", edges.first_luma), ("last_luma", edges.last_luma))
    }
    return {"first": edges.first, "last": edges.last, "since": edges.since, "until": edges.until, **lumas}


def edges_in(value: dict[str, Any]) -> Edges:
    def luma(entry: Any) -> Image | None:
        if entry is None:
            return None
        rows, columns, text = entry
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(rows, columns)

    first, last = ([(int(t), tuple(box)) for t, box in value[end]] for end in ("first", "last"))
    return Edges(
        first,
        last,
        value["since"],
        value["until"],
        luma(value["first_luma"]),
        luma(value["last_luma"]),
    )
