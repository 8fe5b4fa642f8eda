"""What the user names, as a plan."""

from __future__ import annotations

import os
import shutil
import tempfile
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


def test_a_folder_that_a_glob_finds_is_searched(tmp_path: Path) -> None:
    """As a shell's own glob would have named it; on Windows no shell does."""
    touch(tmp_path / "2023" / "a.jpg", tmp_path / "2024" / "b.jpg", tmp_path / "other" / "c.jpg")
    items, problems = plan([str(tmp_path / "20*")])
    assert [i.path.name for i in items] == ["a.jpg", "b.jpg"] and problems == []
    named, _ = plan([str(tmp_path / "2023"), str(tmp_path / "2024")])
    assert items == named
    assert [i.path for i in plan([str(tmp_path / "**" / "a.jpg")])[0]] == [tmp_path / "2023" / "a.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_folder_that_cannot_be_read_is_told() -> None:
    """Nothing of an archive may be missing without a word. Root may read everything, so it is nobody who looks."""
    base = Path(tempfile.mkdtemp(prefix="facecam-inputs-"))
    try:
        base.chmod(0o755)
        touch(base / "open" / "a.jpg", base / "open" / "locked" / "b.jpg")
        (base / "open" / "locked").chmod(0o000)
        there, back = os.pipe()
        if (child := os.fork()) == 0:
            if os.geteuid() == 0:
                os.setuid(65534)
            items, problems = plan([str(base / "open")])
            more, alone = plan([str(base / "open" / "locked")])
            told = [*(item.path.name for item in items), *problems, str(len(more)), *alone]
            os.write(back, "\n".join(told).encode())
            os._exit(0)
        os.close(back)
        with os.fdopen(there, encoding="utf-8") as pipe:
            told = pipe.read().splitlines()
        assert os.waitpid(child, 0)[1] == 0
        line = f"{base / 'open' / 'locked'}: the folder cannot be read (Permission denied)"
        assert told == ["a.jpg", line, "0", line]
    finally:
        (base / "open" / "locked").chmod(0o755)
        shutil.rmtree(base)


def test_a_named_file_is_tried_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "recording.xyz")
    items, _ = plan([str(tmp_path / "recording.xyz")])
    assert items[0].kind == VIDEO


@pytest.mark.parametrize("text", ["", "x" * 300 + ".mp4", f"{'x' * 300}/*.mp4"])
def test_what_cannot_be_a_file_is_one_line(text: str, tmp_path: Path) -> None:
    """An empty name, as of a variable of a script that is not set, is not the current folder."""
    touch(tmp_path / "a.mp4")
    items, problems = plan([text, str(tmp_path / "a.mp4")])
    assert len(items) == len(problems) == 1
    assert "no such file" in problems[0] or "cannot be read" in problems[0]
