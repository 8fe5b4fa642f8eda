"""Segments of one video become one again: tracks that a border cut are joined, as one pass would have had them.

A segment is analysed by a recogniser of its own, which knows nothing of the segment before. What happens at a
border in one pass is done here from what both sides tell: a face goes on where its boxes agree and no cut lies
between; a face that comes back within seconds and alike enough keeps what was known of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from facecam.archive.naming import Part
from facecam.archive.pieces import Edges
from facecam.evidence import ENOUGH_QUALITY, ENOUGH_VECTORS, RETURN_SECONDS, Likeness
from facecam.pipeline import CutTest
from facecam.values import Frame, Image
from facecam.vision.track import affinity

#: Vectors of a track that are kept for its mean and highest similarity, as `pipeline.Evidence.views`.
VIEWS: Final = 32


@dataclass(slots=True)
class Merged:
    """The tracks of a whole file.

    Attributes:
        parts: by track. together: see `Analysis.together`.
        ids: for each segment, its tracks -> tracks of the file.
    """

    parts: dict[int, Part] = field(default_factory=dict)
    together: set[tuple[int, int]] = field(default_factory=set)
    ids: list[dict[int, int]] = field(default_factory=list)


#: What joining takes of a segment: its tracks, the pairs seen together, its ends.
Segment = tuple[list[Part], set[tuple[int, int]], Edges]


def merge(segments: Iterable[Segment], likeness: Likeness) -> Merged:
    """Join the segments of a file, in order. A single one stays exactly as it is.

    Args:
        segments: are not changed.
        likeness: what vectors of one face have in common, of the embedder in use.
    """
    merged = Merged()
    before: Edges | None = None
    recent: list[int] = []
    highest = 0
    for parts, together, edges in segments:
        joined = {} if before is None else _joined(merged, before, parts, edges, likeness)
        ids = {part.track: joined.get(part.track, part.track + highest) for part in parts}
        border = set(joined.values())
        gone = [track for track in recent if track not in border]
        for part in sorted(parts, key=lambda p: (p.until if p.since is None else p.since, p.track)):
            track = ids[part.track]
            if part.track in joined:
                merged.parts[track] = _one(merged.parts[track], part)
            else:
                merged.parts[track] = _returned(merged, gone, replace(part, track=track), likeness)
        merged.together |= {(min(ids[a], ids[b]), max(ids[a], ids[b])) for a, b in together if ids[a] != ids[b]}
        merged.ids.append(ids)
        recent = sorted(set(ids.values()))
        highest = max(highest, *ids.values()) if ids else highest
        before = replace(edges, last=[(ids[track], box) for track, box in edges.last])
    return merged


def _joined(merged: Merged, before: Edges, parts: list[Part], after: Edges, likeness: Likeness) -> dict[int, int]:
    """Tracks at the beginning of a segment -> tracks of the file that they go on with."""
    if _is_cut(before.last_luma, after.first_luma):
        return {}
    mine = {part.track: part for part in parts}
    pairs = sorted(
        (
            (-affinity(old_box, box), old, track)
            for old, old_box in before.last
            for track, box in after.first
            if min(*old_box[2:], *box[2:]) > 0 and affinity(old_box, box) > 0
        )
    )
    joined: dict[int, int] = {}
    for _, old, track in pairs:
        if track in joined or old in joined.values() or track not in mine:
            continue
        one, other = merged.parts[old], mine[track]
        if one.erased != other.erased:
            continue  # what was erased was erased in all segments of its track
        if one.total is None or other.total is None or float(one.vector @ other.vector) >= likeness.doubt:
            joined[track] = old
    return joined


def _is_cut(last: Image | None, first: Image | None) -> bool:
    if last is None or first is None:
        return False
    test = CutTest()
    return [test.is_cut(_thumbnail(luma)) for luma in (last, first)][1]


def _thumbnail(luma: Image) -> Frame:
    size = luma.shape[1], luma.shape[0]
    return Frame(0, 0.0, size=size, make_image=lambda: luma, make_luma=lambda: luma)


def _one(first: Part, second: Part) -> Part:
    """Two parts of a track, the first before the second."""
    part = _with(second, first)
    best = max((p.portrait for p in (first, second) if p.portrait), key=lambda p: p.quality, default=None)
    return replace(
        part,
        track=first.track,
        believed=True,  # each has a hit
        since=first.since if first.since is not None else second.since,
        views=(first.views + second.views)[-VIEWS:],
        portrait=best,
    )


def _with(part: Part, old: Part) -> Part:
    """A part that knows what an older one knew."""
    if old.total is None:
        return part
    total = old.total if part.total is None else old.total + part.total
    weight, count = old.weight + part.weight, old.count + part.count
    decided = old.decided or part.decided or weight >= ENOUGH_QUALITY**2 or count >= ENOUGH_VECTORS
    return replace(part, total=total, weight=weight, count=count, best=max(old.best, part.best), decided=decided)


def _returned(merged: Merged, gone: list[int], part: Part, likeness: Likeness) -> Part:
    """A part that begins in a new segment; the face may have left a moment ago, in the one before."""
    if part.since is None or not part.views or part.count > VIEWS:
        return part
    similar = [
        (float(merged.parts[old].vector @ part.views[0]), -old)
        for old in gone
        if merged.parts[old].total is not None and 0 <= part.since - merged.parts[old].until <= RETURN_SECONDS
    ]
    if not similar or max(similar)[0] < likeness.returns:
        return part
    old = -max(similar)[1]
    gone.remove(old)
    return _with(part, merged.parts[old])
