from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cryptography", reason="needs the extra encrypt")

from hypothesis import given, settings
from hypothesis import strategies as st

from facecam.errors import FacecamError, GalleryDamaged, GalleryLocked, UsageFault
from facecam.people import backup, encryption, seal, strangers
from facecam.people.exchange import export_people
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from tests.people_fakes import SPACE, digest, png, sample, secrets_of, start, state, traces, vector
from tests.test_cli_people import enrolled, run

__all__ = ["enrolled", "run"]

WORDS = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cost of scrypt that tests can pay, no key from an earlier test, no passphrase from outside."""
    monkeypatch.setattr(seal, "COST", 16)
    monkeypatch.setattr(seal, "_keys", {})
    monkeypatch.delenv(seal.VARIABLE, raising=False)
    monkeypatch.delenv("FACECAM_NEW_PASSPHRASE", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A gallery with people, a negative and a remembered stranger."""
    from facecam.people.records import Portrait

    path = tmp_path / "home" / "gallery.db"
    with Gallery.open(path) as gallery:
        gallery.add("Ada", [sample(1), sample(2)])
        gallery.add("Bob", [sample(3), sample(1)])
        gallery.reject("Ada", [sample(4)])
        strangers.remember(gallery, True)
        book = UnknownBook(gallery, SPACE, 0.5)
        points = np.arange(10, dtype=np.float32).reshape(5, 2)
        book.identify(vector(5), 2.0, picture=Portrait(png(5), 0.7, points, "dlib5"), source="door")
    return path


def secrets() -> list[bytes]:
    """What must be readable nowhere: vectors, pictures, landmarks."""
    made = [*secrets_of(1), *secrets_of(2), *secrets_of(3), vector(4).tobytes(), png(5)[40:-20]]
    made.append((vector(5).astype(np.float64) * 2).astype("<f4").tobytes())
    return [s for s in made if len(s) > 64]  # names of files and digests stay readable


def everything(path: Path) -> Any:
    """All that the gallery gives, as values that can be compared."""
    with Gallery.open(path) as gallery:
        records = [
            (p.name, r.digest, r.crop, r.crop_bytes, r.landmarks.tolist(), r.vectors[SPACE].tolist())
            for p in gallery.people()
            for r in gallery.samples(p.name, crops=True)
            if r.landmarks is not None
        ]
        known = gallery.templates(SPACE).vectors.tolist(), gallery.negatives(SPACE).vectors.tolist()
        found = strangers.portrait(gallery, 1)
        assert found is not None and found.landmarks is not None
        unknown = found.image, found.landmarks.tolist(), strangers.everyone(gallery)
    return records, known, unknown


def locked(passphrase: str | None, path: Path, monkeypatch: pytest.MonkeyPatch) -> encryption.Resealed:
    """Change the encryption as a command would, with the passphrase in the environment from then on."""
    with Gallery.open(path) as gallery:
        done = encryption.reseal(gallery, passphrase)
    if passphrase is not None:
        monkeypatch.setenv(seal.VARIABLE, passphrase)
    return done


def test_encrypting_changes_nothing_but_the_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(path)
    assert traces(path.parent, secrets())
    done = locked(WORDS, path, monkeypatch)
    # 4 vectors, 1 negative, 1 stranger, 4 landmarks, 4 crops, the stranger's crop and landmarks
    assert done.values == 16 and done.erased.problem is None
    monkeypatch.setattr(seal, "_keys", {})
    assert everything(path) == before
    assert traces(path.parent, secrets()) == []
    locked(None, path, monkeypatch)
    assert everything(path) == before
    with Gallery.open(path) as gallery:
        assert not encryption.encrypted(gallery)


def test_nothing_plain_is_written_while_it_is_encrypted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked(WORDS, path, monkeypatch)
    with Gallery.open(path) as gallery:
        gallery.add("Cy", [sample(50), sample(51)])
        gallery.reject("Cy", [sample(52)])
        gallery.merge("Cy", "Bob")
        gallery.merge("Ada", "Bob")  # both have sample 1
        book = UnknownBook(gallery, SPACE, 0.5)
        assert book.identify(vector(5), 1.0, source="door") == 1
        assert len(state(gallery)["Bob"]) == 5
        fresh = [*secrets_of(50), *secrets_of(51), vector(52).tobytes(), (vector(5) * 3).tobytes()]
        assert traces(path.parent, [*secrets(), *(s for s in fresh if len(s) > 64)]) == []
        crops = {record.digest: record.crop for record in gallery.samples("Bob", crops=True)}
        assert crops == {digest(n): png(n) for n in (1, 2, 3, 50, 51)}
        strangers.name(gallery, 1, "Dee")
        assert gallery.samples("Dee")[0].vectors[SPACE] @ vector(5) > 0.999
    assert traces(path.parent, [s for s in fresh if len(s) > 64]) == []


