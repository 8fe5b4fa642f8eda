"""Thresholds from a stated risk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.errors import UsageFault
from facecam.people.calibrate import (
    CEILING,
    RATES,
    Calibration,
    ImpostorCurve,
    calibrate,
    curve_from,
    expected_false_names,
    threshold_for,
)
from facecam.people.match import Matcher, one_each
from facecam.values import Match
from facecam.zoo import registry

CURVE = ImpostorCurve(
    RATES,
    {
        1: (0.86, 0.89, 0.91, 0.921, 0.93, 0.938, 0.945, 0.952, 0.957),
        3: (0.875, 0.9, 0.92, 0.93, 0.936, 0.944, 0.95, 0.955, 0.96),
    },
    "made up",
)
galleries = st.lists(st.integers(1, 8), min_size=1, max_size=400)
risks = st.floats(1e-5, 0.3)


@given(galleries, risks, risks)
@settings(deadline=None)
def test_less_risk_never_lowers_the_threshold(samples: list[int], one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert threshold_for(CURVE, samples, low) >= threshold_for(CURVE, samples, high)


@given(galleries, galleries, risks)
@settings(deadline=None)
def test_more_people_never_lower_the_threshold(samples: list[int], more: list[int], risk: float) -> None:
    assert threshold_for(CURVE, samples + more, risk) >= threshold_for(CURVE, samples, risk)


@given(galleries, risks)
@settings(deadline=None)
def test_the_threshold_keeps_the_risk_and_is_the_lowest_that_does(samples: list[int], risk: float) -> None:
    chosen = threshold_for(CURVE, samples, risk)
    if chosen < CEILING:
        expected = expected_false_names(CURVE, samples, np.array([chosen, chosen - 0.0002]))
        assert expected[0] <= risk * 1.001
        assert expected[1] >= risk * 0.9 or chosen <= 0.501


@given(st.floats(0.4, 0.999), st.floats(0.4, 0.999), st.integers(1, 9))
def test_the_rate_falls_with_similarity(a: float, b: float, samples: int) -> None:
    low, high = sorted((a, b))
    rates = CURVE.rate(np.array([low, high]), samples)
    assert 0 < rates[1] <= rates[0] <= 1


def test_a_curve_reads_back_and_refuses_nonsense() -> None:
    assert ImpostorCurve.from_json(CURVE.to_json()) == CURVE
    with pytest.raises(ValueError, match="ascend"):
        ImpostorCurve((0.1, 0.01), {1: (0.9, 0.8)}, "")
    with pytest.raises(ValueError, match="descend"):
        ImpostorCurve((0.01, 0.1), {1: (0.8, 0.9)}, "")
    with pytest.raises(UsageFault):
        threshold_for(CURVE, [1], 0.0)


def test_a_curve_measured_from_scores_gives_their_quantiles() -> None:
    rng = np.random.default_rng(0)
    many, few = rng.normal(0.8, 0.04, 2_000_000), rng.normal(0.81, 0.04, 30_000)
    curve = curve_from({1: many.astype(np.float32), 3: few.astype(np.float32)}, "normal")
    for rate in (1e-1, 1e-3, 1e-5):
        measured = float(np.quantile(many, 1 - rate))
        assert curve.rate(np.array([measured]), 1)[0] == pytest.approx(rate, rel=0.35)
    assert all(b > a for a, b in zip(curve.similarity[1], curve.similarity[3]))


def test_the_shipped_embedder_has_its_curve() -> None:
    curve = ImpostorCurve.from_json(registry.models()["dlib-embedder"].impostor or {})
    small, large = threshold_for(curve, [1] * 5, 0.001), threshold_for(curve, [1] * 500, 0.001)
    assert 0.9 < small < large < 0.99


def scores(shift: float, people: int = 6, strangers: int = 400) -> np.ndarray:
    """Stranger similarities whose 1 % quantile lies ``shift`` above the curve's."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(strangers, people))
    return (0.91 + shift + 0.02 * (z - 2.326)).astype(np.float32)


def test_calibration_moves_the_threshold_by_what_it_measured() -> None:
    names, samples = [f"P{i}" for i in range(6)], [1] * 6
    assert calibrate(CURVE, names, samples, scores(0.0)).shift == pytest.approx(0, abs=0.003)
    assert calibrate(CURVE, names, samples, scores(0.012)).shift == pytest.approx(0.012, abs=0.003)
    assert calibrate(CURVE, names, samples, scores(-0.2)).shift == -0.01, "loosened by little at most"


def test_a_person_whom_strangers_resemble_gets_a_higher_threshold() -> None:
    table = scores(0.0)
    table[:, 2] += 0.02
    result = calibrate(CURVE, [f"P{i}" for i in range(6)], [1] * 6, table)
    assert set(result.offsets) == {"P2"} and 0.005 < result.offsets["P2"] <= 0.03


def test_too_little_data_is_refused() -> None:
    with pytest.raises(UsageFault, match="200"):
        calibrate(CURVE, ["A"], [1], scores(0.0, 1, 50))


def test_a_calibration_is_kept_with_the_gallery(own_home: object) -> None:
    from facecam.people.gallery import Gallery

    kept = Calibration(0.004, {"Ada": 0.01}, 40, 7)
    with Gallery.open() as gallery:
        assert Calibration.of(gallery, "space") is None
        kept.store(gallery, "space")
    with Gallery.open() as gallery:
        assert Calibration.of(gallery, "space") == kept
        assert Calibration.of(gallery, "other") is None


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    v = rng.normal(size=(n, 8)).astype(np.float32)
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_a_persons_own_threshold_and_negatives_refuse() -> None:
    vectors = np.eye(3, 8, dtype=np.float32)
    probe = vectors[0] + 0.3 * vectors[2]
    probe = (probe / np.linalg.norm(probe))[None]
    build = dict(names=("A", "B"), owner=np.array([0, 1], np.int32), vectors=vectors[:2], threshold=0.9)
    assert Matcher(**build).match(probe)[0].name == "A"  # type: ignore[arg-type]
    assert Matcher(**build, offsets={"A": 0.08}).match(probe)[0].name is None  # type: ignore[arg-type]
    assert Matcher(**build, offsets={"B": 0.08}).match(probe)[0].name == "A"  # type: ignore[arg-type]
    lookalike = (np.array([0], np.int32), probe)
    assert Matcher(**build, negatives=lookalike).match(probe)[0].name is None  # type: ignore[arg-type]
    assert Matcher(**build, negatives=lookalike).match(vectors[:1])[0].name == "A"  # type: ignore[arg-type]


names = st.lists(st.tuples(st.sampled_from(["A", "B", "C", None]), st.floats(0.5, 1)), max_size=8)


@given(names)
def test_assignment_is_one_to_one(given_names: list[tuple[str | None, float]]) -> None:
    matches = [Match(name, similarity) for name, similarity in given_names]
    result = one_each(matches)
    kept = [m.name for m in result if m.name is not None]
    assert len(kept) == len(set(kept)) and set(kept) == {m.name for m in matches if m.name is not None}
    for before, after in zip(matches, result):
        assert after.similarity == before.similarity and after.name in (before.name, None)
        if before.name is not None and after.name is None:
            assert max(m.similarity or 0 for m in matches if m.name == before.name) >= (before.similarity or 0)
