"""What the user names, as a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from facecam.archive.inputs import PHOTO, VIDEO, plan
from facecam.errors import SourceError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_files_folders_and_globs_each_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "d" / "b.JPG", tmp_path / "d" / "e" / "c.png", tmp_path / "d" / "notes.txt")
    touch(tmp_path / "d" / ".hidden.jpg", tmp_path / "d" / "b.labelled.jpg")
    items, problems = plan([str(tmp_path / "a.mp4"), str(tmp_path / "d"), str(tmp_path / "d" / "*.JPG")])
    assert [(i.path.name, i.kind) for i in items] == [("a.mp4", VIDEO), ("b.JPG", PHOTO), ("c.png", PHOTO)]
    assert problems == []


def test_one_stem_keeps_the_extensions(tmp_path: Path) -> None:
    touch(tmp_path / "clip.mp4", tmp_path / "clip.mkv", tmp_path / "other.mp4")
    items, _ = plan([str(tmp_path / n) for n in ("clip.mp4", "clip.mkv", "other.mp4")])
    assert [i.stem for i in items] == ["clip.mp4", "clip.mkv", "other"]


def test_one_name_from_two_folders_does_not_collide(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "clip.mp4", tmp_path / "y" / "clip.mp4")
    items, _ = plan([str(tmp_path / "x" / "clip.mp4"), str(tmp_path / "y" / "clip.mp4")])
    stems = [i.stem for i in items]
    assert len(set(stems)) == 2


def test_a_folder_keeps_its_shape(tmp_path: Path) -> None:
    touch(tmp_path / "d" / "2019" / "a.jpg", tmp_path / "d" / "2020" / "a.jpg")
    items, _ = plan([str(tmp_path / "d")])
    assert [i.stem for i in items] == ["2019/a", "2020/a"]


def test_nothing_found_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        plan([str(tmp_path / "missing.mp4")])
    (tmp_path / "empty").mkdir()
    items, problems = plan([str(tmp_path / "empty")])
    assert items == [] and "no photo or video" in problems[0]
    touch(tmp_path / "a.mp4")
    items, problems = plan([str(tmp_path / "a.mp4"), str(tmp_path / "missing.mp4"), str(tmp_path / "*.avi")])
    assert len(items) == 1 and len(problems) == 2


def test_a_named_file_is_tried_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "recording.xyz")
    items, _ = plan([str(tmp_path / "recording.xyz")])
    assert items[0].kind == VIDEO
