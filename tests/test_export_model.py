"""python -m export: the file computes what the network computes, says what it is, or is not written at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

import onnx
import torch
from click.testing import CliRunner, Result

from export import __main__ as command
from export import cards, parity, quantize, to_onnx
from facecam.errors import FacecamError, ModelInvalid, UsageFault
from facecam.zoo import session
from facecam.zoo.card import ModelCard, Threshold
from train import evaluate, loop
from train.recipe import Recipe

TINY = Recipe(arch="cnn", size=24, width=8, depth=2, epochs=4, batch=8, lr=5e-3, threads=1, crop="image")


def paint(root: Path, colours: dict[str, tuple[int, int, int]], count: int = 14) -> Path:
    rng = np.random.default_rng(3)
    for name, colour in colours.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            image = np.clip(rng.normal(colour, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(root / name / f"{number}.png"), image)
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures (set), strangers and a trained run."""
    root = tmp_path_factory.mktemp("export")
    paint(root / "set", {"blue": (200, 60, 60), "green": (60, 200, 60), "red": (60, 60, 200)})
    paint(root / "strangers", {"grey": (128, 128, 128), "yellow": (60, 200, 200)}, 20)
    loop.fit(TINY, evaluate.load_data(root / "set", TINY), root / "run", device="cpu", say=lambda _: None)
    return root


def export(*arguments: object) -> Result:
    words = [str(a) for a in arguments]
    return CliRunner().invoke(command.cli, words, catch_exceptions=True)


@pytest.fixture(scope="module")
def file(place: Path) -> Path:
    came = export("model", place / "run", "-o", place / "plain.onnx", "--unknown", place / "strangers")
    assert came.exit_code == 0, came.output
    return place / "plain.onnx"


def test_the_file_is_one_and_the_card_tells_everything(file: Path) -> None:
    assert [p.name for p in file.parent.iterdir() if p.name.startswith("plain")] == ["plain.onnx"]
    card = session.read_card(file.read_bytes())
    assert (card.kind, card.labels, card.size) == ("classifier", ("blue", "green", "red"), (24, 24))
    assert (card.colour, card.template, card.outputs) == ("RGB", "image", ("probabilities",))
    assert card.threshold is not None and card.threshold.kind == "probability"
    assert "0 of 40 pictures of strangers get a name (asked: at most 0.50%)" in card.threshold.calibration
    assert card.training["arch"] == "cnn" and len(card.training["data_sha256"]) == 64
    model = onnx.load(str(file))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    # Nothing of this machine stays in the file.
    assert str(Path.cwd()).encode() not in file.read_bytes() and b"site-packages" not in file.read_bytes()


def test_the_file_computes_what_the_run_computes(file: Path, place: Path) -> None:
    run = evaluate.load_run(place / "run")
    corpus = evaluate.load_data(place / "set", run.recipe)
    wanted = evaluate.outputs(run, corpus.test, torch.device("cpu"))
    came = parity.open_model(file.read_bytes()).run_batch(cards.preprocess(run, corpus.test))
    assert np.abs(came - wanted).max() < 1e-5


def test_strangers_stay_unknown_at_the_threshold(file: Path, place: Path) -> None:
    run = evaluate.load_run(place / "run")
    card = session.read_card(file.read_bytes())
    strangers, _ = cards.pictures_below(place / "strangers", 100)
    rows = parity.open_model(file.read_bytes()).run_batch(cards.preprocess(run, strangers))
    assert (rows.max(axis=1) >= card.threshold.value).mean() <= 0.005


