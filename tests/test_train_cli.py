"""python -m train as a person uses it: every command, its help, its errors."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install -e '.[train]')")

from click.testing import CliRunner, Result

from facecam.errors import FacecamError, ModelInvalid, UsageFault
from train import __main__ as command
from train import recipe

FAST = ("--arch", "cnn", "--size", "16", "--epochs", "2", "--batch", "8", "--threads", "1", "--set", "width=4")


def train(*words: object) -> Result:
    return CliRunner().invoke(command.cli, [str(word) for word in words])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(1)
    for name, colour, count in (("blue", (200, 60, 60), 20), ("red", (60, 60, 200), 8)):
        (root / "set" / name).mkdir(parents=True)
        for number in range(count):
            image = np.clip(rng.normal(colour, 30, (18, 18, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(root / "set" / name / f"{number}.png"), image)
    (root / "set" / "red" / "notes.txt").write_text("none")
    return root


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    came = train("fit", place / "set", "--out", place / "run", *FAST, "--balance", "weights")
    assert came.exit_code == 0, came.output
    assert "2 classes" in came.output and "unequal classes" in came.output and "test: accuracy" in came.output
    assert "notes.txt: not a picture file" in came.output
    return place / "run"


def test_fit_leaves_all_it_promises(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {"best.pt", "last.pt", "metrics.csv", "run.json", "report.html", "report.json", "tensorboard"}
    facts = json.loads((run / "report.json").read_text())
    assert facts["epochs"] == 2
    assert facts["part"] == "test" and facts["data"]["largest_class"] > facts["data"]["smallest_class"]


def test_export_finds_the_data_from_anywhere(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert train("fit", "set", "--out", tmp_path / "run", *FAST, "--epochs", "1").exit_code == 0
    root = json.loads((tmp_path / "run" / "run.json").read_text())["data"]["root"]
    assert root == str((place / "set").resolve())


def test_resume_after_the_end_changes_nothing(run: Path, place: Path) -> None:
    before = (run / "last.pt").read_bytes()
    came = train("fit", place / "set", "--out", run, "--resume")
    assert came.exit_code == 0 and (run / "last.pt").read_bytes() == before
    came = train("fit", place / "set", "--out", run, "--resume", "--epochs", "9")
    assert isinstance(came.exception, UsageFault) and "own settings" in str(came.exception)


def test_eval_says_the_same_again(run: Path, place: Path) -> None:
    before = json.loads((run / "report.json").read_text())
    came = train("eval", run, place / "set")
    assert came.exit_code == 0 and f"accuracy {before['accuracy']:.4f}" in came.output
    came = train("eval", run, place / "set", "--part", "all")
    assert came.exit_code == 0 and "all: accuracy" in came.output and "28 pictures" in came.output


def test_eval_refuses_other_classes(run: Path, place: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "other" / name).mkdir(parents=True)
        for number in range(3):
            data = (place / "set" / "red" / f"{number + 4 * (name == 'b')}.png").read_bytes()
            (tmp_path / "other" / name / f"{number}.png").write_bytes(data)
    came = train("eval", run, tmp_path / "other")
    assert isinstance(came.exception, UsageFault) and "the run knows 2 classes (blue, red" in str(came.exception)


def test_predict_names_pictures_and_reports_what_is_none(run: Path, place: Path) -> None:
    picture, folder = place / "set" / "blue" / "0.png", place / "set" / "red"
    came = train("predict", run, picture, folder, "--json")
    assert came.exit_code == 0
    rows = [json.loads(line) for line in came.stdout.splitlines()]
    assert len(rows) == 9 and rows[0]["path"] == str(picture)
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-3) for row in rows)
    came = train("predict", run, picture, place / "set" / "red" / "notes.txt", place / "absent.png")
    assert came.exit_code == 1 and "not a picture file" in came.output and "No such file" in came.output
    assert isinstance(train("predict", run, place / "absent.png").exception, UsageFault)


def test_a_damaged_run_is_one_line(place: Path, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"torn")
    came = train("eval", tmp_path, place / "set")
    assert isinstance(came.exception, ModelInvalid) and "\n" not in str(came.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "colour=red"), "known: name"),
        (("--set", "dropout=much"), "expected float"),
        (("--set", "grey=perhaps"), "expected bool"),
        (("--recipe", "absent"), "there are"),
        (("--weights", "absent.pth"), "no such file"),
        (("--split", "absent"), "lfw_dev-1"),
        (("--lr", "-1"), "at least 0"),
        (("--lr", "nan"), "a finite number"),
        (("--set", "dropout=1.5"), "below 1"),
        (("--set", "mix=2"), "at most 1"),
        (("--arch", "resnet18", "--set", "grey=true"), "mlp or cnn, not with resnet18"),
        (("--arch", "inception_v3", "--size", "64"), "size 64 does not suit inception_v3"),
        (("--set", "others=absent"), "--others "),
    ],
)
def test_wrong_options_are_one_line(place: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    came = train("fit", place / "set", "--out", tmp_path / "run", *FAST, *words)
    assert isinstance(came.exception, FacecamError) and message in str(came.exception)
    assert "\n" not in str(came.exception)
    assert not (tmp_path / "run" / "last.pt").exists()


def test_files_are_remembered_by_their_full_paths(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[recipe.Recipe] = []

    def note(data: Path, made: recipe.Recipe) -> None:
        asked.append(made)
        raise UsageFault("enough")

    monkeypatch.setattr("train.evaluate.load_data", note)
    monkeypatch.chdir(tmp_path)
    words = ("--set", "others=people/a", "--set", "weights=w.pth", "--split", "mine.json")
    train("fit", place / "set", "--out", "run", *words)
    (tmp_path / "mine.toml").write_text('others = "people/b"\nweights = "dlib"\nsplit = "lfw_dev-1"\n')
    train("fit", place / "set", "--out", "run", "--recipe", "mine.toml")
    here = tmp_path.resolve()
    assert [(r.others, r.weights, r.split) for r in asked] == [
        (str(here / "people" / "a"), str(here / "w.pth"), str(here / "mine.json")),
        (str(here / "people" / "b"), "dlib", "lfw_dev-1"),
    ]


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_interrupted_run_is_said_to_go_on_only_if_it_can(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    def stop(*_: object, **__: object) -> None:
        if epoch:
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "last.pt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("train.loop.fit", stop)
    came = train("fit", place / "set", "--out", tmp_path / "run", *FAST)
    assert came.exit_code == 1 and ("--resume goes on" in came.output) == bool(epoch)
    assert ("nothing was kept" in came.output) == (not epoch)


def test_augment_draws_a_sheet(place: Path, tmp_path: Path) -> None:
    came = train("augment", place / "set", "--augment", "strong", "--size", "32", "--out", tmp_path / "sheet.png")
    assert came.exit_code == 0, came.output
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (8 * 36, 9 * 36, 3)


def test_summary_prints_the_formula() -> None:
    came = train("summary", "cnn", "--input", "1x28x28", "--classes", "10")
    assert came.exit_code == 0 and "Conv2d" in came.output and "(in - kernel + 2 padding) / stride + 1" in came.output
    assert isinstance(train("summary", "cnn", "--input", "28").exception, UsageFault)
    assert isinstance(train("summary", "inception_v3", "--input", "3x16x16").exception, UsageFault)
    assert "size 96 does not suit" in str(train("summary", "vit_tiny_patch16_224", "--input", "3x96x96").exception)
    assert "mlp or cnn, not with vgg16" in str(train("summary", "vgg16", "--input", "1x224x224").exception)


def test_recipes_lists_them_all() -> None:
    came = train("recipes")
    assert came.exit_code == 0 and all(name in came.output for name in recipe.names())


@pytest.mark.parametrize("name", list(command.cli.commands))
def test_every_command_has_help_with_an_example(name: str) -> None:
    came = train(name, "--help")
    assert came.exit_code == 0 and "Example: python -m train" in came.output


def test_an_embedder_that_is_judged_on_whom_it_knows_is_told(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.loop.fit", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    options = ("--out", tmp_path / "run", *FAST)
    came = train("fit", place / "set", *options, "--set", "objective=cosface")
    assert "warning: 2 people of the validation and test parts are trained on" in came.output
    assert "trained on" not in train("fit", place / "set", *options).output
