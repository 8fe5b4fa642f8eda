"""Packs: the registry, conversion on first use, choosing, pulling, adding, verifying, and their faults."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.errors import ModelInvalid, ModelMissing, OutputError, UsageFault
from facecam.zoo import dlib, graph, intake, packs, registry, shelf
from facecam.zoo.card import ModelCard, Threshold
from facecam.zoo.packs import Zoo
from facecam.zoo.session import Device, load
from tests import zoo_models as made


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def zoo(tmp_path: Path, lines: list[str]) -> Zoo:
    return Zoo(tmp_path / "zoo", notify=lines.append)


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Stand-ins for the opencv pack's files, pinned in place of the real ones."""
    files = {"yunet": made.planted_yunet(), "sface": made.sface_like()}
    made.pin(monkeypatch, files)
    return files


def copy_of(models_home: Path, folder: Path) -> Zoo:
    """A home of its own with the converted dlib pack."""
    shutil.copytree(models_home, folder / "zoo")
    return Zoo(folder / "zoo", notify=lambda line: None)


def by_hand(zoo: Zoo, files: dict[str, bytes]) -> None:
    zoo.make_folder()
    for id, data in files.items():
        made.put(zoo.folder, registry.models()[id].file, data)


# --- the registry ---


def test_the_registry_pins_what_the_package_ships() -> None:
    for role in registry.ROLES:
        entry = registry.models()[f"dlib-{role}"]
        source = dlib.weights_path(role)
        assert (entry.file, entry.sha256) == (dlib.FILES[role], dlib.SHA256[role])
        assert entry.licence == dlib.LICENCE
        assert entry.bytes == source.stat().st_size
        assert entry.sha256 == shelf.digest(source)


@pytest.mark.parametrize(
    ("id", "size", "sha256", "licence"),
    [
        ("yunet", 232589, "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", "MIT"),
        ("sface", 38696353, "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79", "Apache-2.0"),
        ("sface-int8", 9896933, "2b0e941e6f16cc048c20aee0c8e31f569118f65d702914540f7bfdc14048d78a", "Apache-2.0"),
    ],
)
def test_the_registry_pins_the_files_of_the_opencv_zoo(id: str, size: int, sha256: str, licence: str) -> None:
    entry = registry.models()[id]
    assert (entry.bytes, entry.sha256, entry.licence) == (size, sha256, licence)
    first, fallback = entry.urls
    assert first.startswith("https://github.com/opencv/opencv_zoo/raw/47534e27")
    assert fallback.startswith("https://huggingface.co/opencv/")
    for url in entry.urls:
        assert url.endswith(entry.file)
        assert any(len(part) == 40 and set(part) <= set("0123456789abcdef") for part in url.split("/")), "not pinned"


@pytest.mark.parametrize("id", ["sface", "sface-int8"])
def test_the_space_of_a_pinned_embedder_is_that_of_its_weights(id: str) -> None:
    entry = registry.models()[id]
    card = entry.card
    assert card is not None
    # card.vector_space hashes the weights first, so their pinned hash suffices.
    facts = json.dumps([card.colour, list(card.mean), list(card.std), card.template, False])
    assert card.space == hashlib.sha256(bytes.fromhex(entry.sha256) + facts.encode()).hexdigest()[:16]


def test_a_wrong_registry_entry_is_a_programmers_mistake() -> None:
    entry = registry.models()["yunet"]
    for change in ({"role": "nose"}, {"file": "../x"}, {"sha256": "12"}, {"urls": ()}, {"card": None}):
        with pytest.raises(ValueError, match="yunet"):
            dataclasses.replace(entry, **change)


# --- making ready ---


def test_the_default_pack_is_complete_and_loads(models_home: Path) -> None:
    files = Zoo(models_home).ensure()
    assert files.name == "dlib-pairs"
    assert [m.id for m in files.members()] == ["dlib-detector", "dlib-landmarks", "dlib-pairs"]
    assert files.embedder.card.kind == "embedder" and files.embedder.card.template == "dlib-150"
    assert files.landmarks is not None and files.landmarks.card.landmarks == "dlib5"
    for file in files.members():
        assert file.sha256 == shelf.digest(file.path)
        assert load(file.path, device=Device("cpu")).card == file.card
        assert file.path.stat().st_mode & 0o077 == 0
    assert not [p for p in (models_home / "models").iterdir() if p.name.startswith(".facecam-")]


