"""The model card: what it refuses, and that it reads back."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.errors import ModelInvalid
from facecam.zoo.card import ModelCard, Threshold, vector_space

EMBEDDER = ModelCard(
    name="test", kind="embedder", input="crop", size=(150, 150), colour="RGB", mean=(1.0, 2.0, 3.0),
    std=(4.0, 5.0, 6.0), outputs=("embedding",), licence="MIT", source="here", dim=128, template="dlib-150",
    threshold=Threshold(0.9, "cosine", "made up"), space="0" * 16,
)  # fmt: skip
CLASSIFIER = dataclasses.replace(
    EMBEDDER, kind="classifier", labels=("a", "b"), threshold=Threshold(0.5, "probability", "x"), dim=0, space=None
)


@pytest.mark.parametrize(
    "card",
    [EMBEDDER, dataclasses.replace(EMBEDDER, mirror=True), CLASSIFIER],
    ids=["embedder", "mirroring", "classifier"],
)
def test_a_card_reads_back(card: ModelCard) -> None:
    assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "oracle"},
        {"colour": "GBR"},
        {"std": (1.0, 0.0, 1.0)},
        {"mean": (1.0, 2.0)},
        {"size": (150, 99999)},
        {"size": (112, 112)},
        {"dim": 0},
        {"template": "passport"},
        {"space": None},
        {"threshold": None},
        {"threshold": Threshold(0.5, "probability", "x")},
        {"landmarks": "68"},
        {"outputs": ()},
    ],
)
def test_an_embedders_card_must_be_whole(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="model card"):
        dataclasses.replace(EMBEDDER, **change)


@pytest.mark.parametrize("change", [{"labels": ("a",)}, {"template": None}, {"threshold": None}, {"size": (96, 96)}])
def test_a_classifiers_card_must_be_whole(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="model card"):
        dataclasses.replace(CLASSIFIER, **change)


@pytest.mark.parametrize(("value", "kind"), [(2.0, "cosine"), (0.5, "euclid"), (float("nan"), "cosine")])
def test_thresholds(value: float, kind: str) -> None:
    with pytest.raises(ValueError):
        Threshold(value, kind, "")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"schema": "facecam.card/9"}', '{"schema": "facecam.card/1"}', "[" * 100_000]
)
def test_no_card_is_a_clear_error(text: str) -> None:
    with pytest.raises(ModelInvalid):
        ModelCard.from_json(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([f.name for f in dataclasses.fields(ModelCard)]), json_values)
def test_a_lying_card_is_refused_or_right(name: str, value: object) -> None:
    """Whatever stands in one entry: the card is read as a whole one, or refused in one line."""
    data = json.loads(EMBEDDER.to_json())
    data[name] = value
    try:
        card = ModelCard.from_json(json.dumps(data))
    except ModelInvalid as error:
        assert "\n" not in str(error)
    else:
        assert ModelCard.from_json(card.to_json()) == card


def test_a_card_of_a_model_that_does_not_mirror_is_as_it_was() -> None:
    # The card is part of the file: another text would be another hash of a model that everybody has already.
    assert "mirror" not in json.loads(EMBEDDER.to_json())


@pytest.mark.parametrize("value", [1, "yes", None])
def test_mirror_is_true_or_false(value: object) -> None:
    data = json.loads(EMBEDDER.to_json()) | {"mirror": value}
    with pytest.raises(ModelInvalid, match="mirror"):
        ModelCard.from_json(json.dumps(data))


def test_only_an_embedder_mirrors() -> None:
    with pytest.raises(ValueError, match="mirror"):
        dataclasses.replace(CLASSIFIER, mirror=True)


def test_an_unknown_entry_is_refused() -> None:
    data = json.loads(EMBEDDER.to_json()) | {"magic": 1}
    with pytest.raises(ModelInvalid, match="magic"):
        ModelCard.from_json(json.dumps(data))


def test_a_space_changes_with_all_that_changes_vectors() -> None:
    base = {"colour": "RGB", "mean": (1.0, 2.0, 3.0), "std": (1.0,) * 3, "template": "dlib-150", "mirror": False}
    names = {vector_space(b"weights", **base)}  # type: ignore[arg-type]
    for change in (
        {"colour": "BGR"},
        {"mean": (0.0,) * 3},
        {"std": (2.0,) * 3},
        {"template": "arcface-112"},
        {"mirror": True},
    ):
        names.add(vector_space(b"weights", **(base | change)))  # type: ignore[arg-type]
    names.add(vector_space(b"other", **base))  # type: ignore[arg-type]
    assert len(names) == 7
