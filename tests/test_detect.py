"""The pyramid: faces of every size, near and far, and the search around known faces."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.engine import Engine
from facecam.geometry import covers, iou
from facecam.values import Face, Image
from facecam.video.photos import read_photo
from facecam.vision.detect import WINDOW, MmodDetector, merge
from tests.support import COFFEE, fed_pixels, portrait

boxes = st.tuples(st.floats(-100, 500), st.floats(-100, 500), st.floats(10, 300)).map(
    lambda b: (b[0], b[1], b[2], b[2])
)


@pytest.mark.parametrize("pixels", [42, 60, 80, 115, 160, 230, 330])
def test_a_face_of_any_size_from_the_least_on_is_found(engine: Engine, pixels: int) -> None:
    zoom = pixels / 95  # the face in the portrait has 95 pixels
    image = cv2.resize(portrait("astronaut"), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    faces = engine.detector.detect(image, 40)
    assert len(faces) == 1
    x, y, w, h = (v / zoom for v in faces[0].box)
    assert iou((x, y, w, h), (170, 68, 95, 95)) > 0.55


def test_smaller_faces_need_a_smaller_min_face(engine: Engine) -> None:
    image = cv2.resize(portrait("astronaut"), None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    assert not engine.detector.detect(image, 60)
    assert len(engine.detector.detect(image, 22)) == 1


def test_no_face_in_a_cup_of_coffee(engine: Engine) -> None:
    assert engine.detector.detect(read_photo(COFFEE), 40) == []


@pytest.mark.parametrize("shape", [(1, 1), (2, 500), (3000, 3), (39, 39)])
def test_tiny_and_thin_pictures_are_no_error(engine: Engine, shape: tuple[int, int]) -> None:
    assert engine.detector.detect(np.full((*shape, 3), 127, np.uint8), 40) == []


def test_levels_begin_at_the_least_face_and_end_at_the_largest(engine: Engine) -> None:
    assert isinstance(engine.detector, MmodDetector)
    scales = engine.detector.levels(640, 360, 40)
    assert scales[0] == pytest.approx(WINDOW / 40)
    assert all(a > b for a, b in pairwise(scales))
    assert scales[-1] * 360 < 1.5 * WINDOW


def test_following_corrects_place_and_size(engine: Engine) -> None:
    image = portrait("grace_hopper")
    truth = engine.detector.detect(image, 40)[0].box
    x, y, w, h = truth
    for dx, dy, zoom in [(0, 0, 1), (0.15, 0, 1), (0, -0.15, 0.9), (-0.1, 0.1, 1.12)]:
        side = w * zoom
        guess = (x + w / 2 + dx * w - side / 2, y + h / 2 + dy * h - side / 2, side, side)
        found = engine.detector.follow(image, [guess])[0]
        assert found is not None
        assert iou(found.box, truth) > iou(guess, truth) - 0.12
        assert iou(found.box, truth) > 0.7


def test_following_into_the_void_finds_nothing(engine: Engine) -> None:
    image = portrait("grace_hopper")
    assert engine.detector.follow(image, [(-900.0, -900.0, 80.0, 80.0), (5.0, 450.0, 60.0, 60.0)]) == [None, None]
    assert engine.detector.follow(image, []) == []


@given(st.lists(st.tuples(boxes, st.floats(0.01, 1.2)), max_size=12))
def test_merging_keeps_the_best_and_no_two_of_one_face(
    found: list[tuple[tuple[float, float, float, float], float]],
) -> None:
    faces = [Face(box, score) for box, score in found]
    kept = merge(faces)
    assert len(kept) <= len(faces)
    if faces:
        assert max(f.score for f in kept) == max(f.score for f in faces)
    scores = [f.score for f in kept]
    assert scores == sorted(scores, reverse=True)


def test_merging_drops_a_chin_in_a_face() -> None:
    kept = merge([Face((0, 0, 100, 100), 1.0), Face((30, 50, 40, 40), 0.5), Face((300, 0, 50, 50), 0.4)])
    assert [f.score for f in kept] == [1.0, 0.4]


@given(boxes, boxes)
def test_overlap_measures(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> None:
    assert 0 <= iou(a, b) <= 1 + 1e-9
    assert iou(a, b) == pytest.approx(iou(b, a))
    assert iou(a, a) == pytest.approx(1)
    assert covers(a, a)


@pytest.mark.data
def test_the_main_face_of_lfw_photos(engine: Engine, data: object) -> None:
    from pathlib import Path

    files = sorted(Path(str(data), "lfw_dev", "images").glob("*/*.jpg"))[::138]
    found = 0
    for file in files:
        faces = engine.detector.detect(read_photo(file), 40)
        found += any(f.box[0] < 125 < f.box[0] + f.box[2] and f.box[1] < 125 < f.box[1] + f.box[3] for f in faces)
    assert found == len(files)


def test_a_large_photo_is_searched_in_tiles_and_finds_the_same(engine: Engine) -> None:
    """A face on every border of the tiles, and one across the seam: each once, at the same place."""
    face = portrait("astronaut")[0:220, 110:330]
    big = np.full((2000, 3000, 3), 110, np.uint8)
    places = [(40, 60), (1300, 700), (2740, 1760), (1390, 1600), (2000, 20)]
    for x, y in places:
        big[y : y + 220, x : x + 220] = face
    faces = engine.detector.detect(big, 70)
    assert len(faces) == len(places)
    for x, y in places:
        expected = (x + 60, y + 68, 95, 95)
        assert max(iou(f.box, expected) for f in faces) > 0.5


def test_memory_of_a_huge_photo_is_bounded(engine: Engine) -> None:
    assert isinstance(engine.detector, MmodDetector)
    scales = engine.detector.levels(8000, 6000, 40)
    assert scales[0] ** 2 * 48e6 <= 12e6 * 1.001


def test_seams_leave_no_gap() -> None:
    from facecam.vision.tiles import OVERLAP, TILE, starts

    for length in (1, TILE, TILE + 1, 2000, 4321, 20_000):
        begun = starts(length)
        assert begun[0] == 0 and begun[-1] + TILE >= length
        for a, b in pairwise(begun):
            assert 0 < b - a <= TILE - OVERLAP + 8


def with_faces(width: int, height: int, places: list[tuple[int, int, float]]) -> Image:
    """A picture of much else with the astronaut's face at x, y, so many pixels large."""
    scene = cv2.resize(read_photo(COFFEE), (width, height))
    face = portrait("astronaut")[20:200, 120:320]
    for x, y, pixels in places:
        small = cv2.resize(face, None, fx=pixels / 95, fy=pixels / 95, interpolation=cv2.INTER_AREA)
        high, wide = (min(a, b) for a, b in zip(small.shape, (height - y, width - x)))
        scene[y : y + high, x : x + wide] = small[:high, :wide]
    return np.asarray(scene, np.uint8)


