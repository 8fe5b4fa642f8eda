"""Unknown people: clustering, the book of numbers, what the gallery keeps of them, and negatives."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from facecam.engine import Engine
from facecam.errors import GalleryDamaged, OutputError, PersonNotFound, UsageFault
from facecam.people import strangers, unknown
from facecam.people.cluster import clusters
from facecam.people.database import Database
from facecam.people.gallery import Gallery
from facecam.people.records import Portrait
from facecam.people.schema import MIGRATIONS
from facecam.people.unknown import UnknownBook, unknown_name, unknown_number
from facecam.values import Image
from facecam.video.photos import read_photo
from facecam.vision.align import align
from facecam.vision.portrait import portrait
from tests.people_fakes import SPACE, digest, open_store, png, sample, secrets_of, start, traces, vector
from tests.support import portrait as photo

OTHER = "space-two"
DIM = 128


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values)).astype(np.float32)


def view(person: int, number: int, noise: float = 0.02) -> np.ndarray:
    """One look at a person: cosine about 0.95 to others of theirs, near 0 to other people's."""
    rng = np.random.default_rng([person, number])
    return unit(vector(person) + noise * rng.normal(size=DIM).astype(np.float32))


def picture(seed: int, quality: float = 0.7) -> Portrait:
    return Portrait(png(seed), quality, np.arange(10, dtype=np.float32).reshape(5, 2), "dlib5")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine" / "gallery.db"


@pytest.fixture
def gallery(path: Path):
    with Gallery.open(path) as opened:
        strangers.remember(opened, True)
        yield opened


# Clusters


def naive(totals: np.ndarray, weights: np.ndarray, threshold: float) -> set[frozenset[int]]:
    """Average linkage by its definition, with everything computed anew after each step."""
    groups = [frozenset([i]) for i in range(len(totals))]
    cosines = totals @ totals.T
    while len(groups) > 1:
        scored = [
            (sum(cosines[i, j] for i in a for j in b) / (sum(weights[list(a)]) * sum(weights[list(b)])), a, b)
            for a, b in itertools.combinations(groups, 2)
        ]
        best, a, b = max(scored, key=lambda entry: entry[0])
        if best < threshold:
            break
        groups = [g for g in groups if g not in (a, b)] + [a | b]
    return set(groups)


cases = st.tuples(st.integers(0, 10_000), st.integers(1, 14), st.floats(0.05, 0.95))


def some_totals(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, 6))
    points = centres[rng.integers(0, 4, count)] + 0.5 * rng.normal(size=(count, 6))
    weights = rng.uniform(0.2, 3, count)
    return points / np.linalg.norm(points, axis=1, keepdims=True) * weights[:, None], weights


@given(cases)
@settings(max_examples=60, deadline=None)
def test_clusters_are_average_linkage(case: tuple[int, int, float]) -> None:
    seed, count, threshold = case
    totals, weights = some_totals(seed, count)
    assert {frozenset(g) for g in clusters(totals, weights, threshold)} == naive(totals, weights, threshold)


@given(cases, st.randoms())
@settings(max_examples=60, deadline=None)
def test_clusters_do_not_depend_on_the_order(case: tuple[int, int, float], chance) -> None:
    seed, count, threshold = case
    totals, weights = some_totals(seed, count)
    order = list(range(count))
    chance.shuffle(order)
    shuffled = clusters(totals[order], weights[order], threshold)
    assert sorted(sorted(order[i] for i in group) for group in shuffled) == clusters(totals, weights, threshold)


@given(cases)
@settings(max_examples=30, deadline=None)
def test_a_higher_threshold_only_splits(case: tuple[int, int, float]) -> None:
    seed, count, threshold = case
    totals, weights = some_totals(seed, count)
    coarse = [set(group) for group in clusters(totals, weights, threshold)]
    for fine in clusters(totals, weights, threshold + 0.03):
        assert any(set(fine) <= group for group in coarse)


def test_a_weight_of_two_is_two_sightings() -> None:
    points = np.stack([view(1, 0), view(1, 1), view(2, 0)]).astype(np.float64)
    twice = clusters(np.concatenate([points, points[:1]]), np.ones(4), 0.9)
    assert twice == [[0, 1, 3], [2]]
    weights = np.array([2.0, 1, 1])
    assert clusters(points * weights[:, None], weights, 0.9) == [[0, 1], [2]]


