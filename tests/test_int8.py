"""The detector and the embedder in 8-bit integers: the same faces, the same vectors, on CPUs that gain by it only."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.engine import Engine, chosen_precision, open_engine
from facecam.errors import UsageFault
from facecam.geometry import iou
from facecam.people.match import Matcher
from facecam.settings import Settings
from facecam.video.photos import read_photo
from facecam.vision.align import align
from facecam.vision.detect import MmodDetector
from facecam.vision.embed import Embedder
from facecam.zoo import int8, intake, packs
from facecam.zoo.packs import Zoo
from facecam.zoo.session import Device, load
from tests.support import generated_crop, portrait

CPU = Device("cpu")


@pytest.fixture(scope="module")
def detector(models_home: Path) -> MmodDetector:
    return MmodDetector(load(Zoo(models_home).model("dlib-detector", "int8").path, device=CPU))


@pytest.fixture(scope="module")
def embedder(models_home: Path) -> Embedder:
    return Embedder(load(Zoo(models_home).model("dlib-embedder", "int8").path, device=CPU))


def test_the_ranges_fit_the_networks() -> None:
    ranges = int8.ranges()
    assert len(ranges["detector"]) == 6 and len(ranges["embedder"]) == 1 + 14 * 3
    for low, high in [*ranges["detector"], *ranges["embedder"]]:
        assert low <= 0 < high


def test_vectors_keep_their_space_and_their_place(dlib_engine: Engine, embedder: Embedder) -> None:
    assert embedder.space == dlib_engine.embedder.space and embedder.model.raw
    crops = [generated_crop(seed) for seed in range(3)]
    for name in ("grace_hopper", "astronaut"):
        image = portrait(name)
        face = dlib_engine.landmarker.locate(image, dlib_engine.detector.detect(image, 40)[:1])[0]
        crops += [align(image, face, "dlib-150", zoom=zoom) for zoom in (0.9, 1.0, 1.1)]
    exact, rounded = dlib_engine.embedder.embed(crops), embedder.embed(crops)
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-5)
    faces = (exact * rounded).sum(axis=1)[3:]
    assert faces.mean() > 0.999 and faces.min() > 0.997
    alone = np.concatenate([embedder.embed([crop]) for crop in crops])
    np.testing.assert_allclose(rounded, alone, atol=1e-6)


def test_the_same_faces_are_found(engine: Engine, detector: MmodDetector) -> None:
    assert detector.model.raw
    for name in ("grace_hopper", "astronaut"):
        for zoom in (0.4, 0.75, 1.3):
            image = cv2.resize(portrait(name), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
            exact, rounded = engine.detector.detect(image, 40), detector.detect(image, 40)
            assert len(exact) == len(rounded) == 1
            assert iou(exact[0].box, rounded[0].box) > 0.9
            assert rounded[0].score == pytest.approx(exact[0].score, abs=0.1)


@pytest.mark.data
def test_vectors_and_faces_of_photos(
    dlib_engine: Engine, detector: MmodDetector, embedder: Embedder, data: Path
) -> None:
    crops, same, count = [], 0, 0
    for file in sorted(data.glob("lfw_dev/images/*/*.jpg"))[11::160]:
        image = read_photo(file)
        exact, rounded = dlib_engine.detector.detect(image, 40), detector.detect(image, 40)
        count += max(len(exact), len(rounded))
        same += sum(any(iou(a.box, b.box) > 0.7 for b in rounded) for a in exact)
        crops += [align(image, face, "dlib-150") for face in dlib_engine.landmarker.locate(image, exact)]
    assert same >= 0.97 * count
    cosine = (dlib_engine.embedder.embed(crops) * embedder.embed(crops)).sum(axis=1)
    assert cosine.mean() >= 0.999


@given(st.integers(0, 2**32 - 1), st.sampled_from([5, 7]), st.sampled_from([2, 4, 8]), st.integers(2, 4))
def test_a_convolution_on_blocks_is_the_same_convolution(seed: int, kernel: int, block: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(3, 2, kernel, kernel)).astype(np.float32)
    width = block * (blocks + -(-kernel // block))
    image = rng.normal(size=(kernel + 2, width, 2)).astype(np.float32)  # rows, columns, channels
    wide = int8.blocked(weight, block)
    plain = correlate(image, weight, 2, 2)
    cells = image.reshape(image.shape[0], width // block, block * 2)
    made = correlate(cells, wide, 2, 1)
    shown = made.reshape(made.shape[0], -1, 3)
    shared = min(shown.shape[1], plain.shape[1])
    assert shared >= blocks
    np.testing.assert_allclose(shown[:, :shared], plain[:, :shared], atol=1e-4)


def correlate(image: np.ndarray, weight: np.ndarray, down: int, across: int) -> np.ndarray:
    """rows x columns x in with out x in x kh x kw, to rows x columns x out; no padding."""
    kh, kw = weight.shape[2:]
    rows = range(0, image.shape[0] - kh + 1, down)
    cols = range(0, image.shape[1] - kw + 1, across)
    return np.array(
        [[np.einsum("hwi,oihw->o", image[r : r + kh, c : c + kw], weight) for c in cols] for r in rows]
    )  # fmt: skip


def test_precision_is_chosen_by_device_and_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for able in (True, False):
        monkeypatch.setattr(int8, "usable", lambda able=able: able)
        assert chosen_precision("auto", CPU) == ("int8" if able else "fp32")
        assert chosen_precision("auto", Device("cuda")) == "fp32"
        assert chosen_precision("fp32", CPU) == "fp32"
        assert chosen_precision("int8", CPU) == "int8", "perhaps slower, but as asked for"
    with pytest.raises(UsageFault, match="--device cpu"):
        chosen_precision("int8", Device("cuda"))


def test_stills_stay_in_float32_whatever_videos_are_computed_in() -> None:
    whole, rounded = (open_engine(Settings(device="cpu", precision=p)) for p in ("fp32", "int8"))
    assert whole.precision == "fp32"
    assert isinstance(whole.video_detector, MmodDetector) and isinstance(whole.detector, MmodDetector)
    assert whole.video_detector.model is whole.detector.model
    assert rounded.precision == "int8"
    image = portrait("astronaut")
    found = whole.detector.detect(image, 40)
    assert rounded.detector.detect(image, 40) == found
    crop = align(image, whole.landmarker.locate(image, found)[0], "dlib-150")
    np.testing.assert_array_equal(whole.embedder.embed([crop]), rounded.embedder.embed([crop]))
    matcher = Matcher((), np.zeros(0, np.int32), np.zeros((0, 128), np.float32), threshold=0.9)
    recogniser = rounded.recogniser(matcher)
    assert recogniser.detector is rounded.video_detector and recogniser.embedder is rounded.video_embedder
    assert rounded.models["embedder"]["precision"] == "int8" and "precision" not in whole.models["embedder"]


def test_both_files_of_a_model_are_made_verified_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id = "dlib-detector"  # the embedder goes the same way and takes seconds
    zoo = Zoo(tmp_path / "zoo", notify=lambda line: None)
    files = [zoo.model(id), zoo.model(id, "int8")]
    assert len({file.path for file in files}) == 2 and all(file.path.exists() for file in files)
    states = {v.path: v.state for v in intake.verify(zoo) if v.id == id}
    assert all(states[file.path] == "ok" for file in files)
    content = files[1].path.read_bytes()
    files[1].path.write_bytes(content[:-8] + b"\0" * 8)
    assert {v.path: v.state for v in intake.verify(zoo)}[files[1].path] == "damaged"
    zoo.discard_damaged(id)
    assert files[0].path.exists() and not files[1].path.exists()
    assert zoo.model(id, "int8").path.read_bytes() == content
    monkeypatch.setattr(packs, "CONVERTER", packs.CONVERTER + 1)
    zoo.model(id, "int8")
    assert files[0].path.exists() and not files[1].path.exists(), "each clears its own old file"
    with pytest.raises(ValueError, match="dlib-landmarks"):
        zoo.model("dlib-landmarks", "int8")


def test_usable_asks_for_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    for able in (True, False):
        monkeypatch.setattr(cv2, "checkHardwareSupport", lambda feature, able=able: asked.append(feature) or able)
        assert int8.usable() is able
    assert asked == [11, 11], "CV_CPU_AVX2"
    monkeypatch.undo()
    flags = Path("/proc/cpuinfo")
    if flags.exists() and "flags" in flags.read_text(encoding="ascii", errors="replace"):
        assert int8.usable() is (" avx2 " in flags.read_text(encoding="ascii", errors="replace"))


@pytest.mark.parametrize("id", ["dlib-detector", "dlib-embedder", "dlib-pairs"])
def test_two_products_fit_sixteen_bits(models_home: Path, id: str) -> None:
    """Where a processor has AVX2 but no VNNI they are added there, and what does not fit is cut off."""
    model = onnx.load_model(Zoo(models_home).model(id, "int8").path)
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    weights = [tensors[node.input[3]] for node in model.graph.node if node.op_type == "QLinearConv"]
    assert len(weights) >= 6
    assert {int(np.abs(weight.astype(int)).max()) for weight in weights} == {64}
    assert np.iinfo(np.int16).max >= 255 * 64 * 2


def test_int8_json_says_where_it_comes_from() -> None:
    text = (Path(int8.__file__).parent / "int8.json").read_text(encoding="utf-8")
    assert "benchmarks.ranges" in json.loads(text)["note"]
