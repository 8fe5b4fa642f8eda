"""Which pictures belong together: copies of one content, and pictures of one sitting, never part in a split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.data import Item

#: What a file name says of the sitting it comes from: "session2_07", "video3-0012", "2024-05-01_18".
_SESSION = re.compile(r"(?i)(?<![a-z])((?:session|sess|sitting|video|clip|cam)[-_ ]?\d+|20\d\d-?\d\d-?\d\d)")


def session(path: Path) -> str | None:
    """The sitting that a file name tells of (one person, one session or day), or None."""
    found = _SESSION.search(path.stem)
    return f"{path.parent.name}/{found.group(1).lower()}" if found else None


def joined(items: Sequence[Item]) -> list[Item]:
    """The items with one group for all of a class that hang together by content or by sitting, through any others.

    A group keeps the name of its (first) sitting, or of its content where it has none.
    """
    parent: dict[tuple[int, str], tuple[int, str]] = {}

    def top(key: tuple[int, str]) -> tuple[int, str]:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    for item in items:
        parent[top((item.label, item.digest))] = top((item.label, item.group))
    sittings: dict[tuple[int, str], set[str]] = defaultdict(set)
    for item in items:
        if item.group != item.digest:
            sittings[top((item.label, item.group))].add(item.group)
    names = {key: min(found) for key, found in sittings.items()}
    return [replace(item, group=names.get(top((item.label, item.group)), item.group)) for item in items]


def without(items: Iterable[Item], shown: Iterable[Item], where: str) -> tuple[list[Item], list[tuple[str, str]]]:
    """Take away what other items show already.

    Args:
        shown: the items that stay. where: the part that they are in, for the reason.

    Returns:
        the rest, and (path, reason) of what was taken: the same content, or a sitting of the same class.
    """
    shown = list(shown)
    contents, groups = {item.digest for item in shown}, {(item.label, item.group) for item in shown}
    rest, taken = [], []
    for item in items:
        if item.digest in contents:
            taken.append((item.path, f"also in {where}"))
        elif (item.label, item.group) in groups:
            taken.append((item.path, f"its sitting is also in {where}"))
        else:
            rest.append(item)
    return rest, taken
