"""The loop: it learns, repeats itself, survives SIGKILL, and freezes what it says it freezes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

import torch

from facecam.errors import DeviceUnavailable, ModelInvalid, ModelMissing, UsageFault
from train import checkpoint, evaluate, feed, loop, losses, networks, report, transfer, weights
from train.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
TINY = Recipe(arch="cnn", size=16, width=4, depth=2, epochs=3, batch=8, lr=5e-3, threads=1, warmup=0.5)
COLOURS = {"blue": (200, 60, 60), "green": (60, 200, 60), "red": (60, 60, 200)}


def paint(root: Path, count: int = 14) -> Path:
    """Three classes of noisy colours: learnt in seconds, and not by heart."""
    rng = np.random.default_rng(3)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            image = np.clip(rng.normal(colour, 40, (20, 20, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(root / name / f"{number}.png"), image)
    return root


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("colours") / "set")


def fit(recipe: Recipe, data: Path, out: Path, resume: bool = False) -> dict:
    return loop.fit(recipe, evaluate.load_data(data, recipe), out, device="cpu", resume=resume, say=lambda _: None)


def result(run: Path, name: str = "last.pt") -> str:
    """A hash of the weights in a checkpoint."""
    state = checkpoint.load(run / name)
    module = torch.nn.Module()
    for number, value in enumerate(state["model"].values()):
        module.register_buffer(f"b{number}", value)
    return weights.fingerprint(module)


@pytest.fixture(scope="module")
def trained(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "colours"
    fit(TINY.with_changes(epochs=8, augment="light", ema=0.9, label_smoothing=0.05), colours, run)
    return run


def test_it_learns_colours(trained: Path, colours: Path) -> None:
    run = evaluate.load_run(trained)
    corpus = evaluate.load_data(colours, run.recipe)
    rows = evaluate.outputs(run, corpus.test, torch.device("cpu"))
    assert rows.shape == (len(corpus.test), 3) and np.allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert (rows.argmax(axis=1) == [item.label for item in corpus.test]).mean() >= 0.9


def test_a_run_leaves_its_records(trained: Path) -> None:
    facts = json.loads((trained / "run.json").read_text())
    assert facts["recipe"]["arch"] == "cnn" and facts["seed"] == 1 and facts["versions"]["torch"] == torch.__version__
    assert facts["data"]["pictures"] == {"train": 30, "val": 4, "test": 8} or facts["data"]["pictures"]["train"] > 20
    rows = (trained / "metrics.csv").read_text().splitlines()
    assert len(rows) == 9 and rows[0].startswith("epoch,lr,train_loss,val_loss,val_score")
    assert list((trained / "tensorboard").glob("events.*"))


def test_two_runs_of_one_seed_are_the_same(colours: Path, tmp_path: Path) -> None:
    recipe = TINY.with_changes(epochs=2, augment="strong", mixup=0.4, cutmix=1.0, balance="sampler")
    fit(recipe, colours, tmp_path / "a")
    fit(recipe, colours, tmp_path / "b")
    fit(recipe.with_changes(seed=2), colours, tmp_path / "c")
    assert result(tmp_path / "a") == result(tmp_path / "b") != result(tmp_path / "c")


def test_workers_change_nothing(colours: Path, tmp_path: Path) -> None:
    recipe = TINY.with_changes(epochs=2, augment="standard")
    fit(recipe, colours, tmp_path / "alone")
    fit(recipe.with_changes(workers=1), colours, tmp_path / "helped")
    assert result(tmp_path / "alone") == result(tmp_path / "helped")


@pytest.mark.parametrize("changes", [{"ema": 0.9}, {"optimizer": "sgd", "dropout": 0.5}], ids=["adamw+ema", "sgd"])
def test_killed_and_resumed_equals_uninterrupted(colours: Path, tmp_path: Path, changes: dict) -> None:
    pairs = [f"{key}={value}" for key, value in {**changes, "width": 4, "depth": 2, "augment": "light"}.items()]
    command = [sys.executable, "-m", "train", "fit", str(colours), "--arch", "cnn", "--size", "16", "--epochs", "6"]
    command += ["--batch", "8", "--threads", "1", "--device", "cpu", *(w for p in pairs for w in ("--set", p))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(out: Path, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--out", str(out), *more], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    whole = run(tmp_path / "whole")
    assert whole.wait(timeout=120) == 0, whole.stderr and whole.stderr.read()
    killed = run(tmp_path / "killed")
    deadline = time.monotonic() + 60
    while not (tmp_path / "killed" / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=30)
    assert killed.returncode == -signal.SIGKILL
    epoch = checkpoint.load(tmp_path / "killed" / "last.pt")["epoch"]
    assert epoch < 5, "the run ended before it could be killed"
    resumed = subprocess.run(
        [*command[:5], "--out", str(tmp_path / "killed"), "--resume", "--device", "cpu"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming at epoch {epoch + 2}" in resumed.stdout
    for name in ("last.pt", "best.pt"):
        assert result(tmp_path / "whole", name) == result(tmp_path / "killed", name)


@pytest.mark.parametrize("objective", ["pairs", "arcface"])
def test_an_embedders_run_goes_on_where_it_stopped(colours: Path, tmp_path: Path, objective: str) -> None:
    recipe = TINY.with_changes(objective=objective, val=0.0, epochs=3, balance="root", keep="last")
    fit(recipe, colours, tmp_path / "whole")

    def stop(line: str) -> None:
        if line.startswith("epoch 2/"):
            raise KeyboardInterrupt

    corpus = evaluate.load_data(colours, recipe)
    with pytest.raises(KeyboardInterrupt):
        loop.fit(recipe, corpus, tmp_path / "cut", device="cpu", say=stop)
    fit(recipe, colours, tmp_path / "cut", resume=True)
    assert result(tmp_path / "whole", "last.pt") == result(tmp_path / "cut", "last.pt")
    heads = [checkpoint.load(tmp_path / run / "last.pt")["head"] for run in ("whole", "cut")]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0]) and heads[0]


def test_resume_refuses_other_data(colours: Path, tmp_path: Path) -> None:
    fit(TINY.with_changes(epochs=1), colours, tmp_path / "run")
    other = paint(tmp_path / "other", count=12)
    with pytest.raises(UsageFault, match="not those of the run"):
        fit(TINY.with_changes(epochs=1), other, tmp_path / "run", resume=True)
    with pytest.raises(UsageFault, match="holds a run already"):
        fit(TINY.with_changes(epochs=1), colours, tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x80\x04\x95 pickle"], ids=["empty", "torn", "pickle"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    with pytest.raises(ModelInvalid, match="not a whole checkpoint"):
        checkpoint.load(path)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"format": checkpoint.FORMAT, "model": Evil()}, tmp_path / "best.pt")
    with pytest.raises(ModelInvalid):
        checkpoint.load(tmp_path / "best.pt")
    assert not (tmp_path / "harm").exists()
    with pytest.raises(ModelMissing):
        checkpoint.load(tmp_path / "absent.pt")


def test_checkpoints_that_lack_something_are_refused(trained: Path, colours: Path, tmp_path: Path) -> None:
    state = checkpoint.load(trained / "best.pt")
    kept = {key: value for key, value in state.items() if key not in ("format", "outputs")}
    strange = {**state, "recipe": 7}
    other = {**state, "model": {key: value[:1] for key, value in state["model"].items() if value.ndim}}
    for content, message in (({}, "lacks recipe"), (kept, "lacks outputs"), (strange, "fit"), (other, "fit")):
        checkpoint.save(tmp_path / "best.pt", content)
        with pytest.raises(ModelInvalid, match=message) as caught:
            evaluate.load_run(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "run").mkdir()
    checkpoint.save(tmp_path / "run" / "last.pt", {"recipe": TINY.to_dict()})
    with pytest.raises(ModelInvalid, match="lacks"):
        fit(TINY, colours, tmp_path / "run", resume=True)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"epoch": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(checkpoint.OutputError, match="No space left"):
        checkpoint.save(path, {"epoch": 2})
    assert checkpoint.load(path)["epoch"] == 1
    assert [p.name for p in tmp_path.glob("*last.pt*")] == ["last.pt"]


def test_a_loss_that_explodes_is_one_clear_error(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=r"lower --lr \(now 1e\+30\)"):
        fit(TINY.with_changes(lr=1e30, optimizer="sgd", clip=0.0), colours, tmp_path / "run")


def test_early_stopping(colours: Path, tmp_path: Path) -> None:
    outcome = fit(TINY.with_changes(epochs=40, patience=2, lr=0.0), colours, tmp_path / "run")
    assert len(outcome["history"]) < 20


@pytest.mark.parametrize(("epoch", "opened"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (9, 2)])
def test_stages_open_from_the_top(epoch: int, opened: int) -> None:
    recipe = TINY.with_changes(freeze="backbone", head_epochs=2, unfreeze_every=2)
    assert transfer.open_stages(recipe, 2, epoch) == opened


def test_frozen_stages_do_not_move(colours: Path, tmp_path: Path) -> None:
    recipe = TINY.with_changes(freeze="backbone", head_epochs=1, unfreeze_every=5, epochs=2, keep="last")
    start = networks_state(recipe)
    fit(recipe, colours, tmp_path / "run")
    end = checkpoint.load(tmp_path / "run" / "last.pt")["model"]
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    # Epoch 2 opens the top stage: its weights and statistics move, those of the bottom stage do not.
    assert any(name.startswith("head") for name in moved) and any(name.startswith("backbone.1") for name in moved)
    assert not any(name.startswith("backbone.0") for name in moved)


def networks_state(recipe: Recipe) -> dict:
    torch.manual_seed(recipe.seed)
    return {name: value.clone() for name, value in networks.build(recipe, 3).state_dict().items()}


def test_cached_features_train_the_head_alone(colours: Path, tmp_path: Path) -> None:
    recipe = TINY.with_changes(freeze="all", views=2, augment="light", epochs=15, lr=0.05, width=16)
    start = networks_state(recipe)
    fit(recipe, colours, tmp_path / "run")
    end = checkpoint.load(tmp_path / "run" / "last.pt")["model"]
    assert all(name.startswith("head") for name in start if not torch.equal(start[name], end[name]))
    run = evaluate.load_run(tmp_path / "run")
    corpus = evaluate.load_data(colours, recipe)
    rows = evaluate.outputs(run, corpus.train, torch.device("cpu"))
    assert (rows.argmax(axis=1) == [item.label for item in corpus.train]).mean() > 0.8


def test_other_people_take_probability_away(colours: Path, tmp_path: Path) -> None:
    others = tmp_path / "others" / "grey"
    others.mkdir(parents=True)
    rng = np.random.default_rng(9)
    for number in range(12):
        cv2.imwrite(str(others / f"{number}.png"), np.clip(rng.normal(128, 40, (20, 20, 3)), 0, 255).astype(np.uint8))
    recipe = TINY.with_changes(epochs=10, others=str(others.parent))
    fit(recipe, colours, tmp_path / "run")
    run = evaluate.load_run(tmp_path / "run")
    corpus = evaluate.load_data(colours, recipe)
    known = evaluate.outputs(run, corpus.test, torch.device("cpu"))
    grey = evaluate.outputs(run, corpus.background, torch.device("cpu"))
    assert known.shape[1] == 3 and known.max(axis=1).mean() > 0.6 > 0.4 > grey.max(axis=1).mean()


def test_mixed_weights_stand_between(colours: Path, tmp_path: Path) -> None:
    recipe = TINY.with_changes(epochs=1, mix=0.25, val=0.0, keep="last")
    start = networks_state(recipe)
    fit(recipe, colours, tmp_path / "run")
    end = checkpoint.load(tmp_path / "run" / "last.pt")["model"]
    best = checkpoint.load(tmp_path / "run" / "best.pt")["model"]
    key = "head.1.weight"
    assert torch.allclose(best[key], start[key] + 0.25 * (end[key] - start[key]), atol=1e-6)


def test_schedule_warms_up_and_cools_down() -> None:
    rates = [loop.schedule(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:])) and rates[-1] < 0.02


def test_sampler_evens_classes_out() -> None:
    labels = torch.tensor([0] * 900 + [1] * 100)
    order = [i for row in feed.batches(TINY.with_changes(balance="sampler"), labels, 0) for i in row]
    share = labels[order].float().mean().item()
    assert 0.4 < share < 0.6
    assert sorted(i for row in feed.batches(TINY, labels, 0) for i in row) == list(range(1000))


def test_root_goes_half_way() -> None:
    labels = torch.tensor([0] * 900 + [1] * 100)
    order = [i for row in feed.batches(TINY.with_changes(balance="root"), labels, 0) for i in row]
    assert 0.2 < labels[order].float().mean().item() < 0.3  # 1 : 3 as the roots of 100 and 900


def test_class_weights_are_inverse_to_counts() -> None:
    assert losses.class_weights([10, 30]).tolist() == pytest.approx([1.5, 0.5])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_is_asked_for_in_vain() -> None:
    with pytest.raises(DeviceUnavailable, match="no CUDA device"):
        loop.choose_device("cuda")


def test_report_is_one_file_with_all_its_parts(trained: Path, colours: Path, tmp_path: Path) -> None:
    run = evaluate.load_run(trained)
    facts = report.write(run, evaluate.load_data(colours, run.recipe), tmp_path, torch.device("cpu"))
    page = (tmp_path / "report.html").read_text()
    for part in ("Learning", "Confusion", "Classes", "confidence", "worst mistakes", "Data", "Settings"):
        assert part in page
    assert 'src="data:image/png' in page and "http" not in page.split("<style>")[0]
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["accuracy"] == facts["accuracy"] and len(written["confusion"]) == 3
    assert np.array(written["confusion"]).sum() == written["pictures"]


def test_a_run_whose_last_step_broke_it_is_not_kept(colours: Path, tmp_path: Path) -> None:
    """One step an epoch: the training loss is that of before the step."""
    with pytest.raises(ModelInvalid, match="lower --lr"):
        fit(TINY.with_changes(epochs=1, batch=64, lr=1e30, warmup=0.0), colours, tmp_path / "run")
    assert not (tmp_path / "run" / "best.pt").exists()


def test_a_checkpoint_that_gives_nan_is_not_judged(colours: Path, tmp_path: Path) -> None:
    fit(TINY.with_changes(epochs=1), colours, tmp_path / "run")
    run = evaluate.load_run(tmp_path / "run")
    with torch.no_grad():
        next(run.network.head.parameters()).fill_(float("nan"))
    corpus = evaluate.load_data(colours, TINY)
    with pytest.raises(ModelInvalid, match="not finite"):
        report.write(run, corpus, tmp_path / "run", torch.device("cpu"))
