"""Augmentation, figures and the open-set protocol: what the numbers mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

import cv2
import torch

from facecam.errors import UsageFault
from train import augment, metrics, openset, plots, report
from train.data import Item


def items(count: int = 6, side: int = 40) -> tuple[Item, ...]:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:side, 0:side]
    made = []
    for number in range(count):
        base = np.stack([x * 5 % 256, y * 5 % 256, (x + y + number * 9) % 256], axis=2) + rng.normal(
            0, 9, (side, side, 3)
        )
        made.append(Item(f"{number}", number % 2, f"{number}", f"{number}", np.clip(base, 0, 255).astype(np.uint8)))
    return tuple(made)


@pytest.mark.parametrize("preset", augment.PRESETS)
def test_presets_keep_type_and_size(preset: str) -> None:
    pictures = augment.Pictures(items(), 32, preset, seed=1)
    for epoch in range(12):
        pictures.epoch = epoch
        for index in range(len(pictures)):
            image, label, position = pictures[index]
            assert image.shape == (3, 32, 32) and image.dtype == torch.uint8
            assert (label, position) == (index % 2, index)


@pytest.mark.parametrize("preset", [p for p in augment.PRESETS if p != "none"])
def test_augmentation_follows_from_seed_epoch_and_position(preset: str) -> None:
    one, two = (augment.Pictures(items(), 32, preset, seed=1) for _ in range(2))
    backwards = {index: two[index][0] for index in reversed(range(6))}
    assert all(torch.equal(one[index][0], backwards[index]) for index in range(6))
    two.epoch = 1
    assert any(not torch.equal(one[index][0], two[index][0]) for index in range(6))


def test_augmentation_leaves_torchs_random_state_alone() -> None:
    pictures = augment.Pictures(items(), 32, "strong", seed=1)
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    pictures[0]
    assert torch.equal(torch.rand(3), wanted)


def test_validation_pictures_are_not_changed() -> None:
    pictures = augment.Pictures(items(side=32), 32, "none", seed=1)
    for index, item in enumerate(items(side=32)):
        assert torch.equal(pictures[index][0].permute(1, 2, 0), torch.from_numpy(item.pixels))


def test_pictures_are_read_again_where_memory_is_short() -> None:
    kept, read = (augment.Pictures(items(), 32, "light", 1, keep=limit) for limit in (1 << 20, 0))
    assert kept.kept is not None and read.kept is None
    assert torch.equal(kept[3][0], read[3][0])


def test_low_light_darkens_and_jpeg_stays_close() -> None:
    torch.manual_seed(0)
    image = torch.from_numpy(items()[0].pixels).permute(2, 0, 1)
    assert augment.LowLight((2.0, 2.0), 0.0)(image).float().mean() < image.float().mean()
    assert (augment.Jpeg(90, 95)(image).float() - image.float()).abs().mean() < 12
    assert augment.Shrink(0.3)(image).shape == image.shape


def test_normalise_is_the_cards_rule() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    came = augment.normalise(images, (100.0, 50.0, 0.0), (2.0, 4.0, 5.0))
    assert came[0, :, 0, 0].tolist() == [-50.0, -12.5, 0.0] and came[1, :, 0, 0].tolist() == [77.5, 51.25, 51.0]


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_blended_targets_stay_probabilities(mixup: float, cutmix: float) -> None:
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 10, 10).clone()
    targets = torch.eye(8)
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        blended, shares = augment.blend(images, targets, mixup, cutmix, generator)
        assert torch.allclose(shares.sum(dim=1), torch.ones(8), atol=1e-5) and shares.min() >= 0
        # A constant picture's mean tells how much of each picture is in it: that must be its target.
        assert torch.allclose(blended.mean(dim=(1, 2, 3)), shares @ torch.arange(8.0), atol=1e-4)
    assert augment.blend(images, targets, 0.0, 0.0, torch.Generator())[0] is images


def test_sheet_has_a_row_a_picture() -> None:
    image = cv2.imdecode(np.frombuffer(augment.sheet(items(), 32, "strong", 1, rows=6, columns=5), np.uint8), 1)
    assert image.shape == (6 * 36, 5 * 36, 3)


def test_unknown_preset() -> None:
    with pytest.raises(UsageFault, match="--augment is one of none, light"):
        augment.train_transform("wild", 32)


# --- figures of a classifier ---------------------------------------------------------------------------------------


def test_confusion_and_per_class_by_hand() -> None:
    table = metrics.confusion(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1]), 3)
    assert table.tolist() == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]
    first, second, third = metrics.per_class(table)
    assert first == pytest.approx({"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert second == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 2})
    assert third == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_a_class_without_pictures_is_named_and_not_counted() -> None:
    rows = np.eye(4)[[0, 1, 1, 3]]
    facts = metrics.summarise(rows, np.array([0, 1, 1, 1]), ["a", "b", "c", "d"])
    # c was neither there nor guessed; d was guessed in vain, which counts.
    assert facts["macro_f1"] == pytest.approx((1 + 0.8 + 0) / 3)
    assert facts["untested"] == ["c", "d"]
    assert "(2 classes without a picture there: c, d)" in report.headline({**facts, "part": "test"})


def test_names_with_dollars_are_no_formulas() -> None:
    names = ["A$AP $ross", "$_{$"]
    assert plots.confusion([[1, 0], [0, 1]], names)[:4] == b"\x89PNG"
    assert plots.bars(names, {"train": [1, 2]})[:4] == b"\x89PNG"


def test_calibration_error_of_known_cases() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    honest = np.tile([0.8, 0.2], (100, 1))
    boastful = np.tile([1.0, 0.0], (100, 1))
    assert metrics.reliability(honest, labels)[1] == pytest.approx(0.0, abs=1e-9)
    assert metrics.reliability(boastful, labels)[1] == pytest.approx(0.2)


def test_roc_of_known_cases() -> None:
    truth = np.array([True, True, False, False])
    assert metrics.roc(np.array([0.9, 0.8, 0.2, 0.1]), truth)[2] == pytest.approx(1.0)
    assert metrics.roc(np.array([0.1, 0.2, 0.8, 0.9]), truth)[2] == pytest.approx(0.0)
    assert metrics.roc(np.full(4, 0.5), truth)[2] == pytest.approx(0.5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 60))
def test_summary_agrees_with_scikit_learn(seed: int, classes: int, count: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.ones(classes), count)
    labels = rng.integers(classes, size=count)
    names = [str(n) for n in range(classes)]
    facts = metrics.summarise(rows, labels, names)
    guesses = rows.argmax(axis=1)
    assert facts["accuracy"] == pytest.approx(sklearn.accuracy_score(labels, guesses))
    # scikit-learn's own choice of classes: those that are there or were guessed.
    f1 = sklearn.f1_score(labels, guesses, average="macro", zero_division=0)
    assert facts["macro_f1"] == pytest.approx(f1)
    truth = np.eye(classes, dtype=bool)[labels]
    if classes > 2:
        assert facts["auc"] == pytest.approx(sklearn.roc_auc_score(truth.ravel(), rows.ravel()))
    elif len(set(labels)) == 2:
        assert facts["auc"] == pytest.approx(sklearn.roc_auc_score(labels == 1, rows[:, 1]))


# --- figures of an embedder ----------------------------------------------------------------------------------------


def people(known: int = 8, each: int = 4, strangers: int = 40, spread: float = 0.05) -> tuple[np.ndarray, list[Item]]:
    rng = np.random.default_rng(2)
    rows, listed = [], []
    for person in range(known + strangers):
        centre = rng.normal(size=16)
        for number in range(each if person < known else 1):
            rows.append(centre + spread * rng.normal(size=16) * 4)
            listed.append(Item(f"{person}-{number}", person, f"{person}-{number}", ""))
    vectors = np.array(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), listed


def test_a_good_embedder_finds_everybody() -> None:
    figures = openset.evaluate(*people())
    assert figures["dir_1"] == figures["rank1"] == 1.0 and figures["verification"] > 0.99
    assert (figures["enrolled"], figures["probes"], figures["strangers"]) == (8, 8, 40)


def test_an_embedder_of_noise_finds_nobody() -> None:
    figures = openset.evaluate(*people(spread=50.0))
    assert figures["dir_1"] < 0.3 and figures["verification"] < 0.7


def test_verification_of_a_few_pairs_is_a_number() -> None:
    assert openset.ten_fold(np.array([0.9, 0.8, 0.85]), np.array([0.1, 0.2])) == 1.0


def test_the_threshold_names_no_more_strangers_than_promised() -> None:
    vectors, listed = people(strangers=300, spread=0.3)
    figures = openset.evaluate(vectors, listed)
    known = {item.label for item in listed[: 8 * 4]}
    gallery = [vectors[[i for i, item in enumerate(listed) if item.label == p][:3]].mean(axis=0) for p in sorted(known)]
    table = np.array([g / np.linalg.norm(g) for g in gallery])
    top = (vectors[8 * 4 :] @ table.T).max(axis=1)
    assert (top > figures["threshold_1"]).mean() <= 0.01 and (top > figures["threshold_01"]).mean() <= 0.001


def test_drawn_figures_have_their_own_strangers_and_one_photo_is_harder() -> None:
    vectors, listed = people(known=30, each=5, strangers=60, spread=0.22)
    figures = openset.evaluate(vectors, listed)
    assert figures["one_1"] < figures["three_1"] and figures["one_01"] <= figures["one_1"]
    rows = [[i for i, item in enumerate(listed) if item.label == p] for p in range(90)]
    found = openset.drawn(vectors, rows, 1, 7)
    assert found == openset.drawn(vectors, rows, 1, 7) != openset.drawn(vectors, rows, 1, 8)


def test_identify_counts_by_hand() -> None:
    gallery = np.eye(2, dtype=np.float32)
    vectors = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6], [0.3, 0.2]], np.float32)
    # Probes 0 and 1 belong to people 0 and 1, probe 2 to person 1 but looks like 0; the stranger reaches 0.3.
    found = openset.identify(vectors, gallery, [0, 1, 2], [0, 1, 1], [3])
    assert found["rank1"] == found["dir_1"] == pytest.approx(2 / 3)
    assert found["threshold_1"] == pytest.approx(0.3)
    assert openset.identify(vectors, gallery, [1], [1], [0])["dir_1"] == 0.0


def test_too_few_people_are_a_clear_error() -> None:
    vectors, listed = people(strangers=3)
    with pytest.raises(UsageFault, match="there are 8 and 3"):
        openset.evaluate(vectors, listed)


def test_pairs_are_fair() -> None:
    same, other = openset.draw_pairs([list(range(30)), [30, 31], [32, 33, 34]], 1, 10)
    owner = np.array([0] * 30 + [1] * 2 + [2] * 3)
    assert len(same) == 10 + 1 + 3 == len(other)
    assert (owner[same[:, 0]] == owner[same[:, 1]]).all() and (same[:, 0] != same[:, 1]).all()
    assert (owner[other[:, 0]] != owner[other[:, 1]]).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=2, max_size=40))
def test_best_threshold_is_the_best(rows: list[tuple[float, bool]]) -> None:
    scores, truth = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    ties = len(set(scores)) < len(scores)
    came = np.mean((scores >= openset.best_threshold(scores, truth)) == truth)
    best = max(np.mean((scores >= t) == truth) for t in scores)
    assert ties or came >= best - 1e-9


def test_names_in_any_script_are_drawn_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert plots.confusion([[1, 0], [0, 1]], ["李", "a$b$"])[:4] == b"\x89PNG"
    assert plots.bars(["李", "a$b$"], {"train": [1, 2]})[:4] == b"\x89PNG"
    assert not [entry for entry in recwarn if "Glyph" in str(entry.message)]
