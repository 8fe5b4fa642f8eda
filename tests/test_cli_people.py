from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facecam.cli import invoke
from facecam.people.gallery import Gallery
from tests.people_fakes import ROOT, SPACE, sample, secrets_of, traces


@pytest.fixture
def enrolled(own_home: Path) -> Path:
    with Gallery.open() as gallery:
        gallery.add("Ada Lovelace", [sample(1), sample(2)])
        gallery.add("王小明", [sample(3)])
        gallery.add("bob", [sample(4, crop=False)])
    return own_home


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run ``facecam people ...``; returns exit code, stdout, stderr."""

    def call(*arguments: object, answer: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code = invoke(["people", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call


COMMANDS = ["list", "show", "rename", "merge", "remove", "export", "import"]


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_has_an_example(run: Any, command: str | None) -> None:
    code, out, _ = run(*([command] if command else []), "--help")
    assert code == 0 and "Example: facecam people" in out


def test_all_commands_are_there(run: Any) -> None:
    out = run("--help")[1]
    assert all(f"\n  {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_nobody_enrolled(run: Any, own_home: Path, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert code == 0 and "Nobody is enrolled yet" in out and err == ""
    assert run(*arguments, "--json")[:2] == (0, "[]\n")
    assert not (own_home / "gallery.db").exists()


@pytest.mark.parametrize(
    "arguments",
    [["show", "Ada"], ["rename", "Ada", "B"], ["merge", "A", "B"], ["remove", "Ada"], ["export", "-o", "x"]],
)
def test_nobody_enrolled_is_an_error_where_somebody_is_named(
    run: Any, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert code == 10 and out == "" and err.count("\n") == 1 and "nobody is enrolled yet" in err
    assert not (own_home / "gallery.db").exists() and not Path("x").exists()


def test_list(run: Any, enrolled: Path) -> None:
    for arguments in ([], ["list"]):
        code, out, _ = run(*arguments)
        assert code == 0
        lines = out.splitlines()
        assert lines[0].split() == ["NAME", "SAMPLES", "CROPS", "CREATED", "UPDATED"]
        assert [line.split("  ")[0] for line in lines[1:]] == ["Ada Lovelace", "bob", "王小明"]
        assert [line.split()[-4:-2] for line in lines[1:]] == [["2", "2"], ["1", "0"], ["1", "1"]]
        # a Chinese character takes two cells of a terminal
        assert lines[1].index("2  ") == lines[3].index("1  ") + 3


@pytest.mark.parametrize("arguments", [["--json"], ["list", "--json"], ["--json", "list"]])
def test_list_json(run: Any, enrolled: Path, arguments: list[str]) -> None:
    code, out, _ = run(*arguments)
    people = json.loads(out)
    assert code == 0 and [p["name"] for p in people] == ["Ada Lovelace", "bob", "王小明"]
    assert people[0] | {"created": "", "updated": ""} == {
        "name": "Ada Lovelace",
        "samples": 2,
        "crops": 2,
        "created": "",
        "updated": "",
        "spaces": [SPACE],
        "consent": None,
    }


def test_show(run: Any, enrolled: Path) -> None:
    code, out, _ = run("show", "Ada Lovelace")
    assert code == 0 and "2 samples, 2 crops kept" in out and "photo1.jpg" in out and "0.50" in out
    code, out, _ = run("show", "Ada Lovelace", "--json")
    person = json.loads(out)
    assert (
        code == 0
        and person["samples"] == 2
        and [p["source"] for p in person["pictures"]] == ["photo1.jpg", "photo2.jpg"]
    )
    assert person["pictures"][0]["crop_bytes"] > 0 and person["pictures"][0]["spaces"] == [SPACE]


def test_show_of_somebody_else(run: Any, enrolled: Path) -> None:
    code, out, err = run("show", "ada lovelace")
    assert (code, out) == (10, "") and err.count("\n") == 1 and "did you mean 'Ada Lovelace'" in err


def test_what_could_act_on_a_terminal_is_escaped(run: Any, own_home: Path) -> None:
    with Gallery.open() as gallery:
        gallery.add("Ada", [dataclasses.replace(sample(1), source="a\x1b[31m\n.jpg")])
    out = run("show", "Ada")[1]
    assert "\x1b" not in out and "a\\x1b[31m\\n.jpg" in out
    for arguments in (["show", "\x1b[31m"], ["rename", "Ada", "a\x1b[31mb"], ["remove", "a\nb", "-y"]):
        code, _, err = run(*arguments)
        assert code in (2, 10) and "\x1b" not in err and err.count("\n") == 1


def test_rename(run: Any, enrolled: Path) -> None:
    code, out, _ = run("rename", "bob", " Bob/Rob ")
    assert (code, out) == (0, "bob is now called Bob/Rob.\n")
    code, out, _ = run("rename", "Bob/Rob", "bob", "--json")
    assert code == 0 and json.loads(out)["name"] == "bob"
    code, _, err = run("rename", "bob", "Ada Lovelace")
    assert code == 2 and "facecam people merge" in err
    for bad in ("", "x" * 101, "Unknown 1"):
        code, _, err = run("rename", "bob", bad)
        assert code == 2 and err.count("\n") == 1
    assert run("rename", "nobody", "x")[0] == 10


def test_merge(run: Any, enrolled: Path) -> None:
    code, out, _ = run("merge", "bob", "Ada Lovelace")
    assert (code, out) == (0, "bob is now part of Ada Lovelace: 1 sample moved.\n")
    code, out, _ = run("merge", "王小明", "Ada Lovelace", "--json")
    merged = json.loads(out)
    assert code == 0 and (merged["samples"], merged["moved"], merged["duplicates"]) == (4, 1, 0)
    assert run("merge", "Ada Lovelace", "Ada Lovelace")[0] == 2
    assert run("merge", "Ada Lovelace", "bob")[0] == 10


def test_remove_asks(run: Any, enrolled: Path) -> None:
    code, out, err = run("remove", "Ada Lovelace", answer="n\n")
    assert code == 1 and out == "" and "2 samples and 2 crops for good? [y/N]" in err and "was kept" in err
    code, out, err = run("remove", "Ada Lovelace", answer="")
    assert code == 2 and "add -y" in err.splitlines()[-1]
    assert len(json.loads(run("--json")[1])) == 3
    code, out, err = run("remove", "Ada Lovelace", answer="yes\n")
    assert code == 0 and out == "Ada Lovelace was deleted: 2 samples and 2 crops are gone.\n"
    assert [p["name"] for p in json.loads(run("--json")[1])] == ["bob", "王小明"]


def test_remove_really_deletes(run: Any, enrolled: Path) -> None:
    copy = enrolled / "gallery.db.before-0002_x"
    with Gallery.open() as gallery:
        gallery.store.backup_to(copy)
    secrets = [b"Ada Lovelace", *secrets_of(1), *secrets_of(2)]
    assert traces(enrolled, secrets[:1]) != []
    code, out, _ = run("remove", "Ada Lovelace", "-y")
    assert code == 0 and str(copy) in out
    assert [t for t in traces(enrolled, secrets) if t[0].startswith("gallery")] == []
    code, out, _ = run("remove", "bob", "--yes", "--json")
    assert code == 0
    nothing = {"backups": [], "renewed": [], "stale": [], "problem": None}
    assert json.loads(out) == {"name": "bob", "samples": 1, "crops": 0, **nothing}
    assert run("remove", "bob", "-y")[0] == 10


def test_traces_that_may_be_left_are_told(run: Any, enrolled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facecam.people.database import Database, Erased

    monkeypatch.setattr(Database, "erase", lambda self: Erased((), "another process is reading the gallery"))
    code, out, err = run("remove", "bob", "-y")
    assert code == 1 and "bob was deleted" in out and "traces of bob may be left" in err and err.count("\n") == 1


def test_export_and_import(run: Any, enrolled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "people.json"
    code, out, _ = run("export", "-o", file)
    assert code == 0 and "3 people with 4 samples and 3 crops" in out and "keep it private" in out
    code, _, err = run("export", "-o", file)
    assert code == 1 and "overwrite" in err and err.count("\n") == 1
    code, out, _ = run("export", "bob", "-o", file, "--overwrite", "--no-crops", "--json")
    assert code == 0 and json.loads(out) == {"file": str(file), "people": 1, "samples": 1, "crops": 0}
    assert run("export", "nobody", "-o", file, "--overwrite")[0] == 10
    assert run("export")[0] == 2

    run("export", "-o", file, "--overwrite")
    monkeypatch.setenv("FACECAM_HOME", str(tmp_path / "second"))
    code, out, _ = run("import", file)
    assert (code, out) == (0, "3 people with 4 new samples imported.\n")
    code, out, _ = run("import", file)
    assert code == 0 and out.count("was skipped") == 3
    code, out, err = run("import", file, "--on-conflict", "rename", "--json")
    done = json.loads(out)
    assert code == 0 and done["renamed"]["bob"] == "bob (2)" and len(done["people"]) == 3
    assert "photo4.jpg of bob (2) is enrolled as bob, too" in err
    code, out, _ = run("import", file, "--on-conflict", "merge")
    assert code == 0 and "0 new samples" in out
    assert len(json.loads(run("--json")[1])) == 6


@pytest.mark.parametrize(
    ("content", "code"), [(None, 2), ("", 14), ("{}", 14), ("not json", 14), ('{"schema": "facecam.gallery/9"}', 14)]
)
def test_import_of_rubbish_makes_no_gallery(
    run: Any, own_home: Path, tmp_path: Path, content: str | None, code: int
) -> None:
    file = tmp_path / "rubbish.json"
    if content is not None:
        file.write_text(content)
    got, out, err = run("import", file)
    assert (got, out) == (code, "") and err.count("\n") == 1 and err.startswith("facecam: ")
    assert not (own_home / "gallery.db").exists()


def test_import_with_an_unknown_choice(run: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    code, _, err = run("import", tmp_path / "x", "--on-conflict", "guess")
    assert code == 2 and "guess" in err


@pytest.mark.parametrize("arguments", [["list"], ["show", "x"], ["remove", "x", "-y"], ["export", "-o", "y"]])
def test_a_damaged_gallery_is_one_line(run: Any, enrolled: Path, arguments: list[str]) -> None:
    path = enrolled / "gallery.db"
    path.write_bytes(path.read_bytes()[:5000])
    code, out, err = run(*arguments)
    assert (code, out) == (14, "") and err.count("\n") == 1 and str(path) in err


def test_a_closed_pipe_ends_quietly(enrolled: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "facecam", "people", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=30) in (0, 1) and process.stderr.read() == b""  # click itself says 1


def test_a_name_in_another_encoding_is_nobody(enrolled: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "facecam", "people", "show", b"\xff\xfe"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=30,
    )
    assert done.returncode == 10 and done.stderr.count(b"\n") == 1 and b"Traceback" not in done.stderr


def test_what_was_meant_is_suggested(run: Any, enrolled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["enrol", "--name", "Ada"]) == 2
    assert "Did you mean 'enroll'?" in capsys.readouterr().err
    assert invoke(["xyzzy"]) == 2
    assert "mean" not in capsys.readouterr().err
    assert invoke(["run", "clip.mp4"]) == 2
    assert "goes after --source" in capsys.readouterr().err
    code, _, err = run("rename", "bob", "-bob")
    assert code == 2 and "goes after --" in err
    assert run("rename", "--", "bob", "-bob")[0] == 0


def test_traces_left_in_an_index_are_told_as_the_index_s(capsys: pytest.CaptureFixture[str]) -> None:
    from facecam.cli.printing import erased_too
    from facecam.people.database import Erased

    assert erased_too(Erased((), "the disk is full"), "Ada in archive.db", quiet=True, noun="index") == 1
    err = capsys.readouterr().err
    assert "the index's files" in err and "next opens the index" in err and "gallery" not in err
