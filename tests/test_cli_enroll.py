"""facecam enroll, on real portraits: verdicts, summaries, exit codes, nothing half done."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from facecam.cli import invoke
from facecam.people.gallery import Gallery
from facecam.video.photos import read_photo
from tests.fakes import make_clip
from tests.support import ASTRONAUT, COFFEE, HOPPER, portrait


def people() -> dict[str, int]:
    with Gallery.open(create=False) as gallery:
        return {p.name: p.samples for p in gallery.people()}


def save(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def test_a_photo_is_learned_and_the_same_photo_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["enroll", "--name", "Grace Hopper", str(HOPPER)]) == 0
    out = capsys.readouterr().out
    assert "grace_hopper.jpg: added" in out and "learned Grace Hopper: 1 sample" in out
    assert invoke(["enroll", "--name", "Grace Hopper", str(HOPPER)]) == 0
    assert "duplicate" in capsys.readouterr().out
    assert people() == {"Grace Hopper": 1}


def test_each_photo_gets_its_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face = portrait("astronaut")
    pair = np.concatenate([face, face[:, ::-1]], axis=1)
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(ASTRONAUT, folder / "good.png")
    save(folder / "nobody.png", read_photo(COFFEE))
    save(folder / "pair.png", pair)
    save(folder / "small.png", cv2.resize(face, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA))
    save(folder / "blurred.png", cv2.GaussianBlur(face, (0, 0), 4))
    (folder / "broken.jpg").write_bytes(HOPPER.read_bytes()[:2000])
    (folder / "empty.jpg").touch()
    assert invoke(["enroll", "--name", "Eileen", str(folder)]) == 0
    out = capsys.readouterr().out
    for name, verdict in {
        "good.png": "added",
        "nobody.png": "no face",
        "pair.png": "several faces",
        "small.png": "too small",
        "blurred.png": "too blurred",
        "broken.jpg": "cannot be read",
        "empty.jpg": "cannot be read",
    }.items():
        assert f"{name}: {verdict}" in out, out
    assert people() == {"Eileen": 1}


def test_largest_takes_one_of_several(tmp_path: Path) -> None:
    face = portrait("astronaut")
    pair = np.concatenate([face, face[:, ::-1]], axis=1)
    path = save(tmp_path / "pair.png", pair)
    assert invoke(["enroll", "--name", "E", str(path)]) == 11
    assert invoke(["enroll", "--name", "E", "--largest", str(path)]) == 0
    assert people() == {"E": 1}


def test_a_bystander_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clearly larger face is taken without a question, but not without a word, by each way to give a photo."""
    face = portrait("astronaut")
    rows, columns = face.shape[:2]
    both = np.full((rows, columns + columns // 2, 3), 90, np.uint8)
    both[:, :columns] = face
    both[: rows // 2, columns : columns + columns // 2] = cv2.resize(face, (columns // 2, rows // 2))
    (tmp_path / "people" / "E").mkdir(parents=True)
    path = save(tmp_path / "people" / "E" / "both.png", both)
    assert invoke(["enroll", "--name", "A", str(path)]) == 0
    assert "both.png: added" in (out := capsys.readouterr().out) and "took the larger of 2 faces" in out
    assert invoke(["enroll", "--from-dir", str(tmp_path / "people")]) == 0
    assert "took the larger of 2 faces" in capsys.readouterr().out
    assert invoke(["people", "reject", "--name", "A", str(save(tmp_path / "other.png", both[:, ::-1]))]) == 0
    assert "other.png: 2 faces; took the largest" in capsys.readouterr().err
    assert people() == {"A": 1, "E": 1}


def test_a_folder_of_several_people_is_recognised_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given with --name it is likely a mistake for --from-dir; photos of one name are told apart by their folder."""
    folder = tmp_path / "people"
    for name, photo in {"Grace": HOPPER, "Eileen": ASTRONAUT}.items():
        (folder / name).mkdir(parents=True)
        save(folder / name / "1.png", read_photo(photo))
    save(folder / "Grace" / "2.png", cv2.convertScaleAbs(read_photo(HOPPER), alpha=0.9))
    assert invoke(["enroll", "--name", "Grace", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "Grace/1.png: added" in captured.out and "Eileen/1.png: unlike the others" in captured.out
    assert f"facecam enroll --from-dir {folder}" in captured.err
    save(folder / "loose.png", read_photo(HOPPER))
    assert invoke(["enroll", "--from-dir", str(folder)]) == 0
    assert "1 photo directly in" in (err := capsys.readouterr().err) and "loose.png" in err


def test_an_empty_folder_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert invoke(["enroll", "--name", "A", str(tmp_path / "empty")]) == 11
    assert "no photos in it" in capsys.readouterr().err


def test_no_face_anywhere_enrols_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["enroll", "--name", "Cup", str(COFFEE)]) == 11
    assert "nothing was enrolled" in capsys.readouterr().err
    assert people() == {}


def test_one_folder_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, photo in {"Grace Hopper": HOPPER, "Eileen Collins": ASTRONAUT}.items():
        (tmp_path / name).mkdir()
        shutil.copy(photo, tmp_path / name)
    (tmp_path / "Cup").mkdir()
    shutil.copy(COFFEE, tmp_path / "Cup")
    assert invoke(["enroll", "--from-dir", str(tmp_path)]) == 1
    assert "Cup" in capsys.readouterr().err
    assert people() == {"Eileen Collins": 1, "Grace Hopper": 1}


@pytest.mark.parametrize(
    ("name", "code"),
    [("", 2), ("   ", 2), ("a\x07b", 2), ("x" * 101, 2), ("Unknown 7", 2), ("x" * 100, 0), ("José/Ana", 0)],
)
def test_names(name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["enroll", "--name", name, str(HOPPER)]) == code
    error = capsys.readouterr().err
    assert len([line for line in error.splitlines() if line.startswith("facecam:") and "CPU" not in line]) == (
        code != 0
    )
    assert len(people()) == (code == 0)


def test_missing_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["enroll", "--name", "A", str(tmp_path / "no.jpg")]) == 12
    assert "no such file" in capsys.readouterr().err
    assert invoke(["enroll", "--name", "A"]) == 12  # the camera: there is none
    assert invoke(["enroll", str(HOPPER)]) == 2
    (tmp_path / "none").mkdir()
    assert invoke(["enroll", "--from-dir", str(tmp_path / "none")]) == 2


def test_no_keep_crops_keeps_none() -> None:
    assert invoke(["enroll", "--name", "A", "--no-keep-crops", str(HOPPER)]) == 0
    assert invoke(["enroll", "--name", "B", str(ASTRONAUT)]) == 0
    with Gallery.open() as gallery:
        assert {p.name: p.crops for p in gallery.people()} == {"A": 0, "B": 1}


def test_a_video_gives_samples_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from facecam.values import SourceInfo
    from facecam.video.sinks import VideoSink

    face = cv2.resize(portrait("grace_hopper"), (512, 600))
    path = tmp_path / "me.mp4"
    with VideoSink(path, SourceInfo("me", 512, 600, fps=25)) as sink:
        for k in range(60):
            turn = cv2.getRotationMatrix2D((256, 300), 12 * np.sin(k / 8), 1 + 0.2 * np.sin(k / 11))
            light = 0.55 + 0.45 * np.cos(k / 9) ** 2
            sink.write((cv2.warpAffine(face, turn, (512, 600)) * light).astype(np.uint8), k / 25)
    assert invoke(["enroll", "--name", "Grace", "--samples", "3", str(path)]) == 0
    first = people()["Grace"]
    assert 1 <= first <= 3
    assert invoke(["enroll", "--name", "Grace", "--samples", "3", str(path)]) == 0
    assert people()["Grace"] == first, "the same frames are not enrolled twice"


@pytest.mark.parametrize("samples", [1, 3, 5])
def test_an_ordinary_video_gives_that_many_samples(
    samples: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hand before a moving head: views that come again, some better than before, and more than are kept."""
    face = cv2.resize(portrait("grace_hopper"), (384, 450))
    images = []
    for k in range(120):
        image = cv2.warpAffine(face, cv2.getRotationMatrix2D((192, 225), 15 * np.sin(k / 9), 1), (384, 450))
        hand = int(192 + 70 * np.sin(k / 14)), int(200 + 50 * np.cos(k / 10))
        cv2.circle(image, hand, 26, (90, 120, 170), -1)
        images.append(np.asarray(cv2.GaussianBlur(image, (0, 0), 0.4 + 0.9 * abs(np.sin(k / 31))), np.uint8))
    path = make_clip(tmp_path / "me.mp4", images)
    assert invoke(["enroll", "--name", "Grace", "--samples", str(samples), str(path)]) == 0
    assert people() == {"Grace": samples}
    assert capsys.readouterr().out.count("me.mp4 at ") == samples


def test_a_full_gallery_disk_enrols_nobody(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from facecam.errors import OutputError

    def full(self: Gallery, *args: object) -> None:
        raise OutputError("gallery.db: cannot be written: the disk is full")

    monkeypatch.setattr(Gallery, "add", full)
    assert invoke(["enroll", "--name", "A", str(HOPPER)]) == 1
    assert "disk is full" in capsys.readouterr().err
    assert people() == {}


def test_the_camera_guides_until_the_samples_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import facecam.video.sources as sources
    from facecam.video.sources import CameraSource
    from tests.fakes import FakeCapture

    face = cv2.resize(portrait("grace_hopper"), (512, 600))

    def look(k: int) -> np.ndarray:
        """Nobody, then two people, then one who moves the head."""
        if k < 8:
            return np.full((600, 1024, 3), 60, np.uint8)
        if k < 90:
            return np.concatenate([face, face[:, ::-1]], axis=1)
        shear = np.array([[1, 0.25 * np.sin(k / 9), 0], [0, 1, 0]], np.float32)
        return cv2.warpAffine(face, shear, (512, 600))

    monkeypatch.delenv("DISPLAY", raising=False)
    camera = FakeCapture(look, count=600, period=0.02)
    monkeypatch.setattr(sources, "open_source", lambda spec, **more: CameraSource(0, capture=camera))
    assert invoke(["enroll", "--name", "Grace", "--samples", "3"]) == 0
    captured = capsys.readouterr()
    assert "no face" in captured.out and "one person at a time" in captured.out
    assert "3 samples added" in captured.out and "no display" in captured.err
    assert people() == {"Grace": 3}


def test_a_camera_that_dies_before_a_sample_enrols_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import facecam.video.sources as sources
    from facecam.video.sources import CameraSource
    from tests.fakes import FakeCapture

    monkeypatch.delenv("DISPLAY", raising=False)
    camera = FakeCapture(lambda k: np.full((200, 300, 3), 60, np.uint8), count=5)
    monkeypatch.setattr(sources, "open_source", lambda spec, **more: CameraSource(0, capture=camera))
    assert invoke(["enroll", "--name", "Grace"]) == 12
    assert "camera 0" in capsys.readouterr().err
    assert people() == {}


def test_a_picture_of_somebody_else_among_three_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face = portrait("grace_hopper")
    for k, turn in enumerate((0, 8, -8)):
        matrix = cv2.getRotationMatrix2D((256, 250), turn, 1.0)
        save(tmp_path / f"grace{k}.png", cv2.warpAffine(face, matrix, (512, 600)))
    shutil.copy(ASTRONAUT, tmp_path / "other.png")
    photos = [str(p) for p in sorted(tmp_path.glob("*.png"))]
    assert invoke(["enroll", "--name", "Grace", *photos]) == 0
    assert "other.png: unlike the others" in capsys.readouterr().out
    assert people() == {"Grace": 3}


def test_a_refused_picture_of_somebody_known_comes_in_by_another_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture unlike the samples is refused alone, too: the way that is told must be one that works."""
    face = portrait("grace_hopper")
    for k, turn in enumerate((0, 8, -8)):
        matrix = cv2.getRotationMatrix2D((256, 250), turn, 1.0)
        save(tmp_path / f"grace{k}.png", cv2.warpAffine(face, matrix, (512, 600)))
    assert invoke(["enroll", "--name", "Grace", *(str(p) for p in sorted(tmp_path.glob("*.png")))]) == 0
    capsys.readouterr()
    assert invoke(["enroll", "--name", "Grace", str(ASTRONAUT)]) == 11
    told = capsys.readouterr()
    assert "facecam people merge OTHER Grace" in told.out and "alone" not in told.out
    assert "does not look like Grace" in told.err
    assert invoke(["enroll", "--name", "OTHER", str(ASTRONAUT)]) == 0
    assert invoke(["people", "merge", "OTHER", "Grace"]) == 0
    assert people() == {"Grace": 4}


def test_a_named_photo_that_failed_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What somebody named and could not be read is a failure; what a folder holds besides is none."""
    missing, broken = tmp_path / "missing.jpg", tmp_path / "broken.jpg"
    broken.write_bytes(HOPPER.read_bytes()[:2000])
    assert invoke(["enroll", "--name", "Grace", str(HOPPER), str(missing)]) == 1
    told = capsys.readouterr()
    assert "learned Grace: 1 sample added" in told.out and f"facecam: {missing}: no such file" in told.err
    assert invoke(["enroll", "--name", "Eileen", str(ASTRONAUT), str(broken)]) == 1
    assert f"facecam: {broken}: " in capsys.readouterr().err
    assert invoke(["enroll", "--name", "E", str(ASTRONAUT), str(tmp_path)]) == 0
    assert people() == {"Grace": 1, "Eileen": 1, "E": 1}


def test_dark_photos_are_taken_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever is enrolled from such alone gets called to others who are seen as badly (benchmarks.poor)."""
    face = portrait("grace_hopper")
    night = save(tmp_path / "night.png", (face * 0.2).astype(np.uint8))
    assert invoke(["enroll", "--name", "Grace Hopper", str(night)]) == 0
    told = capsys.readouterr()
    assert "night.png: added" in told.out and "; dark: a better one" in told.out
    assert "all pictures of Grace Hopper are dark" in told.err
    assert "facecam enroll --name 'Grace Hopper' PHOTO" in told.err
    assert people() == {"Grace Hopper": 1}
    assert invoke(["enroll", "--name", "Grace Hopper", str(HOPPER)]) == 0
    assert "all pictures" not in capsys.readouterr().err


def test_a_blurred_photo_is_told_and_a_good_one_beside_it_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face = portrait("astronaut")
    soft = save(tmp_path / "soft.png", np.asarray(cv2.GaussianBlur(face, (0, 0), 2.6)))
    assert invoke(["enroll", "--name", "Eileen", str(soft), str(ASTRONAUT)]) == 0
    told = capsys.readouterr()
    assert "; blurred: a better one" in told.out.splitlines()[0]
    assert "better one" not in told.out.splitlines()[1]
    assert told.err.count("pictures of") == 0, "one is good, and they look alike"


def test_two_pictures_of_two_people_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Of two nobody can say which one is wrong, so both are taken; of three the odd one is refused."""
    assert invoke(["enroll", "--name", "Grace", str(HOPPER), str(ASTRONAUT)]) == 0
    told = capsys.readouterr().err
    assert "the two pictures of Grace hardly resemble each other (similarity 0." in told
    assert "facecam people remove Grace" in told
    assert people() == {"Grace": 2}
