"""No command prints or writes a secret, and what it writes with faces or names is the owner's alone."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from facecam.cli import common, invoke
from facecam.demo import HOPPER, package_file
from facecam.engine import Engine
from facecam.errors import DependencyMissing
from facecam.people import seal, strangers
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from fuzz import files
from tests.fakes import closed_port

OLD, NEW, CAMERA, HOOK, QUEUE, TOKEN = (
    "first-secret-phrase",
    "second-secret-phrase",
    "cam-secret-word",
    "hook-secret-word",
    "queue-secret-word",
    "token-secret-word",
)
SECRETS = (OLD, NEW, CAMERA, HOOK, QUEUE, TOKEN)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    try:
        source = package_file(*HOPPER[:2])
    except DependencyMissing as error:
        pytest.skip(str(error))
    (tmp_path / "photos").mkdir()
    return Path(shutil.copy(source, tmp_path / "photos" / "grace.jpg"))


def commands(folder: Path, photo: Path) -> list[list[str]]:
    """Every command that could meet a secret, in an order in which each finds something to do."""
    port = closed_port()
    host = f"127.0.0.1:{port}"
    clip, out = folder / "clip.mp4", folder / "out"
    clip.write_bytes(files.video(".mp4", "libx264"))
    camera = f"http://user:{CAMERA}@{host}/live?token={TOKEN}"
    run = ["run", "--headless", "--max-seconds", "1", "--reconnect", "never"]
    events = ["--events", str(folder / "events.jsonl")]
    return [
        ["enroll", "--name", "Grace", str(photo)],
        ["people", "consent", "Grace", "--note", "said yes"],
        ["people", "encrypt", "--json"],
        ["people", "passphrase"],
        ["people", "show", "Grace", "--json"],
        ["people", "list"],
        ["people", "check", "--json"],
        ["people", "backup", str(folder / "copy.db")],
        ["people", "restore", str(folder / "copy.db"), "-y"],
        ["people", "export", "-o", str(folder / "people.json")],
        ["people", "import", str(folder / "people.json"), "--on-conflict", "rename"],
        ["people", "unknown", "--sheet", str(folder / "sheet.png")],
        ["people", "migrate"],
        ["people", "rename", "Grace", "Grace Hopper"],
        ["people", "remove", "Grace Hopper", "-y"],
        ["label", str(photo), str(clip), "-o", str(out)],
        [*run, "--source", str(clip), *events, "--record", str(folder / "seen.mkv")],
        [*run, "--source", str(clip), "--webhook", f"http://user:{HOOK}@{host}/?key={TOKEN}"],
        [*run, "--source", str(clip), "--mqtt", f"mqtt://user:{QUEUE}@{host}/topic"],
        [*run, "--source", camera],
        ["enroll", "--name", "Ada", "--source", camera],
        [*run, "--source", f"rtsp://user:{CAMERA}@{host}/live"],
        ["crop", str(photo.parent), str(folder / "crops")],
        ["doctor", "--json"],
        ["models", "verify"],
        ["people", "decrypt"],
    ]


def test_no_secret_in_any_output_and_no_file_for_others(
    tmp_path: Path,
    own_home: Path,
    photo: Path,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("cryptography", reason="needs the extra encrypt")
    monkeypatch.setattr(common, "open_engine", lambda given, *rest, **more: dataclasses.replace(engine, settings=given))
    monkeypatch.setattr(seal, "COST", 16)
    with Gallery.open() as gallery:
        strangers.remember(gallery, True)
        vector = engine.embedder.embed([np.full((150, 150, 3), 90, np.uint8)])[0]
        UnknownBook(gallery, engine.embedder.space, 0.9).identify(vector, 1.0, source="door")
    monkeypatch.chdir(tmp_path)
    before = os.umask(0)  # the modes are facecam's own doing
    said: dict[str, str] = {}
    try:
        for command in commands(tmp_path, photo):
            monkeypatch.setenv("FACECAM_PASSPHRASE", NEW if "passphrase" in said else OLD)
            monkeypatch.setenv("FACECAM_NEW_PASSPHRASE", NEW if command[1] == "passphrase" else OLD)
            code = invoke(command)
            out, err = capfd.readouterr()
            name = " ".join(word for word in command if not word.startswith("/"))[:40]
            said[command[1] if command[0] == "people" else name] = out + err
            assert "Traceback" not in out + err, (command, err)
            assert code in (0, 1, 12, 13) or command[:2] == ["people", "import"], (command, code, out, err)
            for secret in SECRETS:
                assert secret not in out + err, (command, secret)
    finally:
        os.umask(before)
    assert len(said) > 20 and all(said[word] for word in ("encrypt", "passphrase", "show", "backup", "export"))
    mine = {photo, tmp_path / "clip.mp4"}
    for path in sorted(tmp_path.rglob("*")):
        if path.is_symlink() or own_home / "models" in path.parents or not path.is_file():
            continue
        data = path.read_bytes()
        for secret in SECRETS:
            assert secret.encode() not in data, (path, secret)
        if os.name == "posix" and path not in mine:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_helper_finds_a_secret(capfd: pytest.CaptureFixture[str]) -> None:
    """A test of the test: libraries that write past Python are heard, too."""
    os.write(2, OLD.encode())
    assert OLD in capfd.readouterr().err
