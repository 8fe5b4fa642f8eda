from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from facecam.errors import GalleryDamaged, GalleryOfAnotherModel, PersonNotFound, UsageFault
from facecam.people.gallery import Gallery
from facecam.people.schema import MIGRATIONS
from tests.people_fakes import SPACE, digest, png, sample, secrets_of, start, state, traces, vector

OTHER = "space-two"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine" / "gallery.db"


@pytest.fixture
def gallery(path: Path):
    with Gallery.open(path) as opened:
        yield opened


def test_default_place_is_the_home(own_home: Path) -> None:
    with Gallery.open() as gallery:
        gallery.add("Ada", [sample(1)])
    assert gallery.path == own_home / "gallery.db" and gallery.path.exists()


def test_a_sample_comes_back_as_it_went_in(gallery: Gallery) -> None:
    made = sample(1)
    added = gallery.add(" Jose\u0301 ", [made])
    assert (added.name, added.new_person, added.added, added.duplicates, added.elsewhere) == ("José", True, 1, (), ())
    (record,) = gallery.samples("José", crops=True)
    assert record.digest == made.digest and record.source == made.source and record.quality == made.quality
    assert record.crop == made.crop and record.crop_bytes == len(made.crop or b"") and record.scheme == made.scheme
    np.testing.assert_array_equal(record.landmarks, made.landmarks)
    np.testing.assert_array_equal(record.vectors[SPACE], made.template.vector)
    assert record.vectors[SPACE].dtype == np.float32 and record.landmarks.dtype == np.float32
    (bare,) = gallery.samples("José")
    assert bare.crop is None and bare.crop_bytes == record.crop_bytes
    (person,) = gallery.people()
    assert gallery.person("Jose\u0301") == person
    assert (person.name, person.samples, person.crops, person.spaces) == ("José", 1, 1, (SPACE,))


def test_without_crops(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1, crop=False)])
    (record,) = gallery.samples("Ada", crops=True)
    assert record.crop is None and record.crop_bytes == 0 and record.landmarks is None and record.scheme is None
    assert gallery.person("Ada").crops == 0


def test_duplicates_are_skipped_and_reported(gallery: Gallery) -> None:
    added = gallery.add("Ada", [sample(1), sample(2), sample(1)])
    assert (added.added, added.duplicates) == (2, ("photo1.jpg",))
    version = gallery.version()
    again = gallery.add("Ada", [sample(1), sample(2)])
    assert (again.new_person, again.added, len(again.duplicates)) == (False, 0, 2)
    assert gallery.version() == version  # nothing changed
    assert gallery.has_digest("Ada", digest(1)) and gallery.has_digest("Ada", digest(1), SPACE)
    assert not gallery.has_digest("Ada", digest(1), OTHER)
    assert not gallery.has_digest("Ada", digest(3)) and not gallery.has_digest("Bob", digest(1))
    assert not gallery.has_digest("\ud800", digest(1))


def test_the_same_picture_under_two_names_is_told(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1)])
    added = gallery.add("Bob", [sample(1), sample(2)])
    assert added.added == 2 and added.elsewhere == (("photo1.jpg", "Ada"),)
    assert gallery.add("Bob", [sample(1)]).elsewhere == ()  # told once


def test_a_known_picture_gains_the_vector_of_another_space(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1, crop=False)])
    added = gallery.add("Ada", [sample(1, OTHER)])
    assert (added.added, added.duplicates) == (1, ())
    (record,) = gallery.samples("Ada", crops=True)
    assert set(record.vectors) == {SPACE, OTHER}
    assert record.crop == png(1) and record.scheme == "dlib5"  # and the crop that it did not have
    assert gallery.spaces() == {SPACE: 1, OTHER: 1}


@pytest.mark.parametrize("name", ["", "a\x00b", "x" * 101, "Unknown 3"])
def test_a_bad_name_enrols_nobody(gallery: Gallery, name: str) -> None:
    with pytest.raises(UsageFault):
        gallery.add(name, [sample(1)])
    assert gallery.people() == []


def test_all_or_nothing(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1)])
    for wrong in ([], [sample(2), sample(3, dim=64)], [sample(2), dataclasses.replace(sample(3), digest="")]):
        with pytest.raises(ValueError):
            gallery.add("Bob", wrong)
    assert [p.name for p in gallery.people()] == ["Ada"]


