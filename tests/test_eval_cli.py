"""facecam eval, from the command line on: the two real portraits, generated pictures, a clip."""

from __future__ import annotations

import builtins
import json
import os
import stat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facecam.cli import invoke
from facecam.evaluate import faces
from facecam.values import Image
from tests.fakes import make_clip
from tests.support import COFFEE, facecam, lines, portrait

TRUTH = Path(__file__).parent / "golden" / "hamilton_truth.csv"


def look(name: str, turn: float, gamma: float = 1.0) -> Image:
    """A portrait, turned a little and in another light: another picture of the same person."""
    image = portrait(name)
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 3), turn, 1.0)
    image = np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    return np.asarray(255 * (image / 255.0) ** gamma, np.uint8)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ada and Grace, three pictures each, and one picture of nobody; a pairs.txt of two folds."""
    root = tmp_path_factory.mktemp("album")
    for person, name in (("Ada", "astronaut"), ("Grace", "grace_hopper")):
        (root / "images" / person).mkdir(parents=True)
        for i, (turn, gamma) in enumerate([(0, 1.0), (4, 1.2), (-3, 0.8)], 1):
            cv2.imwrite(str(root / "images" / person / f"{person}_{i:04d}.jpg"), look(name, turn, gamma))
    (root / "images" / "Cup").mkdir()
    (root / "images" / "Cup" / "Cup_0001.png").write_bytes(Path(COFFEE).read_bytes())
    rows = ["2\t2", "Ada\t1\t2", "Grace\t1\t2", "Ada\t1\tGrace\t1", "Ada\t2\tGrace\t3",
            "Ada\t1\t3", "Grace\t2\t3", "Ada\t3\tGrace\t1", "Ada\t1\tCup\t1"]  # fmt: skip
    (root / "pairs.txt").write_text("\n".join(rows) + "\n")
    return root


def test_pairs(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plots = tmp_path / "pairs.json", tmp_path / "plots"
    assert invoke(["eval", "pairs", str(album / "images"), str(album / "pairs.txt"), "--json", str(out),
                   "--plots", str(plots), "--device", "cpu"]) == 0  # fmt: skip
    result = json.loads(out.read_text())
    assert result["schema"] == "facecam.eval/pairs/1"
    assert {"accuracy", "std", "tar_at_far", "auc", "eer", "threshold", "pairs", "failed"} <= result.keys()
    assert (result["pairs"], result["failed"]) == (8, 1)
    assert result["accuracy"] == pytest.approx(7 / 8), "the cup shows no face: one error"
    assert result["plain"]["accuracy"] == pytest.approx(7 / 8)
    assert result["data"]["images_without_face"] == 1 and result["data"]["people"] == 3
    assert all(len(model["sha256"]) == 64 for model in result["models"].values())
    if os.name == "posix":
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
    for name in ("roc.png", "scores.png"):
        picture = cv2.imread(str(plots / name))
        assert picture is not None and picture.std() > 5
    printed = capsys.readouterr().out
    assert "8 pairs of 7 images of 3 people; 1 pairs without a face" in printed and "with mirror" in printed


def test_a_result_on_stdout_is_nothing_but_json(album: Path) -> None:
    done = facecam("eval", "pairs", album / "images", album / "pairs.txt", "--json", "-", "--device", "cpu")
    assert done.code == 0, done.err
    assert json.loads(done.out)["pairs"] == 8


def test_openset_on_folders(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, pictures in {
        "enroll": ["Ada/Ada_0001.jpg", "Ada/Ada_0002.jpg"],
        "known": ["Ada/Ada_0003.jpg"],
        "unknown": ["Grace/Grace_0001.jpg", "Grace/Grace_0002.jpg", "Cup/Cup_0001.png"],
    }.items():
        for name in pictures:
            target = tmp_path / part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(album / "images" / name)
    arguments = ["eval", "openset", "--device", "cpu", "--json", str(tmp_path / "o.json")]
    for part in ("enroll", "known", "unknown"):
        arguments += [f"--{part}", str(tmp_path / part)]
    assert invoke([*arguments, "--plots", str(tmp_path / "plots")]) == 0
    result = json.loads((tmp_path / "o.json").read_text())
    assert result["rank1"] == 1.0
    assert result["dir_at_fpir"] == {"0.1": 1.0, "0.01": 1.0, "0.001": 1.0}
    assert set(result["threshold_at_fpir"]) == {"0.1", "0.01", "0.001"}
    assert (result["at_default"]["dir"], result["at_default"]["fpir"]) == (1.0, 0.0)
    assert result["counts"]["strangers"] == 2 and result["counts"]["strangers_without_face"] == 1
    assert cv2.imread(str(tmp_path / "plots" / "det.png")) is not None
    assert "1 people enrolled with 2 images" in capsys.readouterr().out
    (tmp_path / "unknown" / "Grace" / "Grace_0002.jpg").unlink()
    (tmp_path / "unknown" / "Grace" / "Grace_0002.jpg").symlink_to(album / "images" / "Grace" / "Grace_0003.jpg")
    before = result["data"]
    assert invoke(arguments) == 0
    after = json.loads((tmp_path / "o.json").read_text())["data"]
    assert {name for name in before if before[name] != after[name]} == {"images_sha256"}, "as many, but others"
    assert invoke([*arguments, "--threshold", "0.2"]) == 0
    loose = json.loads((tmp_path / "o.json").read_text())
    assert loose["at_default"] | {"margin": 0} == {
        "dir": 1.0, "fpir": 1.0, "misnamed": 0.0, "threshold": 0.2, "margin": 0,
    }  # fmt: skip
    (tmp_path / "known" / "Zoe").mkdir()
    (tmp_path / "known" / "Zoe" / "1.jpg").symlink_to(album / "images" / "Grace/Grace_0003.jpg")
    assert invoke(arguments) == 2
    assert "'Zoe' not in" in capsys.readouterr().err


@pytest.mark.parametrize("some", [[], ["--enroll"], ["--enroll", "--known"], ["--images", "--known"]])
def test_openset_wants_three_folders_or_one(album: Path, some: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [part for option in some for part in (option, str(album))]
    assert invoke(["eval", "openset", *arguments]) == 2
    assert "either --enroll, --known and --unknown, or --images" in capsys.readouterr().err


def test_the_fast_way_gives_what_the_settings_ask_for(
    album: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    asked: list[float] = []
    before = faces.main_face

    def spy(detector: Any, image: Image, min_face: float) -> Any:
        asked.append(min_face)
        return before(detector, image, min_face)

    monkeypatch.setattr(faces, "main_face", spy)
    (own_home / "config.toml").write_text('min_face = "33"\n')
    assert invoke(["eval", "pairs", str(album / "images"), str(album / "pairs.txt"), "--device", "cpu"]) == 0
    assert set(asked) == {33.0}, "config.toml holds below a group, too"


@pytest.mark.parametrize("package", ["sklearn", "matplotlib"])
def test_a_missing_package_is_named_before_the_work(
    album: Path, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {package!r}")
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(faces, "read_photo", lambda path: pytest.fail("work was begun"))
    code = invoke(["eval", "pairs", str(album / "images"), str(album / "pairs.txt"), "--plots", str(tmp_path / "p")])
    assert code == 1
    assert "pip install 'facecam[eval]'" in capsys.readouterr().err


def test_none_of_the_pictures_is_there(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["eval", "pairs", str(tmp_path), str(album / "pairs.txt"), "--device", "cpu"]) == 12
    assert "none of the pictures" in capsys.readouterr().err


def test_compare(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    result = {"schema": "facecam.eval/pairs/1", "models": {}, "data": {"images": 1}, "accuracy": 0.5, "eer": 0.1}
    first.write_text(json.dumps(result))
    second.write_text(json.dumps(result | {"accuracy": 0.75}))
    assert invoke(["eval", "compare", str(first), str(second)]) == 0
    printed = capsys.readouterr().out
    assert "accuracy" in printed and "+0.25" in printed and "eer" not in printed
    assert invoke(["eval", "compare", str(first), str(first)]) == 0
    assert "all 2 figures are equal" in capsys.readouterr().out


def test_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = cv2.resize(portrait("astronaut"), (400, 400), interpolation=cv2.INTER_AREA)
    shift = [np.ascontiguousarray(np.roll(picture, i, axis=1)) for i in range(24)]
    clip = make_clip(tmp_path / "clip.mp4", [*shift, *[np.zeros_like(picture)] * 12])
    photo = tmp_path / "ada.png"
    cv2.imwrite(str(photo), portrait("astronaut"))
    assert invoke(["enroll", "--name", "Ada", str(photo), "--device", "cpu"]) == 0
    truth = tmp_path / "truth.csv"
    truth.write_text("start,end,name\n0,0.96,Ada\n")  # 24 frames at 25 a second
    out = tmp_path / "clip.json"
    assert invoke(["eval", "clip", str(clip), str(truth), "--json", str(out), "--device", "cpu"]) == 0
    result = json.loads(out.read_text())
    ada = result["people"]["Ada"]
    assert ada["f1"] > 0.9 and result["false_names"] == 0 and result["identity_switches"] == 0
    assert ada["frames"] == 24 and 0 <= ada["time_to_name"] < 0.5
    assert result["data"]["frames"] == 36
    # The label command says the same of the same frames.
    assert invoke(["label", str(clip), "--no-video", "-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    named = [line for line in lines(tmp_path / "out" / "clip.sightings.jsonl")
             if line["type"] == "frame" and any(face["name"] == "Ada" for face in line["faces"])]  # fmt: skip
    assert len(named) == ada["named_right"] + ada["named_wrong"]
    assert "false names 0" in capsys.readouterr().out


def test_a_clip_of_which_the_truth_is_broken_is_not_even_opened(tmp_path: Path) -> None:
    clip, truth = tmp_path / "clip.mp4", tmp_path / "truth.csv"
    clip.write_bytes(b"no clip")
    truth.write_text("a,b\n")
    assert invoke(["eval", "clip", str(clip), str(truth)]) == 2


@pytest.mark.data
def test_the_development_clip(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["enroll", "--from-dir", str(data / "clip" / "people"), "--device", "cpu"]) == 0
    out = tmp_path / "clip.json"
    clip = data / "clip" / "hamilton.mp4"
    assert invoke(["eval", "clip", str(clip), str(TRUTH), "--json", str(out), "--device", "cpu"]) == 0
    result = json.loads(out.read_text())
    assert result["false_names"] == 0 and result["identity_switches"] == 0
    miranda = result["people"]["Lin-Manuel Miranda"]
    assert miranda["f1"] >= 0.985
    assert all(0 <= appearance["first_name"] <= 0.35 for appearance in miranda["appearances"])
    assert "Joe Biden" not in result["people"]
