"""Same or not? The protocol of LFW: ten folds of pairs, the threshold from nine, accuracy on the tenth."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facecam.engine import Engine
from facecam.errors import SourceError, UsageFault
from facecam.evaluate.faces import MIRROR, VARIANTS, Embedded, Progress, data_of, embed_files, facts
from facecam.evaluate.metrics import verification
from facecam.video.photos import IMAGE_SUFFIXES

#: Folds that pairs are dealt into where their file knows only one.
FOLDS: Final = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures.

    Attributes:
        first, second: (person, number of the picture from 1).
        fold: from 0.
    """

    first: tuple[str, int]
    second: tuple[str, int]
    fold: int

    @property
    def same(self) -> bool:
        return self.first[0] == self.second[0]


def read_pairs(path: Path) -> list[Pair]:
    """Read a pairs.txt as LFW has it.

    The first line is ``folds<TAB>n`` (each fold: n genuine, then n impostor pairs) or ``n`` (one fold, which is
    dealt into ten here). Then a line a pair: ``name<TAB>i<TAB>j`` or ``name<TAB>i<TAB>other<TAB>j``.

    Raises:
        SourceError: the file cannot be read. UsageFault: it is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error}); give a pairs.txt as LFW has it") from error
    rows = [(number, _fields(line)) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows or not 1 <= len(rows[0][1]) <= 2 or not all(v.isdecimal() for v in rows[0][1]):
        raise UsageFault(f"{path}: the first line of a pairs.txt is 'folds n' or 'n', such as '10 300'")
    head = [int(v) for v in rows[0][1]]
    folds, each = head if len(head) == 2 else (1, head[0])
    body = rows[1:]
    if folds < 1 or each < 1 or len(body) != folds * each * 2:
        raise UsageFault(
            f"{path}: the first line announces {folds} x 2 x {each} pairs, {len(body)} follow; give the whole file"
        )
    pairs = []
    for place, (number, fields) in enumerate(body):
        first, second = _pair(path, number, fields)
        # One fold only: deal its genuine and its impostor pairs evenly.
        fold = place // (2 * each) if folds > 1 else place % each % FOLDS
        pairs.append(Pair(first, second, fold))
    if len({pair.fold for pair in pairs}) < 2:
        raise UsageFault(f"{path}: {len(pairs)} pairs are too few for two folds; give at least two of each kind")
    return pairs


def _fields(line: str) -> list[str]:
    return [f.strip() for f in line.split("\t")] if "\t" in line else line.split()


def _pair(path: Path, number: int, fields: list[str]) -> tuple[tuple[str, int], tuple[str, int]]:
    try:
        if len(fields) == 3:
            return (fields[0], int(fields[1])), (fields[0], int(fields[2]))
        if len(fields) == 4:
            return (fields[0], int(fields[1])), (fields[2], int(fields[3]))
    except ValueError:
        pass
    raise UsageFault(f"{path}: line {number} is neither 'name i j' nor 'name i other j': {' '.join(fields)[:80]!r}")


def picture_of(folder: Path, person: str, number: int) -> Path:
    """FOLDER/NAME/NAME_0001.jpg, or another image suffix; the .jpg where none exists.

    Raises:
        UsageFault: the name would lead out of the folder.
    """
    if person in ("", ".", "..") or "/" in person or "\\" in person or "\0" in person:
        raise UsageFault(f"a person of pairs.txt is the name of a folder, not {person!r}")
    stem = folder / person / f"{person}_{number:04d}"
    usual = stem.with_name(stem.name + ".jpg")
    if usual.is_file():
        return usual
    others = (stem.with_name(stem.name + suffix) for suffix in sorted(IMAGE_SUFFIXES))
    return next((path for path in others if path.is_file()), usual)


def run_pairs(
    engine: Engine,
    images: Path,
    pairs_file: Path,
    progress: Progress = lambda done, total: None,
    *,
    only: set[str] | None = None,
    workers: int = 1,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The test.

    Args:
        images: folder of NAME/NAME_0001.jpg.
        only: people; pairs of anybody else are left out (the test part of a split).

    Returns:
        the result, ready for JSON (the figures of mirror-averaged vectors on top, both kinds in sections),
        and one line for each picture that could not be read.

    Raises:
        SourceError, UsageFault: see `read_pairs`; none of the pictures exists; no pair is left.
    """
    pairs = read_pairs(pairs_file)
    asked = len(pairs)
    if only is not None:
        pairs = [pair for pair in pairs if pair.first[0] in only and pair.second[0] in only]
        if len({pair.fold for pair in pairs}) < 2:
            raise UsageFault(
                f"{pairs_file}: {len(pairs)} of {asked} pairs are of the split's people; too few for a test"
            )
    names = sorted({side for pair in pairs for side in (pair.first, pair.second)})
    paths = [picture_of(images, *name) for name in names]
    if not any(path.is_file() for path in paths):
        raise SourceError(f"{images}: none of the pictures of {pairs_file.name} is here; expected such as {paths[0]}")
    embedded = embed_files(engine, paths, progress, workers=workers)
    data = data_of(embedded) | {
        "pairs_file": pairs_file.name,
        "pairs_sha256": hashlib.sha256(pairs_file.read_bytes()).hexdigest(),
        "people": len({name for name, _ in names}),
    }
    if only is not None:
        data["pairs_left_out"] = asked - len(pairs)
    place = {name: i for i, name in enumerate(names)}
    index = np.array([[place[pair.first], place[pair.second]] for pair in pairs], np.int64)
    return facts(engine, "pairs", data) | figures(embedded, index, pairs), embedded.problems


def figures(embedded: Embedded, index: NDArray[np.int64], pairs: Sequence[Pair]) -> dict[str, Any]:
    """The figures of both kinds of vectors.

    Args:
        index: int64, n x 2: the two pictures of each pair.
    """
    same = np.array([pair.same for pair in pairs])
    fold = np.array([pair.fold for pair in pairs], np.int64)
    scored = np.asarray(embedded.found[index].all(axis=1), np.bool_)
    if not scored.any() or same[scored].all() or not same[scored].any():
        raise SourceError("faces were found in too few pictures to compare; give pictures that show a face")
    sections = {}
    for variant in VARIANTS:
        vectors = embedded.variant(variant).astype(np.float64)
        scores = (vectors[index[:, 0]] * vectors[index[:, 1]]).sum(axis=1)
        sections[variant] = verification(scores, same, fold, scored)
    counts = {
        "variant": MIRROR,
        "pairs": len(pairs),
        "genuine": int(same.sum()),
        "impostor": int((~same).sum()),
        "failed": int((~scored).sum()),
    }
    top = {name: value for name, value in sections[MIRROR].items() if name not in ("roc", "scores", "folds")}
    return counts | top | sections
