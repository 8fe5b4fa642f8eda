"""The text outputs of a labelled video: sightings as JSON lines, the timeline as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

import numpy as np

from facecam.archive.naming import TrackResult
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


#: A box in hundredths of a pixel.
Hundredths = tuple[int, int, int, int]


def hundredths(box: Box) -> Hundredths:
    """A box as `pieces.Packer` keeps it."""
    x, y, w, h = (round(round(float(v), 2) * 100) for v in box)
    return x, y, w, h


def clipped(box: Any, width: int, height: int) -> Any:
    """A box cut to a picture of so many hundredths; or four arrays of such numbers."""
    x, y, w, h = box
    left, top = np.maximum(x, 0), np.maximum(y, 0)
    return left, top, np.maximum(np.minimum(x + w, width) - left, 0), np.maximum(np.minimum(y + h, height) - top, 0)


def _tenths(value: int) -> float:
    """Hundredths of a pixel as they are written."""
    return round(value / 100, 1)


def identity(match: Match, unknown: int | None) -> dict[str, Any]:
    """Who a face is, as it stands in the outputs."""
    runner_up = None
    if match.runner_up is not None:
        runner_up = {"name": match.runner_up[0], "similarity": _rounded(match.runner_up[1], 4)}
    return {
        "name": match.name,
        "unknown": unknown,
        "similarity": _rounded(match.similarity, 4),
        "runner_up": runner_up,
    }


def face_fields(box: Box, score: float, match: Match, unknown: int | None, width: int, height: int) -> dict[str, Any]:
    """A face as it stands in the outputs: its box cut to the picture, numbers rounded to what they mean."""
    return {
        "box": [_tenths(int(v)) for v in clipped(hundredths(box), width * 100, height * 100)],
        "score": round(score, 3),
        **identity(match, unknown),
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
                self._spans[track].end = max(self._spans[track].end, time)
        for track in tracks:
            span = self._spans.setdefault(track, _Span(time, time))
            span.frames += 1
        self.frames += 1
        self.faces += len(tracks)
        self.frames_with_faces += bool(tracks)
        self._last, self._time = tracks, time

    def spans(self) -> dict[int, tuple[float, float, int]]:
        """track -> start and end (seconds from the first frame), number of frames."""
        step = self._step or (1 / self.info.fps if self.info.fps else 0.0)
        for track in self._last:
            self._spans[track].end = max(self._spans[track].end, self._time + step)
        return {track: (span.start, span.end, span.frames) for track, span in sorted(self._spans.items())}


def intervals(
    source: str, spans: Mapping[int, tuple[float, float, int]], results: Mapping[int, TrackResult]
) -> list[Interval]:
    """The rows of timeline.csv, in order of appearance.

    Args:
        spans: see `Timeline.spans`; of tracks that are believed.
    """
    rows = []
    for track, (start, end, frames) in sorted(spans.items(), key=lambda item: (item[1][0], item[0])):
        result = results[track]
        rows.append(Interval(source, result.match.name, start, end, frames, result.mean, result.highest, track))
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


def summary(
    counts: Mapping[str, int], rows: Iterable[Interval], timing: dict[str, Any], damaged: int
) -> dict[str, Any]:
    """The last line of a sightings file.

    Args:
        counts: frames, frames_with_faces, faces of the `Timeline`.
    """
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
        **{name: counts[name] for name in ("frames", "frames_with_faces", "faces")},
        "tracks": tracks,
        "unknown_tracks": unknown,
        "people": people,
        "damaged": damaged,
        "timing": timing,
    }


class _Texts(dict[int, str]):
    """Whole numbers -> how they are written; each is worked out once."""

    def __init__(self, text: Callable[[int], str]) -> None:
        super().__init__()
        self._text = text

    def __missing__(self, value: int) -> str:
        text = self[value] = self._text(value)
        return text


class FrameLines:
    """The lines of frames in a sightings file.

    An hour has a hundred thousand of them, and a relabelling writes them all anew: what is the same for all frames
    of a track is coded once.
    """

    def __init__(self, info: SourceInfo, results: Mapping[int, TrackResult], largest: tuple[int, int] = (0, 0)) -> None:
        """Start.

        Args:
            results: of all tracks; faces that proved to be none are left out.
            largest: width and height of the largest picture, where they change: a box is in pixels of its own.
        """
        self._width, self._height = (max(a, b) * 100 for a, b in zip((info.width, info.height), largest))
        self._start = info.start_time
        self._tails = {
            track: dump(identity(result.match, result.unknown))[1:-1]
            for track, result in results.items()
            if result.believed
        }
        self._lengths = _Texts(lambda value: repr(_tenths(value)))
        self._scores = _Texts(lambda value: repr(round(value / 10_000, 3)))

    def lines(
        self, indices: Sequence[int], times: Sequence[float], counts: Sequence[int], faces: Any, ids: Mapping[int, int]
    ) -> Iterator[str]:
        """The lines of a segment, their ends included, as `dump` would write them.

        Args:
            indices: of the frames in the file. times, counts, faces: of `pieces.arrays`.
            ids: the segment's tracks -> tracks of the file.
        """
        lengths, scores = self._lengths, self._scores
        heads = {track: f'{{"track":{ids[track]},"box":[' for track in ids}
        tails = {track: self._tails.get(ids[track]) for track in ids}
        boxes = clipped(faces["box"].T, self._width, self._height)
        texts = [
            f'{heads[t]}{lengths[x]},{lengths[y]},{lengths[w]},{lengths[h]}],"score":{scores[s]},{tails[t]}'
            if tails[t] is not None
            else ""
            for t, x, y, w, h, s in zip(
                faces["track"].tolist(), *(side.tolist() for side in boxes), faces["score"].tolist()
            )
        ]
        at = 0
        for index, time, count in zip(indices, times, counts):
            seen = ",".join(filter(None, texts[at : at + count])) if count else ""
            at += count
            yield f'{{"type":"frame","frame":{index},"time":{round(time - self._start, 4)!r},"faces":[{seen}]}}\n'


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
