"""An embedder that python -m export made brings its impostor curve: --max-false-names works as with the pack's."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import impostors
from facecam.engine import Engine, open_engine
from facecam.errors import ModelInvalid
from facecam.evidence import DOUBT, RETURN_SIMILARITY
from facecam.people.calibrate import ImpostorCurve
from facecam.settings import Settings
from facecam.zoo import intake
from facecam.zoo.packs import Zoo
from tests import zoo_models as made


def crowd(people: int = 60, each: int = 4, dim: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    centres = np.repeat(rng.normal(size=(people, dim)), each, axis=0)
    vectors = centres + 0.2 * rng.normal(size=centres.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.repeat(np.arange(people), each)


def test_the_curve_says_how_near_strangers_come() -> None:
    vectors, labels = crowd()
    curve = ImpostorCurve.from_json(impostors.measure(vectors, labels) or {})
    assert set(curve.similarity) == {1, 2, 3} and "60 people" in curve.data
    first = vectors[::4]
    scores = (first @ first.T)[~np.eye(60, dtype=bool)]
    reached = float((scores >= curve.similarity[1][2]).mean())  # the row's third rate is 1 %
    assert curve.rates[2] == 0.01 and 0.004 < reached < 0.02


def test_a_few_people_make_no_curve() -> None:
    assert impostors.measure(*crowd(people=20)) is None  # 380 comparisons


def added(models_home: Path, tmp_path: Path, training: dict[str, Any]) -> str:
    zoo = Zoo(models_home, notify=lambda line: None)
    file = made.put(tmp_path, "net.onnx", made.embedder(made.embedder_card("curved", training=training)))
    return intake.add(zoo, file, replace=True).id


def test_it_reaches_the_engine(engine: object, own_home: Path, models_home: Path, tmp_path: Path) -> None:
    own_models(own_home, models_home)
    name = added(own_home, tmp_path, {"impostor": impostors.measure(*crowd())})
    opened = open_engine(Settings(device="cpu", model=name, max_false_names=0.001))
    assert opened.curve is not None
    few, many = opened.threshold_for([1] * 2), opened.threshold_for([1] * 200)
    assert 0.5 < few < many, "the same risk asks for more among more people"


@pytest.mark.parametrize(
    "table",
    [
        "a text",
        [1, 2],
        {"rates": [0.1]},
        {"rates": [0.1], "similarity": {"x": [1]}, "data": ""},
        {"rates": [0.1], "similarity": {"1": [0.5]}, "data": ""},
        {"rates": [0.1, 0.01, 0.001], "similarity": {"1": [0.5, math.nan, 0.6]}, "data": ""},
    ],
)
def test_a_damaged_curve_is_one_line(
    engine: object, own_home: Path, models_home: Path, tmp_path: Path, table: object
) -> None:
    own_models(own_home, models_home)
    name = added(own_home, tmp_path, {"impostor": table})
    with pytest.raises(ModelInvalid, match="impostor curve in its card is damaged") as caught:
        open_engine(Settings(device="cpu", model=name))
    assert "\n" not in str(caught.value)


def test_the_likeness_of_one_face_is_as_wide_as_the_embedders_curve(dlib_engine: Engine) -> None:
    engine = dlib_engine
    assert engine.curve is not None and engine.threshold == 0.938
    assert (engine.likeness.doubt, engine.likeness.returns) == pytest.approx((DOUBT, RETURN_SIMILARITY), abs=0.0021)
    wide = {n: tuple(0.5 + 4 * (s - 0.9) for s in row) for n, row in engine.curve.similarity.items()}
    other = replace(engine, threshold=0.65, curve=replace(engine.curve, similarity=wide))
    assert other.likeness.doubt == pytest.approx(0.65 - 4 * 0.08)
    assert other.likeness.returns == pytest.approx(0.65 + 4 * 0.007)
    for silent in (None, replace(engine.curve, rates=tuple(rate / 1e6 for rate in engine.curve.rates))):
        assert replace(other, curve=silent).likeness.doubt == pytest.approx(0.65 - 0.08)


def own_models(own_home: Path, models_home: Path) -> None:
    """A models folder of the test's own: adding must not reach the shared one."""
    import shutil

    (own_home / "models").unlink()
    shutil.copytree(models_home / "models", own_home / "models")