def test_clusters_of_nobody_and_of_nonsense() -> None:
    assert clusters(np.zeros((0, 4)), np.zeros(0), 0.9) == []
    for totals, weights in ((np.zeros((2, 4)), np.ones(3)), (np.ones((1, 4)), np.zeros(1))):
        with pytest.raises(ValueError, match="positive weights"):
            clusters(totals, weights, 0.9)


# The book


@pytest.mark.parametrize("with_gallery", [False, True])
def test_the_same_face_gets_the_same_number(with_gallery: bool, path: Path) -> None:
    opened = Gallery.open(path) if with_gallery else None
    book = UnknownBook(opened, SPACE, 0.8)
    order = [(person, look) for look in range(4) for person in (1, 2, 3)]
    numbers = {(p, look): book.identify(view(p, look), 1.0, (look, look + 0.1), source="a") for p, look in order}
    assert [numbers[key] for key in order] == [1, 2, 3] * 4 and len(book) == 3
    if opened is not None:
        assert strangers.everyone(opened) == [] and not book.remembers  # nobody is kept unless it was turned on
        opened.close()


def test_nothing_of_a_stranger_is_written_unless_it_is_turned_on(path: Path) -> None:
    face = view(1, 0)
    with Gallery.open(path) as opened:
        version = opened.version()
        book = UnknownBook(opened, SPACE, 0.8)
        assert book.identify(face, 1.0, picture=picture(7)) == 1
        book.settle_all()
        assert opened.version() == version
    assert traces(path.parent, [face.tobytes(), png(7)[45:-20]]) == []


def test_two_faces_at_the_same_time_are_two_people() -> None:
    book = UnknownBook(None, SPACE, 0.8)
    face = view(1, 0)
    assert book.identify(face, 1.0, (0.0, 2.0), source="a") == 1
    assert book.identify(face, 1.0, (1.0, 3.0), source="a") == 2
    assert book.identify(face, 1.0, (1.0, 3.0), source="b") == 1  # another camera may see the same person
    assert book.identify(face, 1.0, (2.9, 4.0), source="a") in (1, 2)  # a track that takes over overlaps a little
    assert book.identify(face, 1.0, (5.0, 6.0), source="a", track=1) == book.identify(
        face, 1.0, (6.0, 7.0), source="a", track=2
    )
    assert book.identify(face, 1.0, (5.5, 6.5), source="a", track=3) not in (
        book.identify(face, 1.0, (5.0, 6.0), source="a", track=1),
    )


def test_a_track_keeps_its_number_and_counts_once(gallery: Gallery) -> None:
    book = UnknownBook(gallery, SPACE, 0.8)
    assert book.identify(view(1, 0), 0.5, (0, 1), track=7) == 1
    assert book.identify(view(1, 1), 2.0, (0, 3), track=7) == 1
    assert strangers.everyone(gallery) == []  # not before it is over
    book.settle(7)
    book.settle(7)
    book.settle(99)
    (who,) = strangers.everyone(gallery)
    assert (who.number, who.seen, who.name) == (1, 1, "Unknown 1")
    ((number, (total, weight)),) = strangers_totals(gallery).items()
    assert number == 1 and weight == pytest.approx(2.0)
    np.testing.assert_allclose(total, 2.0 * view(1, 1), atol=1e-6)


def strangers_totals(gallery: Gallery, space: str = SPACE):
    from facecam.people.sightings import totals

    return totals(gallery, space)


def test_a_track_that_got_a_name_after_all_leaves_nothing(gallery: Gallery) -> None:
    book = UnknownBook(gallery, SPACE, 0.8)
    assert book.identify(view(1, 0), 1.0, track=1) == 1
    book.retract(1)
    book.settle(1)
    assert strangers.everyone(gallery) == [] and len(book) == 0
    assert book.identify(view(1, 0), 1.0) == 2  # the number was shown: it is not given again
    assert book.identify(view(1, 1), 1.0, track=2) == 2
    book.retract(2)
    assert [who.seen for who in strangers.everyone(gallery)] == [1]