def test_later_starts_do_not_import_onnx(models_home: Path) -> None:
    code = (
        "import sys, pathlib\nfrom facecam.zoo.packs import Zoo\n"
        f"Zoo(pathlib.Path({str(models_home)!r})).ensure()\n"
        "print('onnx' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]
    assert done.stderr == ""


def test_two_processes_may_convert_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom facecam.zoo.packs import Zoo\n"
        f"file = Zoo(pathlib.Path({str(tmp_path)!r})).model('dlib-detector')\nprint(file.sha256)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    results = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], results
    assert len({out for out, _ in results}) == 1
    assert sum("preparing" in err for _, err in results) == 1, "the others wait and take what is there"
    stored = shelf.get(Zoo(tmp_path).path_of("dlib-detector"))
    assert stored is not None and shelf.intact(stored)


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty", "sidecar", "no sidecar"])
def test_a_damaged_file_is_made_anew_with_a_line(zoo: Zoo, lines: list[str], harm: str) -> None:
    file = zoo.model("dlib-detector")
    good = file.path.read_bytes()
    lines.clear()
    if harm == "truncate":
        file.path.write_bytes(good[:1000])
    elif harm == "flip":
        file.path.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    elif harm == "empty":
        file.path.write_bytes(b"")
    elif harm == "sidecar":
        shelf.sidecar(file.path).write_text("{]")
    else:
        shelf.sidecar(file.path).unlink()
    again = zoo.model("dlib-detector")
    assert again.path.read_bytes() == good and again.sha256 == file.sha256
    expected = [] if harm == "no sidecar" else [f"dlib-detector.v{packs.CONVERTER}.onnx is damaged; making it anew"]
    assert lines == expected


def test_a_copied_file_is_not_made_anew(zoo: Zoo, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = zoo.model("dlib-detector")
    os.utime(file.path, (1, 1))
    monkeypatch.setattr(dlib, "convert", lambda *_: pytest.fail("converted again"))
    lines.clear()
    assert zoo.model("dlib-detector").sha256 == file.sha256
    monkeypatch.setattr(shelf, "digest", lambda path: pytest.fail("hashed again"))
    assert zoo.model("dlib-detector").sha256 == file.sha256
    assert lines == []


def test_a_newer_converter_makes_anew_and_clears_the_old(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    old = zoo.model("dlib-detector")
    monkeypatch.setattr(packs, "CONVERTER", packs.CONVERTER + 1)
    new = zoo.model("dlib-detector")
    assert new.path != old.path and new.path.exists()
    assert not old.path.exists() and not shelf.sidecar(old.path).exists()


def test_a_missing_model_names_the_command(zoo: Zoo) -> None:
    with pytest.raises(ModelMissing, match="facecam models pull opencv") as caught:
        zoo.ensure("opencv")
    assert "facecam models add face_detection_yunet_2023mar.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_package_names_pip(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelMissing, match="pip install face_recognition_models"):
        zoo.ensure()
    assert {s.state for s in intake.statuses(zoo) if s.id in registry.packs()["dlib"].members()} == {"absent"}
    assert {v.id for v in intake.verify(zoo) if v.state == "missing"} == {"dlib-detector", "dlib-landmarks"}


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        Zoo(tmp_path, notify=lambda line: None).model("dlib-detector")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_home_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission"):
        Zoo(tmp_path / "zoo", notify=lambda line: None).model("dlib-detector")


def test_a_full_disk_leaves_nothing_behind(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        zoo.model("dlib-detector")
    assert [p.name for p in zoo.folder.iterdir()] == [".make.lock"]


# --- the opencv pack's files ---


def test_files_of_the_zoo_are_prepared_to_fit_the_contract(zoo: Zoo, opencv: dict[str, bytes]) -> None:
    by_hand(zoo, opencv)
    files = zoo.ensure("opencv")
    assert files.landmarks is None and files.detector.card.landmarks == "five"
    assert files.detector.card.size == (0, 0), "any size of picture"
    sface = load(files.embedder.path, device=Device("cpu"))
    crops = np.random.default_rng(0).uniform(0, 255, (3, 3, 112, 112)).astype(np.float32)
    vectors = sface.run_batch(crops)
    assert vectors.shape == (3, 128)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    raw = load(opencv["sface"], device=Device("cpu"), card=files.embedder.card)
    for crop, vector in zip(crops, vectors):
        one = raw.run({"data": crop[None]})[0][0]
        np.testing.assert_allclose(one / np.linalg.norm(one), vector, atol=1e-5)


def test_yunet_and_the_dlib_embedder_make_a_pack(models_home: Path, tmp_path: Path, opencv: dict[str, bytes]) -> None:
    zoo = copy_of(models_home, tmp_path)
    by_hand(zoo, opencv)
    for name in ("yunet-dlib", "yunet+dlib", "opencv+dlib-embedder"):
        files = zoo.ensure(name)
        assert files.name == "yunet-dlib"
        assert [m.id for m in files.members()] == ["yunet", "dlib-embedder"]
    mixed = zoo.ensure("dlib+sface")
    assert [m.id for m in mixed.members()] == ["dlib-detector", "dlib-landmarks", "sface"]
    assert mixed.name == "dlib-detector+sface"
    assert zoo.choice(mixed.name) == zoo.choice("dlib+sface")


def test_a_detector_that_insists_on_its_size_keeps_it(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(made.planted_yunet())
    for tensor in model.graph.initializer:  # cells counted in the graph, as some exporters do
        if tensor.name == "cls_8_shape":
            tensor.CopyFrom(numpy_helper.from_array(np.array([1, 6400, 1], np.int64), tensor.name))
    data = model.SerializeToString()
    made.pin(monkeypatch, {"yunet": data})
    by_hand(zoo, {"yunet": data})
    assert zoo.model("yunet").card.size == (640, 640)


def test_a_changed_download_is_not_prepared(zoo: Zoo, opencv: dict[str, bytes]) -> None:
    by_hand(zoo, {"yunet": opencv["yunet"] + b"\0"})
    with pytest.raises(ModelInvalid, match="another SHA-256 than pinned; run: facecam models pull opencv"):
        zoo.model("yunet")


# --- choosing ---


def test_use_is_remembered_and_complete(models_home: Path, tmp_path: Path, opencv: dict[str, bytes]) -> None:
    zoo = copy_of(models_home, tmp_path)
    assert zoo.active().name == "dlib-pairs"
    with pytest.raises(ModelMissing):
        zoo.use("opencv")
    assert zoo.active().name == "dlib-pairs", "a pack that is not installed is not put in use"
    by_hand(zoo, opencv)
    assert zoo.use("opencv").name == "opencv"
    assert Zoo(zoo.home).active().members() == ("yunet", "sface")
    assert zoo.use(embedder="dlib").name == "yunet-dlib"
    assert zoo.use(detector="dlib-detector").name == "dlib"
    assert zoo.use("dlib", detector="yunet").name == "yunet-dlib"
    assert zoo.use(detector="yunet", embedder="sface").name == "opencv"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "name a pack"),
        ({"pack": "dilb"}, "no pack is called 'dilb'"),
        ({"detector": "sface"}, "sface has the role embedder, not detector"),
        ({"embedder": "nobody"}, "no embedder is called 'nobody'"),
        ({"embedder": "../../x"}, "no embedder is called"),
        ({"pack": "yunet+yunet"}, "yunet has the role detector, not embedder"),
    ],
)
def test_a_wrong_choice_is_a_usage_fault(zoo: Zoo, arguments: dict[str, str], why: str) -> None:
    with pytest.raises(UsageFault, match=why.replace("+", r"\+")):
        zoo.use(**arguments)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema": "x"}', '{"schema": "facecam.active/1", "detector": "gone", "embedder": "dlib"}'],
)
def test_a_damaged_choice_says_how_to_choose_again(zoo: Zoo, content: str) -> None:
    zoo.make_folder()
    (zoo.folder / "active.json").write_text(content)
    with pytest.raises(ModelInvalid, match="facecam models use dlib"):
        zoo.active()
    assert [v.id for v in intake.verify(zoo) if not v.good] == ["active"]


def test_use_repairs_a_damaged_choice(models_home: Path, tmp_path: Path) -> None:
    zoo = copy_of(models_home, tmp_path)
    (zoo.folder / "active.json").write_text("{")
    zoo.use("dlib")
    assert zoo.active().name == "dlib"


# --- adding ---


def test_an_added_embedder_is_listed_and_can_be_used(models_home: Path, tmp_path: Path) -> None:
    zoo = copy_of(models_home, tmp_path)
    card = made.embedder_card("Ünser Netz/../v2 (2026)")
    data = made.embedder(card)
    status = intake.add(zoo, made.put(tmp_path, "net.onnx", data))
    assert status.id == "unser-netz-v2-2026"
    assert (status.role, status.state, status.added) == ("embedder", "installed", True)
    assert zoo.path_of(status.id).read_bytes() == data
    assert zoo.path_of(status.id).parent == zoo.folder
    assert [s.id for s in intake.statuses(zoo)][-1] == status.id
    chosen = zoo.use(embedder=status.id)
    assert chosen.name == "dlib-detector+unser-netz-v2-2026"
    assert zoo.ensure().embedder.card == card
    assert all(v.good for v in intake.verify(zoo))
    shelf.remove(zoo.path_of(status.id))
    with pytest.raises(ModelInvalid, match="facecam models use dlib"):
        zoo.ensure()


def test_an_added_detector_brings_its_landmarks_or_takes_dlibs(zoo: Zoo, tmp_path: Path) -> None:
    file = made.put(
        tmp_path, "y.onnx", made.planted_yunet(height="h", width="w", batch="n", card=made.yunet_card(name="Mine"))
    )
    assert intake.add(zoo, file).role == "detector"
    assert zoo.choice("mine+dlib").landmarks is None


def test_adding_the_same_file_twice_is_fine_another_needs_a_word(zoo: Zoo, tmp_path: Path) -> None:
    first = made.put(tmp_path, "a.onnx", made.embedder(made.embedder_card()))
    other = made.put(tmp_path, "b.onnx", made.embedder(made.embedder_card(licence="BSD-3-Clause")))
    assert intake.add(zoo, first).id == intake.add(zoo, first).id == "test-embedder"
    with pytest.raises(UsageFault, match="--replace"):
        intake.add(zoo, other)
    assert intake.add(zoo, other, name="second").id == "second"
    assert intake.add(zoo, other, replace=True).licence == "BSD-3-Clause"


@pytest.mark.parametrize("taken", ["yunet", "dlib", "DLIB"])
def test_names_of_known_models_are_kept(zoo: Zoo, tmp_path: Path, taken: str) -> None:
    file = made.put(tmp_path, "a.onnx", made.embedder(made.embedder_card()))
    with pytest.raises(UsageFault, match="name of a known model"):
        intake.add(zoo, file, name=taken)


def test_a_pinned_file_placed_by_hand_completes_a_pack(zoo: Zoo, tmp_path: Path, opencv: dict[str, bytes]) -> None:
    assert intake.add(zoo, made.put(tmp_path, "anything.bin", opencv["yunet"])).id == "yunet"
    assert intake.add(zoo, made.put(tmp_path, "more.bin", opencv["sface"])).state == "installed"
    assert zoo.ensure("opencv").name == "opencv"


def test_weights_of_the_package_need_no_adding(zoo: Zoo) -> None:
    assert intake.add(zoo, dlib.weights_path("detector")).id == "dlib-detector"


GOOD = made.embedder_card()
CLASSIFIER = dataclasses.replace(
    GOOD, kind="classifier", labels=tuple("abcdefgh"), space=None, dim=0,
    threshold=Threshold(0.5, "probability", "none"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"not a model at all", "not an ONNX file"),
        (made.embedder(GOOD)[:-40], "not a"),
        (made.embedder(None), "has no model card inside, and its SHA-256"),
        (made.planted_yunet(), "has no model card inside"),
        (made.with_external_data(made.embedder(GOOD)), "keeps weights outside the file"),
        (made.with_external_data_in_a_branch(made.embedder(GOOD)), "keeps weights outside the file"),
        (made.embedder(dataclasses.replace(GOOD, dim=16)), r"promises vectors \(2, 16\)"),
        (made.embedder(dataclasses.replace(GOOD, input="picture")), "its card names input 'picture'"),
        (made.embedder(GOOD).replace(b"[112, 112]", b"[196, 196]"), "a crop of arcface-112 has 112 px a side"),
        (made.embedder(CLASSIFIER).replace(b'"arcface-112"', b'"dlib-150"   '), "a crop of dlib-150 has 150 px a side"),
        (made.embedder(GOOD, normalised=False), "promises vectors of norm 1"),
        (made.embedder(GOOD, batch=1), "a trial run failed"),
        (made.planted_yunet(card=made.yunet_card()), "a trial run failed"),
        (made.embedder(dataclasses.replace(GOOD, kind="landmarks")), "a landmarks model cannot be added"),
        (made.constant(GOOD, np.eye(2, 8, dtype=np.float32)), r"promises vectors \(1, 8\)"),
        (made.constant(GOOD, np.eye(2, 8, dtype=np.float32), "SequenceConstruct"), "gives list"),
        (made.constant(GOOD, np.full((2, 8), "one", object)), "promises float32 as embedding"),
        (made.constant(GOOD, np.eye(2, 8, dtype=bool)), "gives bool"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_says_why_in_one_line(zoo: Zoo, tmp_path: Path, data: bytes, why: str) -> None:
    file = made.put(tmp_path, "face_detection_yunet_2023mar.onnx", data)
    with pytest.raises(ModelInvalid, match=why) as caught:
        intake.add(zoo, file)
    assert "\n" not in str(caught.value)
    assert not zoo.folder.exists() or not list(zoo.folder.glob("*.onnx"))


def test_a_model_that_never_ends_is_refused(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "TRIAL_SECONDS", 0.2)
    data = made.constant(GOOD, np.eye(2, 8, dtype=np.float32), "Loop")
    with pytest.raises(ModelInvalid, match=r"longer than 0.2 s"):
        intake.add(zoo, made.put(tmp_path, "a.onnx", data))


def test_a_card_of_nonsense_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    data = made.embedder(GOOD).replace(b'"facecam.card/1"', b'"facecam.card/9"')
    with pytest.raises(ModelInvalid, match="schema"):
        intake.add(zoo, made.put(tmp_path, "a.onnx", data))


def test_compiled_engines_are_refused() -> None:
    import onnx

    model = onnx.load_model_from_string(made.embedder(GOOD))
    model.graph.node.add(op_type="EPContext", domain="com.microsoft", name="engine")
    with pytest.raises(ModelInvalid, match="compiled engine"):
        graph.parse(model.SerializeToString(), "x")


def test_special_files_are_refused(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelInvalid, match="a folder"):
        intake.add(zoo, tmp_path)
    with pytest.raises(ModelMissing, match="no such file"):
        intake.add(zoo, tmp_path / "none.onnx")
    monkeypatch.setattr(intake, "MAX_BYTES", 2000)
    with pytest.raises(ModelInvalid, match="above the limit"):
        intake.add(zoo, made.put(tmp_path, "large.onnx", b"x" * 3_000))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_at_once(zoo: Zoo, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    start = time.monotonic()
    with pytest.raises(ModelInvalid, match="not a regular file"):
        intake.add(zoo, tmp_path / "pipe")
    assert time.monotonic() - start < 5


@given(st.text(max_size=200))
def test_a_clean_name_is_a_plain_file_name(text: str) -> None:
    name = intake.clean_name(text)
    assert name == "" or packs._NAME.fullmatch(name)
    path = Zoo(Path("/home/x")).path_of(name)
    assert path.parent == Path("/home/x/models") and path.name.startswith(("user-", name))


def test_a_card_without_letters_gets_a_name_from_its_hash(zoo: Zoo, tmp_path: Path) -> None:
    data = made.embedder(made.embedder_card("面孔"))
    status = intake.add(zoo, made.put(tmp_path, "a.onnx", data))
    assert status.id == f"model-{hashlib.sha256(data).hexdigest()[:8]}"


# --- verifying ---


def test_verify_finds_what_the_quick_check_cannot(zoo: Zoo, tmp_path: Path) -> None:
    intake.add(zoo, made.put(tmp_path, "a.onnx", made.embedder(GOOD)))
    path = zoo.path_of("test-embedder")
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert shelf.get(path) is not None, "same size, same time"
    verdict = next(v for v in intake.verify(zoo) if v.id == "test-embedder")
    assert verdict.state == "damaged" and "facecam models add FILE" in verdict.detail


def test_pull_repairs_what_verify_finds(zoo: Zoo, opencv: dict[str, bytes]) -> None:
    by_hand(zoo, {"yunet": opencv["yunet"]})
    file = zoo.model("yunet")
    before = file.path.stat()
    data = bytearray(file.path.read_bytes())
    data[-1] ^= 1
    file.path.write_bytes(data)
    os.utime(file.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [v.state for v in intake.verify(zoo) if v.id == "yunet"] == ["ok", "damaged"]
    zoo.pull("yunet")
    assert [v.state for v in intake.verify(zoo) if v.id == "yunet"] == ["ok", "ok"]


def test_a_sidecar_from_elsewhere_is_refused(zoo: Zoo) -> None:
    file = zoo.model("dlib-detector")
    facts = json.loads(shelf.sidecar(file.path).read_text())
    for change in ({"schema": "x"}, {"card": None}, {"bytes": "many"}, {"surprise": 1}):
        shelf.sidecar(file.path).write_text(json.dumps({**facts, **change}))
        with pytest.raises(ModelInvalid, match="is damaged"):
            shelf.get(file.path)


def test_cards_survive_the_sidecar(models_home: Path) -> None:
    for path in (models_home / "models").glob("*.onnx"):
        stored = shelf.get(path)
        assert stored is not None
        assert ModelCard.from_json(stored.card.to_json()) == stored.card
        from facecam.zoo.session import read_card

        assert read_card(path.read_bytes()) == stored.card
