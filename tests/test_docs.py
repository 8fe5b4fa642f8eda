"""What the documents promise: every command and option is in them, links lead somewhere, translations keep up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from facecam import errors
from facecam.archive.report import CSV_COLUMNS, PhotoTable
from facecam.cli import COMMANDS
from facecam.cli import facecam as root
from facecam.settings import SETTING_FIELDS
from facecam.zoo import pairs, registry
from facecam.zoo.dlib import DEFAULT_THRESHOLD
from facecam.zoo.session import read_card
from tests.test_layers import FLOORS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "benchmarks" / "README.md"])
HELP = {"-h", "--help"}
COMMANDS_MD = (DOCS / "commands.md").read_text(encoding="utf-8")


def all_commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command with its full name, groups included."""

    def below(
        name: str, command: click.Command, parent: click.Context | None
    ) -> Iterator[tuple[str, click.Command, click.Context]]:
        context = click.Context(command, info_name=name.split()[-1], parent=parent)
        yield name, command, context
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                assert found is not None
                yield from below(f"{name} {child}", found, context)

    return below("facecam", root, None)


EVERY = list(all_commands())
IDS = [name for name, _, _ in EVERY]


def sections(text: str) -> dict[str, str]:
    """Heading (without its marks and backticks) -> what stands below it, up to the next heading."""
    parts = re.split(r"^#+ +(.+)$", without_code(text), flags=re.MULTILINE)
    return {head.replace("`", "").strip(): body for head, body in zip(parts[1::2], parts[2::2])}


def without_code(text: str) -> str:
    """The text without fenced blocks, whose lines may look like headings or links."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


SECTIONS = sections(COMMANDS_MD)


def bullets(name: str) -> str:
    """The lines of a command's section that explain options and arguments."""
    return "\n".join(re.findall(r"^- .*(?:\n  .*)*", SECTIONS[name], flags=re.MULTILINE))


def test_all_commands_are_known() -> None:
    assert {"facecam label", "facecam people remove", "facecam models pull"} <= set(IDS)
    assert {name.split()[1] for name in IDS if " " in name} == set(COMMANDS)


def options(command: click.Command, context: click.Context) -> set[str]:
    """All spellings of a command's options, without those of help, which all commands share."""
    found = (
        o for p in command.get_params(context) if isinstance(p, click.Option) for o in (*p.opts, *p.secondary_opts)
    )
    return set(found) - HELP


@pytest.mark.parametrize(("name", "command", "context"), EVERY, ids=IDS)
def test_every_command_and_option_has_its_line(name: str, command: click.Command, context: click.Context) -> None:
    assert name in SECTIONS, f"docs/commands.md has no section {name!r}"
    arguments = {p.make_metavar(context).strip("[].") for p in command.params if isinstance(p, click.Argument)}
    for word in sorted(arguments | options(command, context)):
        found = re.search(rf"`{re.escape(word)}(?=[ `|])", bullets(name))
        assert found, f"docs/commands.md, section {name!r}, explains no {word}"


@pytest.mark.parametrize(("name", "command", "context"), EVERY, ids=IDS)
def test_every_command_has_an_example_of_itself(name: str, command: click.Command, context: click.Context) -> None:
    shown = " ".join(command.get_help(context).split())
    assert re.search(rf"Examples?: .*{re.escape(name)}", shown), f"{name} --help has no example"


def test_nothing_is_documented_that_does_not_exist() -> None:
    modules = {path.stem for path in (ROOT / "facecam" / "cli").glob("*.py")}
    for name in SECTIONS:
        if name.startswith("facecam ") and name not in IDS:
            assert name.split()[1].replace("-", "_") in modules and len(name.split()) == 2, f"{name} does not exist"
    for name, command, context in EVERY:
        for option in re.findall(r"`(--?[a-z][a-z-]*)", bullets(name)):
            assert option in options(command, context) | HELP, f"{name} has no option {option}"