def test_a_threshold_says_what_was_measured_and_when_that_is_too_little(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = evaluate.load_run(place / "run")
    known = evaluate.load_data(place / "set", loaded.recipe).val
    strangers, _ = cards.pictures_below(place / "strangers", 40)
    few = cards.classifier_threshold(loaded, known, strangers, 0.01)
    assert few.warning == (
        "40 pictures of strangers cannot show a risk of 1.00%: 100 or more do; give more with --unknown, or a larger "
        "--risk"
    )
    enough = cards.classifier_threshold(loaded, known, strangers, 0.1)
    named = round(enough.strangers * 40)
    assert named <= 4 and enough.warning == ""
    assert f"{named} of 40 pictures of strangers get a name (asked: at most 10.00%)" in enough.threshold.calibration

    def certain(run: object, items: object, device: object) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[[0] * len(items)]

    monkeypatch.setattr(evaluate, "outputs", certain)
    sure = cards.classifier_threshold(loaded, known, strangers, 0.1)
    assert "40 of 40 pictures" in sure.threshold.calibration and "no threshold" in sure.warning


def test_broken_strangers_are_named_and_left_out(place: Path, tmp_path: Path) -> None:
    paint(tmp_path / "strangers", {"grey": (128, 128, 128)}, 12)
    bad = tmp_path / "strangers" / "grey" / "torn.jpg"
    bad.write_bytes(b"no picture")
    came = export("model", place / "run", "-o", tmp_path / "m.onnx", "--unknown", tmp_path / "strangers")
    assert came.exit_code == 0, came.output
    assert f"left out: {bad}: not a decodable picture" in came.output
    assert "of 12 pictures of strangers" in came.output and "12 pictures of strangers cannot show" in came.output
    for path in bad.parent.glob("*.png"):
        path.unlink()
    with pytest.raises(UsageFault, match=r"none of the 1 pictures can be used, the first is .*torn\.jpg"):
        cards.pictures_below(tmp_path / "strangers", 10)


def test_strangers_are_cut_as_the_model_eats_faces(place: Path) -> None:
    with pytest.raises(UsageFault, match=r"facecam crop --template arcface-112"):
        cards.pictures_below(place / "strangers", 10, crop="arcface-112")


@pytest.mark.parametrize(("options", "share"), [(("--fp16",), 0.6), (("--int8", "--calibrate", "set"), 0.5)])
def test_smaller_precisions(place: Path, options: tuple[str, ...], share: float) -> None:
    out = place / f"small{len(options)}.onnx"
    words = [place / word if word == "set" else word for word in options]
    came = export("model", place / "run", "-o", out, *words)
    assert came.exit_code == 0, came.output
    assert "accuracy:" in came.output and "batch of 8:" in came.output and "before" in came.output
    checked = export("verify", out)
    assert checked.exit_code == 0 and "outputs are probabilities" in checked.output
    if "--int8" in options:
        kinds = {node.op_type for node in onnx.load(str(out)).graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        tables = onnx.load(str(out)).graph.initializer
        assert onnx.TensorProto.INT8 in {t.data_type for t in tables}
        assert onnx.TensorProto.UINT8 in {t.data_type for t in tables}
        weights = [
            onnx.numpy_helper.to_array(t) for t in tables if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1
        ]
        assert max(np.abs(w.astype(int)).max() for w in weights) == 64, "255 * 64 * 2 fits 16 bits: no VNNI is needed"


def test_describe_shows_the_card(file: Path) -> None:
    came = export("describe", file)
    assert came.exit_code == 0 and "classifier" in came.output and "blue, green, red" in came.output
    assert json.loads(export("describe", file, "--json").output)["kind"] == "classifier"


def test_opset_is_obeyed(place: Path) -> None:
    came = export("model", place / "run", "-o", place / "old.onnx", "--opset", "20")
    assert came.exit_code == 0, came.output
    assert onnx.load(str(place / "old.onnx")).opset_import[0].version == 20


def test_nothing_is_written_when_parity_fails(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parity.LIMITS, "fp32", (-1.0, 2.0))
    came = export("model", place / "run", "-o", place / "never.onnx")
    assert isinstance(came.exception, ModelInvalid) and "parity failed" in str(came.exception)
    assert not list(place.glob("*never*"))


def test_a_wrong_graph_is_noticed(file: Path, place: Path) -> None:
    run = evaluate.load_run(place / "run")
    model = onnx.load(str(file))
    weight = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 1.0
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    some = np.random.default_rng(0).normal(0, 1, (4, 3, 24, 24)).astype(np.float32)
    finished = to_onnx.Finished(run.network, 3)
    parity.compare(file.read_bytes(), finished, some, "fp32")
    with pytest.raises(ModelInvalid, match="parity failed"):
        parity.compare(model.SerializeToString(), finished, some, "fp32")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "m.onnx", "--risk", "nan"), "a share from 0 to 0.5"),
        (("-o", "model.bin"), "ends in .onnx"),
        (("-o", "m.onnx", "--int8"), "belong together"),
        (("-o", "m.onnx", "--fp16", "--int8", "--calibrate", "set"), "exclude each other"),
        (("-o", "m.onnx", "--int8", "--calibrate", "absent"), "expected a folder with pictures"),
        (("-o", "m.onnx", "--unknown", "absent"), "expected a folder with pictures"),
    ],
)
def test_wrong_options_are_one_line(place: Path, words: tuple[str, ...], message: str) -> None:
    came = export("model", place / "run", *words)
    assert isinstance(came.exception, FacecamError) and message in str(came.exception)
    assert "\n" not in str(came.exception)


def test_a_few_pictures_do_not_calibrate() -> None:
    with pytest.raises(ModelInvalid, match="at least 16"):
        quantize.to_int8(b"", "crop", np.zeros((3, 3, 8, 8), np.float32))