def test_names_and_sources_that_could_break_a_terminal_or_sql(gallery: Gallery) -> None:
    hostile = "'; DROP TABLE person; --"
    gallery.add(hostile, [dataclasses.replace(sample(1), source="a\x1b[31m\udcff.jpg")])
    assert gallery.samples(hostile)[0].source == "a\\x1b[31m\\udcff.jpg"


def test_unknown_names_suggest_the_known(gallery: Gallery) -> None:
    with pytest.raises(PersonNotFound, match="nobody is enrolled yet"):
        gallery.person("Ada")
    gallery.add("Ada Lovelace", [sample(1)])
    gallery.add("Grace", [sample(2)])
    with pytest.raises(PersonNotFound, match="did you mean 'Ada Lovelace'"):
        gallery.person("ada lovelase")
    with pytest.raises(PersonNotFound, match="did you mean 'Ada Lovelace'"):
        gallery.person("LOVE")
    with pytest.raises(PersonNotFound, match="facecam people lists"):
        gallery.samples("Zoe")
    for odd in ("", "\ud800", "\x00", "x" * 100_000, "a\nb"):
        with pytest.raises(PersonNotFound) as error:
            gallery.remove(odd)
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_rename(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1)])
    gallery.add("Bob", [sample(2)])
    before = gallery.person("Ada").id
    assert gallery.rename("Ada", " ADA ").name == "ADA"  # another case is another name
    assert gallery.rename("ADA", "ADA").id == before
    with pytest.raises(UsageFault, match="facecam people merge 'ADA' 'Bob'"):
        gallery.rename("ADA", "Bob")
    with pytest.raises(UsageFault, match="reserved"):
        gallery.rename("ADA", "Unknown 1")
    with pytest.raises(PersonNotFound):
        gallery.rename("Ada", "Zoe")
    assert state(gallery) == {"ADA": {digest(1)}, "Bob": {digest(2)}}


def test_merge_keeps_each_picture_once_with_all_that_is_known_of_it(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1), sample(2)])
    gallery.add("Ada L.", [sample(2, OTHER), sample(3)])
    gallery.add("Ada L.", [sample(4, crop=False)])
    gallery.add("Ada", [sample(4, OTHER)])
    merged = gallery.merge("Ada", "Ada L.")
    assert (merged.target, merged.moved, merged.duplicates) == ("Ada L.", 1, 2)
    (person,) = gallery.people()
    assert (person.name, person.samples, person.crops, person.spaces) == ("Ada L.", 4, 4, (SPACE, OTHER))
    records = {r.digest: r for r in gallery.samples("Ada L.", crops=True)}
    assert set(records[digest(2)].vectors) == set(records[digest(4)].vectors) == {SPACE, OTHER}
    assert records[digest(4)].crop == png(4) and records[digest(4)].landmarks is not None


def test_merge_takes_two_people(gallery: Gallery) -> None:
    gallery.add("Ada", [sample(1)])
    with pytest.raises(UsageFault, match="twice"):
        gallery.merge("Ada", "Ada")
    with pytest.raises(PersonNotFound):
        gallery.merge("Ada", "Bob")
    with pytest.raises(PersonNotFound):
        gallery.merge("Bob", "Ada")
    assert state(gallery) == {"Ada": {digest(1)}}


def test_templates_do_not_depend_on_the_order_of_enrolment(tmp_path: Path) -> None:
    sets = []
    for order in ([1, 2, 3, 4], [4, 2, 3, 1]):
        with Gallery.open(tmp_path / f"{order[0]}.db") as gallery:
            for seed in order:
                gallery.add("Odd" if seed % 2 else "Even", [sample(seed)])
            gallery.add("Elsewhere", [sample(9, OTHER)])
            sets.append(gallery.templates(SPACE))
    for templates in sets:
        assert templates.names == ("Even", "Odd") and templates.owner.dtype == np.int32
        assert templates.owner.tolist() == [0, 0, 1, 1]
        assert templates.vectors.dtype == np.float32 and templates.vectors.flags.c_contiguous
        assert templates.vectors.shape == (4, 128) and templates.vectors.flags.writeable
    np.testing.assert_array_equal(sets[0].vectors, sets[1].vectors)
    assert {v.tobytes() for v in sets[0].vectors} == {vector(seed).tobytes() for seed in (1, 2, 3, 4)}


