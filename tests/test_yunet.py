"""YuNetDetector: decoding on a planted network, and the real one on photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from facecam.errors import ModelInvalid
from facecam.values import FIVE, Image
from facecam.vision.detect import Detector, iou
from facecam.vision.yunet import YuNetDetector
from facecam.zoo import graph, intake
from facecam.zoo.packs import Zoo
from facecam.zoo.session import Device, load
from tests import zoo_models as made
from tests.conftest import data_folder
from tests.support import portrait


def planted(**shape: object) -> YuNetDetector:
    card = made.yunet_card(size=(shape.get("height", 0), shape.get("width", 0)))
    free = {"height": "h", "width": "w", "batch": "n"}
    return YuNetDetector(load(made.planted_yunet(**{**free, **shape}), device=Device("cpu"), card=card))


def with_cells(height: int, width: int, *cells: tuple[int, int]) -> Image:
    """A black picture in which some cells of 8 x 8 pixels (row, column) are white."""
    image = np.zeros((height, width, 3), np.uint8)
    for row, column in cells:
        image[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 255
    return image


def test_a_cell_is_decoded_to_its_box_and_points() -> None:
    (face,) = planted().detect_levels(with_cells(160, 256, (6, 10)), [1.0])
    np.testing.assert_allclose(face.box, (84 - 16, 52 - 20, 32, 40), atol=1e-3)
    assert face.landmarks is not None and face.scheme == FIVE
    expected = np.array([(9, 5), (12, 5), (10.5, 6.5), (9, 8), (12, 8)]) * 8
    np.testing.assert_allclose(face.landmarks, expected, atol=1e-3)
    assert 0.99 < face.score <= 1.0


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_faces_come_back_in_pixels_of_the_frame(scale: float) -> None:
    """A box of 32 x 40 scaled pixels; pixel centres, not corners, are what scales."""
    small = with_cells(160, 256, (6, 10))
    image = cv2.resize(small, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_NEAREST)
    (face,) = planted().detect_levels(np.asarray(image, np.uint8), [scale])
    x, y, w, h = face.box
    np.testing.assert_allclose((w, h), (32 / scale, 40 / scale), atol=1e-3)
    np.testing.assert_allclose((x + 0.5, y + 0.5), (68.5 / scale, 32.5 / scale), atol=1e-3)


def test_sizes_that_are_no_multiple_of_32_are_padded() -> None:
    image = with_cells(150, 200, (2, 3), (12, 20))
    faces = planted().detect_levels(image, [1.0])
    assert sorted(round(f.centre[0]) for f in faces) == [28, 164]


def test_neighbouring_cells_are_one_face_and_the_best_comes_first() -> None:
    image = with_cells(160, 256, (6, 10), (6, 11), (14, 24))
    image[14 * 8 : 15 * 8, 24 * 8 : 25 * 8] = 125  # a weaker one
    faces = planted().detect_levels(image, [1.0])
    assert len(faces) == 2
    assert faces[0].score > faces[1].score > 0.6


def test_a_black_picture_has_no_face_and_one_pixel_does_no_harm() -> None:
    assert planted().detect(np.zeros((100, 100, 3), np.uint8), 20) == []
    assert planted().detect(np.zeros((1, 1, 3), np.uint8), 20) == []


def test_many_images_in_one_call_are_each_as_alone() -> None:
    detector = planted()
    images = [with_cells(160, 256, (6, 10)), with_cells(160, 256), with_cells(160, 256, (3, 3), (15, 25))]
    many = detector.detect_many(images, 32)
    assert [len(faces) for faces in many] == [1, 0, 2]
    for image, faces in zip(images, many):
        for a, b in zip(detector.detect(image, 32), faces, strict=True):
            np.testing.assert_allclose(a.box, b.box, atol=1e-3)
            np.testing.assert_allclose(a.landmarks, b.landmarks, atol=1e-3)
    assert detector.detect_many([], 32) == []
    with pytest.raises(ValueError, match="one size"):
        detector.detect_many([images[0], images[0][:100]], 32)


def test_a_file_of_one_fixed_size_works_at_that_size() -> None:
    detector = planted(height=128, width=192, batch=1)
    image = np.repeat(np.repeat(with_cells(128, 192, (6, 10)), 2, axis=0), 2, axis=1)
    (face,) = detector.detect(image, 20)
    np.testing.assert_allclose(face.box[2:], (64, 80), atol=1e-3)
    assert detector.levels(384, 256, 20) == [0.5]


def test_smaller_faces_than_wanted_are_left_out() -> None:
    """At scale 1 the planted faces are 40, 26 and 20 px high."""
    image = with_cells(160, 256, (6, 10))
    assert planted().levels(256, 160, 32) == [1.0]
    assert len(planted().detect(image, 32)) == 1
    assert len(planted(wide=3, tall=3.25).detect_levels(image, [1.0])) == 1
    assert planted(wide=3, tall=3.25).detect(image, 32) == [], "smaller than wanted"
    assert planted(wide=2, tall=2.5).detect_levels(image, [1.0]) == [], "too small for landmarks"


def test_levels_reach_from_the_smallest_to_the_largest_face() -> None:
    detector = planted()
    assert detector.levels(250, 250, 40) == [0.8]
    scales = detector.levels(1920, 1080, 40)
    assert scales[0] == 0.8 and len(scales) == 2 and 1920 * scales[-1] <= 400
    assert detector.levels(640, 360, 5)[0] == 2.0, "never enlarged beyond twice"


def test_following_finds_the_face_near_the_box_and_no_other() -> None:
    detector = planted()
    image = np.zeros((400, 400, 3), np.uint8)
    image[100:164, 100:164] = 255  # fills some cells of the crop around it
    (face,) = detector.follow(image, [(92, 92, 80, 80)])
    assert face is not None and abs(face.centre[0] - 132) < 20
    assert detector.follow(image, [(300, 300, 80, 80)]) == [None]
    assert detector.follow(image, []) == []
    assert detector.follow(image, [(-900, -900, 50, 50)]) == [None]


def test_a_model_without_yunets_outputs_is_refused() -> None:
    class Odd:
        card = made.yunet_card(outputs=("cls_8", "obj_8"))

    with pytest.raises(ModelInvalid, match="lacks"):
        YuNetDetector(Odd())  # type: ignore[arg-type]
    Odd.card = made.yunet_card(size=(100, 640))
    with pytest.raises(ModelInvalid, match="multiple of 32"):
        YuNetDetector(Odd())  # type: ignore[arg-type]
    Odd.card = made.yunet_card(decoder="mmod")
    with pytest.raises(ValueError, match="not a YuNet detector"):
        YuNetDetector(Odd())  # type: ignore[arg-type]


# --- the real network ---


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> YuNetDetector:
    """yunet_n.onnx with a card, added like any user's model."""
    folder = tmp_path_factory.mktemp("yunet")
    source = data_folder() / "models" / "yunet_n.onnx"
    model = graph.parse(source.read_bytes(), source.name)
    file = made.put(folder, "yunet.onnx", graph.with_card(model, made.yunet_card(name="YuNet n")))
    zoo = Zoo(folder / "home", notify=lambda line: None)
    assert intake.add(zoo, file).id == "yunet-n"
    return YuNetDetector(load(zoo.model("yunet-n").path, device=Device("cpu")))


