"""Open-set matching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.people.match import SAMPLE_DISCOUNT, Matcher
from facecam.people.nearest import Exact, Halves
from facecam.values import NOBODY

DIM = 16


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    v = rng.normal(size=(n, DIM)).astype(np.float32)
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def gallery(seed: int, people: int, samples: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(people), rng.integers(1, samples + 1, people)).astype(np.int32)
    return [f"P{i}" for i in range(people)], owner, unit(rng, len(owner))


many = st.tuples(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 4))


@given(many)
@settings(max_examples=50, deadline=None)
def test_a_probe_equal_to_a_sample_ranks_first(case: tuple[int, int, int]) -> None:
    names, owner, vectors = gallery(*case)
    matches = Matcher(names, owner, vectors, threshold=0.9).match(vectors)
    for match, person in zip(matches, owner):
        assert match.candidate == names[person] == match.name
        assert match.similarity == pytest.approx(1, abs=1e-5)


@given(many, st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_enrolment_does_not_matter(case: tuple[int, int, int], random: object) -> None:
    names, owner, vectors = gallery(*case)
    order = np.random.default_rng(case[0] + 1).permutation(len(owner))
    probes = unit(np.random.default_rng(99), 7)
    one = Matcher(names, owner, vectors, threshold=0.3).similarities(probes)
    two = Matcher(names, owner[order], vectors[order], threshold=0.3).similarities(probes)
    np.testing.assert_allclose(one, two, atol=1e-5)


@given(many)
@settings(max_examples=50, deadline=None)
def test_adding_a_person_never_lowers_anothers_similarity(case: tuple[int, int, int]) -> None:
    names, owner, vectors = gallery(*case)
    probes = unit(np.random.default_rng(3), 5)
    before = Matcher(names, owner, vectors, threshold=0.3).similarities(probes)
    more = np.concatenate([vectors, unit(np.random.default_rng(4), 2)])
    after = Matcher([*names, "New"], np.append(owner, [len(names)] * 2).astype(np.int32), more, threshold=0.3)
    np.testing.assert_allclose(after.similarities(probes)[:, : len(names)], before, atol=1e-6)


def test_a_single_sample_counts_at_a_discount_against_the_prototype() -> None:
    vectors = np.eye(2, DIM, dtype=np.float32)  # two very different samples of one person
    probe = vectors[:1] * 0.95 + np.eye(1, DIM, k=5, dtype=np.float32) * np.sqrt(1 - 0.95**2, dtype=np.float32)
    matcher = Matcher(["A"], np.array([0, 0], np.int32), vectors, threshold=0.5)
    # The prototype is 0.95 / sqrt(2) away; the sample's 0.95 lacks 0.05, which counts 1.2 times.
    assert matcher.similarities(probe)[0, 0] == pytest.approx(1 - 0.05 * SAMPLE_DISCOUNT, abs=1e-5)
    assert matcher.similarities(vectors)[:, 0] == pytest.approx([1, 1], abs=1e-6)
    middle = vectors.mean(axis=0, keepdims=True) * np.sqrt(2, dtype=np.float32)
    assert matcher.similarities(middle)[0, 0] == pytest.approx(1, abs=1e-6)


def test_below_the_threshold_is_unknown_with_its_candidate_kept() -> None:
    names, owner, vectors = gallery(1, 4, 2)
    probe = unit(np.random.default_rng(5), 1)
    match = Matcher(names, owner, vectors, threshold=0.99).match(probe)[0]
    assert match.name is None and match.candidate in names
    assert match.similarity is not None and match.runner_up is not None
    assert match.similarity >= match.runner_up[1] and match.runner_up[0] != match.candidate


def test_too_close_a_runner_up_leaves_it_unknown() -> None:
    vectors = np.eye(2, DIM, dtype=np.float32)
    probe = (vectors[0] + vectors[1] * 0.98)[None]
    probe /= np.linalg.norm(probe)
    arguments = (["A", "B"], np.array([0, 1], np.int32), vectors)
    assert Matcher(*arguments, threshold=0.5, margin=0.0).match(probe)[0].name == "A"
    assert Matcher(*arguments, threshold=0.5, margin=0.05).match(probe)[0].name is None


def test_an_empty_gallery_knows_nobody() -> None:
    empty = Matcher((), np.zeros(0, np.int32), np.zeros((0, DIM), np.float32), threshold=0.5)
    assert empty.match(unit(np.random.default_rng(0), 2)) == [NOBODY, NOBODY]
    assert len(empty) == 0


def test_one_person_has_no_runner_up() -> None:
    names, owner, vectors = gallery(2, 1, 3)
    assert Matcher(names, owner, vectors, threshold=0.5).match(vectors[:1])[0].runner_up is None


def test_a_batch_gives_what_single_probes_give() -> None:
    names, owner, vectors = gallery(6, 9, 3)
    matcher = Matcher(names, owner, vectors, threshold=0.4)
    probes = unit(np.random.default_rng(8), 20)
    for one, probe in zip(matcher.match(probes), probes):
        alone = matcher.match(probe[None])[0]
        assert (alone.name, alone.candidate) == (one.name, one.candidate)
        assert alone.similarity == pytest.approx(one.similarity, abs=1e-6)


def brute(names: list[str], owner: np.ndarray, vectors: np.ndarray, probe: np.ndarray) -> list[tuple[float, str]]:
    """The definition, person by person, most similar first."""
    found = []
    for person in np.unique(owner):
        own = vectors[owner == person].astype(np.float64)
        mean = own.sum(axis=0)
        nearest = 1 - (1 - float((own @ probe).max())) * SAMPLE_DISCOUNT
        found.append((max(float(mean @ probe) / float(np.linalg.norm(mean)), nearest), names[person]))
    return sorted(found, reverse=True)


def with_index(names: list[str], owner: np.ndarray, vectors: np.ndarray, **more: object) -> Matcher:
    """A matcher that keeps its rows in half precision, however few."""
    pytest.importorskip("faiss", reason="FAISS is not installed (extra large)")
    return Matcher(names, owner, vectors, many=0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["exact", "index"])
@given(many)
@settings(max_examples=40, deadline=None)
def test_both_ways_answer_as_the_definition_says(kind: str, case: tuple[int, int, int]) -> None:
    names, owner, vectors = gallery(*case)
    build = Matcher if kind == "exact" else with_index
    matcher = build(names, owner, vectors, threshold=0.3, margin=0.02)
    probes = unit(np.random.default_rng(7), 6)
    for probe, match in zip(probes, matcher.match(probes)):
        wanted = brute(names, owner, vectors, probe)
        tolerance = 1e-5 if kind == "exact" else 2e-3  # half precision, at D = 16 where components are large
        assert match.similarity == pytest.approx(wanted[0][0], abs=tolerance)
        if len(wanted) == 1:
            assert match.runner_up is None
            continue
        assert match.runner_up is not None
        assert match.runner_up[1] == pytest.approx(wanted[1][0], abs=tolerance)
        if wanted[0][0] - wanted[1][0] > 2 * tolerance:
            assert match.candidate == wanted[0][1]
        if len(wanted) > 2 and wanted[1][0] - wanted[2][0] > 2 * tolerance:
            assert {match.candidate, match.runner_up[0]} == {wanted[0][1], wanted[1][1]}


@pytest.mark.parametrize("kind", ["exact", "index"])
@given(many, st.integers(0, 11), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_people_who_come_and_go_leave_the_matcher_as_if_built_anew(
    kind: str, case: tuple[int, int, int], gone: int, later: int
) -> None:
    names, owner, vectors = gallery(*case)
    build = Matcher if kind == "exact" else with_index
    split = min(later, len(names))
    first = owner < split
    matcher = build(names[:split], owner[first], vectors[first], threshold=0.3)
    matcher.extend(names[split:], owner[~first] - split, vectors[~first])
    kept = [i for i in range(len(names)) if i != gone or len(names) == 1]
    if len(kept) < len(names):
        matcher.remove(names[gone])
    rest = np.isin(owner, kept)
    again = np.searchsorted(kept, owner[rest]).astype(np.int32)
    fresh = build([names[i] for i in kept], again, vectors[rest], threshold=0.3)
    probes = unit(np.random.default_rng(11), 5)
    assert matcher.names == fresh.names and len(matcher) == len(fresh)
    np.testing.assert_allclose(matcher.similarities(probes), fresh.similarities(probes), atol=1e-6)
    assert [m.candidate for m in matcher.match(probes)] == [m.candidate for m in fresh.match(probes)]


@pytest.mark.parametrize("kind", ["exact", "index"])
def test_similarity_to_one_person_is_that_of_all(kind: str) -> None:
    names, owner, vectors = gallery(12, 9, 3)
    matcher = (Matcher if kind == "exact" else with_index)(names, owner, vectors, threshold=0.4)
    probes = unit(np.random.default_rng(13), 4)
    every = matcher.similarities(probes)
    for column, name in enumerate(names):
        np.testing.assert_allclose(matcher.similarity_to(name, probes), every[:, column], atol=1e-6)


@pytest.mark.parametrize("kind", ["exact", "index"])
def test_offsets_and_negatives_count_in_both_ways(kind: str) -> None:
    build = Matcher if kind == "exact" else with_index
    names, owner, vectors = ["A", "B"], np.array([0, 1], np.int32), np.eye(2, DIM, dtype=np.float32)
    probe = (vectors[0] * 0.8 + np.eye(1, DIM, k=5, dtype=np.float32)[0] * 0.6)[None]
    assert build(names, owner, vectors, threshold=0.7).match(probe)[0].name == "A"
    assert build(names, owner, vectors, threshold=0.7, offsets={"A": 0.2}).match(probe)[0].name is None
    negatives = (np.array([0], np.int32), probe)
    assert build(names, owner, vectors, threshold=0.7, negatives=negatives).match(probe)[0].name is None


def test_one_person_with_very_many_samples_does_not_hide_the_runner_up() -> None:
    """The index is asked for the nearest samples until they are of two people."""
    rng = np.random.default_rng(3)
    near = np.eye(1, DIM, dtype=np.float32) + 0.05 * rng.normal(size=(400, DIM)).astype(np.float32)
    far = np.stack([np.eye(1, DIM, k=2)[0], -np.eye(1, DIM, k=2)[0] + np.eye(1, DIM, k=0)[0]]).astype(np.float32)
    vectors = np.concatenate([near, far])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owner = np.repeat([0, 1], [400, 2]).astype(np.int32)
    match = with_index(["Many", "Few"], owner, vectors, threshold=0.5).match(vectors[:1])[0]
    wanted = brute(["Many", "Few"], owner, vectors, vectors[0])
    assert match.name == "Many" and match.runner_up is not None and match.runner_up[0] == "Few"
    assert match.runner_up[1] == pytest.approx(wanted[1][0], abs=2e-3)


def test_many_people_are_kept_in_half_precision_and_without_faiss_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="FAISS is not installed (extra large)")
    names, owner, vectors = gallery(5, 8, 2)
    assert Matcher(names, owner, vectors, threshold=0.4, many=7).advice is None
    assert Matcher(names, owner, vectors, threshold=0.4).advice is None
    monkeypatch.setattr("facecam.people.match.half_precision_installed", lambda: False)
    told = Matcher(names, owner, vectors, threshold=0.4, many=7)
    assert told.advice is not None and "facecam[large]" in told.advice
    assert [m.candidate for m in told.match(vectors)] == [names[i] for i in owner]


def test_rows_of_an_index_span_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="FAISS is not installed (extra large)")
    monkeypatch.setattr("facecam.people.nearest.PART", 5)
    rng = np.random.default_rng(0)
    rows = unit(rng, 23)
    halves, exact = Halves(DIM), Exact(DIM)
    for part in (rows[:4], rows[4:17], rows[17:]):
        halves.append(part)
        exact.append(part)
    for start, stop in ((3, 8), (0, 1), (10, 17)):
        halves.delete(start, stop)
        exact.delete(start, stop)
        assert len(halves) == len(exact)
        np.testing.assert_allclose(halves.take(2, 9), exact.take(2, 9), atol=1e-3)
    probes = unit(rng, 3)
    for count in (1, 4, 50):
        scores, indices = halves.best(probes, count)
        wanted, places = exact.best(probes, count)
        np.testing.assert_allclose(scores, wanted, atol=2e-3)
        assert scores.shape == (3, min(count, len(exact)))
        np.testing.assert_allclose(exact.products(probes)[0, indices[0]], scores[0], atol=2e-3)
        assert (indices[:, 0] == places[:, 0]).all()
