"""Who, or nobody? Enrolled people, other pictures of them, and strangers, matched as the tool matches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facecam.engine import Engine
from facecam.errors import SourceError, UsageFault
from facecam.evaluate.faces import (
    MIRROR,
    VARIANTS,
    Embedded,
    Progress,
    Vectors,
    by_person,
    data_of,
    embed_files,
    facts,
    pictures,
)
from facecam.evaluate.metrics import FPIRS, NO_SCORE, identification, key, spread
from facecam.people.match import Matcher

#: Pictures of a person that are enrolled where people are drawn (`halves`).
ENROLLED: Final = 3


@dataclass(frozen=True, slots=True)
class Roles:
    """Which picture plays what: positions in one list of pictures.

    Attributes:
        names: enrolled people.
        enrolled, owner: int64, e: pictures to enrol and whose they are.
        probes, truth: int64, k: other pictures of enrolled people and whose they are.
        strangers: int64, s.
    """

    names: tuple[str, ...]
    enrolled: NDArray[np.int64]
    owner: NDArray[np.int64]
    probes: NDArray[np.int64]
    truth: NDArray[np.int64]
    strangers: NDArray[np.int64]


def matcher_of(engine: Engine, names: Sequence[str], owner: NDArray[np.int64], vectors: Vectors) -> Matcher:
    """The matcher that a gallery of these samples gets, with the threshold that the tool would choose for it."""
    counts = np.bincount(owner, minlength=len(names))
    threshold = engine.threshold_for([int(c) for c in counts if c])
    return Matcher(names, owner.astype(np.int32), vectors, threshold=threshold)


def measure(engine: Engine, embedded: Embedded, variant: str, roles: Roles) -> dict[str, Any]:
    """The figures of one draw.

    Enrolment always averages the mirror image, as the tool's does; ``variant`` is how probes are made. A known
    probe without a face counts as not recognised; a stranger without a face is left out of the rates.
    """
    probes = embedded.variant(variant)
    usable = embedded.found[roles.enrolled]
    enrolled, owner = roles.enrolled[usable], roles.owner[usable]
    strangers = roles.strangers[embedded.found[roles.strangers]]
    if not len(enrolled) or not len(strangers):
        missing = "enrolled picture" if not len(enrolled) else "stranger's picture"
        raise SourceError(f"no {missing} shows a face; give pictures that show one")
    matcher = matcher_of(engine, roles.names, owner, embedded.mirror[enrolled])
    seen = embedded.found[roles.probes]
    top = np.full(len(roles.probes), NO_SCORE)
    right, named_right = np.zeros(len(top), np.bool_), np.zeros(len(top), np.bool_)
    wrong = 0
    for at, match in zip(np.nonzero(seen)[0], matcher.match(probes[roles.probes[seen]])):
        person = roles.names[roles.truth[at]]
        assert match.similarity is not None
        top[at], right[at], named_right[at] = match.similarity, match.candidate == person, match.name == person
        wrong += match.name not in (None, person)
    stray = matcher.match(probes[strangers])
    figures = identification(top, right, np.array([match.similarity for match in stray], np.float64))
    figures["at_default"] = {
        "dir": float(named_right.mean()),
        "fpir": sum(match.name is not None for match in stray) / len(stray),
        "misnamed": wrong / len(top),
        "threshold": matcher.threshold,
        "margin": matcher.margin,
    }
    figures["counts"] = {
        "people": len(roles.names),
        "people_without_face": len(roles.names) - len(np.unique(owner)),
        "enrolled_images": len(enrolled),
        "probes": len(roles.probes),
        "probes_without_face": int((~seen).sum()),
        "strangers": len(strangers),
        "strangers_without_face": len(roles.strangers) - len(strangers),
    }
    return figures


def run_folders(
    engine: Engine,
    enroll: Path,
    known: Path,
    unknown: Path,
    progress: Progress = lambda done, total: None,
    *,
    workers: int = 1,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The test on three folders: ``enroll`` and ``known`` have a sub-folder a person, ``unknown`` strangers.

    Returns:
        the result, ready for JSON, and one line for each picture that could not be read.

    Raises:
        SourceError: a folder is missing or empty. UsageFault: somebody in ``known`` is not in ``enroll``.
    """
    gallery, probes, strangers = by_person(enroll), by_person(known), pictures(unknown)
    if absent := sorted(set(probes) - set(gallery)):
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise UsageFault(
            f"{known}: {absent[0]!r}{more} not in {enroll}; sub-folders of a person have one name in both, "
            "strangers go to --unknown"
        )
    names = tuple(gallery)
    number = {name: i for i, name in enumerate(names)}
    lists = [path for paths in gallery.values() for path in paths], [p for paths in probes.values() for p in paths]
    embedded = embed_files(engine, [*lists[0], *lists[1], *strangers], progress, workers=workers)
    first, second = len(lists[0]), len(lists[0]) + len(lists[1])
    roles = Roles(
        names,
        np.arange(first),
        np.repeat(np.arange(len(names)), [len(paths) for paths in gallery.values()]),
        np.arange(first, second),
        np.repeat([number[name] for name in probes], [len(paths) for paths in probes.values()]),
        np.arange(second, len(embedded.paths)),
    )
    sections = {variant: measure(engine, embedded, variant, roles) for variant in VARIANTS}
    data = data_of(embedded) | {"protocol": "folders"}
    top = {name: value for name, value in sections[MIRROR].items() if name != "det"}
    return facts(engine, "openset", data) | {"variant": MIRROR} | top | sections, embedded.problems