def test_the_passphrase_is_needed_for_faces_and_not_for_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked(WORDS, path, monkeypatch)
    monkeypatch.setattr(seal, "_keys", {})
    monkeypatch.delenv(seal.VARIABLE)
    with Gallery.open(path) as gallery:
        assert [p.name for p in gallery.people()] == ["Ada", "Bob"] and strangers.everyone(gallery)[0].crop_bytes
        gallery.rename("Ada", "Ada Lovelace")
        gallery.set_consent("Bob", "yes")
        for ask in (
            lambda: gallery.templates(SPACE),
            lambda: gallery.samples("Bob"),
            lambda: gallery.negatives(SPACE),
            lambda: strangers.portrait(gallery, 1),
            lambda: gallery.add("New", [sample(60)]),
            lambda: export_people(gallery, None, path.parent / "x.json"),
        ):
            with pytest.raises(GalleryLocked, match=seal.VARIABLE):
                ask()
        gallery.remove("Bob")
        strangers.forget(gallery, None)
    assert not (path.parent / "x.json").exists()


def test_a_wrong_passphrase_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked(WORDS, path, monkeypatch)
    monkeypatch.setattr(seal, "_keys", {})
    monkeypatch.setenv(seal.VARIABLE, "wrong horse battery")
    with Gallery.open(path) as gallery, pytest.raises(GalleryLocked, match="does not open it") as error:
        gallery.templates(SPACE)
    assert error.value.exit_code == 14 and "horse" not in str(error.value)
    monkeypatch.delenv(seal.VARIABLE)
    asked = []
    with Gallery.open(path, ask=lambda: asked.append(1) or WORDS) as gallery:  # type: ignore[func-returns-value]
        gallery.templates(SPACE)
        gallery.negatives(SPACE)
    with Gallery.open(path, ask=lambda: asked.append(1) or WORDS) as gallery:  # type: ignore[func-returns-value]
        gallery.templates(SPACE)
    assert asked == [1]


def test_a_changed_passphrase_opens_and_the_old_one_does_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked(WORDS, path, monkeypatch)
    before = everything(path)
    with Gallery.open(path) as gallery:
        salt = json.loads(gallery.store.value("seal"))["salt"].encode()
        with gallery.store.read() as db:
            (old,) = db.execute("SELECT vector FROM template").fetchone()
    locked("another long one", path, monkeypatch)
    monkeypatch.setattr(seal, "_keys", {})
    assert everything(path) == before
    assert traces(path.parent, [salt, old]) == []
    monkeypatch.setenv(seal.VARIABLE, WORDS)
    monkeypatch.setattr(seal, "_keys", {})
    with pytest.raises(GalleryLocked):
        everything(path)


@pytest.mark.parametrize("passphrase", ["", "short", "x" * 2000])
def test_passphrases_that_cannot_be_one(path: Path, passphrase: str) -> None:
    with Gallery.open(path) as gallery, pytest.raises(UsageFault, match="8 to 1024"):
        encryption.reseal(gallery, passphrase)
    with Gallery.open(path) as gallery:
        assert not encryption.encrypted(gallery)


def test_other_accents_are_the_same_passphrase(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked("caf\u00e9 au lait", path, monkeypatch)
    monkeypatch.setattr(seal, "_keys", {})
    monkeypatch.setenv(seal.VARIABLE, "cafe\u0301 au lait")
    everything(path)


@pytest.mark.parametrize("what", ["swap", "flip", "cut", "other space"])
def test_values_cannot_be_altered_or_exchanged(path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    locked(WORDS, path, monkeypatch)
    with contextlib.closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT id, vector FROM template ORDER BY id").fetchall()
        if what == "swap":
            db.execute("UPDATE template SET vector = ? WHERE id = ?", (rows[1][1], rows[0][0]))
        elif what == "other space":
            db.execute("UPDATE template SET space = 'space-two'")
        else:
            blob = rows[0][1][:-4] if what == "cut" else bytes([rows[0][1][0] ^ 1]) + rows[0][1][1:]
            db.execute("UPDATE template SET vector = ? WHERE id = ?", (blob, rows[0][0]))
        db.commit()
    with Gallery.open(path) as gallery, pytest.raises(GalleryDamaged, match="altered or exchanged"):
        gallery.templates("space-two" if what == "other space" else SPACE)


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.builds(
            lambda **facts: json.dumps(facts),
            cipher=st.sampled_from(["aes-256-gcm", "x"]),
            kdf=st.sampled_from(["scrypt", 3]),
            cost=st.one_of(st.integers(-3, 1 << 40), st.none(), st.text(max_size=3)),
            salt=st.sampled_from(["AAAAAAAAAAAAAAAAAAAAAA==", "AA==", "?", 5]),
            known=st.sampled_from(["AAAA", "A" * 57 + "===", "A" * 60]),
        ),
    )
)
def test_a_mark_from_anywhere_ends_in_one_line(mark: str) -> None:
    """Nor may it make us use gigabytes: the cost is bounded before anything is computed."""
    from unittest.mock import patch

    with patch.object(seal, "COST_MAX", 64), pytest.raises((GalleryDamaged, GalleryLocked)) as error:
        seal.open_mark(mark, lambda: WORDS)
    assert "\n" not in str(error.value)


