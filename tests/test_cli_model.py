"""facecam label --model: a classifier names people without enrolment, an embedder takes the place of the pack's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facecam.cli import invoke
from facecam.engine import Engine
from facecam.vision.align import align
from facecam.vision.landmarks import locate_steadily
from facecam.zoo.card import METADATA_KEY, ModelCard, Threshold
from tests.support import ASTRONAUT, HOPPER, lines, portrait

#: What `python -m export` made here and the project ships.
SHIPPED = Path(__file__).resolve().parent.parent / "models" / "dlib-pairs.onnx"


def classifier(dlib_engine: Engine, path: Path) -> Path:
    """The embedded network with a head that knows two portraits by their vectors: made here, nothing trained."""
    import onnx
    from onnx import helper, numpy_helper

    rows = []
    for name in ("grace_hopper", "astronaut"):
        image = portrait(name)
        face = locate_steadily(dlib_engine.landmarker, image, dlib_engine.detector.detect(image, 40)[:1])[0]
        rows.append(dlib_engine.embedder.embed([align(image, face, "dlib-150")])[0])
    source = Path(__import__("os").environ["FACECAM_HOME"]) / "models"
    model = onnx.load(str(next(source.glob("dlib-embedder.v*.onnx"))))
    weight, bias = np.stack(rows, 1) * 60, np.full(2, -55, np.float32)
    weight = np.concatenate([weight, np.zeros((128, 1), np.float32)], 1)
    bias = np.append(bias, 0).astype(np.float32)
    model.graph.initializer.extend(
        [numpy_helper.from_array(weight.astype(np.float32), "head_w"), numpy_helper.from_array(bias, "head_b")]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 1], np.int64), "known"))
    model.graph.node.extend(
        [
            helper.make_node("Gemm", ["embedding", "head_w", "head_b"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["all"], axis=1),
            helper.make_node("Gather", ["all", "known"], ["probability"], axis=1),
        ]
    )
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("probability", 1, ["batch", 2]))
    card = ModelCard(
        name="friends", kind="classifier", input="crop", size=(150, 150), colour="BGR", mean=(0.0,) * 3,
        std=(1.0,) * 3, outputs=("probability",), licence="CC0-1.0", source="tests", template="dlib-150",
        labels=("Grace", "Eileen"), threshold=Threshold(0.6, "probability", "made up"),
    )  # fmt: skip
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.to_json()
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def own_models(own_home: Path, models_home: Path) -> None:
    """A folder of its own: adding must not reach the shared one."""
    import shutil

    models = own_home / "models"
    models.unlink()
    shutil.copytree(models_home / "models", models)


@pytest.fixture
def friends(dlib_engine: Engine, tmp_path: Path, own_models: None) -> str:
    assert invoke(["models", "add", str(classifier(dlib_engine, tmp_path / "friends.onnx"))]) == 0
    return "friends"


def test_a_classifier_names_without_enrolment(friends: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert invoke(["label", str(HOPPER), str(ASTRONAUT), "--model", friends, "--no-video", "-o", str(out)]) == 0
    assert "nobody is enrolled" not in capsys.readouterr().err
    header, *photos, _ = lines(out / "photos.sightings.jsonl")
    assert [p["faces"][0]["name"] for p in photos] == ["Grace", "Eileen"]
    assert header["threshold"] == 0.6 and header["models"]["embedder"]["name"] == "friends"


def test_a_classifier_leaves_unknown_what_is_below_its_threshold(friends: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert invoke(["label", str(HOPPER), "--model", friends, "--threshold", "1", "--no-video", "-o", str(out)]) == 0
    face = lines(out / "photos.sightings.jsonl")[1]["faces"][0]
    assert face["name"] is None and face["similarity"] > 0.6


def test_a_classifier_enrols_nobody(friends: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["enroll", "--name", "A", "--model", friends, str(HOPPER)]) == 2
    assert "without enrolment" in capsys.readouterr().err


def test_a_model_that_is_none_of_these(friends: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["label", str(HOPPER), "--model", "nonsense", "-o", str(tmp_path)]) == 13
    assert invoke(["label", str(HOPPER), "--model", "dlib-detector", "-o", str(tmp_path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_embedder_made_here_takes_the_place_of_the_packs(own_models: None, tmp_path: Path) -> None:
    assert invoke(["models", "add", str(SHIPPED)]) == 0
    assert invoke(["models", "use", "--embedder", "dlib-pairs"]) == 0
    assert invoke(["enroll", "--name", "Grace", str(HOPPER)]) == 0
    assert invoke(["label", str(HOPPER), str(ASTRONAUT), "--no-video", "-o", str(tmp_path / "out")]) == 0
    header, *photos, _ = lines(tmp_path / "out" / "photos.sightings.jsonl")
    assert header["models"]["embedder"]["name"] == "dlib-pairs"
    assert [p["faces"][0]["name"] for p in photos] == ["Grace", None]
