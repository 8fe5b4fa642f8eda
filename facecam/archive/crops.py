"""Pictures of faces: small ones for the report, and the best one of each track as a file."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from facecam.archive.inputs import CROPS_FOLDER
from facecam.archive.presence import Appearance, called
from facecam.errors import OutputError
from facecam.people.names import file_stem
from facecam.people.records import Portrait
from facecam.video.atomic import atomic_bytes, output_error

#: Folder below the output folder; a folder for each person in it.
FOLDER: Final = CROPS_FOLDER
#: Side of a thumbnail, pixels, and its JPEG quality: about 2.5 kB, and clear at 48 px on a dense screen.
THUMB_SIDE: Final = 96
THUMB_QUALITY: Final = 80
#: A context crop is twice the face's box; a thumbnail shows this share of its side around its middle.
THUMB_SHARE: Final = 0.7


def thumbnail(portrait: Portrait | bytes) -> bytes:
    """A small JPEG of the face in a context crop.

    Args:
        portrait: a track's best picture (`Evidence.portrait`, `vision.portrait`), or its PNG or JPEG bytes.

    Raises:
        ValueError: the bytes are no picture.
    """
    import cv2
    import numpy as np

    data = portrait.image if isinstance(portrait, Portrait) else portrait
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"expected a PNG or JPEG picture, got {len(data)} bytes that are none")
    rows, columns = image.shape[:2]
    side = max(1, round(min(rows, columns) * THUMB_SHARE))
    top, left = (rows - side) // 2, (columns - side) // 2
    middle = image[top : top + side, left : left + side]
    way = cv2.INTER_AREA if side > THUMB_SIDE else cv2.INTER_CUBIC
    small = cv2.resize(middle, (THUMB_SIDE, THUMB_SIDE), interpolation=way)
    done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, THUMB_QUALITY])
    if not done:
        raise ValueError("the thumbnail cannot be encoded")
    return bytes(coded.tobytes())


def crop_path(output_dir: Path, stem: str, seen: Appearance, data: bytes) -> Path:
    """Where the picture of a track goes: ``crops/NAME/STEM.track-3.png``.

    Args:
        stem: of the input (`inputs.Item.stem`), which may hold folders.
        data: the picture; its kind gives the suffix.
    """
    suffix = ".jpg" if data.startswith(b"\xff\xd8\xff") else ".png"
    return output_dir / FOLDER / file_stem(called(seen.who)) / f"{_file_part(stem, seen.track)}{suffix}"


def _file_part(stem: str, track: int) -> str:
    return f"{file_stem(stem)}.track-{track}"


def write_crops(
    output_dir: Path, stem: str, pictures: Iterable[tuple[Appearance, bytes]], *, overwrite: bool = False
) -> list[Path]:
    """Write the best picture of each track, mode 0600, in folders of mode 0700.

    Args:
        pictures: appearance and its context crop, PNG or JPEG bytes.
        overwrite: replace pictures of this input, also those that lie under other names.

    Returns:
        the files written.

    Raises:
        OutputError: one exists (without ``overwrite``) or cannot be written.
    """
    written = []
    for seen, data in pictures:
        path = crop_path(output_dir, stem, seen, data)
        _make(path.parent)
        atomic_bytes(path, data, overwrite=overwrite)
        written.append(path)
    if overwrite:
        _drop_others(output_dir / FOLDER, f"{file_stem(stem)}.track-", set(written))
    return written


def _drop_others(folder: Path, start: str, keep: set[Path]) -> None:
    """Remove an earlier run's pictures of the same input: its tracks are others, or have other names."""
    try:
        for home in folder.iterdir() if folder.is_dir() else ():
            for path in home.iterdir() if home.is_dir() else ():
                if path.name.startswith(start) and path not in keep and path.suffix in (".png", ".jpg"):
                    path.unlink()
    except OSError as error:
        raise output_error(folder, error) from error


def rename_crops(output_dir: Path, stem: str, appearances: Iterable[Appearance]) -> list[Path]:
    """After a relabelling: move the pictures of tracks that are called something else now; decode nothing.

    Returns:
        the files that moved, as they are called now.

    Raises:
        OutputError: one cannot be moved.
    """
    folder = output_dir / FOLDER
    if not folder.is_dir():
        return []
    moved = []
    try:
        homes = [home for home in sorted(folder.iterdir()) if home.is_dir()]
        for seen in appearances:
            right = folder / file_stem(called(seen.who))
            for home in homes:
                for suffix in (".png", ".jpg"):
                    old = home / f"{_file_part(stem, seen.track)}{suffix}"
                    if home != right and old.is_file():
                        _make(right)
                        os.replace(old, right / old.name)
                        moved.append(right / old.name)
        for home in homes:
            if not any(home.iterdir()):
                home.rmdir()
    except OSError as error:
        raise output_error(folder, error) from error
    return moved


def drop_crops(output_dir: Path, stem: str, tracks: Collection[int]) -> None:
    """Delete the pictures of tracks of an input, under whatever name they lie.

    Raises:
        OutputError: one cannot be deleted.
    """
    folder = output_dir / FOLDER
    gone = {f"{_file_part(stem, track)}{suffix}" for track in tracks for suffix in (".png", ".jpg")}
    try:
        for home in [home for home in folder.iterdir() if home.is_dir()] if folder.is_dir() else ():
            for path in [path for path in home.iterdir() if path.name in gone]:
                path.unlink()
            if not any(home.iterdir()):
                home.rmdir()
    except OSError as error:
        raise output_error(folder, error) from error


def _make(folder: Path) -> None:
    """Make crops/ and a person's folder in it, readable by the user alone."""
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for one in (folder.parent, folder):
            one.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{error.filename}: is a file where a folder is needed; move it away") from error
    except OSError as error:
        raise output_error(folder, error) from error