def test_templates_of_nobody(gallery: Gallery) -> None:
    empty = gallery.templates(SPACE)
    assert empty.names == () and empty.owner.shape == (0,) and empty.vectors.shape == (0, 0)


@pytest.mark.parametrize(
    "blob",
    [vector(5).tobytes()[:-4], np.full(128, np.nan, "<f4").tobytes(), np.zeros(128, "<f4").tobytes(), b"\xff" * 512],
)
def test_a_stored_vector_that_is_none_is_damage(gallery: Gallery, blob: bytes) -> None:
    gallery.add("Ada", [sample(1), sample(2)])
    with contextlib.closing(sqlite3.connect(gallery.path)) as db:
        db.execute("UPDATE template SET vector = ? WHERE id = 1", (blob,))
        db.commit()
    with pytest.raises(GalleryDamaged) as error:
        gallery.templates(SPACE)
    assert "\n" not in str(error.value)


def test_check_space(gallery: Gallery) -> None:
    gallery.check_space(SPACE)  # nobody cannot be of another model
    gallery.add("Ada", [sample(1), sample(2)])
    gallery.add("Bob", [sample(3)])
    gallery.check_space(SPACE)
    gallery.add("Ada", [sample(1, OTHER)])
    gallery.check_space(SPACE)
    with pytest.raises(GalleryOfAnotherModel, match=r"1 of 2 people \('Bob'\).*facecam models use") as error:
        gallery.check_space(OTHER)
    assert error.value.exit_code == 14 and "\n" not in str(error.value)
    gallery.add("Bob", [sample(3, OTHER)])
    gallery.check_space(OTHER)


def test_version_changes_with_every_change_of_any_process(gallery: Gallery, path: Path) -> None:
    seen = [gallery.version()]
    with Gallery.open(path) as other:
        for change in (
            lambda: gallery.add("Ada", [sample(1)]),
            lambda: other.add("Bob", [sample(2)]),
            lambda: gallery.rename("Ada", "Ada L."),
            lambda: other.merge("Bob", "Ada L."),
            lambda: other.set_setting("threshold", 0.5),
            lambda: other.remove("Ada L."),
        ):
            change()
            seen.append(gallery.version())
            assert other.version() == seen[-1]
    code = """
import sys
from pathlib import Path
from facecam.people.gallery import Gallery
from tests.people_fakes import sample
Gallery.open(Path(sys.argv[1])).add("Zoe", [sample(5)])
"""
    assert start(code, path).wait() == 0
    seen.append(gallery.version())
    assert len(set(seen)) == len(seen)
    gallery.people()
    gallery.templates(SPACE)
    assert gallery.version() == seen[-1]  # looking changes nothing


def test_two_galleries_in_one_place_have_two_versions(path: Path) -> None:
    versions = set()
    for _ in range(3):
        with Gallery.open(path) as gallery:
            versions.add(gallery.version())
        path.unlink()
    assert len(versions) == 3


def test_settings_of_the_gallery(gallery: Gallery, path: Path) -> None:
    assert gallery.setting("calibration") is None
    value = {"threshold": 0.61, "curve": [[0.1, 0.5], [0.2, 0.25]], "who": "Ünïcode"}
    gallery.set_setting("calibration", value)
    with Gallery.open(path) as other:
        assert other.setting("calibration") == value
        other.set_setting("calibration", None)
    assert gallery.setting("calibration") is None
    assert gallery.setting("changes") is None  # the store's own entries stand apart
    with pytest.raises(ValueError):
        gallery.set_setting("bad", float("nan"))


# Deletion


