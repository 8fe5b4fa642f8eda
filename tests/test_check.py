"""Faults in a gallery: twins, wrong pictures, shared pictures, single samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.engine import Engine
from facecam.enrolment import Enroller, EnrolOptions
from facecam.people import check as module
from facecam.people.check import Report, check, own_similarity
from facecam.people.gallery import Gallery
from facecam.values import Sample, Template
from tests.people_fakes import SPACE, digest, sample, vector
from tests.test_unknown import view

THRESHOLD = 0.8


def of(person: int, look: int, name: str = "") -> Sample:
    made = sample(1000 * person + look)
    return dataclasses.replace(
        made, template=Template(view(person, look), SPACE), source=name or f"p{person}-{look}.jpg"
    )


@pytest.fixture
def gallery(tmp_path: Path):
    with Gallery.open(tmp_path / "gallery.db") as opened:
        yield opened


def names(report: Report) -> list[tuple[str, str]]:
    return [pair.names for pair in report.pairs]


def test_nothing_to_mend(gallery: Gallery) -> None:
    assert check(gallery, SPACE, THRESHOLD).clean  # nobody
    for person in (1, 2, 3):
        gallery.add(f"P{person}", [of(person, look) for look in range(3)])
    report = check(gallery, SPACE, THRESHOLD)
    assert report.clean and (report.people, report.samples, report.threshold) == (3, 9, THRESHOLD)


def test_one_person_enrolled_twice(gallery: Gallery) -> None:
    gallery.add("Ada", [of(1, 0), of(1, 1)])
    gallery.add("Bob", [of(2, 0), of(2, 1)])
    gallery.add("Countess", [of(1, 2), of(1, 3)])
    (pair,) = check(gallery, SPACE, THRESHOLD).pairs
    assert pair.names == ("Ada", "Countess") and pair.similarity >= pair.mean >= THRESHOLD
    looks = {(a, c): float(view(1, a) @ view(1, c)) for a in (0, 1) for c in (2, 3)}
    best = max(looks, key=lambda key: looks[key])
    assert pair.sources == tuple(f"p1-{look}.jpg" for look in best)
    assert pair.similarity == pytest.approx(max(looks.values()), abs=1e-5)
    assert pair.mean == pytest.approx(np.mean(list(looks.values())), abs=1e-5)


def test_one_wrong_picture(gallery: Gallery) -> None:
    gallery.add("Ada", [of(1, 0), of(1, 1), of(1, 2), of(2, 9, "wrong.jpg")])
    gallery.add("Bob", [of(2, 0), of(2, 1)])
    report = check(gallery, SPACE, THRESHOLD)
    (outlier,) = report.outliers
    assert (outlier.name, outlier.source) == ("Ada", "wrong.jpg") and outlier.similarity < 0.5
    assert outlier.digest == digest(2009)
    assert outlier.looks_like is not None and outlier.looks_like[0] == "Bob" and outlier.looks_like[1] > THRESHOLD
    (pair,) = report.pairs
    assert pair.sources[0] == "wrong.jpg" and pair.mean < THRESHOLD  # a picture, not the person
    gallery.add("Zoe", [of(3, 0), of(4, 0)])  # of two that differ, either may be the wrong one
    assert {o.source for o in check(gallery, SPACE, THRESHOLD).outliers} == {"wrong.jpg", "p3-0.jpg", "p4-0.jpg"}


def test_single_samples_and_shared_pictures(gallery: Gallery) -> None:
    gallery.add("Ada", [of(1, 0)])
    gallery.add("Bob", [of(2, 0), of(2, 1)])
    gallery.add("Zoe", [of(2, 0, "copy.jpg"), of(2, 5)])
    report = check(gallery, SPACE, THRESHOLD)
    assert report.single == ("Ada",)
    (shared,) = report.shared
    assert shared.digest == digest(2000) and shared.people == (("Bob", "p2-0.jpg"), ("Zoe", "copy.jpg"))
    assert names(report) == [("Bob", "Zoe")] and report.pairs[0].similarity == pytest.approx(1, abs=1e-5)


def test_samples_of_another_space_are_left_out(gallery: Gallery) -> None:
    gallery.add("Ada", [of(1, 0), of(1, 1)])
    gallery.add("Bob", [sample(5, "elsewhere"), sample(6, "elsewhere")])
    report = check(gallery, SPACE, THRESHOLD)
    assert (report.people, report.samples) == (1, 2) and report.clean


@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(-0.3, 0.9), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_pairs_are_those_that_plain_arithmetic_finds(seed: int, people: int, threshold: float, block: int) -> None:
    rng = np.random.default_rng(seed)
    samples = {f"P{i}": rng.normal(size=(rng.integers(1, 4), 6)).astype(np.float32) for i in range(people)}
    samples = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in samples.items()}
    expected = {
        (a, b): float((samples[a] @ samples[b].T).max()) for a in samples for b in samples if a < b
    }  # fmt: skip
    if any(abs(value - threshold) < 1e-5 for value in expected.values()):
        return
    with pytest.MonkeyPatch.context() as patch:
        import tempfile

        patch.setattr(module, "_BLOCK", block)
        with tempfile.TemporaryDirectory() as folder, Gallery.open(Path(folder) / "gallery.db") as gallery:
            for i, (name, rows) in enumerate(samples.items()):
                made = [
                    dataclasses.replace(sample(100 * i + k, crop=False), template=Template(row, SPACE))
                    for k, row in enumerate(rows)
                ]
                gallery.add(name, made)
            found = {pair.names: pair.similarity for pair in check(gallery, SPACE, threshold).pairs}
    wanted = {pair: value for pair, value in expected.items() if value >= threshold}
    assert found == pytest.approx(wanted, abs=1e-5)


def test_own_similarity_is_not_spoilt_by_one_wrong_picture() -> None:
    rows = np.stack([view(1, 0), view(1, 1), view(1, 2), vector(9)])
    similar = own_similarity(rows)
    assert all(similar[:3] > 0.85) and similar[3] < 0.4
    np.testing.assert_allclose(own_similarity(rows[:2]), [rows[0] @ rows[1]] * 2, atol=1e-6)


@pytest.mark.data
def test_a_wrong_photo_among_real_ones(engine: Engine, gallery: Gallery, data: Path) -> None:
    enroller = Enroller(engine, EnrolOptions(largest=True, keep_crops=False))
    folders = [f for f in sorted((data / "lfw_dev" / "images").iterdir()) if len(list(f.iterdir())) >= 5][:8]
    photos = {
        f.name: [s for p in sorted(f.iterdir())[:4] if (s := enroller.photo(p, lambda d: False).sample)]
        for f in folders
    }
    wrong = photos.pop(folders[-1].name)[0]
    photos[folders[0].name].append(wrong)
    for name, samples in photos.items():
        gallery.add(name, samples)
    report = check(gallery, engine.embedder.space, engine.threshold)
    assert [(o.name, o.source) for o in report.outliers] == [(folders[0].name, wrong.source)]
    assert report.pairs == () and report.single == () and report.shared == ()