def scouted(engine: Engine) -> MmodDetector:
    """The detector of videos, which has a scout."""
    assert isinstance(engine.video_detector, MmodDetector) and engine.video_detector.scout is not None
    return engine.video_detector


def test_where_the_scout_hints_is_found_what_the_whole_pyramid_finds(engine: Engine) -> None:
    """Faces of 40 to 60 pixels among much else: the same are found, for a sixth of the network's work."""
    detector = scouted(engine)
    places = [(40, 60, 44.0), (700, 500, 52.0), (1180, 30, 48.0), (600, 130, 57.0)]
    scene = with_faces(1280, 720, places)
    scales = detector.levels(1280, 720, 40)
    whole: list[Face] = []
    near: list[Face] = []
    hinted = fed_pixels(detector, lambda: near.extend(detector.detect_levels(scene, scales)))
    everywhere = fed_pixels(detector, lambda: whole.extend(detector.detect(scene, 40)))
    assert len(whole) == len(near) == len(places)
    for a in whole:
        assert max(iou(a.box, b.box) for b in near) > 0.8
    assert hinted < everywhere / 6


@pytest.mark.parametrize("pixels", [42, 44, 48, 52, 57, 62, 68, 76, 90, 105])
def test_the_scout_hints_at_a_face_of_any_size(engine: Engine, pixels: int) -> None:
    """Also at sizes that one level alone shows, however often the same picture comes."""
    detector = scouted(engine)
    scene = with_faces(640, 360, [(400, 100, pixels)])
    (whole,) = detector.detect(scene, 40)
    (near,) = detector.detect_levels(scene, detector.levels(640, 360, 40))
    assert iou(whole.box, near.box) > 0.7


def test_in_a_crowd_the_level_is_searched_whole(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = scouted(engine)
    scene = with_faces(640, 360, [(60, 60, 80.0)])
    (scale,) = [s for s in detector.levels(640, 360, 40) if 0.9 < s < 1.1]
    everywhere = fed_pixels(detector, lambda: MmodDetector(detector.model).detect_levels(scene, [scale]))
    hints = {scale: [(float(x), float(y)) for x in range(0, 640, 32) for y in range(0, 360, 32)]}
    monkeypatch.setattr(detector.scout, "hints", lambda image, scales: hints)
    seen: list[Face] = []
    crowded = fed_pixels(detector, lambda: seen.extend(detector.detect_levels(scene, [scale])))
    assert crowded == everywhere
    assert len(seen) == 1


@pytest.mark.parametrize("zoom", [0.2, 0.3, 0.45, 0.7, 1.0, 1.7])
def test_a_crop_shows_the_same_place_however_it_is_scaled(zoom: float) -> None:
    from facecam.vision.resize import cut

    image = np.zeros((400, 600, 3), np.uint8)
    cv2.circle(image, (300, 200), 20, (255, 255, 255), -1)
    side = 160
    for dx, dy in [(0, 0), (17.5, -11.25)]:
        left, top = 300 - side / 2 / zoom + dx, 200 - side / 2 / zoom + dy
        crop = np.zeros((side, side, 3), np.uint8)
        true, _, left, top = cut(image, left, top, zoom, crop)
        assert true == pytest.approx(zoom, rel=0.01)
        rows, cols = np.nonzero(crop[..., 0] > 127)
        assert cols.mean() + 0.5 == pytest.approx((300.5 - left) * true, abs=0.6)
        assert rows.mean() + 0.5 == pytest.approx((200.5 - top) * true, abs=0.6)
        assert len(rows) == pytest.approx(np.pi * (20 * zoom) ** 2, rel=0.2)