def test_nothing_of_a_removed_person_is_in_any_file(path: Path) -> None:
    """Among other people, after renaming and merging, and in a copy made before a migration."""
    with Gallery.open(path) as gallery:
        for i in range(30):
            gallery.add(f"Person {i}", [sample(100 * i + k) for k in range(4)])
        gallery.add("Somebody Secret", [sample(k) for k in range(90_000, 90_005)])
        gallery.add("Alias Hidden", [sample(k) for k in range(91_000, 91_003)])
        gallery.rename("Somebody Secret", "Renamed Secret")
        gallery.merge("Alias Hidden", "Renamed Secret")
        copy = path.with_name("gallery.db.before-0002_x")
        gallery.store.backup_to(copy)
        path.with_name("gallery.db.new-1-2").write_bytes(sample(90_000).template.vector.tobytes())
        secrets = [b"Somebody Secret", b"Renamed Secret", b"Alias Hidden"]
        for seed in (*range(90_000, 90_005), *range(91_000, 91_003)):
            secrets += secrets_of(seed)
        assert len({piece for _, piece in traces(path.parent, secrets)}) > 300  # the search does find
        removed = gallery.remove("Renamed Secret")
        assert (removed.samples, removed.crops, removed.problem) == (8, 8, None)
        assert copy in removed.backups
        assert traces(path.parent, secrets) == []
        assert len(gallery.people()) == 30
    assert traces(path.parent, secrets) == []
    with Gallery.open(path) as gallery:
        assert len(state(gallery)) == 30


@pytest.mark.parametrize("seed", [7, 8])
def test_nothing_is_left_after_long_histories(path: Path, seed: int) -> None:
    """secure_delete alone leaves stale cells behind: without VACUUM both of these histories fail."""
    rng = np.random.default_rng(seed)
    with Gallery.open(path) as gallery:
        alive: dict[str, list[int]] = {}
        for i in range(150):
            if rng.random() < 0.6 or not alive:
                seeds = [1000 * i + k for k in range(int(rng.integers(1, 5)))]
                gallery.add(f"Individual {i:05d}", [sample(seed, crop=False) for seed in seeds])
                alive[f"Individual {i:05d}"] = seeds
            else:
                name = str(rng.choice(sorted(alive)))
                gallery.remove(name)
                gone = [name.encode(), *(digest(seed).encode() for seed in alive.pop(name))]
                assert traces(path.parent, gone, width=64) == []
        assert {p.name for p in gallery.people()} == set(alive)