def test_the_highest_cost_of_a_mark_is_one_that_can_be_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign mark may say so; OpenSSL takes its limit of memory as an int of C."""
    asked: list[int] = []

    def scrypt(text: bytes, *, maxmem: int, n: int, r: int, **more: object) -> bytes:
        asked.append(maxmem)
        assert 128 * r * (n + 3) <= maxmem < 1 << 31
        return bytes(32)

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    seal._derived(WORDS, bytes(16), seal.COST_MAX)
    assert asked


def test_another_process_encrypts_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has the gallery open must not write plain vectors into it, nor take sealed ones for damage."""
    monkeypatch.setenv(seal.VARIABLE, WORDS)
    code = """
import sys
from pathlib import Path
from facecam.people import encryption, seal
from facecam.people.gallery import Gallery
seal.COST = 16
with Gallery.open(Path(sys.argv[1])) as gallery:
    encryption.reseal(gallery, sys.argv[2])
print("done")
"""
    with Gallery.open(path) as gallery:
        before = gallery.templates(SPACE).vectors
        version = gallery.version()
        assert start(code, path, WORDS).communicate(timeout=60)[0] == "done\n"
        assert gallery.version() != version
        assert np.array_equal(gallery.templates(SPACE).vectors, before)
        gallery.add("Late", [sample(70)])
    assert traces(path.parent, [s for s in secrets_of(70) if len(s) > 64]) == []


def test_a_kill_while_encrypting_leaves_all_or_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(path)
    monkeypatch.setenv(seal.VARIABLE, WORDS)
    code = """
import os, sys
from pathlib import Path
from facecam.people import encryption, seal
from facecam.people.database import Database
from facecam.people.gallery import Gallery
seal.COST = 16
if sys.argv[3] == "before":
    plain = seal.Seal.close
    calls = []
    def close(self, identity, value):
        calls.append(1)
        if len(calls) == 10:
            os.kill(os.getpid(), 9)
        return plain(self, identity, value)
    seal.Seal.close = close
else:
    Database.erase = lambda self: os.kill(os.getpid(), 9)
with Gallery.open(Path(sys.argv[1])) as gallery:
    encryption.reseal(gallery, sys.argv[2])
"""
    for when in ("before", "after"):
        assert start(code, path, WORDS, when).wait() == -9
        assert everything(path) == before
        with Gallery.open(path) as gallery:
            assert encryption.encrypted(gallery) is (when == "after")
    assert traces(path.parent, secrets()) == [], "the opening after the kill erased what was plain"


def test_backups_of_an_encrypted_gallery_are_encrypted(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = tmp_path / "early.db", tmp_path / "late.db"
    with Gallery.open(path) as gallery:
        backup.back_up(gallery, early)
        backup.keep_last_good(gallery)
    done = locked(WORDS, path, monkeypatch)
    assert done.erased.renewed == (early,)
    with Gallery.open(path) as gallery:
        backup.back_up(gallery, late)
        backup.keep_last_good(gallery)
    assert traces(tmp_path, secrets()) == []
    before = everything(path)
    backup.restore(path, late)
    assert everything(path) == before


def test_the_commands(run: Any, enrolled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run("decrypt")[0] == 2 and run("passphrase")[0] == 2
    code, out, err = run("encrypt")
    assert code == 2 and out == "" and "FACECAM_NEW_PASSPHRASE" in err and err.count("\n") == 1
    monkeypatch.setenv("FACECAM_NEW_PASSPHRASE", WORDS)
    code, out, _ = run("encrypt")
    assert code == 0 and "encrypted" in out and WORDS not in out
    assert run("list")[0] == 0
    monkeypatch.setattr(seal, "_keys", {})
    code, out, err = run("show", "bob")
    assert code == 14 and out == "" and "FACECAM_PASSPHRASE" in err and err.count("\n") == 1
    monkeypatch.setenv("FACECAM_PASSPHRASE", "not the right one")
    code, _, err = run("export", "-o", tmp_path / "x.json")
    assert code == 14 and "does not open it" in err and not (tmp_path / "x.json").exists()
    monkeypatch.setenv("FACECAM_PASSPHRASE", WORDS)
    assert run("export", "-o", tmp_path / "x.json")[0] == 0
    monkeypatch.setenv("FACECAM_NEW_PASSPHRASE", "a second passphrase")
    assert run("passphrase")[0] == 0
    monkeypatch.setenv("FACECAM_PASSPHRASE", "a second passphrase")
    done = json.loads(run("decrypt", "--json")[1])
    assert done["encrypted"] is False and done["problem"] is None


def test_without_the_package_it_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [n for n in sys.modules if n.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with Gallery.open(path) as gallery, pytest.raises(FacecamError, match=r"pip install 'facecam\[encrypt\]'"):
        encryption.reseal(gallery, WORDS)
