"""Open-set matching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.people.match import SAMPLE_DISCOUNT, Matcher
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
