"""How a folder of pictures is laid out: one folder a class, or parts (train, val, test) with those inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facecam.errors import UsageFault
from train.picture import SUFFIXES

#: Names that data sets give to their parts, in small letters; the first is ours.
PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
#: People are called Dev: that folder alone is no reason to refuse a data set.
_TELLING = {name for names in PARTS.values() for name in names} - {"dev"}


def folders(root: Path) -> list[Path]:
    """The sub-folders, sorted, without hidden ones (.ipynb_checkpoints)."""
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def pictures(folder: Path) -> Iterator[Path]:
    """Files below a folder that are named like pictures; what is in them is not looked at."""
    return (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def parts_of(root: Path) -> dict[str, Path]:
    """The folders of a data set that brings its own split, "train" among them; {} for one folder a class.

    Raises:
        UsageFault: two folders for one part, or parts where classes were expected.
    """
    found: dict[str, Path] = {}
    for folder in folders(root):
        part = next((part for part, names in PARTS.items() if folder.name.lower() in names), None)
        if part and _has_classes(folder):
            if part in found:
                raise UsageFault(
                    f"{root}: expected one {part} part, there are {found[part].name} and {folder.name}; "
                    "move one of them away"
                )
            found[part] = folder
    if "train" in found and len(found) > 1:
        return found
    telling = [folder for folder in folders(root) if folder.name.lower() in _TELLING]
    # Parts without classes inside, and nothing beside them, are parts all the same.
    if wrong := [f for f in telling if f in found.values()] or (telling if telling == folders(root) else []):
        raise UsageFault(
            f"{root}: {wrong[0].name} looks like a part of a data set, not like a class; expected DIR/CLASS/*.jpg, or "
            f"DIR/train/CLASS/*.jpg beside DIR/val or DIR/test; give {wrong[0]} as DIR, or rename it"
        )
    return {}


def _has_classes(folder: Path) -> bool:
    return any(any(pictures(inner)) for inner in folders(folder))