def test_strangers_are_known_in_the_next_run(gallery: Gallery, path: Path) -> None:
    book = UnknownBook(gallery, SPACE, 0.8)
    assert [book.identify(view(p, 0), 1.0, picture=picture(p), source="monday.mp4") for p in (1, 2)] == [1, 2]
    gallery.close()
    with Gallery.open(path) as again:
        book = UnknownBook(again, SPACE, 0.8)
        assert [book.identify(view(p, 1), 1.0, source="tuesday.mp4") for p in (2, 3, 1)] == [2, 3, 1]
        assert [(w.number, w.seen, w.source) for w in strangers.everyone(again)] == [
            (1, 2, "tuesday.mp4"), (2, 2, "tuesday.mp4"), (3, 1, "tuesday.mp4"),
        ]  # fmt: skip
        kept = strangers.portrait(again, 1)
        assert kept is not None and kept.image == png(1) and kept.scheme == "dlib5"
        assert strangers.portrait(again, 3) is None
        strangers.remember(again, False)
        book = UnknownBook(again, SPACE, 0.8)
        assert book.identify(view(2, 5), 1.0) == 2 and book.identify(view(9, 0), 1.0) == 4  # recognised, not written
        assert [w.seen for w in strangers.everyone(again)] == [2, 2, 1]
        assert UnknownBook(again, OTHER, 0.8).identify(view(2, 5), 1.0) == 4  # another space is another world


def test_a_better_picture_takes_the_place_of_a_worse(gallery: Gallery) -> None:
    book = UnknownBook(gallery, SPACE, 0.8)
    for quality, seed in ((0.5, 1), (0.9, 2), (0.7, 3)):
        book.identify(view(1, seed), 1.0, picture=picture(seed, quality))
    kept = strangers.portrait(gallery, 1)
    assert kept is not None and (kept.image, kept.quality) == (png(2), 0.9)


def test_the_order_of_sightings_leaves_one_template(tmp_path: Path) -> None:
    found = []
    for i, order in enumerate(itertools.permutations(range(4))):
        with Gallery.open(tmp_path / f"{i}.db") as opened:
            strangers.remember(opened, True)
            book = UnknownBook(opened, SPACE, 0.5)
            for look in order:
                book.identify(view(1, look), 0.3 + look)
            found.append(strangers_totals(opened)[1])
    for total, weight in found:
        assert weight == pytest.approx(found[0][1])
        np.testing.assert_allclose(total, found[0][0], atol=1e-5)


def test_a_number_is_never_used_again(gallery: Gallery) -> None:
    book = UnknownBook(gallery, SPACE, 0.8)
    assert book.identify(view(1, 0), 1.0) == 1
    assert strangers.forget(gallery, None).numbers == (1,)
    assert UnknownBook(gallery, SPACE, 0.8).identify(view(1, 0), 1.0) == 2
    strangers.name(gallery, 2, "Ada")
    assert UnknownBook(gallery, SPACE, 0.8).identify(view(2, 0), 1.0) == 3


def test_what_a_run_notes_does_not_make_others_read_the_gallery_anew(gallery: Gallery) -> None:
    version = gallery.version()
    UnknownBook(gallery, SPACE, 0.8).identify(view(1, 0), 1.0)
    assert gallery.version() == version
    strangers.name(gallery, 1, "Ada")
    assert gallery.version() != version


def test_two_runs_at_once_share_what_is_settled(gallery: Gallery, path: Path) -> None:
    with Gallery.open(path) as other:
        one, two = UnknownBook(gallery, SPACE, 0.8), UnknownBook(other, SPACE, 0.8)
        assert one.identify(view(1, 0), 1.0) == 1
        assert two.identify(view(1, 1), 1.0) == 1  # found in the gallery, though it came after the book was opened
        assert two.identify(view(2, 0), 1.0, track=1) == 2 and one.identify(view(3, 0), 1.0) == 3
        two.settle(1)
        assert [w.number for w in strangers.everyone(gallery)] == [1, 2, 3]