def tree(kind: type[errors.FacecamError]) -> Iterator[type[errors.FacecamError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def test_every_exit_code_is_in_the_table() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", SECTIONS["Exit codes"], flags=re.MULTILINE)}
    assert codes == {0, 2, 130} | {kind.exit_code for kind in tree(errors.FacecamError)}


def test_settings_and_formats_are_as_the_code_has_them() -> None:
    for name, entry in SETTING_FIELDS.items():
        row = next(line for line in COMMANDS_MD.splitlines() if line.startswith(f"| `--{name.replace('_', '-')}` |"))
        assert f"`FACECAM_{name.upper()}`" in row
        if entry.default is not None:
            assert re.search(rf"\| `?{re.escape(str(entry.default))}`? \|", row), (
                f"the default of {name} is {entry.default}"
            )
    assert f"```csv\n{','.join(CSV_COLUMNS)}\n```" in COMMANDS_MD
    assert f"```csv\n{','.join(PhotoTable.COLUMNS)}\n```" in COMMANDS_MD


def test_models_are_documented_with_licence_source_and_threshold() -> None:
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    for pack in registry.packs():
        assert f"| `{pack}`" in text
    for model in registry.models().values():
        assert re.search(rf"^\| `{re.escape(model.id)}` \| {re.escape(model.licence)} \|", text, flags=re.MULTILINE)
        assert model.source in text
    assert f"**{DEFAULT_THRESHOLD.value}**" in text
    own = read_card(pairs.FILE.read_bytes()).threshold
    assert own is not None and f"**{own.value:.3f}**" in text


def test_the_floors_are_those_that_are_tested() -> None:
    body = sections((DOCS / "architecture.md").read_text(encoding="utf-8"))["Floors"]
    rows = {
        int(n): set(re.findall(r"`([\w.]+)`", modules))
        for n, modules in re.findall(r"^\| (\d) \| (.+) \|$", body, re.MULTILINE)
    }
    assert rows == {level: {name for name, other in FLOORS if other == level} for _, level in FLOORS}


def slug(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), f"{page.name}: {target}"
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.is_file(), f"{page.name} links to {target}, which does not exist"
        if anchor:
            heads = re.findall(r"^#+ +(.+)$", without_code(other.read_text(encoding="utf-8")), flags=re.MULTILINE)
            assert anchor in {slug(head) for head in heads}, f"{page.name} links to {target}: no such heading"


def blocks(text: str) -> list[str]:
    """Fenced and indented code, in order."""
    return re.findall(r"^```.*?^```$|(?:^ {4}.+\n)+", text, flags=re.MULTILINE | re.DOTALL)


def test_the_spanish_readme_keeps_up_with_the_english_one() -> None:
    english = (ROOT / "README.md").read_text(encoding="utf-8")
    spanish = (DOCS / "README.es.md").read_text(encoding="utf-8")
    assert len(blocks(english)) >= 5
    assert blocks(english) == blocks(spanish)
    levels = [re.findall(r"^#+", without_code(text), flags=re.MULTILINE) for text in (english, spanish)]
    assert levels[0] == levels[1], "the same sections in the same order"
    for pattern in (r"\d+ (?:of|de) \d+", r"(?<![\w.])\d+(?:\.\d+)? ?%?(?![\w.])", r"`[^`\n]+`"):
        found = [
            sorted(re.sub(r"\bde\b", "of", m) for m in re.findall(pattern, without_code(t))) for t in (english, spanish)
        ]
        assert found[0] == found[1], "the same figures and names"


def test_the_picture_is_small_enough_to_be_committed() -> None:
    picture = DOCS / "labelled.jpg"
    assert picture.read_bytes()[:3] == b"\xff\xd8\xff"
    assert picture.stat().st_size < 150_000


def test_recognition_writes_and_says_nothing_elsewhere(tmp_path: Path, own_home: Path) -> None:
    """docs/privacy.md: no telemetry. ONNX Runtime's own (from 1.29) makes an id and a log in the user's cache."""
    quiet = {"CI", "TF_BUILD", "GITHUB_ACTIONS", "JENKINS_URL"}  # under these it holds still by itself
    environment = {k: v for k, v in os.environ.items() if k not in quiet and not k.startswith(("ORT_", "XDG_"))}
    user = tmp_path / "user"
    user.mkdir()
    code = "import facecam.engine as e; e.open_engine(e.Settings(device='cpu'))"
    subprocess.run(
        [sys.executable, "-c", code], env={**environment, "HOME": str(user)}, cwd=ROOT, check=True, timeout=120
    )
    assert [str(p.relative_to(user)) for p in user.rglob("*") if p.is_file()] == []