def test_changed_data_is_refused(place: Path, tmp_path: Path) -> None:
    other = paint(tmp_path / "other", {"blue": (200, 60, 60), "green": (60, 200, 60), "red": (60, 60, 200)}, 9)
    came = export("model", place / "run", "-o", tmp_path / "m.onnx", "--data", other)
    assert isinstance(came.exception, UsageFault) and "has changed since the run" in str(came.exception)


@pytest.mark.parametrize("content", [b"", b"not onnx at all", b"\x08\x08\x3a\x03abc"], ids=["empty", "text", "bytes"])
def test_verify_refuses_what_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    came = export("verify", path)
    assert isinstance(came.exception, ModelInvalid) and str(path) in str(came.exception)


def test_verify_refuses_a_truncated_file_and_a_card_that_lies(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    assert isinstance(export("verify", tmp_path / "cut.onnx").exception, ModelInvalid)
    card = session.read_card(data)
    facts = json.loads(card.to_json())
    facts["labels"] = [*facts["labels"], "violet"]
    (tmp_path / "lie.onnx").write_bytes(to_onnx.with_card(data, ModelCard.from_json(json.dumps(facts))))
    came = export("verify", tmp_path / "lie.onnx")
    assert isinstance(came.exception, ModelInvalid) and "its card promises scores (2, 4)" in str(came.exception)
    bare = onnx.load_model_from_string(data)
    del bare.metadata_props[:]
    (tmp_path / "bare.onnx").write_bytes(bare.SerializeToString())
    came = export("verify", tmp_path / "bare.onnx")
    assert isinstance(came.exception, ModelInvalid) and "no model card" in str(came.exception)


def test_verify_refuses_a_size_that_is_not_its_crops(file: Path, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(file.read_bytes())
    for entry in model.metadata_props:
        entry.value = entry.value.replace('"template": "image"', '"template": "dlib-150"')
    (tmp_path / "small.onnx").write_bytes(model.SerializeToString())
    came = export("verify", tmp_path / "small.onnx")
    assert isinstance(came.exception, ModelInvalid) and "dlib-150 has 150 px a side" in str(came.exception)


def test_outputs_that_are_not_finite_have_no_parity(file: Path, place: Path) -> None:
    pictures = np.full((1, 3, 24, 24), np.nan, np.float32)
    finished = to_onnx.Finished(evaluate.load_run(place / "run").network, 3)
    with pytest.raises(ModelInvalid, match="not finite"):
        parity.compare(file.read_bytes(), finished, pictures, "fp32")


def test_verify_takes_facecams_own_models_and_says_what_does_not_run(models_home: Path, tmp_path: Path) -> None:
    """They have cards, too, but not all of them eat crops of one size."""
    (landmarks,) = (models_home / "models").glob("dlib-landmarks.*.onnx")
    came = export("verify", landmarks)
    assert came.exit_code == 0 and "a trial run" in came.output and "ok, landmarks" in came.output
    lying = replace(session.read_card(landmarks.read_bytes()), kind="detector", decoder="mmod", landmarks=None)
    (tmp_path / "lying.onnx").write_bytes(to_onnx.with_card(landmarks.read_bytes(), lying))
    came = export("verify", tmp_path / "lying.onnx")
    assert isinstance(came.exception, ModelInvalid) and "a trial run failed" in str(came.exception)


def test_self_check_finds_neighbours_that_talk() -> None:
    """A graph whose rows depend on the batch (batch norm left in training) is refused."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", ["crop"], ["rows"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["rows", "mean"], ["apart"]),
        helper.make_node("Softmax", ["apart"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("crop", floats, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("probabilities", floats, ["n", 3])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    card = ModelCard(
        "talk", "classifier", "crop", (8, 8), "RGB", (0, 0, 0), (1, 1, 1), ("probabilities",), "MIT", "here",
        template="image", labels=("a", "b", "c"), threshold=Threshold(0.5, "probability", "none"),
    )  # fmt: skip
    data = to_onnx.with_card(model.SerializeToString(), card)
    with pytest.raises(ModelInvalid, match="depends on its neighbours"):
        parity.self_check(data, card)


def test_an_embedder_leaves_with_norm_one_and_its_own_space(tmp_path: Path) -> None:
    recipe = Recipe(arch="dlib_resnet", weights="dlib", size=150, crop="dlib-150", objective="cosface", name="faces")
    from train import networks

    network = networks.build(recipe, 2).eval()
    state = {"origin": "x", "history": [], "data": "y"}
    run = evaluate.Run(network, recipe, ["a", "b"], state)
    found = cards.Found(Threshold(0.9, "cosine", "by hand"))
    card = cards.make(run, found, name="faces", licence="CC0-1.0", precision="fp32")
    data = to_onnx.with_card(to_onnx.convert(to_onnx.Finished(network, 0), 150), card)
    some = np.random.default_rng(0).normal(0, 0.2, (3, 3, 150, 150)).astype(np.float32)
    result = parity.compare(data, to_onnx.Finished(network, 0), some, "fp32")
    assert result.max_abs < 1e-5 and result.cosine > 0.999999
    assert parity.self_check(data, card)[-1] == "vectors have norm 1"
    half = to_onnx.with_card(to_onnx.halve(data), card)
    assert parity.compare(half, to_onnx.Finished(network, 0), some, "fp16").cosine > 0.9999
    assert len(half) < 0.55 * len(data)
    with torch.no_grad():
        network.backbone.fc.weight[0, 0] += 0.01
    assert cards.make(run, found, name="faces", licence="CC0-1.0", precision="fp32").space != card.space


def test_an_embedder_that_mirrors_does_so_in_the_graph_and_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from facecam.vision import embed
    from train import networks

    recipe = Recipe(arch="dlib_resnet", weights="dlib", size=150, crop="dlib-150", objective="pairs", mirror=True)
    plain = networks.build(replace(recipe, mirror=False), 2).eval()
    both = networks.build(recipe, 2).eval()
    run = evaluate.Run(both, recipe, ["a", "b"], {"origin": "x", "history": [], "data": "y"})
    found = cards.Found(Threshold(0.9, "cosine", "by hand"))
    card = cards.make(run, found, name="faces", licence="CC0-1.0", precision="fp32")
    once = cards.make(replace(run, network=plain, recipe=replace(recipe, mirror=False)), found, name="faces",
                      licence="CC0-1.0", precision="fp32")  # fmt: skip
    assert card.mirror and not once.mirror and card.space != once.space
    data = to_onnx.with_card(to_onnx.convert(to_onnx.Finished(both, 0), 150), card)
    assert len(data) < 1.1 * len(to_onnx.convert(to_onnx.Finished(plain, 0), 150)), "the weights are there once"
    assert parity.self_check(data, card)[-1] == "vectors have norm 1"

    # The same vectors as facecam's own mirroring of the plain network gives.
    crops = list(np.random.default_rng(0).integers(0, 256, (3, 150, 150, 3), dtype=np.uint8))
    mirroring = embed.Embedder(parity.open_model(data))
    alone = embed.Embedder(parity.open_model(to_onnx.with_card(to_onnx.convert(to_onnx.Finished(plain, 0), 150), once)))
    wanted = alone.embed(crops, mirror=True)
    np.testing.assert_allclose(mirroring.embed(crops), wanted, atol=1e-5)
    fed: list[int] = []
    monkeypatch.setattr(embed, "feed", lambda model, some: fed.append(len(some)) or np.resize(wanted, (len(some), 128)))
    mirroring.embed(crops, mirror=True)
    alone.embed(crops, mirror=True)
    assert fed == [3, 6]


def test_an_embedders_threshold_says_how_many_of_its_people_were_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from train import networks
    from train.data import Item

    recipe = Recipe(arch="cnn", size=24, width=8, depth=2, crop="image", objective="cosface")
    run = evaluate.Run(networks.build(recipe, 2).eval(), recipe, [], {})
    people = [Item(f"{n}", n // 2 if n < 8 else n, "", "") for n in range(20)]
    monkeypatch.setattr(evaluate, "outputs", lambda run, items, *_, **__: np.eye(20, 8, dtype=np.float32) + 0.1)
    apart = cards.embedder_threshold(run, people, [Item("x", 99, "", "")])
    assert "none of them trained on" in apart.threshold.calibration and not apart.warning
    mixed = cards.embedder_threshold(run, people, people[:4])
    assert "2 of them trained on" in mixed.threshold.calibration and "--split" in mixed.warning


def test_options_that_would_do_nothing_are_refused(place: Path, tmp_path: Path) -> None:
    came = export("model", place / "run", "-o", tmp_path / "m.onnx", "--risk", "0.1")
    assert isinstance(came.exception, UsageFault) and "--unknown DIR" in str(came.exception)
    recipe = TINY.with_changes(objective="cosface", val=0.0, epochs=1)
    loop.fit(recipe, evaluate.load_data(place / "set", recipe), tmp_path / "run", device="cpu", say=lambda _: None)
    came = export("model", tmp_path / "run", "-o", tmp_path / "m.onnx", "--unknown", place / "strangers")
    assert isinstance(came.exception, UsageFault) and "for a classifier" in str(came.exception)


def test_facecam_is_named_only_for_models_of_faces(place: Path, tmp_path: Path) -> None:
    came = export("model", place / "run", "-o", tmp_path / "m.onnx")
    assert came.exit_code == 0 and "models add" not in came.output and "export verify" in came.output