@pytest.mark.data
@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "eyes", "mouth"),
    [
        ("grace_hopper", ((227, 189), (304, 189)), (265, 274)),
        ("astronaut", ((206, 100), (250, 103)), (228, 146)),
    ],
)
def test_the_portraits_have_one_face_with_its_points_in_order(
    real: YuNetDetector,
    scale: float,
    name: str,
    eyes: tuple[tuple[int, int], tuple[int, int]],
    mouth: tuple[int, int],
) -> None:
    """Places read off the pictures by eye; tolerance a tenth of the face's height."""
    image = cv2.resize(portrait(name), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    faces = real.detect(np.asarray(image, np.uint8), 25)
    assert len(faces) == 1
    points = faces[0].landmarks
    assert points is not None and faces[0].scheme == FIVE
    tolerance = 0.1 * faces[0].box[3] / scale
    places = np.array([points[0], points[1], (points[3] + points[4]) / 2]) / scale
    assert np.abs(places - np.array([*eyes, mouth])).max() < tolerance, places
    assert points[3][0] < points[2][0] < points[4][0], "left mouth corner, nose, right mouth corner"


@pytest.mark.data
def test_the_main_face_of_lfw_photos_is_found_alone_and_in_batches(real: YuNetDetector, data: Path) -> None:
    files = sorted((data / "lfw_dev" / "images").glob("*/*_0001.jpg"))[::60]
    images = [np.asarray(cv2.imread(str(file)), np.uint8) for file in files]
    many = real.detect_many(images, 40)
    centred = [any(abs(f.centre[0] - 125) < 40 and abs(f.centre[1] - 125) < 40 for f in faces) for faces in many]
    assert sum(centred) >= 0.97 * len(images), f"{sum(centred)} of {len(images)}"
    for image, faces in zip(images[:5], many):
        alone = real.detect(image, 40)
        np.testing.assert_allclose([f.box for f in alone], [f.box for f in faces], atol=0.05)
    for image, faces in zip(images[:10], many):
        for face, again in zip(faces, real.follow(image, [f.box for f in faces]), strict=True):
            assert again is not None and iou(face.box, again.box) > 0.6
            assert again.landmarks is not None and face.landmarks is not None
            assert np.abs(again.landmarks - face.landmarks).max() < 0.12 * face.size


@pytest.mark.data
def test_it_is_a_detector_like_any_other(real: YuNetDetector) -> None:
    detector: Detector = real
    image = portrait("astronaut")
    scales = detector.levels(image.shape[1], image.shape[0], 40)
    assert len(detector.detect_levels(image, scales)) == len(detector.detect(image, 40)) == 1
