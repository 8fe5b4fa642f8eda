"""The engine loads what videos need side by side; pictures of strangers are cut at once, encoded when asked for."""

from __future__ import annotations

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest

from facecam.engine import Engine
from facecam.errors import ModelInvalid
from facecam.vision.portrait import Cutting, portrait
from facecam.zoo.session import Model
from tests import support


class Slow(Model):
    """Loads only while another one loads, too."""

    def __init__(self, both: threading.Barrier, fault: Exception | None = None) -> None:
        self.both, self.fault, self.loaded = both, fault, 0

    def ready(self) -> None:
        self.both.wait(timeout=20)
        if self.fault is not None:
            raise self.fault
        self.loaded += 1


def test_models_are_loaded_side_by_side(engine: Engine) -> None:
    both = threading.Barrier(2)
    models = Slow(both), Slow(both)
    replace(engine, quick=models).prepare()
    assert [model.loaded for model in models] == [1, 1]


def test_a_model_that_cannot_be_loaded_is_told(engine: Engine) -> None:
    both = threading.Barrier(2)
    with pytest.raises(ModelInvalid, match="broken"):
        replace(engine, quick=(Slow(both), Slow(both, ModelInvalid("broken")))).prepare()


def test_an_engine_that_is_prepared_answers_as_one_that_is_not(engine: Engine) -> None:
    image = support.portrait("grace_hopper")
    late = engine.video_detector.detect(image, 40)
    engine.prepare()
    engine.prepare()
    assert [face.box for face in engine.video_detector.detect(image, 40)] == [face.box for face in late]


def test_a_stranger_s_picture_is_of_the_frame_it_was_cut_from(engine: Engine) -> None:
    """It is encoded when asked for, maybe many frames later: by then the frame's memory holds another picture."""
    image = support.portrait("grace_hopper").copy()
    (face,) = engine.landmarker.locate(image, engine.detector.detect(image, 40))
    expected = portrait(image, face, 0.7)
    cutting = Cutting.of(image, face, 0.7)
    image[:] = 0
    assert (cutting.portrait.image, cutting.portrait.quality) == (expected.image, 0.7)
    assert np.array_equal(cutting.portrait.landmarks, expected.landmarks)
    assert cutting.portrait is cutting.portrait, "encoded once"
    picture = cv2.imdecode(np.frombuffer(expected.image, np.uint8), cv2.IMREAD_COLOR)
    (again,) = engine.detector.detect(np.asarray(picture, np.uint8), 40)
    assert again.score > 0
