"""The classifier stage: crops to probabilities to names, and unknown below the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.errors import ModelInvalid
from facecam.vision.classify import Classifier, LabelMatcher, answers
from facecam.zoo.card import ModelCard, Threshold


def card(**changes: Any) -> ModelCard:
    facts: dict[str, Any] = {
        "name": "friends", "kind": "classifier", "input": "crop", "size": (150, 150), "colour": "RGB",
        "mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0), "outputs": ("probabilities",), "licence": "MIT",
        "source": "a test", "template": "dlib-150", "labels": ("ada", "bob", "eve"),
        "threshold": Threshold(0.6, "probability", "by hand"),
    }  # fmt: skip
    return ModelCard(**{**facts, **changes})


class Brightness:
    """Stands in for a session: the share of red, green and blue in a crop, as probabilities."""

    def __init__(self, made: ModelCard) -> None:
        self.card = made
        self.batches: list[int] = []

    def run_batch(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(len(batch))
        means = batch.mean(axis=(2, 3))
        return (means / np.maximum(means.sum(axis=1, keepdims=True), 3.0)).astype(np.float32)


def crop(bgr: tuple[int, int, int]) -> np.ndarray:
    return np.full((150, 150, 3), bgr, np.uint8)


def test_names_come_from_crops() -> None:
    classifier = Classifier(Brightness(card()))
    matcher = LabelMatcher(classifier.labels, classifier.threshold)
    red, dark = matcher.match(classifier.embed([crop((0, 0, 255)), crop((40, 40, 40))]))
    assert (red.name, red.candidate) == (None, "ada") and red.similarity == pytest.approx(1 / 3, abs=1e-3)
    assert dark.name is None
    lower = LabelMatcher(classifier.labels, 0.3).match(classifier.embed([crop((0, 0, 255))]))[0]
    assert lower.name == "ada" and lower.runner_up is not None and lower.runner_up[1] == pytest.approx(0, abs=1e-6)


def test_crops_run_in_batches_and_none_is_lost() -> None:
    model = Brightness(card())
    rows = Classifier(model).probabilities([crop((i, 0, 0)) for i in range(70)])
    assert rows.shape == (70, 3) and model.batches == [32, 32, 6]
    assert Classifier(model).embed([]).shape == (0, 4)


def test_mirror_averages() -> None:
    classifier = Classifier(Brightness(card()))
    half = crop((0, 0, 255))
    half[:, :75] = 0
    assert np.allclose(classifier.embed([half], mirror=True), classifier.embed([half]), atol=1e-6)


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=6), st.floats(0, 1))
def test_answers_are_unit_vectors_that_keep_the_probabilities(values: list[float], total: float) -> None:
    row = np.array(values, np.float32)
    row = row / max(1e-6, float(row.sum())) * np.float32(total)
    unit = answers(row[None])
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-5)
    assert np.allclose(unit[0, :-1] ** 2, row, atol=1e-5)


def test_threshold_is_the_first_value_that_is_named() -> None:
    rows = answers(np.array([[0.59, 0.2], [0.61, 0.2]], np.float32))
    assert [m.name for m in LabelMatcher(("ada", "bob"), 0.6).match(rows)] == [None, "ada"]
    assert len(LabelMatcher(("ada", "bob"), 0.6)) == 2


def test_evidence_of_two_answers_is_between_them() -> None:
    one, two = answers(np.array([[0.9, 0.05], [0.5, 0.1]], np.float32))
    mean = (one + two) / np.linalg.norm(one + two)
    found = LabelMatcher(("ada", "bob"), 0.6).match(mean[None])[0]
    assert found.name == "ada" and 0.5 < (found.similarity or 0) < 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "image"}, "whole pictures, not faces"),
        (
            {
                "kind": "embedder", "labels": (), "dim": 4, "space": "s",
                "threshold": Threshold(0.5, "cosine", "by hand"),
            },
            "its card says embedder",
        ),
    ],
)  # fmt: skip
def test_other_models_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelInvalid, match=message):
        Classifier(Brightness(card(**changes)))