def test_processes_never_give_one_number_to_two(gallery: Gallery, path: Path) -> None:
    code = """
import sys
from pathlib import Path
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from tests.people_fakes import SPACE, vector
with Gallery.open(Path(sys.argv[1])) as gallery:
    book = UnknownBook(gallery, SPACE, 0.8)
    print(*[book.identify(vector(int(sys.argv[2]) + i), 1.0) for i in range(15)])
"""
    processes = [start(code, path, 1000 * (i + 1)) for i in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    numbers = [int(n) for output in outputs for n in output.split()]
    assert len(numbers) == len(set(numbers)) == 45
    assert [w.number for w in strangers.everyone(gallery)] == sorted(numbers)


@pytest.mark.parametrize("what", ["merged", "named", "forgotten"])
@pytest.mark.parametrize("told", [False, True])
def test_a_run_goes_on_when_its_strangers_change_under_it(gallery: Gallery, path: Path, what: str, told: bool) -> None:
    book = UnknownBook(gallery, SPACE, 0.8)
    assert [book.identify(view(p, 0), 1.0) for p in (1, 2)] == [1, 2]
    assert book.identify(view(2, 1), 1.0, track=5) == 2
    with Gallery.open(path) as other:
        if what == "merged":
            assert strangers.merge(other, SPACE, -1.0)[0].merged == (2,)
        elif what == "named":
            strangers.name(other, 2, "Ada")
        else:
            strangers.forget(other, [2])
    if told:
        book.refresh()
    assert book.identify(view(2, 2), 1.0, track=5) == 2  # a track keeps what it was called
    book.settle(5)
    after = strangers.everyone(gallery)
    if what == "merged":
        assert [(w.number, w.seen, w.also) for w in after] == [(1, 3, (2,))]
    else:  # who was forgotten or named is not written again under the old number
        assert [(w.number, w.seen) for w in after] == [(1, 1)]
        assert book.identify(view(2, 3), 1.0) == 3


def test_a_gallery_that_cannot_be_written_ends_remembering_and_not_the_run(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    book = UnknownBook(gallery, SPACE, 0.8, note=notes.append)
    assert book.identify(view(1, 0), 1.0) == 1

    def full(*args: object, **more: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(Database, "atomic", full)
    assert book.identify(view(1, 1), 1.0) == 1
    assert book.identify(view(2, 0), 1.0) == 2 and book.identify(view(2, 1), 1.0) == 2
    assert not book.remembers and len(notes) == 1 and "disk is full" in notes[0]
    monkeypatch.undo()
    book.refresh()  # its numbers may be others' by now: it does not begin again
    assert book.identify(view(3, 0), 1.0) == 3 and [w.number for w in strangers.everyone(gallery)] == [1]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown, "MOST", 20)
    book = UnknownBook(None, SPACE, 0.8)
    assert book.identify(view(0, 0), 1.0, track=1) == 1
    for person in range(1, 60):
        assert book.identify(view(person, 0), 1.0) == person + 1
        assert len(book) <= 20 and book._rows.shape[0] <= 64
    assert book.identify(view(59, 1), 1.0) == 60  # the newest are known,
    assert book.identify(view(0, 1), 1.0, track=2) == 1  # so is a track that is not over,
    assert book.identify(view(1, 1), 1.0) == 61  # and the oldest are strangers again


@pytest.mark.parametrize(
    ("face", "weight"),
    [
        (np.ones(DIM, np.float32), 1.0),
        (np.full(DIM, np.nan, np.float32), 1.0),
        (vector(1)[None], 1.0),
        (vector(1), 0.0),
        (vector(1), -1.0),
        (vector(1), float("nan")),
        (vector(1), float("inf")),
        (vector(1, dim=64), 1.0),
    ],
)
def test_a_programmers_mistake_is_loud(face: np.ndarray, weight: float) -> None:
    book = UnknownBook(None, SPACE, 0.8)
    book.identify(vector(9), 1.0)
    with pytest.raises(ValueError):
        book.identify(face, weight)
    with pytest.raises(ValueError, match="threshold"):
        UnknownBook(None, SPACE, 0.0)


class BookBesideModel(RuleBasedStateMachine):
    """Any order of sightings, ends and second thoughts: a number is a person, and what is settled is what is kept."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.gallery = Gallery.open(Path(self.folder.name) / "gallery.db")
        strangers.remember(self.gallery, True)
        self.book = UnknownBook(self.gallery, SPACE, 0.6)
        self.looks = 0
        self.person_of: dict[int, int] = {}
        self.open: dict[int, tuple[int, float]] = {}
        self.kept: Counter[int] = Counter()
        self.weight: Counter[int] = Counter()

    def teardown(self) -> None:
        self.gallery.close()
        self.folder.cleanup()

    @rule(person=st.integers(0, 4), weight=st.floats(0.1, 5), track=st.one_of(st.none(), st.integers(1, 3)))
    def see(self, person: int, weight: float, track: int | None) -> None:
        if track in self.open:
            person = self.open[track][0]
        self.looks += 1
        number = self.book.identify(view(person, self.looks), weight, track=track)
        assert self.person_of.setdefault(number, person) == person
        if track is None:
            self.kept[person] += 1
            self.weight[person] += weight
        else:
            self.open[track] = (person, weight)

    @rule(track=st.integers(1, 3))
    def settle(self, track: int) -> None:
        self.book.settle(track)
        if track in self.open:
            person, weight = self.open.pop(track)
            self.kept[person] += 1
            self.weight[person] += weight

    @rule(track=st.integers(1, 3))
    def retract(self, track: int) -> None:
        self.book.retract(track)
        self.open.pop(track, None)

    @rule()
    def restart(self) -> None:
        self.book.settle_all()
        for track in list(self.open):
            self.settle(track)
        self.book = UnknownBook(self.gallery, SPACE, 0.6)

    @rule()
    def refresh(self) -> None:
        self.book.refresh()

    @invariant()
    def what_is_kept_is_what_was_settled(self) -> None:
        everyone = strangers.everyone(self.gallery)
        assert {self.person_of[w.number]: w.seen for w in everyone} == dict(self.kept)
        stored = {self.person_of[n]: weight for n, (_, weight) in strangers_totals(self.gallery).items()}
        assert stored == pytest.approx(dict(self.weight))


TestBookBesideModel = BookBesideModel.TestCase
TestBookBesideModel.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


# What the user does with strangers


@pytest.mark.parametrize(("text", "number"), [("Unknown 12", 12), (" unknown  7 ", 7), ("3", 3)])
def test_numbers_are_read(text: str, number: int) -> None:
    assert unknown_number(text) == number and unknown_number(unknown_name(number)) == number


@pytest.mark.parametrize("text", ["", "Ada", "Unknown", "Unknown 0", "Unknown -1", "12a", "Unknown ١", "9" * 19])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UsageFault, match="Unknown 12"):
        unknown_number(text)


def split_stranger(gallery: Gallery) -> None:
    """One person under two numbers (by too strict a threshold), and another person between them."""
    book = UnknownBook(gallery, SPACE, 1.0)
    for person, look, quality in ((1, 0, 0.4), (2, 0, 0.9), (1, 1, 0.8)):
        book.identify(view(person, look), 1.0, picture=picture(10 * person + look, quality), source=f"{person}{look}")


def test_merging_makes_one_of_those_who_look_alike(gallery: Gallery) -> None:
    split_stranger(gallery)
    (done,) = strangers.merge(gallery, SPACE, 0.8)
    assert (done.number, done.merged) == (1, (3,))
    assert [(w.number, w.seen, w.also) for w in strangers.everyone(gallery)] == [(1, 2, (3,)), (2, 1, ())]
    kept = strangers.portrait(gallery, 1)
    assert kept is not None and kept.quality == 0.8 and strangers.portrait(gallery, 3) is None
    total, weight = strangers_totals(gallery)[1]
    assert weight == 2.0
    np.testing.assert_allclose(total, view(1, 0) + view(1, 1), atol=1e-6)
    assert strangers.merge(gallery, SPACE, 0.8) == [] and strangers.merge(gallery, OTHER, 0.8) == []
    assert strangers.resolve(gallery, 3) == 1
    # merged once more, every number still leads to the one who is left
    assert strangers.merge(gallery, SPACE, -1.0)[0] == strangers.Merging(1, (2,))
    assert [strangers.resolve(gallery, n) for n in (1, 2, 3)] == [1, 1, 1]
    assert strangers.everyone(gallery)[0].also == (2, 3)


def test_old_numbers_follow_through_several_mergings(gallery: Gallery) -> None:
    book = UnknownBook(gallery, SPACE, 1.0)
    for person, look in ((1, 0), (2, 0), (2, 1)):
        book.identify(view(person, look), 1.0)
    assert strangers.merge(gallery, SPACE, 0.8) == [strangers.Merging(2, (3,))]
    assert strangers.merge(gallery, SPACE, -1.0) == [strangers.Merging(1, (2,))]
    assert [strangers.resolve(gallery, n) for n in (1, 2, 3)] == [1, 1, 1]
    assert strangers.forget(gallery, [3]).numbers == (1,) and strangers.everyone(gallery) == []


def test_an_unknown_person_gets_a_name(gallery: Gallery) -> None:
    split_stranger(gallery)
    strangers.merge(gallery, SPACE, 0.8)
    added = strangers.name(gallery, 3, " Ada ")  # by a number that she had before
    assert (added.name, added.new_person, added.added) == ("Ada", True, 1)
    (record,) = gallery.samples("Ada", crops=True)
    assert record.source == "unknown 1" and record.crop == png(11) and record.scheme == "dlib5"
    np.testing.assert_allclose(record.vectors[SPACE], unit(view(1, 0) + view(1, 1)), atol=1e-6)
    assert [w.number for w in strangers.everyone(gallery)] == [2]
    for gone in (1, 3):
        with pytest.raises(PersonNotFound, match=f"Unknown {gone} is not remembered"):
            strangers.name(gallery, gone, "Bob")
    assert not strangers.name(gallery, 2, "Ada").new_person
    assert len(gallery.samples("Ada")) == 2
    assert gallery.templates(SPACE).names == ("Ada",)


@pytest.mark.parametrize("name", ["", "Unknown 4", "a\x00"])
def test_a_bad_name_changes_nothing(gallery: Gallery, name: str) -> None:
    split_stranger(gallery)
    with pytest.raises(UsageFault):
        strangers.name(gallery, 1, name)
    assert len(strangers.everyone(gallery)) == 3 and gallery.people() == []


def test_forgetting_leaves_nothing_in_the_files(path: Path) -> None:
    secrets = []
    with Gallery.open(path) as opened:
        strangers.remember(opened, True)
        opened.add("Ada", [sample(1)])
        book = UnknownBook(opened, SPACE, 0.8)
        for person in range(2, 30):  # many: pages are split and cells moved
            book.identify(view(person, 0), 1.0, picture=picture(person), source=f"secret-{person}.mp4")
            secrets.append([view(person, 0).tobytes(), png(person)[45:-20], f"secret-{person}.mp4".encode()])
        copy = path.with_name("gallery.db.before-0003_x")
        opened.store.backup_to(copy)
        assert traces(path.parent, secrets[3])
        done = strangers.forget(opened, [4, 4])
        assert done.numbers == (4,) and done.problem is None and done.backups == (copy,)
        assert traces(path.parent, secrets[3]) == [] and traces(path.parent, secrets[4]) != []
        with pytest.raises(PersonNotFound):
            strangers.forget(opened, [1, 4])
        assert len(strangers.everyone(opened)) == 27  # none of the two
        assert len(strangers.forget(opened, None).numbers) == 27 and strangers.forget(opened, None).numbers == ()
        assert traces(path.parent, [s for three in secrets for s in three]) == []
        assert [p.name for p in opened.people()] == ["Ada"]


def test_forgetting_that_was_killed_before_erasing_is_finished_at_the_next_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Gallery.open(path) as opened:
        strangers.remember(opened, True)
        opened.add("Ada", [sample(1)])
        opened.reject("Ada", [sample(2)])
        UnknownBook(opened, SPACE, 0.8).identify(view(3, 0), 1.0)

        def killed(self: Database) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Database, "erase", killed)
        for change in (lambda: strangers.forget(opened, [1]), lambda: opened.unreject("Ada", [digest(2)])):
            with pytest.raises(KeyboardInterrupt):
                change()
            assert opened.store.value("erase") == 1
            with opened.store.atomic() as db:
                db.execute("DELETE FROM meta WHERE key = 'erase'")
        with opened.store.atomic() as db:
            db.execute("INSERT INTO meta VALUES ('erase', 1)")
    monkeypatch.undo()
    with Gallery.open(path) as again:
        assert again.store.value("erase") is None
    assert traces(path.parent, [view(3, 0).tobytes(), vector(2).tobytes()]) == []


def test_forgetting_one_forgets_the_numbers_that_lead_there(gallery: Gallery) -> None:
    split_stranger(gallery)
    strangers.merge(gallery, SPACE, 0.8)
    assert strangers.forget(gallery, [3]).numbers == (1,)
    with gallery.store.read() as db:
        for table in ("stranger", "stranger_template", "stranger_crop"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)


def test_nobody_is_remembered_yet(gallery: Gallery) -> None:
    with pytest.raises(PersonNotFound, match="nobody is at present"):
        strangers.resolve(gallery, 1)
    strangers.remember(gallery, False)
    with pytest.raises(PersonNotFound, match="--remember on"):
        strangers.resolve(gallery, 1)


@pytest.mark.parametrize("blob", [b"\0" * 512, b"\xff" * 512, np.full(128, 9, "<f4").tobytes(), b"\0\0\x80?"])
def test_a_damaged_template_is_told(gallery: Gallery, blob: bytes) -> None:
    split_stranger(gallery)
    with gallery.store.atomic() as db:
        db.execute("UPDATE stranger_template SET total = ? WHERE stranger = 2", (blob,))
    with pytest.raises(GalleryDamaged, match="Unknown 2"):
        UnknownBook(gallery, SPACE, 0.8)


def test_a_gallery_from_before_unknown_people(path: Path) -> None:
    old = Gallery(open_store(path, MIGRATIONS[:1]))
    with old.store.atomic() as db:
        db.execute("INSERT INTO person (name, created, updated) VALUES ('Ada', 'x', 'x')")
        db.execute("INSERT INTO sample (person, digest, source, quality, created) VALUES (1, 'd', 's', 0.5, 'x')")
        db.execute("INSERT INTO template (sample, space, vector) VALUES (1, ?, ?)", (SPACE, vector(1).tobytes()))
    old.close()
    with Gallery.open(path) as now:
        assert now.templates(SPACE).names == ("Ada",) and strangers.everyone(now) == []
        strangers.remember(now, True)
        assert UnknownBook(now, SPACE, 0.8).identify(view(1, 0), 1.0) == 1
    assert path.with_name("gallery.db.before-0002_strangers").exists()


# Negatives


def test_a_negative_comes_back_as_it_went_in(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1)])
    gallery.add("Bob", [sample(2)])
    done = gallery.reject("Ada", [sample(3), sample(4)])
    assert (done.name, done.added, done.duplicates) == ("Ada", 2, ())
    assert gallery.reject("Ada", [sample(3)]).duplicates == ("photo3.jpg",)
    assert gallery.reject("Ada", [sample(3, OTHER)]).added == 1
    kept = gallery.negatives_of("Ada")
    assert [(n.digest, n.source, n.spaces) for n in kept] == [
        (digest(3), "photo3.jpg", (SPACE, OTHER)),
        (digest(4), "photo4.jpg", (SPACE,)),
    ]
    found = gallery.negatives(SPACE)
    assert found.names == ("Ada",) and found.owner.tolist() == [0, 0]
    assert {row.tobytes() for row in found.vectors} == {vector(3).tobytes(), vector(4).tobytes()}
    owner, vectors = found.indexed(("Aaron", "Ada", "Bob"))
    assert owner.tolist() == [1, 1] and owner.dtype == np.int32 and vectors.shape == (2, DIM)
    assert found.indexed(("Bob",))[1].shape == (0, DIM)
    assert gallery.negatives("nowhere").indexed(("Ada",))[0].shape == (0,)
    assert gallery.templates(SPACE).vectors.shape == (2, DIM)  # negatives are no samples
    assert gallery.samples("Ada")[0].crop_bytes > 0 and gallery.person("Ada").samples == 1


def test_no_crop_of_a_rejected_face_is_kept(gallery: Gallery, path: Path) -> None:
    gallery.add("Ada", [sample(1)])
    gallery.reject("Ada", [sample(3)])
    assert traces(path.parent, [png(3)[45:-20]]) == [] and traces(path.parent, [vector(3).tobytes()]) != []


def test_what_cannot_be_rejected(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1), sample(2)])
    with pytest.raises(PersonNotFound):
        gallery.reject("Bob", [sample(3)])
    with pytest.raises(UsageFault, match=r"photo2\.jpg: 'Ada' is enrolled from this very picture"):
        gallery.reject("Ada", [sample(3), sample(2)])
    for wrong in ([], [sample(3), sample(4, dim=64)], [dataclasses.replace(sample(3), digest="")]):
        with pytest.raises(ValueError):
            gallery.reject("Ada", wrong)
    assert gallery.negatives_of("Ada") == []  # all or none


def test_enrolling_what_was_rejected_takes_it_back(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1)])
    gallery.reject("Ada", [sample(2), sample(3)])
    gallery.add("Bob", [sample(2)])
    assert len(gallery.negatives_of("Ada")) == 2  # another person's picture: just so
    gallery.add("Ada", [sample(2)])
    assert [n.source for n in gallery.negatives_of("Ada")] == ["photo3.jpg"]


def test_negatives_follow_their_person(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1)])
    gallery.add("Bob", [sample(2)])
    gallery.reject("Ada", [sample(2), sample(3), sample(4)])
    gallery.reject("Bob", [sample(4), sample(5)])
    gallery.rename("Ada", "Countess")
    gallery.merge("Countess", "Bob")  # photo2 shows Bob: no longer somebody else
    assert sorted(n.source for n in gallery.negatives_of("Bob")) == ["photo3.jpg", "photo4.jpg", "photo5.jpg"]
    with gallery.store.read() as db:
        assert db.execute("SELECT count(*) FROM negative").fetchone() == (3,)
        assert db.execute("SELECT count(*) FROM negative_template").fetchone() == (3,)


@pytest.mark.parametrize("whole", [False, True])
def test_negatives_are_erased(gallery: Gallery, path: Path, whole: bool) -> None:
    gallery.add("Ada", [sample(1)])
    gallery.reject("Ada", [sample(i) for i in range(2, 20)])
    secrets = [s for i in range(2, 20) for s in secrets_of(i)]
    if whole:
        assert gallery.remove("Ada").problem is None
    else:
        done = gallery.unreject("Ada", [digest(i) for i in range(2, 20)])
        assert len(done.negatives) == 18 and done.problem is None
        assert gallery.unreject("Ada", [digest(2)]).negatives == ()
    assert traces(path.parent, secrets) == []


# Real faces


def seen(engine: Engine, image: Image) -> tuple[np.ndarray, Portrait]:
    face = engine.landmarker.locate(image, engine.detector.detect(image, 40)[:1])[0]
    return engine.embedder.embed([align(image, face, engine.embedder.template)])[0], portrait(image, face, 0.9)


def test_real_faces_keep_their_numbers(engine: Engine, gallery: Gallery) -> None:
    book = UnknownBook(gallery, engine.embedder.space, engine.threshold)
    pictures = {name: photo(name) for name in ("grace_hopper", "astronaut")}
    changes = [
        lambda image: image,
        lambda image: (image * 0.6).astype(np.uint8),
        lambda image: np.ascontiguousarray(image[:, ::-1]),
        lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    ]
    numbers: dict[str, set[int]] = {name: set() for name in pictures}
    for change, name in itertools.product(changes, pictures):
        face, shot = seen(engine, change(pictures[name]))
        numbers[name].add(book.identify(face, 0.8, picture=shot))
    assert numbers == {"grace_hopper": {1}, "astronaut": {2}}
    assert strangers.merge(gallery, engine.embedder.space, engine.threshold) == []
    assert strangers.name(gallery, 2, "Eileen Collins").new_person
    (record,) = gallery.samples("Eileen Collins", crops=True)
    crop = cv2.imdecode(np.frombuffer(record.crop or b"", np.uint8), cv2.IMREAD_COLOR)
    again, _ = seen(engine, np.asarray(crop, np.uint8))  # the kept picture can be embedded again
    assert float(again @ record.vectors[engine.embedder.space]) > engine.threshold


@pytest.mark.data
def test_strangers_of_lfw_dev(engine: Engine, gallery: Gallery, data: Path) -> None:
    folders = [f for f in sorted((data / "lfw_dev" / "images").iterdir()) if len(list(f.iterdir())) >= 4][:12]
    faces = [
        (folder.name, seen(engine, read_photo(file))[0]) for folder in folders for file in sorted(folder.iterdir())[:4]
    ]
    book = UnknownBook(gallery, engine.embedder.space, engine.threshold)
    order = np.random.default_rng(0).permutation(len(faces))
    number = {int(i): book.identify(faces[i][1], 1.0) for i in order}
    strangers.merge(gallery, engine.embedder.space, engine.threshold)
    final = {i: strangers.resolve(gallery, n) for i, n in number.items()}
    pairs = [(a, b) for a, b in itertools.combinations(final, 2)]
    joined = [(a, b) for a, b in pairs if final[a] == final[b]]
    right = [(a, b) for a, b in joined if faces[a][0] == faces[b][0]]
    same = [(a, b) for a, b in pairs if faces[a][0] == faces[b][0]]
    assert len(right) >= 0.95 * len(joined) and len(right) >= 0.6 * len(same)
