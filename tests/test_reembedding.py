from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facecam.errors import GalleryOfAnotherModel
from facecam.people import carry, strangers
from facecam.people.gallery import Gallery
from facecam.people.records import Portrait
from facecam.people.unknown import UnknownBook
from facecam.reembedding import BATCH, reembed
from facecam.values import Image, Sample, Template
from facecam.vision.still import embed_stills
from tests.people_fakes import SPACE, digest, sample, start, vector
from tests.test_cli_people import run

__all__ = ["run"]

#: Where the eyes, nose and mouth are in the pictures below, pixels.
POINTS = np.array([[40, 50], [88, 50], [64, 70], [46, 92], [82, 92]], np.float32)


class Mean:
    """An embedder of another space whose vector says what colour the crop has."""

    space = "space-two"
    template = "arcface-112"
    dim = 3

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, crops: Sequence[Image], *, mirror: bool = False) -> NDArray[np.float32]:
        self.embedded += len(crops)
        assert all(crop.shape == (112, 112, 3) and crop.dtype == np.uint8 for crop in crops)
        rows = np.array([crop.reshape(-1, 3).mean(axis=0) for crop in crops], np.float32).reshape(-1, 3)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def picture(seed: int) -> bytes:
    """A PNG of 128 px in one colour."""
    colour = np.random.default_rng(seed).integers(30, 250, 3)
    done, data = cv2.imencode(".png", np.full((128, 128, 3), colour, np.uint8))
    assert done
    return data.tobytes()


def coloured(seed: int, crop: bool = True) -> Sample:
    marks = (picture(seed), POINTS, "five") if crop else (None, None, None)
    return Sample(Template(vector(seed), SPACE), digest(seed), f"photo{seed}.jpg", 0.5, *marks)


@pytest.fixture
def gallery(tmp_path: Path):
    with Gallery.open(tmp_path / "gallery.db") as opened:
        opened.add("Ada", [coloured(n) for n in range(BATCH + 4)])
        opened.add("Bob", [coloured(100), coloured(101, crop=False)])
        opened.reject("Ada", [coloured(200)])
        strangers.remember(opened, True)
        book = UnknownBook(opened, SPACE, 0.5)
        book.identify(vector(300), 2.0, picture=Portrait(picture(300), 0.7, POINTS, "five"), source="door")
        book.identify(vector(301), 2.0, source="door")
        yield opened


def test_everything_with_a_crop_gets_a_vector_and_keeps_the_old_one(gallery: Gallery) -> None:
    with pytest.raises(GalleryOfAnotherModel, match="facecam people migrate"):
        gallery.check_space("space-two")
    before = gallery.templates(SPACE).vectors
    told: list[tuple[int, int]] = []
    done = reembed(gallery, Mean(), lambda at, total: told.append((at, total)))
    assert (done.samples, done.strangers, done.unreadable) == (BATCH + 5, 1, 0)
    assert done.left == carry.Lack((), (), {"Bob": 1}, 1, 1)
    assert told[-1] == (BATCH + 6, BATCH + 6)
    gallery.check_space("space-two")
    assert np.array_equal(gallery.templates(SPACE).vectors, before)
    for record in gallery.samples("Ada", crops=True):
        assert record.crop is not None
        colour = cv2.imdecode(np.frombuffer(record.crop, np.uint8), cv2.IMREAD_COLOR)[64, 64].astype(float)
        assert record.vectors["space-two"] @ (colour / np.linalg.norm(colour)) > 0.999, "the vector of its own crop"
    again = Mean()
    assert reembed(gallery, again).samples == 0 and again.embedded == 0


def test_it_goes_on_after_a_kill(tmp_path: Path, gallery: Gallery) -> None:
    code = """
import os, sys
from pathlib import Path
from facecam.people.gallery import Gallery
from facecam.reembedding import reembed
from tests.test_reembedding import Mean
class Dies(Mean):
    def embed(self, crops, *, mirror=False):
        if self.embedded:
            os.kill(os.getpid(), 9)
        return super().embed(crops, mirror=mirror)
reembed(Gallery.open(Path(sys.argv[1])), Dies())
"""
    assert start(code, gallery.path).wait() == -9
    assert gallery.spaces() == {SPACE: BATCH + 6, "space-two": BATCH}
    assert reembed(gallery, Mean()).samples == 5
    gallery.check_space("space-two")


def test_a_crop_that_cannot_be_decoded_is_counted(gallery: Gallery) -> None:
    with gallery.store.atomic() as db:
        db.execute("UPDATE crop SET image = ? WHERE sample = 1", (picture(0)[:60],))
        db.execute("UPDATE crop SET image = ? WHERE sample = 2", (b"not a picture",))
        huge = picture(0)[:16] + (30_000).to_bytes(4, "big") * 2 + picture(0)[24:]
        db.execute("UPDATE crop SET image = ? WHERE sample = 3", (huge,))
    done = reembed(gallery, Mean())
    assert done.unreadable == 3 and done.samples == BATCH + 2


def test_old_vectors_go_when_asked_and_only_those_that_are_replaced(gallery: Gallery) -> None:
    reembed(gallery, Mean())
    gone, erased = carry.drop_others(gallery, "space-two")
    assert gone == BATCH + 6 and erased.problem is None
    assert gallery.spaces() == {SPACE: 1, "space-two": BATCH + 5}
    assert gallery.samples("Bob")[1].vectors.keys() == {SPACE}


def test_the_command(run: Any, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from facecam.cli import common

    assert run("migrate")[0] == 2
    with Gallery.open() as gallery:
        gallery.add("Ada", [coloured(1), coloured(2)])
        gallery.add("Bob", [sample(3, crop=False)])
    monkeypatch.setattr(common, "open_engine", lambda settings: SimpleNamespace(embedder=Mean(), enrols=True))
    code, out, err = run("migrate", "--drop-old")
    assert code == 1 and "2 samples and 0 unknown people embedded" in out and "Bob: 1 sample without a crop" in out
    assert "Bob has no usable crop: enrol them again" in err and "were kept" in err
    with Gallery.open() as gallery:
        assert gallery.spaces() == {SPACE: 3, "space-two": 2}
    assert run("remove", "Bob", "-y")[0] == 0
    code, out, err = run("migrate", "--drop-old")
    assert code == 0 and "2 vectors of other models deleted" in out and err == ""


def test_a_kept_crop_gives_nearly_the_vector_of_its_photo(engine: Any) -> None:
    """Measured on 69 photos of lfw_dev: cosine 0.99985 in the mean, 0.9995 at least."""
    from facecam.demo import HOPPER, package_file
    from facecam.enrolment import Enroller, EnrolOptions
    from facecam.reembedding import _views

    verdict = Enroller(engine, EnrolOptions()).photo(package_file(*HOPPER[:2]), lambda digest: False)
    made = verdict.sample
    assert made is not None and made.crop is not None and made.landmarks is not None and made.scheme is not None
    views = _views(carry.Crop(made.crop, made.landmarks, made.scheme), engine.embedder.template)
    assert views is not None
    assert embed_stills(engine.embedder, [views])[0] @ made.template.vector > 0.998
