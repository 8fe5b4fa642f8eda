"""The embedder that comes along: both of its graphs compute what was exported; a mirror image is the same face."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from facecam.engine import open_engine
from facecam.errors import ModelInvalid
from facecam.settings import Settings
from facecam.vision.align import align
from facecam.vision.embed import Embedder
from facecam.zoo import int8, intake, pairs, registry
from facecam.zoo.packs import Zoo
from facecam.zoo.session import Device, load, read_card
from tests.support import generated_crop, portrait

CPU = Device("cpu")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def crops(models_home: Path) -> list[np.ndarray]:
    """Generated ones, and the two portraits at three zooms (the last six)."""
    engine = open_engine(Settings(device="cpu", precision="fp32"))
    found = [generated_crop(seed) for seed in range(3)]
    for name in ("grace_hopper", "astronaut"):
        image = portrait(name)
        face = engine.landmarker.locate(image, engine.detector.detect(image, 40)[:1])[0]
        found += [align(image, face, "dlib-150", zoom=zoom) for zoom in (0.9, 1.0, 1.1)]
    return found


@pytest.fixture(scope="module")
def shipped() -> Embedder:
    """The file as python -m export wrote it: torch's graph."""
    return Embedder(load(pairs.FILE.read_bytes(), device=CPU))


def made(models_home: Path, precision: str) -> Embedder:
    return Embedder(load(Zoo(models_home).model("dlib-pairs", precision).path, device=CPU))


def test_the_file_is_the_pinned_one_and_models_shows_it() -> None:
    data = pairs.FILE.read_bytes()
    entry = registry.models()["dlib-pairs"]
    assert hashlib.sha256(data).hexdigest() == pairs.SHA256 == entry.sha256 and entry.bytes == len(data)
    assert (ROOT / "models" / "dlib-pairs.onnx").read_bytes() == data
    card = read_card(data)
    assert card.mirror and card.dim == 129 and card.training["split"] == "lfw_dev-1" and card.training["impostor"]


def test_it_computes_what_was_exported(models_home: Path, crops: list[np.ndarray], shipped: Embedder) -> None:
    exact = made(models_home, "fp32")
    assert (exact.space, exact.dim, exact.template) == (shipped.space, shipped.dim, shipped.template)
    for size in (1, 3, len(crops)):
        np.testing.assert_allclose(exact.embed(crops[:size]), shipped.embed(crops[:size]), atol=1e-5)


def test_in_8_bits_the_vectors_keep_their_space_and_their_place(
    models_home: Path, crops: list[np.ndarray], shipped: Embedder
) -> None:
    rounded = made(models_home, "int8")
    assert rounded.model.raw and rounded.space == shipped.space
    vectors, wanted = rounded.embed(crops), shipped.embed(crops)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    faces = (vectors * wanted).sum(axis=1)[3:]
    assert faces.mean() > 0.999 and faces.min() > 0.998
    alone = np.concatenate([rounded.embed([crop]) for crop in crops])
    np.testing.assert_allclose(vectors, alone, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_mirror_image_is_the_same_face(models_home: Path, crops: list[np.ndarray], precision: str) -> None:
    embedder = made(models_home, precision)
    turned = [np.ascontiguousarray(crop[:, ::-1]) for crop in crops]
    np.testing.assert_allclose(embedder.embed(crops), embedder.embed(turned), atol=1e-5)
    np.testing.assert_allclose(embedder.embed(crops, mirror=True), embedder.embed(crops), atol=1e-6)


def test_two_people_are_two(models_home: Path, crops: list[np.ndarray]) -> None:
    engine = open_engine(Settings(device="cpu", pack="dlib-pairs"))
    assert engine.pack == "dlib-pairs" and engine.curve is not None and engine.curve.spread > 0
    vectors = engine.embedder.embed(crops[3:])
    alike = vectors @ vectors.T
    assert alike[:3, :3].min() > engine.threshold > alike[:3, 3:].max()
    assert engine.precision == ("int8" if int8.usable() else "fp32")


def test_another_file_is_refused_and_a_damaged_one_is_told(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelInvalid, match="reinstall it"):
        pairs.convert(pairs.FILE.read_bytes()[:-1])
    other = own_home / "dlib-pairs.onnx"
    other.write_bytes(b"other")
    monkeypatch.setattr(pairs, "FILE", other)
    told = [v for v in intake.verify(Zoo(own_home)) if v.id == "dlib-pairs"]
    assert told[0].state == "damaged" and "reinstall facecam" in told[0].detail


def test_adding_the_file_that_came_along_is_no_mistake(own_home: Path, models_home: Path) -> None:
    status = intake.add(Zoo(own_home, notify=lambda line: None), ROOT / "models" / "dlib-pairs.onnx")
    assert status.id == "dlib-pairs" and not status.added
