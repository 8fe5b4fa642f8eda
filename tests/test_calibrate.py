"""Thresholds from a stated risk."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.calibration import Study
from facecam.cli import invoke
from facecam.engine import Engine
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
from facecam.people.gallery import Gallery
from facecam.people.match import Matcher, one_each
from facecam.values import Match, Sample, Template
from facecam.zoo import registry
from tests.support import portrait

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


def test_few_strangers_do_not_loosen_the_threshold_by_chance() -> None:
    """Forty strangers who are as alike as the curve says: chance may tighten the threshold, hardly ever loosen it."""
    names, samples = [f"P{i}" for i in range(5)], [1] * 5
    shifts = []
    for seed in range(60):
        z = np.random.default_rng(seed).normal(size=(40, 5))
        # At a rate of 5 %, which so few can tell of, the curve's similarity is 0.878.
        table = (0.878 + 0.02 * (z - 1.645)).astype(np.float32)
        shifts.append(calibrate(CURVE, names, samples, table).shift)
    assert sum(shift < -0.001 for shift in shifts) <= 4 < sum(shift > 0.001 for shift in shifts)


def test_a_person_whom_strangers_resemble_gets_a_higher_threshold() -> None:
    table = scores(0.0)
    table[:, 2] += 0.02
    result = calibrate(CURVE, [f"P{i}" for i in range(6)], [1] * 6, table)
    assert set(result.offsets) == {"P2"} and 0.005 < result.offsets["P2"] <= 0.03


def test_too_little_data_is_refused() -> None:
    with pytest.raises(UsageFault, match="200"):
        calibrate(CURVE, ["A"], [1], scores(0.0, 1, 50))


def enrolled(gallery: Gallery, *names: str) -> None:
    for name in names:
        vector = np.random.default_rng(sum(name.encode())).normal(size=8).astype(np.float32)
        template = Template(vector / np.linalg.norm(vector), "space")
        gallery.add(name, [Sample(template, f"{name} digest", "photo", 1.0)])


def test_a_calibration_is_kept_with_the_gallery(own_home: Path) -> None:
    kept = Calibration(0.004, {"Ada": 0.01}, 40, 7)
    with Gallery.open() as gallery:
        enrolled(gallery, "Ada", "Bob")
        assert Calibration.of(gallery, "space") is None
        kept.store(gallery, "space")
    with Gallery.open() as gallery:
        assert Calibration.of(gallery, "space") == kept
        assert Calibration.of(gallery, "other") is None


def test_a_persons_own_threshold_goes_with_the_person(own_home: Path) -> None:
    """It follows a new name, ends with the person, and is not inherited by somebody else of that name."""
    with Gallery.open() as gallery:
        enrolled(gallery, "Ada", "Bob", "Cleo")
        Calibration(0.0, {"Ada": 0.01, "Bob": 0.02}, 40, 3).store(gallery, "space")
        gallery.rename("Ada", "Adah")
        gallery.remove("Bob")
        enrolled(gallery, "Bob", "Ada")
        found = Calibration.of(gallery, "space")
        assert found is not None and found.offsets == {"Adah": 0.01}


def test_a_calibration_names_nobody_in_the_file(own_home: Path) -> None:
    """Who was removed must not be found by name in what was once measured."""
    with Gallery.open() as gallery:
        enrolled(gallery, "Zuleikha", "Bob")
        Calibration(0.0, {"Zuleikha": 0.01}, 40, 2).store(gallery, "space")
        gallery.remove("Zuleikha")
        path = gallery.path
    for file in path.parent.glob("gallery.db*"):
        assert b"Zuleikha" not in file.read_bytes(), file.name


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


@pytest.mark.parametrize("people", [1, 2])
def test_a_person_s_own_samples_are_no_strangers_in_the_shares(people: int) -> None:
    """With one person their rows have nobody to be compared with: no row of the curve, and no warning of numpy."""
    own = np.full((2 * people, people), 0.5, np.float32)
    for row in range(2 * people):
        own[row, row // 2] = np.nan
    strangers = np.full((300, people), 0.955, np.float32)
    strangers[:150] = 0.895
    fake: Any = SimpleNamespace(
        settings=SimpleNamespace(max_false_names=0.001), threshold_for=lambda samples, calibration=None: 0.93
    )
    names = tuple(f"P{i}" for i in range(people))
    genuine, owner = np.full(2 * people, 0.99, np.float32), np.arange(people).repeat(2)
    study = Study(fake, CURVE, names, (2,) * people, np.concatenate([own, strangers]), genuine, owner, ("x",) * 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines = list(study.report(study.calibrate()))
    assert lines[0].startswith(
        "1 person, 300 strangers' faces, " if people == 1 else "2 people, 300 strangers' faces, "
    )
    share = 150 / (300 if people == 1 else 304)
    assert any(line.startswith(f"     0.95  {share:23.3%}") for line in lines), lines


# --- the command -----------------------------------------------------------------------------------------


def crowd(engine: Engine, count: int) -> None:
    """Enrols people of made-up vectors in the space of the pack in use."""
    space = engine.embedder.space
    with Gallery.open() as gallery:
        for i in range(count):
            vector = np.random.default_rng(i).normal(size=engine.embedder.dim).astype(np.float32)
            template = Template(vector / np.linalg.norm(vector), space)
            gallery.add(f"P{i}", [Sample(template, f"digest {i}", "photo", 1.0)])


def threshold_now(engine: Engine, threshold: float | None = None) -> float:
    asked = replace(engine, settings=replace(engine.settings, threshold=threshold))
    with Gallery.open() as gallery:
        return asked.gallery_matcher(gallery).threshold


def test_what_calibrate_measured_counts_until_it_is_forgotten(
    engine: Engine, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crowd(engine, 16)
    built_in = threshold_now(engine)
    assert invoke(["calibrate", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "16 people, 0 strangers' faces, 240 comparisons" in printed
    assert "similarity  strangers that reach it  own samples that reach it" in printed
    assert f"for at most 0.001 false names a stranger (built-in curve: {built_in:.4f})" in printed
    assert "of the people's own samples (before: " in printed
    assert threshold_now(engine) == pytest.approx(built_in - 0.01), "these resemble each other far less than people do"
    assert threshold_now(engine, threshold=0.7) == 0.7
    assert invoke(["calibrate", "--device", "cpu", "--forget"]) == 0
    assert threshold_now(engine) == built_in


def test_calibrate_names_strangers_who_are_no_strangers(
    engine: Engine, own_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One photo of Ada among the strangers would leave nobody recognised."""
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    for name in ("astronaut", "grace_hopper"):
        cv2.imwrite(str(strangers / f"{name}.png"), portrait(name))
    (tmp_path / "Ada.jpg").write_bytes(bytes(cv2.imencode(".jpg", portrait("astronaut"))[1]))
    assert invoke(["enroll", "--device", "cpu", "--name", "Ada", str(tmp_path / "Ada.jpg")]) == 0
    crowd(engine, 16)
    capsys.readouterr()
    assert invoke(["calibrate", "--device", "cpu", "--unknown", str(strangers)]) == 0
    out, err = capsys.readouterr()
    assert "17 people, 2 strangers' faces, 306 comparisons" in out
    assert "facecam: astronaut.png looks like Ada (" in err and "take it out and calibrate again" in err
    assert "grace_hopper" not in err


@pytest.mark.parametrize("enrolled_people", [0, 3])
def test_calibrate_with_too_little_says_what_to_give(
    engine: Engine, own_home: Path, capsys: pytest.CaptureFixture[str], enrolled_people: int
) -> None:
    if enrolled_people:
        crowd(engine, enrolled_people)
    assert invoke(["calibrate", "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert ("--unknown DIR" in err) if enrolled_people else ("facecam enroll --name" in err)


def test_a_threshold_of_a_gallery_is_never_stale(engine: Engine, own_home: Path) -> None:
    """It follows whoever comes, goes, or is made one with another, at the next load."""
    crowd(engine, 2)
    two = threshold_now(engine)
    crowd(engine, 12)  # two of them are known already
    twelve = threshold_now(engine)
    with Gallery.open() as gallery:
        gallery.remove("P11")
        gallery.merge("P10", "P9")
    ten = threshold_now(engine)
    assert two < ten < twelve
    with Gallery.open() as gallery:
        for i in range(2, 10):
            gallery.remove(f"P{i}")
    assert threshold_now(engine) == two
