"""Figures of verification and identification: against scikit-learn's own, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from facecam.evaluate import metrics
from facecam.evaluate.metrics import (
    NO_SCORE,
    best_threshold,
    cross_validate,
    fpir_threshold,
    identification,
    verification,
)

kinds = st.tuples(st.integers(0, 10_000), st.floats(1.5, 4), st.integers(200, 600))


def mistakes(scores: np.ndarray, truth: np.ndarray, threshold: float) -> int:
    return int(((scores >= threshold) != truth).sum())


@given(kinds)
@hypothesis_settings(max_examples=50, deadline=None)
def test_the_best_threshold_is_hardly_worse_than_the_very_best(case: tuple[int, float, int]) -> None:
    seed, distance, n = case
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2 == 0
    scores = rng.normal(truth * distance, 1.0)
    found = mistakes(scores, truth, best_threshold(scores, truth))
    least = min(mistakes(scores, truth, threshold) for threshold in scores)
    assert least <= found <= least + 0.05 * n


def test_the_threshold_of_well_parted_scores_lies_in_the_gap_and_one_pair_does_not_move_it() -> None:
    scores, truth, _ = separable()
    threshold = best_threshold(scores, truth)
    assert 0.6 < threshold < 0.7
    stray, kind = np.append(scores, 0.1), np.append(truth, True)
    assert best_threshold(stray, kind) == pytest.approx(threshold, abs=0.01)


def test_scores_that_tell_nothing_give_a_threshold_all_the_same() -> None:
    assert best_threshold(np.array([0.5, 0.5]), np.array([True, False])) == 0.5


def separable(n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = np.arange(n) % 2 == 0
    scores = np.where(truth, rng.uniform(0.7, 0.9, n), rng.uniform(0.1, 0.6, n))
    return scores, truth, np.arange(n) // 2 % 10


def test_a_perfect_test_is_perfect_in_every_figure() -> None:
    scores, truth, fold = separable()
    result = verification(scores, truth, fold, np.ones(len(truth), bool))
    assert (result["accuracy"], result["std"], result["auc"], result["eer"]) == (1.0, 0.0, 1.0, 0.0)
    assert result["tar_at_far"] == {"0.1": 1.0, "0.01": 1.0, "0.001": 1.0, "0.0001": 1.0}
    assert 0.6 < result["threshold"] < 0.7


def test_pairs_without_a_score_are_errors_of_both_kinds() -> None:
    scores, truth, fold = separable()
    scored = np.ones(len(truth), bool)
    scored[[0, 1, 2, 3]] = False  # two genuine, two impostor pairs
    result = verification(np.where(scored, scores, 0.0), truth, fold, scored)
    assert result["accuracy"] == pytest.approx(1 - 4 / len(truth))
    assert result["tar_at_far"]["0.1"] == pytest.approx(98 / 100), "a genuine pair without a face is a miss"
    assert result["eer"] > 0


def test_the_curve_agrees_with_counting() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(3000) < 0.5
    scores = rng.normal(truth * 1.5, 1.0)
    result = verification(scores, truth, rng.integers(0, 10, 3000), np.ones(3000, bool))
    for rate in (0.1, 0.01, 0.001):
        impostors = np.sort(scores[~truth])[::-1]
        threshold = impostors[int(rate * len(impostors))]  # the first impostor who must stay out
        expected = (scores[truth] > threshold).mean()
        assert result["tar_at_far"][f"{rate:g}"] == pytest.approx(expected, abs=1e-9)
        stated = result["threshold_at_far"][f"{rate:g}"]
        assert (impostors >= stated).mean() <= rate
    # P(genuine > impostor) of two normals 1.5 apart; equal errors halfway.
    assert result["auc"] == pytest.approx(0.8556, abs=0.02)
    assert result["eer"] == pytest.approx(0.2266, abs=0.02)
    far, tar = np.array(result["roc"]["far"]), np.array(result["roc"]["tar"])
    assert len(far) <= metrics.CURVE_POINTS
    for rate in (0.01, 0.001, 0.0001):  # what is drawn is what is stated
        assert tar[far <= rate].max() == pytest.approx(result["tar_at_far"][f"{rate:.6f}".rstrip("0")], abs=2e-3)
    assert tar[far <= 1e-4].max() == pytest.approx(result["tar_at_far"]["0.0001"], abs=1e-6)


def test_the_threshold_of_a_fold_comes_from_the_others() -> None:
    # In fold 0 all scores are half a point lower: right with a threshold of its own, not with that of the others.
    scores = np.array([0.4, 0.3, 0.9, 0.8, 0.9, 0.8])
    truth = np.array([True, False] * 3)
    folds = cross_validate(scores, truth, np.array([0, 0, 1, 1, 2, 2]), np.ones(6, bool))
    assert folds.accuracy[0] == 0.5
    assert 0.8 < folds.thresholds[0] < 0.9


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.sampled_from([0.5, 0.1, 0.01, 0.001]))
@hypothesis_settings(max_examples=100, deadline=None)
def test_the_fpir_threshold_names_no_more_strangers_than_allowed_and_is_the_lowest_such(
    values: list[float], rate: float
) -> None:
    stray = np.sort(np.array(values))[::-1]
    threshold = fpir_threshold(stray, rate)
    assert (stray >= threshold).mean() <= rate
    lower = np.nextafter(threshold, -np.inf)
    assert (stray >= lower).mean() > rate


def test_identification_counts_wrong_names_and_missing_faces_as_misses() -> None:
    top = np.array([0.9, 0.9, 0.5, NO_SCORE])
    right = np.array([True, False, True, False])
    strangers = np.linspace(0.0, 0.6, 100)
    result = identification(top, right, strangers)
    assert result["rank1"] == 0.5
    assert result["dir_at_fpir"] == {"0.1": 0.25, "0.01": 0.25, "0.001": 0.25}
    assert result["threshold_at_fpir"]["0.1"] == pytest.approx(strangers[-11], abs=1e-6)
    low, high = result["det"]["fpir"][0], result["det"]["fpir"][-1]
    assert low == 0.0 and high == 1.0
    assert result["det"]["fnir"] == sorted(result["det"]["fnir"], reverse=True)


def test_rates_are_written_as_people_write_them() -> None:
    assert [metrics.key(rate) for rate in metrics.FARS] == ["0.1", "0.01", "0.001", "0.0001"]
