"""What report.html tells, computed: totals of people, who was seen together, which pictures fit in."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from facecam.archive.inputs import VIDEO
from facecam.archive.presence import Appearance, FileSeen, Who, called, joined, together
from facecam.people.names import escaped

#: Characters of base64 that all pictures of a report may take: a page of this size opens at once.
PICTURE_BUDGET: Final = 12_000_000
#: Pictures of one numbered stranger, and strangers without a number that get a picture.
OF_STRANGER: Final = 4
NAMELESS: Final = 300
#: Pairs of people listed as seen together, the most often together first.
PAIRS: Final = 200
#: Stretches of one person in one file at most; beyond, near ones are joined until they fit.
STRETCHES: Final = 2000

_NOBODY: Final[Who] = (None, None)


@dataclass(slots=True)
class _Person:
    """Totals of one person over the run."""

    seconds: float = 0.0
    times: int = 0
    videos: int = 0
    photos: int = 0
    pictures: list[tuple[float, bytes]] = field(default_factory=list)


class _Pictures:
    """The pictures of the page, each once, until the budget is used up."""

    def __init__(self, budget: int) -> None:
        self.coded: list[str] = []
        self._known: dict[bytes, int] = {}
        self._left = budget

    def take(self, picture: bytes | None) -> int:
        """Its number; -1 without one, or when there is no room."""
        if picture is None:
            return -1
        if picture not in self._known:
            text = base64.b64encode(picture).decode("ascii")
            if len(text) > self._left:
                return -1
            self._left -= len(text)
            self._known[picture] = len(self.coded)
            self.coded.append(text)
        return self._known[picture]


def digest(
    files: Iterable[FileSeen], folder: Path, failures: Sequence[str] = (), budget: int = PICTURE_BUDGET
) -> dict[str, Any]:
    """The data of the page, ready for JSON; short keys, since some lists are long (``page/report.js`` names them).

    Args:
        folder: of the page; links are relative to it.
    """
    files = list(files)
    people: dict[Who, _Person] = {}
    pairs: dict[tuple[Who, Who], list[float]] = {}
    for seen in files:
        _count(seen, people, pairs)
    order = sorted(people, key=lambda who: (who[0] is None, -people[who].seconds, -people[who].photos, called(who)))
    number = {who: i for i, who in enumerate(order)}
    pictures = _Pictures(budget)
    rows = []
    for who in order:
        entry = people[who]
        best = sorted(entry.pictures, key=lambda pair: -pair[0])
        wanted = 0 if who == _NOBODY else OF_STRANGER if who[0] is None else 1
        taken = list(dict.fromkeys(n for n in (pictures.take(picture) for _, picture in best[:wanted]) if n >= 0))
        rows.append(
            {
                "n": escaped(called(who)),
                "u": None if who[0] is not None else -1 if who[1] is None else who[1],
                "g": taken,
                "t": round(entry.seconds, 2),
                "c": entry.times,
                "v": entry.videos,
                "p": entry.photos,
            }
        )
    nameless = _nameless(files, pictures)
    top = sorted(pairs.items(), key=lambda item: (-item[1][0], -item[1][1], [number[who] for who in item[0]]))
    return {
        "people": rows,
        "files": [_file(seen, folder, number, pictures) | {"n": name} for seen, name in zip(files, _names(files))],
        "nameless": nameless,
        "pairs": [[number[a], number[b], round(s, 2), int(p)] for (a, b), (s, p) in top[:PAIRS]],
        "failures": [escaped(line) for line in failures],
        "pictures": pictures.coded,
    }


def _count(seen: FileSeen, people: dict[Who, _Person], pairs: dict[tuple[Who, Who], list[float]]) -> None:
    """Add one file to the totals."""
    video = seen.kind == VIDEO
    spans, told = joined(seen.appearances, gap=0.0), joined(seen.appearances)
    for who, mine in spans.items():
        entry = people.setdefault(who, _Person())
        entry.seconds += sum(span.duration for span in mine)
        entry.times += len(told[who])
        entry.videos += video
        entry.photos += not video
    for appearance in seen.appearances:
        if appearance.picture is not None:
            people[appearance.who].pictures.append((_worth(appearance), appearance.picture))
    known = {who: mine for who, mine in spans.items() if who != _NOBODY}
    if video:
        for pair, seconds in together(known).items():
            pairs.setdefault(_sorted(pair), [0.0, 0.0])[0] += seconds
    else:
        there = list(known)
        for i, first in enumerate(there):
            for second in there[i + 1 :]:
                pairs.setdefault(_sorted((first, second)), [0.0, 0.0])[1] += 1


def _sorted(pair: tuple[Who, Who]) -> tuple[Who, Who]:
    first, second = pair
    return (second, first) if _key(second) < _key(first) else pair


def _key(who: Who) -> tuple[bool, str, int]:
    return who[0] is None, who[0] or "", who[1] or 0


def _worth(appearance: Appearance) -> float:
    """Of several pictures of a person the one of the longest appearance is shown; a photo counts as seconds."""
    return (appearance.end - appearance.start) + 10 * (appearance.similarity or 0.0)


def _nameless(files: Sequence[FileSeen], pictures: _Pictures) -> list[list[float]]:
    """Picture, file and time of strangers without a number, the longest seen first."""
    found = [
        (-_worth(a), i, a) for i, seen in enumerate(files) for a in seen.appearances if a.who == _NOBODY and a.picture
    ]
    found.sort(key=lambda entry: (entry[0], entry[1], entry[2].track))
    shown = [[pictures.take(a.picture), i, round(a.start, 2)] for _, i, a in found[:NAMELESS]]
    return [entry for entry in shown if entry[0] >= 0]


def _file(seen: FileSeen, folder: Path, number: dict[Who, int], pictures: _Pictures) -> dict[str, Any]:
    best: dict[Who, Appearance] = {}
    for appearance in seen.appearances:
        if appearance.picture is not None and (
            appearance.who not in best or _worth(appearance) > _worth(best[appearance.who])
        ):
            best[appearance.who] = appearance
    exact = joined(seen.appearances, gap=0.0)
    faces = Counter(a.who for a in seen.appearances)
    lanes: list[dict[str, Any]] = []
    for who, spans in _fitting(seen).items():
        times: list[float | None] = []
        for span in spans:
            times += [round(span.start, 2), round(span.end, 2)]
            times.append(None if span.similarity is None else round(span.similarity, 2))
        picture = best[who].picture if who in best else None
        lanes.append(
            {
                "i": number[who],
                "k": pictures.take(picture),
                "t": round(sum(s.duration for s in exact[who]), 2),
                "c": faces[who],
                "s": times,
            }
        )
    lanes.sort(key=lambda lane: lane["i"])
    ends = [a.end for a in seen.appearances]
    video = seen.kind == VIDEO
    return {
        "k": "v" if video else "p",
        "h": href(seen.shown or seen.path, folder),
        "o": href(seen.path, folder) if seen.shown else None,
        "z": player_offset(seen.shown or seen.path) if video else 0,
        "d": round(max([seen.duration or 0.0, *ends]), 2),
        "x": seen.damaged,
        "l": lanes,
    }


def _names(files: Sequence[FileSeen]) -> list[str]:
    """How the files are listed: from where their folders part."""
    sources = [seen.source.replace(os.sep, "/") for seen in files]
    folders = [source.split("/")[:-1] for source in sources]
    common = 0
    if len(folders) > 1:
        common = next((i for i, parts in enumerate(zip(*folders)) if len(set(parts)) > 1), min(map(len, folders)))
    return [escaped("/".join(source.split("/")[common:])) for source in sources]


def _fitting(seen: FileSeen) -> dict[Who, list[Any]]:
    """Stretches for the timeline: with a gap that keeps their number within what a page can draw."""
    gap = 1.0
    while True:
        spans = joined(seen.appearances, gap)
        if gap > 1e6 or all(len(mine) <= STRETCHES for who, mine in spans.items() if who != _NOBODY):
            return {who: mine[:STRETCHES] for who, mine in spans.items()}
        gap *= 2


def href(target: Path, folder: Path) -> str:
    """A link from a page in ``folder`` to a file: relative, so that both can be moved together."""
    try:
        text = os.path.relpath(os.path.abspath(target), os.path.abspath(folder))
    except ValueError:  # another drive
        return Path(target).absolute().as_uri()
    path = quote(os.fsencode(text.replace(os.sep, "/")), safe="/")
    # Never a bare name: a file called "javascript:x" must stay a file.
    return path if path.startswith("../") else "./" + path


def player_offset(video: Path) -> float:
    """Seconds that a player shows at the video's first frame: players count from the first sound or picture.

    0 where the file cannot be read any more.
    """
    import av

    try:
        place = f"file:{os.path.abspath(video)}"  # a name with a colon is no protocol, a playlist no video
        with av.open(place, options={"protocol_whitelist": "file"}, metadata_errors="replace") as container:
            starts = [
                (stream.type, float(stream.start_time * stream.time_base))
                for stream in container.streams
                if stream.type in ("video", "audio") and stream.start_time is not None and stream.time_base
            ]
    except (av.FFmpegError, OSError):
        return 0.0
    first = next((start for kind, start in starts if kind == "video"), 0.0)
    return round(max(0.0, first - min((start for _, start in starts), default=0.0)), 3)
