"""facecam crop: photos in, canonical crops out, one line for each photo without a face."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from facecam.cli.crop import crop
from facecam.errors import FacecamError, NoFaceFound, OutputError, SourceError, UsageFault


def run(*words: object) -> Result:
    return CliRunner().invoke(crop, [str(word) for word in words], standalone_mode=False)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    astronaut = pytest.importorskip("skimage.data", reason="scikit-image brings the portrait").astronaut()
    folder = tmp_path / "photos" / "Eileen Collins"
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "one.jpg"), astronaut[:, :, ::-1])
    cv2.imwrite(str(folder / "one.png"), astronaut[:, :, ::-1])
    cv2.imwrite(str(folder / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("no photo")
    return tmp_path / "photos"


def test_crops_are_canonical_and_private(photos: Path, tmp_path: Path) -> None:
    came = run(photos, tmp_path / "crops")
    assert came.return_value == 1  # two photos gave nothing
    assert "2 crops of dlib-150" in came.output and "2 photos without" in came.output
    assert "wall.png: no face found" in came.output and "text.jpg" in came.output
    made = sorted((tmp_path / "crops" / "Eileen Collins").iterdir())
    assert [path.name for path in made] == ["one.jpg.png", "one.png.png"]
    assert all(cv2.imread(str(path)).shape == (150, 150, 3) for path in made)
    assert os.stat(made[0]).st_mode & 0o077 == 0
    again = run(photos, tmp_path / "crops")
    assert "0 crops" in again.output and "2 there already" in again.output


def test_another_template(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "crops", "--template", "arcface-112")
    assert cv2.imread(str(tmp_path / "crops" / "Eileen Collins" / "one.png.png")).shape == (112, 112, 3)


def test_crops_of_another_template_are_not_there_already(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "crops")
    came = run(photos, tmp_path / "crops", "--template", "arcface-112")
    assert isinstance(came.exception, OutputError) and "is no crop of arcface-112 (112 x 112)" in str(came.exception)
    run(photos, tmp_path / "crops", "--template", "arcface-112", "--overwrite")
    assert cv2.imread(str(tmp_path / "crops" / "Eileen Collins" / "one.png.png")).shape == (112, 112, 3)


def test_small_folders_can_be_left_out(photos: Path, tmp_path: Path) -> None:
    came = run(photos, tmp_path / "crops", "--min-images", "9")
    assert isinstance(came.exception, SourceError) and "--min-images" in str(came.exception)


def test_no_face_at_all(tmp_path: Path) -> None:
    (tmp_path / "walls").mkdir()
    cv2.imwrite(str(tmp_path / "walls" / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    came = run(tmp_path / "walls", tmp_path / "crops")
    assert isinstance(came.exception, NoFaceFound) and came.exception.exit_code == 11
    assert not (tmp_path / "crops").exists()


@pytest.mark.parametrize(
    ("source", "out", "kind"), [("absent", "crops", SourceError), ("photos", "photos/in", UsageFault)]
)
def test_wrong_folders(photos: Path, tmp_path: Path, source: str, out: str, kind: type[FacecamError]) -> None:
    assert isinstance(run(tmp_path / source, tmp_path / out).exception, kind)
