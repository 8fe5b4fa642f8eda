"""The scout: where it hints, the file that is shipped, how it is trained and exported."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from facecam.engine import Engine
from facecam.errors import ModelInvalid
from facecam.values import Image
from facecam.video.photos import read_photo
from facecam.vision.detect import HINT_SIDE, MmodDetector
from facecam.vision.scout import STEP, STRIDE, Scout
from facecam.vision.tiles import WINDOW
from facecam.zoo import scout as shipped
from facecam.zoo.session import Device, load
from tests.support import ASTRONAUT, COFFEE, HOPPER


@pytest.fixture(scope="module")
def scout() -> Scout:
    return Scout(shipped.open_scout(Device("cpu")))


@pytest.mark.parametrize("photo", [ASTRONAUT, HOPPER])
@pytest.mark.parametrize("pixels", [60, 80, 100])
@pytest.mark.parametrize("mirrored", [False, True])
def test_it_hints_so_near_that_the_crop_holds_the_face(
    engine: Engine, scout: Scout, photo: Path, pixels: int, mirrored: bool
) -> None:
    image = read_photo(photo)
    (face,) = engine.detector.detect(image, 60)
    zoom = pixels / face.size
    image = np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), np.uint8)
    image = np.ascontiguousarray(image[:, ::-1]) if mirrored else image
    assert isinstance(engine.detector, MmodDetector)
    for scale in (WINDOW / pixels, WINDOW / pixels / STEP):
        hints = scout.hints(image, [scale])[scale]
        for found in engine.detector.detect_levels(image, [scale]):
            x, y = found.centre
            off = min(max(abs(x - a), abs(y - b)) for a, b in hints) * scale
            assert off <= (HINT_SIDE - WINDOW) / 2 + STRIDE


def test_scales_a_step_apart_are_looked_at_together(scout: Scout, monkeypatch: pytest.MonkeyPatch) -> None:
    image = read_photo(HOPPER)
    looks: list[float] = []
    look = scout._look

    def noting(image: Image, scale: float) -> tuple[object, float, float]:
        looks.append(scale)
        return look(image, scale)

    monkeypatch.setattr(scout, "_look", noting)
    scales = [1.0, 1 / STEP, 1 / STEP**2, 1 / STEP**3, 1 / STEP**5]
    assert scout.hints(image, scales).keys() == set(scales)
    assert [round(scale, 3) for scale in looks] == [0.3, 0.15, 0.053]


def test_without_faces_it_hints_at_little(scout: Scout) -> None:
    image = np.asarray(cv2.resize(read_photo(COFFEE), (1280, 720)), np.uint8)
    hints = scout.hints(image, [1.0, 1 / STEP])
    assert sum(map(len, hints.values())) < 25
    assert scout.hints(np.full((720, 1280, 3), 90, np.uint8), [1.0]) == {1.0: []}


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (2000, 3), (97, 131)])
def test_any_size_of_picture_will_do(scout: Scout, shape: tuple[int, int]) -> None:
    for places in scout.hints(np.zeros((*shape, 3), np.uint8), [2.0, 1.0]).values():
        assert all(min(place) >= 0 for place in places)


def test_a_file_that_was_changed_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "scout.onnx"
    damaged.write_bytes(shipped.FILE.read_bytes() + b"\0")
    monkeypatch.setattr(shipped, "FILE", damaged)
    with pytest.raises(ModelInvalid, match="reinstall"):
        shipped.open_scout(Device("cpu"))


# --- how it is made --------------------------------------------------------------------------------------


def scenes(path: Path, count: int) -> None:
    """Grain, in which a bright disc is what is looked for."""
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 90, (count, 64, 64, 3), np.uint8)
    said = np.full((count, 2, 8, 8), -2.0, np.float16)
    for image, answers in zip(seen, said):
        row, column = rng.integers(1, 7, 2)
        cv2.circle(image, (int(8 * column + 4), int(8 * row + 4)), 10, (250, 250, 250), -1)
        answers[:, row, column] = 1.0
    np.savez(path, seen=seen, said=said)


@pytest.mark.slow
def test_it_learns_what_scenes_say_and_the_file_says_the_same(tmp_path: Path) -> None:
    from export import scout as exporter
    from train import scout as trainer

    scenes(tmp_path / "scenes.npz", trainer.KEPT + 320)
    run = CliRunner().invoke
    done = run(trainer.main, [str(tmp_path / "scenes.npz"), "--out", str(tmp_path / "s.pt"), "--epochs", "6"])
    assert done.exit_code == 0, done.output
    found = re.search(r"hint from 0\.20: ([\d.]+)% of faces hinted at, ([\d.]+) hints", done.output)
    assert found is not None
    assert float(found[1]) > 95 and float(found[2]) < 3
    done = run(exporter.main, [str(tmp_path / "s.pt"), "-o", str(tmp_path / "s.onnx")])
    assert done.exit_code == 0, done.output
    made = Scout(load(tmp_path / "s.onnx", device=Device("cpu"), threads=1))
    image = np.full((64, 64, 3), 45, np.uint8)
    cv2.circle(image, (20, 44), 10, (250, 250, 250), -1)
    logits = made._look(image, 1.0)[0]
    assert logits.shape == (2, 8, 8)
    assert np.unravel_index(int(logits[0].argmax()), (8, 8)) == (5, 2)


def test_what_is_no_scenes_or_no_scout_is_said_in_a_line(tmp_path: Path) -> None:
    from export import scout as exporter
    from train import scout as trainer

    (tmp_path / "x.npz").write_bytes(b"nothing")
    done = CliRunner().invoke(trainer.main, [str(tmp_path / "x.npz"), "--out", str(tmp_path / "s.pt")])
    assert done.exit_code == 1 and "benchmarks.scenes" in done.output
    scenes(tmp_path / "few.npz", 20)
    done = CliRunner().invoke(trainer.main, [str(tmp_path / "few.npz"), "--out", str(tmp_path / "s.pt")])
    assert done.exit_code == 1 and "too few" in done.output
    assert not (tmp_path / "s.pt").exists()
    done = CliRunner().invoke(exporter.main, [str(tmp_path / "x.npz"), "-o", str(tmp_path / "s.onnx")])
    assert done.exit_code == 1 and not (tmp_path / "s.onnx").exists()


@pytest.mark.data
def test_scenes_hold_what_the_detector_says(engine: Engine, data: Path) -> None:
    """A face in the middle of a scene is said to be there, at both levels or the one that shows it."""
    from benchmarks import scenes as maker

    people = sorted((data / "lfw_dev" / "images").rglob("*_0001.jpg"))[:30]
    others = sorted((data / "cats_dogs" / "train").rglob("*.jpg"))[:30]
    rng = np.random.default_rng(3)
    made = [maker.compose(rng, people, others) for _ in range(6)]
    assert {image.shape for image in made} <= {(640, 640, 3), (320, 320, 3)}
    again = np.random.default_rng(3)
    assert all((a == maker.compose(again, people, others)).all() for a in made), "the same seed, the same scenes"
    assert isinstance(engine.video_detector, MmodDetector)
    level = maker.resized(made[0], (640, 640))
    best = maker.best(maker.answers(engine.video_detector, level), 1.0)
    assert best.shape == (24, 24)
    for face in engine.video_detector.detect_levels(level, [1.0]):
        x, y = (int(v * 24 / 640) for v in face.centre)
        assert best[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max() > 0
    whole = MmodDetector(engine.video_detector.model).detect_levels(level, [1.0])
    assert (best > 0).any() == bool(whole)
