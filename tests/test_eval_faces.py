"""Pictures to vectors for evaluation: the right face, the same answer as the whole pyramid, none lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from facecam.engine import Engine
from facecam.errors import SourceError
from facecam.evaluate.faces import by_person, embed_files, main_face, pictures, reach
from facecam.geometry import iou
from facecam.values import Box, Face, Image
from facecam.vision.align import align
from facecam.vision.landmarks import STEADYING, locate_steadily
from facecam.vision.still import ZOOMS, embed_stills, still_crops
from tests.support import COFFEE, portrait


class Scales:
    """A detector that sees each of its faces at one scale only, and notes where it was asked."""

    def __init__(self, faces: dict[float, list[Face]]) -> None:
        self.faces = faces
        self.asked: list[float] = []

    def levels(self, width: int, height: int, min_face: float) -> list[float]:
        return [2.0, 1.0, 0.5]

    def detect_levels(self, image: Image, scales: Sequence[float], changed: object = None) -> list[Face]:
        self.asked += scales
        return [face for scale in scales for face in self.faces.get(scale, [])]

    def detect(self, image: Image, min_face: float) -> list[Face]:
        return self.detect_levels(image, self.levels(0, 0, min_face))

    def follow(self, image: Image, boxes: Sequence[Box], sized: Collection[int] = ()) -> list[Face | None]:
        raise AssertionError("a still has nothing to follow")


PICTURE = np.zeros((300, 300, 3), np.uint8)


def square(x: float, y: float, side: float, score: float = 1.0) -> Face:
    return Face((x - side / 2, y - side / 2, side, side), score)


def test_finer_levels_are_not_searched_once_no_smaller_face_could_be_nearer() -> None:
    detector = Scales({0.5: [square(150, 150, 170)]})
    face = main_face(detector, PICTURE, 40)
    assert face is not None and face.size == 170
    assert detector.asked == [0.5]


def test_a_smaller_face_in_the_middle_beats_a_larger_one_at_the_side() -> None:
    large, small = square(60, 60, 100), square(150, 150, 44)
    detector = Scales({0.5: [large], 2.0: [small]})
    face = main_face(detector, PICTURE, 40)
    assert face is not None and face.box == pytest.approx(small.box)
    assert detector.asked == [0.5, 1.0, 2.0]


def test_of_two_faces_that_hold_the_middle_the_larger_counts() -> None:
    assert reach(square(150, 150, 120), 300, 300) < reach(square(150, 150, 60), 300, 300)
    assert reach(square(150, 150, 60), 300, 300) < reach(square(250, 250, 90), 300, 300)


def test_no_face_anywhere_is_no_face() -> None:
    detector = Scales({})
    assert main_face(detector, PICTURE, 40) is None
    assert detector.asked == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("name", ["grace_hopper", "astronaut"])
def test_coarse_to_fine_finds_the_face_that_the_whole_pyramid_finds(engine: Engine, name: str) -> None:
    image = portrait(name)
    whole = min(engine.detector.detect(image, 40), key=lambda f: reach(f, image.shape[1], image.shape[0]))
    found = main_face(engine.detector, image, 40)
    assert found is not None
    assert iou(found.box, whole.box) > 0.85


def test_steadied_landmarks_are_the_mean_over_moved_boxes_and_given_ones_are_kept(engine: Engine) -> None:
    image = portrait("astronaut")
    face = engine.detector.detect(image, 40)[0]
    once = engine.landmarker.locate(image, [face])[0]
    steady, kept = locate_steadily(engine.landmarker, image, [face, once])
    assert kept is once
    assert steady.scheme == once.scheme and steady.box == face.box
    assert steady.landmarks is not None and once.landmarks is not None
    gap = np.linalg.norm(steady.landmarks - once.landmarks, axis=1)
    assert 0 < gap.max() < 0.05 * face.size
    x, y, w, h = face.box
    views = [face.at((x + dx * w, y + dy * h, w * s, h * s)) for dx, dy, s in STEADYING]
    each = [f.landmarks for f in engine.landmarker.locate(image, views)]
    np.testing.assert_allclose(steady.landmarks, np.mean(each, axis=0), atol=1e-3)  # type: ignore[arg-type]


def test_the_crops_of_a_still_show_the_face_larger_and_smaller_about_the_same_middle(engine: Engine) -> None:
    image = portrait("grace_hopper")
    face = engine.landmarker.locate(image, engine.detector.detect(image, 40))[0]
    usual = align(image, face, "dlib-150")
    zoomed = dict(zip(ZOOMS, still_crops(image, face, "dlib-150"), strict=True))
    assert np.array_equal(zoomed.pop(1.0), usual)
    for zoom, crop in zoomed.items():
        expected = cv2.warpAffine(
            usual, np.array([[zoom, 0, 74.5 * (1 - zoom)], [0, zoom, 74.5 * (1 - zoom)]]), (150, 150)
        )
        inner = (slice(20, -20), slice(20, -20))
        # Resampled twice, the expected crop is softer; yet nearer by far than the crop that was not zoomed.
        near, far = (np.abs(other[inner].astype(int) - crop[inner]).mean() for other in (expected, usual))
        assert near < 0.6 * far


def test_no_faces_are_no_vectors(engine: Engine) -> None:
    assert embed_stills(engine.embedder, []).shape == (0, engine.embedder.dim)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two people, a picture without a face, a damaged one and a hidden one."""
    for person in ("Ada", "Grace"):
        (tmp_path / person).mkdir()
    cv2.imwrite(str(tmp_path / "Ada" / "Ada_0001.png"), portrait("astronaut"))
    cv2.imwrite(str(tmp_path / "Grace" / "Grace_0001.jpg"), portrait("grace_hopper"))
    (tmp_path / "Grace" / "Grace_0002.jpg").write_bytes(b"no picture")
    (tmp_path / "Grace" / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "Grace" / "notes.txt").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(Path(COFFEE).read_bytes())
    return tmp_path


