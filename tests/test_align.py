"""Geometry of the canonical crop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.engine import Engine
from facecam.values import DLIB5, FIVE, Face
from facecam.vision.align import (
    CONTEXT_SIDE,
    TARGETS,
    align,
    context_crop,
    crop_transform,
    similarity_transform,
)
from facecam.zoo.card import TEMPLATES
from tests.support import GOLDEN, portrait

coordinates = st.floats(-500, 500)


def similarity(angle: float, scale: float, dx: float, dy: float) -> np.ndarray:
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[c, -s, dx], [s, c, dy]])


@given(st.floats(-math.pi, math.pi), st.floats(0.05, 20), coordinates, coordinates)
def test_a_similarity_is_recovered_exactly(angle: float, scale: float, dx: float, dy: float) -> None:
    truth = similarity(angle, scale, dx, dy)
    points = TARGETS["dlib-150", DLIB5].astype(np.float64)
    moved = points @ truth[:, :2].T + truth[:, 2]
    np.testing.assert_allclose(similarity_transform(points, moved), truth, atol=1e-6 * (1 + abs(scale) * 500))


def test_points_that_coincide_have_no_transform() -> None:
    with pytest.raises(ValueError, match="coincide"):
        similarity_transform(np.zeros((5, 2), np.float32), TARGETS["dlib-150", DLIB5])


@pytest.mark.parametrize(("template", "scheme"), TARGETS)
def test_every_scheme_reaches_every_template(template: str, scheme: str) -> None:
    """Points that lie on one template's places, in the scheme's own order, land inside the other's crop."""
    source = TARGETS["dlib-150", scheme] * 2 + 31
    matrix = crop_transform(source.astype(np.float32), scheme, template)
    landed = source @ matrix[:, :2].T + matrix[:, 2]
    side = TEMPLATES[template]
    assert ((landed > 0.1 * side) & (landed < 0.9 * side)).all()
    assert math.hypot(*matrix[:, 0]) == pytest.approx(math.hypot(*matrix[:, 1]))


def test_both_schemes_of_one_face_give_nearly_one_crop(engine: Engine) -> None:
    """A face's eyes are in one place whichever five points name them."""
    image = portrait("grace_hopper")
    golden = GOLDEN["grace_hopper"]["faces"][0]
    five = Face(tuple(golden["box"]), 1.0, np.array(golden["points"], np.float32), DLIB5)
    # eyes by their corners; nose tip and mouth corners read off the photo by eye
    points = np.array([[223, 195], [306, 190], [266, 236], [237, 281], [305, 278]], np.float32)
    other = Face(tuple(golden["box"]), 1.0, points, FIVE)
    vectors = engine.embedder.embed([align(image, face, "dlib-150") for face in (five, other)])
    assert float(vectors[0] @ vectors[1]) > 0.97


@pytest.mark.parametrize("zoom", [0.3, 0.6, 1.0, 2.0, 5.0])
def test_the_crop_hardly_depends_on_the_photos_size(engine: Engine, zoom: float) -> None:
    import cv2

    image = portrait("grace_hopper")
    golden = GOLDEN["grace_hopper"]["faces"][0]
    points = np.array(golden["points"], np.float32)
    flags = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=flags)
    whole = align(image, Face(tuple(golden["box"]), 1.0, points, DLIB5), "dlib-150")
    box = tuple(v * zoom for v in golden["box"])
    same = align(scaled, Face(box, 1.0, (points + 0.5) * zoom - 0.5, DLIB5), "dlib-150")
    vectors = engine.embedder.embed([whole, same])
    assert float(vectors[0] @ vectors[1]) > (0.98 if zoom < 0.5 else 0.995)


@given(st.integers(-300, 800), st.integers(-300, 800), st.floats(12, 900))
def test_a_crop_is_whole_wherever_the_face_is(x: int, y: int, size: float) -> None:
    image = np.full((60, 80, 3), 200, np.uint8)
    points = TARGETS["dlib-150", DLIB5] / 150 * size + np.array([x, y])
    face = Face((x, y, size, size), 1.0, points.astype(np.float32), DLIB5)
    assert align(image, face, "dlib-150").shape == (150, 150, 3)
    crop, landmarks = context_crop(image, face)
    assert crop.shape[0] == crop.shape[1] <= CONTEXT_SIDE
    assert landmarks.shape == (5, 2) and np.isfinite(landmarks).all()


def test_the_context_crop_serves_the_embedder_like_the_photo(engine: Engine) -> None:
    """A later model must be able to cut its own template from what the gallery keeps."""
    image = portrait("astronaut")
    golden = GOLDEN["astronaut"]["faces"][0]
    face = Face(tuple(golden["box"]), 1.0, np.array(golden["points"], np.float32), DLIB5)
    crop, points = context_crop(image, face)
    again = Face((0, 0, 1, 1), 1.0, points, DLIB5)
    vectors = engine.embedder.embed([align(image, face, "dlib-150"), align(crop, again, "dlib-150")])
    assert float(vectors[0] @ vectors[1]) > 0.99


def test_a_face_without_landmarks_is_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="landmarks"):
        align(np.zeros((10, 10, 3), np.uint8), Face((0, 0, 5, 5), 1.0), "dlib-150")
