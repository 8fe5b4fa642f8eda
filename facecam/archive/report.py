"""The text outputs of a labelled video: sightings as JSON lines, the timeline as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final

from facecam.archive.analysis import Record, TrackResult
from facecam.engine import Engine
from facecam.values import Box, Interval, Match, SourceInfo

SCHEMA: Final = "facecam.sightings/1"
CSV_COLUMNS: Final = (
    "source",
    "name",
    "start",
    "end",
    "duration",
    "frames",
    "similarity_mean",
    "similarity_max",
    "track",
)


def header(source: str, info: SourceInfo | None, engine: Engine, threshold: float) -> dict[str, Any]:
    """The first line of a sightings file."""
    line: dict[str, Any] = {"type": "header", "schema": SCHEMA, "source": source}
    if info is not None:
        line |= {
            "width": info.width,
            "height": info.height,
            "fps": _rounded(info.fps, 4),
            "duration": _rounded(info.duration, 4),
            "start_time": _rounded(info.start_time, 6),
        }
    return line | {"models": engine.models, "threshold": threshold, "device": engine.device.name}


def face_fields(box: Box, score: float, match: Match, unknown: int | None, width: int, height: int) -> dict[str, Any]:
    """A face as it stands in the outputs: its box cut to the picture, numbers rounded to what they mean."""
    x0, y0 = max(0.0, box[0]), max(0.0, box[1])
    x1, y1 = min(float(width), box[0] + box[2]), min(float(height), box[1] + box[3])
    runner_up = None
    if match.runner_up is not None:
        runner_up = {"name": match.runner_up[0], "similarity": _rounded(match.runner_up[1], 4)}
    return {
        "box": [round(v, 1) for v in (x0, y0, max(0.0, x1 - x0), max(0.0, y1 - y0))],
        "score": round(score, 3),
        "name": match.name,
        "unknown": unknown,
        "similarity": _rounded(match.similarity, 4),
        "runner_up": runner_up,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


@dataclass(slots=True)
class _Span:
    start: float
    end: float
    frames: int = 0


@dataclass(slots=True)
class Timeline:
    """Gathers, while frames go by, when each track was seen.

    Attributes:
        frames, frames_with_faces, faces: counts.
    """

    info: SourceInfo
    frames: int = 0
    frames_with_faces: int = 0
    faces: int = 0
    _spans: dict[int, _Span] = field(default_factory=dict)
    _last: list[int] = field(default_factory=list)
    _time: float = 0.0
    _step: float = 0.0

    def add(self, time: float, tracks: Iterable[int]) -> None:
        """Take the next frame: its time (seconds from the start) and the tracks seen in it."""
        tracks = list(tracks)
        if self.frames:
            self._step = max(0.0, time - self._time)
            for track in self._last:  # a frame is shown until the next one comes
                self._spans[track].end = time
        for track in tracks:
            span = self._spans.setdefault(track, _Span(time, time))
            span.frames += 1
        self.frames += 1
        self.faces += len(tracks)
        self.frames_with_faces += bool(tracks)
        self._last, self._time = tracks, time

    def intervals(self, source: str, results: Mapping[int, TrackResult]) -> list[Interval]:
        """The rows of timeline.csv, in order of appearance."""
        step = self._step or (1 / self.info.fps if self.info.fps else 0.0)
        for track in self._last:
            self._spans[track].end = self._time + step
        rows = []
        for track, span in sorted(self._spans.items(), key=lambda item: (item[1].start, item[0])):
            result = results[track]
            rows.append(
                Interval(
                    source, result.match.name, span.start, span.end, span.frames, result.mean, result.highest, track
                )
            )
        return rows


def write_csv(file: IO[str], rows: Iterable[Interval]) -> None:
    """timeline.csv; an unknown has an empty name."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        writer.writerow(
            [
                _cell(row.source),
                _cell(row.name or ""),
                f"{row.start:.3f}",
                f"{row.end:.3f}",
                f"{row.duration:.3f}",
                row.frames,
                "" if row.similarity_mean is None else f"{row.similarity_mean:.4f}",
                "" if row.similarity_max is None else f"{row.similarity_max:.4f}",
                row.track,
            ]
        )


def _cell(text: str) -> str:
    """A spreadsheet must not run a name as a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def summary(timeline: Timeline, rows: Iterable[Interval], timing: dict[str, Any], damaged: int) -> dict[str, Any]:
    """The last line of a sightings file."""
    people: dict[str, dict[str, Any]] = {}
    tracks = unknown = 0
    for row in rows:
        tracks += 1
        if row.name is None:
            unknown += 1
            continue
        entry = people.setdefault(row.name, {"frames": 0, "seconds": 0.0, "first": row.start, "last": row.end})
        entry["frames"] += row.frames
        entry["seconds"] += row.duration
        entry["first"], entry["last"] = min(entry["first"], row.start), max(entry["last"], row.end)
    for entry in people.values():
        entry |= {key: round(entry[key], 3) for key in ("seconds", "first", "last")}
    return {
        "type": "summary",
        "frames": timeline.frames,
        "frames_with_faces": timeline.frames_with_faces,
        "faces": timeline.faces,
        "tracks": tracks,
        "unknown_tracks": unknown,
        "people": people,
        "damaged": damaged,
        "timing": timing,
    }


def frame_line(record: Record, start: float, info: SourceInfo, results: Mapping[int, TrackResult]) -> dict[str, Any]:
    """One frame of a sightings file; faces that proved to be none are left out."""
    faces = []
    for track, box, score in record.faces:
        result = results[track]
        if result.believed:
            faces.append(
                {"track": track, **face_fields(box, score, result.match, result.unknown, info.width, info.height)}
            )
    return {"type": "frame", "frame": record.index, "time": round(record.time - start, 4), "faces": faces}


def dump(line: Mapping[str, Any]) -> str:
    """One JSON line."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


class PhotoTable:
    """photos.csv: a row a face; a photo without one has a row with empty columns."""

    COLUMNS: Final = ("source", "face", "name", "x", "y", "w", "h", "score", "similarity")

    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(self.COLUMNS)

    def add(self, source: str, faces: list[dict[str, Any]]) -> None:
        """Take a photo's faces as they stand in the sightings file."""
        if not faces:
            self._writer.writerow([_cell(source), 0] + [""] * (len(self.COLUMNS) - 2))
        for number, face in enumerate(faces, 1):
            similarity = face["similarity"]
            self._writer.writerow(
                [_cell(source), number, _cell(face["name"] or ""), *face["box"], face["score"],
                 "" if similarity is None else f"{similarity:.4f}"]
            )  # fmt: skip
