"""A real gallery between two real embedders: dlib's, and ours made from it, there and back and through a kill."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from facecam.cli import invoke
from facecam.people.gallery import Gallery
from facecam.reembedding import BATCH
from tests.people_fakes import start

#: `people migrate` with the embedder in use; when the second batch is to be written, the process is gone.
KILLED = """
import os
from facecam.engine import open_engine
from facecam.people import carry
from facecam.people.gallery import Gallery
from facecam.reembedding import reembed
from facecam.settings import Settings
write, written = carry.add_vectors, []
def add(*what):
    if written:
        os.kill(os.getpid(), 9)
    written.append(write(*what))
    return written[0]
carry.add_vectors = add
with Gallery.open() as gallery:
    reembed(gallery, open_engine(Settings(device="cpu")).embedder)
"""


@pytest.mark.data
def test_there_and_back_with_a_kill_in_between(
    own_home: Path, models_home: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_home / "models").unlink()  # one of the test's own: what is in use must not change for the others
    shutil.copytree(models_home / "models", own_home / "models")
    assert invoke(["models", "use", "dlib"]) == 0
    photos = tmp_path / "people"
    shutil.copytree(data / "clip" / "people", photos)
    crowd = [folder for folder in sorted((data / "lfw_dev" / "images").iterdir()) if len(list(folder.iterdir())) >= 3]
    for folder in crowd[:6]:
        (photos / folder.name).mkdir()
        for photo in sorted(folder.iterdir())[:3]:
            shutil.copy(photo, photos / folder.name)
    assert invoke(["enroll", "--from-dir", str(photos)]) == 0
    with Gallery.open() as gallery:
        ((dlib, total),) = gallery.spaces().items()
    assert total > BATCH
    before = named(data, tmp_path)
    assert "Lin-Manuel Miranda" in before and "Joe Biden" not in before

    assert invoke(["models", "use", "dlib-pairs"]) == 0
    capsys.readouterr()
    assert invoke(["label", str(data / "clip" / "hamilton.mp4"), "--no-video", "-o", str(tmp_path / "no")]) == 14
    assert "facecam people migrate" in capsys.readouterr().err
    assert start(KILLED).wait() == -9
    with Gallery.open() as gallery:
        assert sorted(gallery.spaces().values()) == [BATCH, total]
    assert invoke(["people", "migrate"]) == 0
    assert f"{total - BATCH} samples" in capsys.readouterr().out, "it goes on where the kill left it"
    with Gallery.open() as gallery:
        assert set(gallery.spaces().values()) == {total} and dlib in gallery.spaces()
    there = named(data, tmp_path)
    assert "Lin-Manuel Miranda" in there and "Joe Biden" not in there

    assert invoke(["models", "use", "dlib"]) == 0
    capsys.readouterr()
    assert invoke(["people", "migrate"]) == 0
    assert "0 samples" in capsys.readouterr().out, "the old vectors were kept"
    assert named(data, tmp_path) == before


def named(data: Path, tmp_path: Path) -> dict[str, list[str]]:
    """Who the clip shows, with the times as printed."""
    out = tmp_path / "labels"
    assert invoke(["label", str(data / "clip" / "hamilton.mp4"), "--no-video", "--overwrite", "-o", str(out)]) == 0
    found: dict[str, list[str]] = {}
    with (out / "hamilton.timeline.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row["name"], []).append(f"{row['start']} to {row['end']}")
    return found
