"""train.crowding: distances are stretched where faces are crowded, and all else stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip install -e '.[train]')")

import onnx
import torch
import torch.nn.functional as F

from export import cards, parity, quantize, to_onnx
from facecam.errors import UsageFault
from facecam.zoo.card import TEMPLATES, Threshold
from train import checkpoint, evaluate, loop
from train.crowding import PEOPLE, Crowding
from train.recipe import Recipe

SIDE = TEMPLATES["arcface-112"]
EMBEDDER = Recipe(
    arch="cnn", size=SIDE, width=8, depth=2, epochs=1, batch=16, threads=1, crop="arcface-112", objective="pairs",
    crowding=12, mirror=True, keep="last", val=0.3, test=0.3,
)  # fmt: skip


def people(spread: float, count: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors around the first axis: the smaller the spread, the more alike."""
    noise = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))
    return F.normalize(torch.eye(16)[0] + spread * noise)


@pytest.fixture(scope="module")
def layer() -> Crowding:
    """A crowd of 60 who look alike, and 60 who look like nobody."""
    crowd = torch.cat([people(0.1, 60), F.normalize(torch.randn(60, 16, generator=torch.Generator().manual_seed(5)))])
    return Crowding.measured(crowd, torch.arange(120), 40, seed=1)


def test_vectors_keep_norm_one_and_a_face_is_itself(layer: Crowding) -> None:
    out = layer(people(1.0, 50, 3))
    assert out.shape == (50, 17)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(50))


def test_the_same_distance_counts_for_more_in_a_crowd(layer: Crowding) -> None:
    def similarity(centre: torch.Tensor) -> float:
        sides = F.normalize(torch.stack([centre + step * torch.eye(16)[9] for step in (0.2, -0.2)]), dim=1)
        assert float(sides[0] @ sides[1]) == pytest.approx(0.96 / 1.04)
        after = layer(sides)
        return float(after[0] @ after[1])

    assert similarity(torch.eye(16)[0]) < similarity(torch.eye(16)[4]) - 0.01


def test_no_person_stands_in_the_layer() -> None:
    # Two groups far from each other: a centre is the mean of PEOPLE of its own group.
    groups = torch.cat([people(0.2, PEOPLE), -people(0.2, PEOPLE, 1)])
    made = Crowding.measured(groups, torch.arange(2 * PEOPLE), 2 * PEOPLE, seed=0)
    means = F.normalize(torch.stack([groups[:PEOPLE].mean(0), groups[PEOPLE:].mean(0)]))
    assert ((made.centres @ means.t()).amax(dim=1) > 0.9999).all()
    assert (made.centres @ groups.t()).max() < 0.999


def test_pictures_of_a_person_count_as_one(layer: Crowding) -> None:
    vectors, labels = people(0.5, 40), torch.arange(40)
    once = Crowding.measured(vectors, labels, 20, seed=1)
    often = Crowding.measured(vectors.repeat(3, 1), labels.repeat(3), 20, seed=1)
    torch.testing.assert_close(once.centres, often.centres)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crowding")
    rng = np.random.default_rng(3)
    names = [f"person {number:02}" for number in range(60)]
    for number, name in enumerate(names):
        (root / "set" / name).mkdir(parents=True)
        colour = rng.uniform(30, 220, 3)
        for photo in range(1 if number >= 45 else 3):
            image = np.clip(rng.normal(colour, 30, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(root / "set" / name / f"{photo}.png"), image)
    parts = {"train": names[:25], "calibrate": names[25:30] + names[45:], "test": names[30:45]}
    checkpoint.write_json(root / "split.json", parts)
    made = replace(EMBEDDER, split=str(root / "split.json"))
    loop.fit(made, evaluate.load_data(root / "set", made), root / "run", device="cpu", say=lambda _: None)
    return root


def test_a_run_ends_with_it_and_goes_on_where_it_was_killed(run: Path) -> None:
    whole = evaluate.load_run(run / "run")
    assert whole.network.crowding is not None and whole.network.crowding.centres.shape == (12, whole.network.dim)
    state = checkpoint.load(run / "run" / "best.pt")
    cut = {key: value for key, value in state["model"].items() if not key.startswith("crowding.")}
    for model in (cut, state["model"]):  # killed before the layer was measured, and after
        checkpoint.save(run / "run" / "best.pt", state | {"model": model})
        corpus = evaluate.load_data(run / "set", whole.recipe)
        loop.fit(whole.recipe, corpus, run / "run", device="cpu", say=lambda _: None, resume=True)
        again = checkpoint.load(run / "run" / "best.pt")["model"]
        assert again.keys() == state["model"].keys()
        for key, value in again.items():
            torch.testing.assert_close(value, state["model"][key], rtol=0, atol=0)


def test_the_file_computes_it_and_int8_leaves_it_alone(run: Path) -> None:
    loaded = evaluate.load_run(run / "run")
    found = cards.Found(Threshold(0.9, "cosine", "by hand"))
    card = cards.make(loaded, found, name="crowded", licence="CC0-1.0", precision="fp32")
    assert card.dim == loaded.network.dim + 1 and card.mirror
    loaded.network.crowding, layer = None, loaded.network.crowding
    assert cards.make(loaded, found, name="x", licence="CC0-1.0", precision="fp32").space != card.space
    loaded.network.crowding = layer
    finished = to_onnx.Finished(loaded.network, 0)
    data = to_onnx.with_card(to_onnx.convert(finished, SIDE), card)
    some = np.random.default_rng(0).normal(0, 1, (64, 3, SIDE, SIDE)).astype(np.float32)
    assert parity.compare(data, finished, some[:8], "fp32").cosine > 0.99999
    small = to_onnx.with_card(quantize.to_int8(data, to_onnx.INPUT, some), card)
    assert parity.compare(small, finished, some[:8], "int8").cosine > 0.98
    assert parity.self_check(small, card)[-1] == "vectors have norm 1"
    graph = onnx.load_model_from_string(small).graph
    made_by = {output: node for node in graph.node for output in node.output}
    assert made_by[graph.output[0].name].op_type == "Concat", "the vector itself is not rounded to 8 bits"
    assert any(node.op_type == "QuantizeLinear" for node in graph.node)


def test_too_few_people_and_a_classifier_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="crowding"):
        replace(EMBEDDER, objective="ce")
    few = replace(EMBEDDER, split="", min_images=2, val=0.3, test=0.3)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for photo in range(8):
            picture = np.random.default_rng(100 * ord(name) + photo).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "set" / name / f"{photo}.png"), picture)
    with pytest.raises(UsageFault, match=f"{PEOPLE} people"):
        loop.fit(few, evaluate.load_data(tmp_path / "set", few), tmp_path / "run", device="cpu", say=lambda _: None)