# --- random halves ---------------------------------------------------------------------------------------


def draw_half(people: Sequence[str], seed: int, number: int) -> list[str]:
    """Half of the people, the same on every machine and in every version: ordered by a hash of their names.

    Args:
        seed: of the whole series; number: of the draw in it, from 0.
    """

    def order(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{number}/{name}".encode()).digest()

    return sorted(sorted(people, key=order)[: len(people) // 2])


def read_split(path: Path) -> set[str]:
    """The people of the ``test`` part of a split by person (JSON: part -> names), as ``train/splits`` has them.

    Raises:
        SourceError: the file cannot be read. UsageFault: it is no such file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error}); give a split by person") from error
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise UsageFault(f"{path}: not JSON ({error}); give a split by person, such as of train/splits") from error
    people = data.get("test") if isinstance(data, dict) else None
    if not isinstance(people, list) or not people or not all(isinstance(name, str) for name in people):
        raise UsageFault(f"{path}: a split is a table with a list of names under 'test'; give one of train/splits")
    return set(people)


def roles_of(people: Mapping[str, Sequence[int]], enrolled: Sequence[str]) -> Roles:
    """Enrol the first ``min(3, n - 1)`` pictures of each of these people, probe their others; all others are strangers.

    Args:
        people: person -> positions of their pictures.
    """
    gallery: list[int] = []
    probes: list[int] = []
    owner: list[int] = []
    truth: list[int] = []
    for i, name in enumerate(enrolled):
        rows = people[name]
        count = min(ENROLLED, len(rows) - 1)
        gallery += rows[:count]
        probes += rows[count:]
        owner += [i] * count
        truth += [i] * (len(rows) - count)
    taken = set(enrolled)
    strangers = [row for name, rows in people.items() if name not in taken for row in rows]
    arrays = (np.array(rows, np.int64) for rows in (gallery, owner, probes, truth, strangers))
    return Roles(tuple(enrolled), *arrays)


def run_halves(
    engine: Engine,
    images: Path,
    halves: int,
    seed: int,
    progress: Progress = lambda done, total: None,
    *,
    only: set[str] | None = None,
    workers: int = 1,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The test on random halves of the people of a folder NAME/*.jpg who have two or more pictures.

    Args:
        only: people to use; nobody else takes part (the test part of a split).

    Returns:
        the result, ready for JSON: means over the halves on top, deviations and single draws beside them; and
        one line for each picture that could not be read.

    Raises:
        SourceError: the folder is missing or empty. UsageFault: too few people.
    """
    files = by_person(images)
    if only is not None:
        files = {name: paths for name, paths in files.items() if name in only}
    several = [name for name, paths in files.items() if len(paths) > 1]
    if len(several) < 4:
        raise UsageFault(f"{images}: {len(several)} people with two or more pictures take part; at least 4 are needed")
    embedded = embed_files(engine, [p for paths in files.values() for p in paths], progress, workers=workers)
    people: dict[str, list[int]] = {}
    for name, paths in files.items():
        start = sum(len(rows) for rows in people.values())
        people[name] = list(range(start, start + len(paths)))
    draws = [draw_half(several, seed, number) for number in range(halves)]
    digest = hashlib.sha256(json.dumps(draws, ensure_ascii=False).encode()).hexdigest()
    data = data_of(embedded) | {
        "protocol": "halves",
        "halves": halves,
        "seed": seed,
        "draws_sha256": digest,
        "people": len(files),
        "people_with_several": len(several),
    }
    sections = {}
    for variant in VARIANTS:
        sections[variant] = _over_draws([measure(engine, embedded, variant, roles_of(people, half)) for half in draws])
    top = {name: value for name, value in sections[MIRROR].items() if name != "draws"}
    return facts(engine, "openset", data) | {"variant": MIRROR} | top | sections, embedded.problems


def _over_draws(draws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the draws under the keys of a single one, deviations under ``std``."""

    def both(values: Iterator[float]) -> tuple[float, float]:
        found = spread(list(values))
        return found["mean"], found["std"]

    result: dict[str, Any] = {"std": {}}
    result["rank1"], result["std"]["rank1"] = both(draw["rank1"] for draw in draws)
    for group, names in (
        ("dir_at_fpir", [key(rate) for rate in FPIRS]),
        ("threshold_at_fpir", [key(rate) for rate in FPIRS]),
        ("at_default", ["dir", "fpir", "misnamed", "threshold", "margin"]),
        ("counts", list(draws[0]["counts"])),
    ):
        result[group], result["std"][group] = {}, {}
        for name in names:
            result[group][name], result["std"][group][name] = both(draw[group][name] for draw in draws)
    result["draws"] = [
        {name: draw[name] for name in ("rank1", "dir_at_fpir", "threshold_at_fpir", "at_default", "counts")}
        for draw in draws
    ]
    result["det"] = draws[0]["det"]
    return result
