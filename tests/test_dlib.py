"""Parity with dlib itself, by numbers that dlib made once (golden/make_golden.py)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.engine import Engine
from facecam.errors import FacecamError, ModelInvalid
from facecam.geometry import iou
from facecam.values import DLIB5, Face
from facecam.vision.align import align
from facecam.zoo import dlib
from tests.support import GOLDEN, generated_crop, portrait

PORTRAITS = ("astronaut", "grace_hopper")


def cosine(a: np.ndarray, b: list[float]) -> float:
    other = np.array(b)
    return float(a @ other / np.linalg.norm(other))


@pytest.mark.parametrize("seed", range(3))
def test_embedder_gives_dlibs_vector_for_generated_crops(dlib_engine: Engine, seed: int) -> None:
    vector = dlib_engine.embedder.embed([generated_crop(seed)])[0]
    assert cosine(vector, GOLDEN["generated"][seed]) > 1 - 1e-6


@pytest.mark.parametrize("name", PORTRAITS)
def test_portrait_cropped_here_gives_dlibs_vector(dlib_engine: Engine, name: str) -> None:
    golden = GOLDEN[name]["faces"][0]
    face = Face(tuple(golden["box"]), 1.0, np.array(golden["points"], np.float32), DLIB5)
    crop = align(portrait(name), face, "dlib-150")
    assert cosine(dlib_engine.embedder.embed([crop])[0], golden["vector"]) > 1 - 1e-4


@pytest.mark.parametrize("name", PORTRAITS)
def test_landmarks_are_dlibs_before_its_rounding(engine: Engine, name: str) -> None:
    cases = GOLDEN[name]["faces"] + GOLDEN[name]["jittered"]
    faces = [Face(tuple(case["box"]), 1.0) for case in cases]
    located = engine.landmarker.locate(portrait(name), faces)
    for case, face in zip(cases, located):
        # dlib rounds to whole pixels, so half a pixel is agreement.
        assert np.abs(face.landmarks - np.array(case["points"])).max() <= 0.501


@pytest.mark.parametrize("name", PORTRAITS)
def test_detector_finds_the_faces_that_dlib_finds(engine: Engine, name: str) -> None:
    found = engine.detector.detect(portrait(name), 40)
    golden = GOLDEN[name]["faces"]
    assert len(found) == len(golden)
    for face, other in zip(found, golden):
        assert iou(face.box, tuple(other["box"])) > 0.6
        assert face.score == pytest.approx(other["score"], abs=0.1)


def test_all_faces_of_a_frame_at_once_equal_one_by_one(engine: Engine) -> None:
    image = portrait("grace_hopper")
    faces = [Face(tuple(case["box"]), 1.0) for case in GOLDEN["grace_hopper"]["jittered"]]
    together = engine.landmarker.locate(image, faces)
    for face, same in zip(faces, together):
        alone = engine.landmarker.locate(image, [face])[0]
        np.testing.assert_allclose(alone.landmarks, same.landmarks, atol=1e-4)


def test_a_box_over_the_border_is_no_error(engine: Engine) -> None:
    image = portrait("astronaut")
    faces = [Face((-60.0, -60.0, 120.0, 120.0), 1.0), Face((480.0, 480.0, 200.0, 200.0), 1.0)]
    for face in engine.landmarker.locate(image, faces):
        assert np.isfinite(face.landmarks).all()


@pytest.mark.parametrize("role", dlib.FILES)
def test_another_file_is_refused_by_its_hash(role: str) -> None:
    with pytest.raises(ModelInvalid, match="reinstall"):
        dlib.convert(role, b"something else")


READERS = {"detector": dlib.read_detector, "landmarks": dlib.read_landmarks, "embedder": dlib.read_embedder}


@pytest.mark.parametrize("role", READERS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_damaged_file_never_crashes_the_reader(role: str, data: st.DataObject) -> None:
    good = dlib.weights_path(role).read_bytes()
    head = bytearray(good[: data.draw(st.integers(0, 6000))])
    for _ in range(data.draw(st.integers(0, 8))):
        if head:
            head[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
    with pytest.raises(FacecamError):
        READERS[role](bytes(head))


@given(st.integers(-(2**62), 2**62))
def test_integers_read_back(value: int) -> None:
    size = max(1, (abs(value).bit_length() + 7) // 8)
    data = bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")
    assert dlib.Reader(data).integer() == value


def test_the_card_says_what_the_graph_eats(dlib_engine: Engine) -> None:
    card = dlib_engine.embedder.model.card
    assert (card.dim, card.template, card.size) == (128, "dlib-150", (150, 150))
    assert card.threshold is not None and card.threshold.kind == "cosine"
    assert len(card.space or "") == 16