def test_pictures_and_people_of_a_folder(folder: Path) -> None:
    assert [p.name for p in pictures(folder)] == ["Ada_0001.png", "Grace_0001.jpg", "Grace_0002.jpg", "empty.png"]
    assert {name: len(paths) for name, paths in by_person(folder).items()} == {"Ada": 1, "Grace": 2}


def test_linked_folders_count_and_a_link_in_a_circle_ends(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    linked = tmp_path_factory.mktemp("linked")
    (linked / "Ada").symlink_to(folder / "Ada", target_is_directory=True)
    (linked / "again").symlink_to(linked, target_is_directory=True)
    assert {name: len(paths) for name, paths in by_person(linked).items()} == {"Ada": 1}


@pytest.mark.parametrize("make", [by_person, pictures])
def test_a_folder_without_pictures_is_told(tmp_path: Path, make: object) -> None:
    with pytest.raises(SourceError, match="picture"):
        make(tmp_path)  # type: ignore[operator]
    with pytest.raises(SourceError, match="no such folder"):
        make(tmp_path / "absent")  # type: ignore[operator]


@pytest.mark.parametrize("workers", [1, 3])
def test_vectors_stand_at_their_pictures_and_failures_are_kept(engine: Engine, folder: Path, workers: int) -> None:
    calls: list[int] = []
    embedded = embed_files(engine, pictures(folder), lambda done, total: calls.append(done), workers=workers)
    assert embedded.found.tolist() == [True, True, False, False]
    assert len(embedded.problems) == 1 and "Grace_0002.jpg" in embedded.problems[0]
    assert calls[-1] == 4
    image = portrait("astronaut")
    face = main_face(engine.detector, image, 40)
    assert face is not None
    crops = still_crops(image, locate_steadily(engine.landmarker, image, [face])[0], engine.embedder.template)
    np.testing.assert_allclose(embedded.plain[0], embed_stills(engine.embedder, [crops], mirror=False)[0], atol=1e-3)
    np.testing.assert_allclose(embedded.mirror[0], embed_stills(engine.embedder, [crops])[0], atol=1e-3)
    assert np.linalg.norm(embedded.plain[:2], axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert not embedded.plain[2:].any() and not embedded.mirror[2:].any()


def test_many_batches_keep_their_order(engine: Engine, folder: Path) -> None:
    one, other = folder / "Ada" / "Ada_0001.png", folder / "Grace" / "Grace_0001.jpg"
    few = embed_files(engine, [one, other])
    paths = [one, other, other] * 12  # more than one batch
    many = embed_files(engine, paths, workers=2)
    for i, path in enumerate(paths):
        np.testing.assert_allclose(many.mirror[i], few.mirror[int(path == other)], atol=1e-4)


def test_an_error_in_a_worker_reaches_the_caller(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> Image:
        raise RuntimeError("a bug")

    monkeypatch.setattr("facecam.evaluate.faces.read_photo", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        embed_files(engine, pictures(folder), workers=2)