def test_a_copy_that_cannot_be_deleted_is_told(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.add("Ada", [sample(1)])
    gallery.store.backup_to(gallery.path.with_name("gallery.db.before-0002_x"))

    def refused(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        removed = gallery.remove("Ada")
    assert removed.problem is not None and "before-0002_x" in removed.problem
    assert gallery.people() == []
    with Gallery.open(gallery.path):  # done again, now with success
        assert traces(gallery.path.parent, secrets_of(1)) == []


# Any sequence of operations, beside a plain model

PEOPLE = st.sampled_from(["Ada", "Bob", "Çelik", "d/e", "王"])
SEEDS = st.lists(st.integers(0, 25), min_size=1, max_size=4)


class GalleryBesideModel(RuleBasedStateMachine):
    """The model: name -> digest -> {space: seed of the vector}."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "gallery.db"
        self.gallery = Gallery.open(self.path)
        self.model: dict[str, dict[str, set[str]]] = {}
        self.versions: list[int] = []

    def teardown(self) -> None:
        self.gallery.close()
        self.folder.cleanup()

    @initialize()
    def start(self) -> None:
        assert self.gallery.people() == []

    @rule(name=PEOPLE, seeds=SEEDS, space=st.sampled_from([SPACE, OTHER]), crop=st.booleans())
    def add(self, name: str, seeds: list[int], space: str, crop: bool) -> None:
        known = self.model.get(name, {})
        fresh = {digest(s) for s in seeds if space not in known.get(digest(s), ())}
        elsewhere = {
            (f"photo{s}.jpg", other)
            for s in seeds
            for other, samples in self.model.items()
            if other != name and digest(s) in samples and digest(s) not in known
        }
        added = self.gallery.add(name, [sample(s, space, crop=crop) for s in seeds])
        assert added.added == len(fresh) and len(added.duplicates) == len(seeds) - len(fresh)
        assert added.new_person == (name not in self.model)
        assert set(added.elsewhere) == elsewhere
        for s in seeds:
            self.model.setdefault(name, {}).setdefault(digest(s), set()).add(space)

    @rule(old=PEOPLE, new=PEOPLE)
    def rename(self, old: str, new: str) -> None:
        if old not in self.model:
            with pytest.raises(PersonNotFound):
                self.gallery.rename(old, new)
        elif new in self.model and new != old:
            with pytest.raises(UsageFault):
                self.gallery.rename(old, new)
        else:
            assert self.gallery.rename(old, new).name == new
            self.model[new] = self.model.pop(old)

    @rule(source=PEOPLE, into=PEOPLE)
    def merge(self, source: str, into: str) -> None:
        if source not in self.model or into not in self.model:
            with pytest.raises(PersonNotFound):
                self.gallery.merge(source, into)
        elif source == into:
            with pytest.raises(UsageFault):
                self.gallery.merge(source, into)
        else:
            merged = self.gallery.merge(source, into)
            moved = self.model.pop(source)
            assert merged.duplicates == len(moved.keys() & self.model[into].keys())
            assert merged.moved + merged.duplicates == len(moved)
            for key, spaces in moved.items():
                self.model[into].setdefault(key, set()).update(spaces)

    @rule(name=PEOPLE)
    def remove(self, name: str) -> None:
        if name not in self.model:
            with pytest.raises(PersonNotFound):
                self.gallery.remove(name)
        else:
            removed = self.gallery.remove(name)
            assert removed.samples == len(self.model.pop(name)) and removed.problem is None
            found = traces(self.path.parent, [name.encode()] if len(name.encode()) > 3 else [])
            assert found == []

    @rule()
    def reopen(self) -> None:
        self.gallery.close()
        self.gallery = Gallery.open(self.path)

    @precondition(lambda self: self.model)
    @rule()
    def fail(self) -> None:
        name = min(self.model)
        with pytest.raises(ValueError), self.gallery.store.atomic() as db:
            db.execute("DELETE FROM person WHERE name = ?", (name,))
            raise ValueError

    @invariant()
    def same(self) -> None:
        people = self.gallery.people()
        assert {p.name for p in people} == set(self.model)
        for person in people:
            samples = self.model[person.name]
            records = self.gallery.samples(person.name)
            assert {r.digest: set(r.vectors) for r in records} == samples
            assert person.samples == len(samples) > 0
            assert set(person.spaces) == set().union(*samples.values())
        for space in (SPACE, OTHER):
            expected = {
                name: {key for key, spaces in samples.items() if space in spaces}
                for name, samples in self.model.items()
            }
            templates = self.gallery.templates(space)
            assert templates.names == tuple(sorted(name for name, keys in expected.items() if keys))
            assert np.bincount(templates.owner, minlength=len(templates.names)).tolist() == [
                len(expected[name]) for name in templates.names
            ]
            everybody = all(expected.values())
            with contextlib.nullcontext() if everybody else pytest.raises(GalleryOfAnotherModel):
                self.gallery.check_space(space)
        with self.gallery.store.read() as db:
            orphans = "SELECT count(*) FROM crop WHERE sample NOT IN (SELECT id FROM sample)"
            assert db.execute(orphans).fetchone() == (0,)


TestGalleryBesideModel = GalleryBesideModel.TestCase
TestGalleryBesideModel.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def test_the_schema_is_what_was_released(path: Path) -> None:
    """A released migration never changes: a gallery in somebody's home was made by it."""
    assert [m.name for m in MIGRATIONS][:2] == ["0001_people", "0002_strangers"]
    with Gallery.open(path) as gallery, gallery.store.read() as db:
        tables = [
            f"{table}({', '.join(row[1] for row in db.execute(f'PRAGMA table_info({table})'))})"
            for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        ]
    assert tables == [
        "crop(sample, image)",
        "meta(key, value)",
        "migration(name, applied)",
        "negative(id, person, digest, source, created)",
        "negative_template(id, negative, space, vector)",
        "person(id, name, created, updated, consent, consented)",
        "sample(id, person, digest, source, quality, landmarks, scheme, created)",
        "stranger(id, first_seen, last_seen, source, seen, merged_into)",
        "stranger_crop(stranger, image, quality, landmarks, scheme)",
        "stranger_template(id, stranger, space, total, weight)",
        "template(id, sample, space, vector)",
    ]


def test_the_gallery_file_is_found_by_its_header(path: Path) -> None:
    Gallery.open(path).close()
    assert path.read_bytes()[68:72] == b"fcam" and os.path.getsize(path) % 4096 == 0
