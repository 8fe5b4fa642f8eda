"""What the user named on the command line, as a plan: which files, of which kind, to which outputs."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facecam.errors import SourceError
from facecam.video.content import HEAD, kind_of_picture, unread_picture
from facecam.video.photos import IMAGE_SUFFIXES, VIDEO_SUFFIXES

PHOTO: Final = "photo"
VIDEO: Final = "video"
#: What the outputs of all photos together begin with.
PHOTOS: Final = "photos"
#: What this tool writes itself; found in a folder, it is not taken for an input: labelled copies, and pictures of
#: faces, which lie in a folder of a person in this one (`archive.crops`).
OWN_MARK: Final = ".labelled."
CROPS_FOLDER: Final = "crops"
_CROP: Final = re.compile(r".\.track-\d+\.(png|jpg)")


@dataclass(frozen=True, slots=True)
class Item:
    """One input file.

    Attributes:
        path: of the file; kind: PHOTO or VIDEO.
        stem: relative name, free of collisions, that the outputs' names begin with.
    """

    path: Path
    kind: str
    stem: str


def kind_of(path: Path) -> str | None:
    """PHOTO or VIDEO by the file's suffix, None for anything else."""
    suffix = path.suffix.lower()
    return PHOTO if suffix in IMAGE_SUFFIXES else VIDEO if suffix in VIDEO_SUFFIXES else None


def _kind_within(path: Path) -> str:
    """PHOTO or VIDEO by what a file holds."""
    try:
        if not path.is_file():  # a pipe would wait for a writer
            return VIDEO
        with path.open("rb") as file:
            head = file.read(HEAD)
            return PHOTO if kind_of_picture(head) or unread_picture(head) else VIDEO
    except OSError:
        return VIDEO  # opening it as one tells why


def _own(path: Path) -> bool:
    crop = path.parent.parent.name == CROPS_FOLDER and _CROP.search(path.name) is not None
    return crop or OWN_MARK in path.name


def expand(inputs: Iterable[str]) -> tuple[list[tuple[Path, str, Path]], list[str]]:
    """Files behind files, folders (recursive) and globs, each once, in a stable order.

    Returns:
        (path, kind, path relative to what was named) of each file, and one line for each input that
        gave nothing.
    """
    found: dict[Path, tuple[str, Path]] = {}
    problems: list[str] = []
    for text in inputs:
        path = Path(text)
        try:
            there = bool(text) and path.exists()
        except OSError as error:  # a folder on the way may not be entered, the name is too long
            problems.append(f"{text}: cannot be read ({error.strerror})")
            continue
        if there and path.is_dir():
            before = len(problems)
            if not _search(path, found, problems) and len(problems) == before:
                problems.append(f"{text}: no photo or video in this folder")
        elif there:
            # A file that was named is tried, whatever its suffix: as a video, which tells best, if it is no picture.
            found.setdefault(path, (kind_of(path) or _kind_within(path), Path(path.name)))
        elif glob.has_magic(text):
            before, fits = len(problems), False
            for match in map(Path, sorted(glob.glob(text, recursive=True))):
                kind = kind_of(match)
                if match.is_dir() and "**" not in text:  # that one finds what is in them by itself
                    fits |= _search(match, found, problems)
                elif kind is not None and match.is_file() and not _own(match):
                    found.setdefault(match, (kind, Path(match.name)))
                    fits = True
            if not fits and len(problems) == before:
                problems.append(f"{text}: no photo or video matches this pattern")
        else:
            problems.append(f"{text or repr(text)}: no such file or folder")
    return [(path, kind, relative) for path, (kind, relative) in found.items()], problems


def _search(folder: Path, found: dict[Path, tuple[str, Path]], problems: list[str]) -> bool:
    """Add the files of a folder, and a line for each folder in it that cannot be read; whether there is any file."""

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: the folder cannot be read ({error.strerror})")

    fits = False
    for file in _walk(folder, unreadable):
        kind = kind_of(file)
        if kind is not None and not _own(file):
            found.setdefault(file, (kind, file.relative_to(folder)))
            fits = True
    return fits


def _walk(folder: Path, unreadable: Callable[[OSError], None]) -> Iterable[Path]:
    for where, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(where) / name


def plan(inputs: Sequence[str]) -> tuple[list[Item], list[str]]:
    """Decide what the outputs of each input are called.

    ``clip.mp4`` becomes ``clip``; two inputs with one stem keep their extensions, and so does a video whose name is
    that of what is written for all photos; two of the same name from different folders take the folder's name in front.

    Returns:
        the items and one line for each input that gave nothing.

    Raises:
        SourceError: nothing at all was found and only one input was named.
    """
    files, problems = expand(inputs)
    if not files and len(inputs) == 1 and not Path(inputs[0]).is_dir():
        raise SourceError(problems[0])
    names: list[str] = []
    # photos of one stem and a video of that stem do not collide only by luck: treat them alike
    stems = Counter(str(relative.with_suffix("")).casefold() for _, _, relative in files)
    if any(kind == PHOTO for _, kind, _ in files):
        stems[PHOTOS] += 1
    for _, _, relative in files:
        alone = stems[str(relative.with_suffix("")).casefold()] == 1
        names.append(str(relative.with_suffix("") if alone else relative))
    counts = Counter(name.casefold() for name in names)
    for i, (path, _, _) in enumerate(files):
        if counts[names[i].casefold()] > 1:
            names[i] = str(Path(f"{path.absolute().parent.name}_{Path(names[i]).name}"))
    taken: set[str] = set()
    items = []
    for (path, kind, _), name in zip(files, names):
        unique, number = name, 2
        while unique.casefold() in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique.casefold())
        items.append(Item(path, kind, unique))
    return items, problems
