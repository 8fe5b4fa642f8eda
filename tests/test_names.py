from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.errors import UsageFault
from facecam.people.names import NAME_MAX, STEM_MAX, clean_name, escaped, file_stem, lookup_name, quoted

any_text = st.text(st.characters(), max_size=130)  # lone surrogates as well
names = st.text(max_size=60).filter(lambda text: _is_name(text))


def _is_name(text: str) -> bool:
    try:
        clean_name(text)
    except UsageFault:
        return False
    return True


@pytest.mark.parametrize(
    ("given_", "stored"),
    [
        ("Ada", "Ada"),
        ("  Ada Lovelace\u00a0", "Ada Lovelace"),
        ("Jose\u0301", "Jos\u00e9"),
        ("AC/DC", "AC/DC"),
        ("..", ".."),
        ("王小明", "王小明"),
        ("Нина", "Нина"),
        ("علی\u200cرضا", "علی\u200cرضا"),  # Persian needs the joiner
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("X", "X"),
        ("x" * NAME_MAX, "x" * NAME_MAX),
        ("e\u0301" * NAME_MAX, "\u00e9" * NAME_MAX),  # counted after NFC
        ("Unknown", "Unknown"),
        ("Unknown Soldier 7", "Unknown Soldier 7"),
    ],
)
def test_accepted(given_: str, stored: str) -> None:
    assert clean_name(given_) == stored


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("x" * (NAME_MAX + 1), "101"),
        ("x" * 1_000_000, "1000000"),
        ("a\x00b", "U+0000"),
        ("Ada\n", "U+000A"),
        ("a\x1b[31mb", "\\x1b[31m"),
        ("a\x85b", "U+0085"),
        ("a\u202eb", "U+202E"),
        ("a\u2066b", "U+2066"),
        ("a\u200bb", "U+200B"),
        ("\ufeff", "U+FEFF"),
        ("a\u2028b", "U+2028"),
        ("a\ud800b", "U+D800"),
        ("\u200d\u200c", "visible"),
        ("\u3164", "visible"),
        ("\u0301\u0301", "visible"),
        ("Unknown 12", "reserved"),
        ("uNKNOWN  1", "reserved"),
        (" unknown 0 ", "reserved"),
    ],
)
def test_refused(refused: str, said: str) -> None:
    with pytest.raises(UsageFault) as error:
        clean_name(refused)
    message = str(error.value)
    assert said in message
    assert message.isprintable() and len(message) < 300  # one line, nothing that acts on a terminal


@given(any_text)
def test_clean_is_idempotent_and_printable(text: str) -> None:
    try:
        name = clean_name(text)
    except UsageFault as error:
        assert str(error) == escaped(str(error))
        return
    assert clean_name(name) == name == lookup_name(text)
    assert 1 <= len(name) <= NAME_MAX and name == name.strip() and unicodedata.is_normalized("NFC", name)
    assert name.encode()
    assert escaped(name) == name


@given(any_text)
def test_escaped_holds_nothing_that_acts(text: str) -> None:
    shown = escaped(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert "\u202e" not in shown
    shown.encode()
    assert len(quoted(text)) <= 60 * 10 + 2


@given(any_text)
def test_stem_is_one_safe_component(text: str) -> None:
    stem = file_stem(text)
    assert stem and len(stem.encode()) <= STEM_MAX
    for flavour in (PurePosixPath, PureWindowsPath):
        assert flavour(stem + ".png").name == stem + ".png"
        assert not flavour(stem).is_absolute()
    assert not set(stem) & set('/\\:*?"<>|') and stem not in (".", "..")
    assert stem[0] not in ".- " and stem[-1] not in ". "
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in stem)


@given(names, names)
def test_two_names_have_two_stems(one: str, two: str) -> None:
    one, two = clean_name(one), clean_name(two)
    assert (file_stem(one) == file_stem(two)) == (one == two)


@pytest.mark.parametrize(
    "name", ["con", "NUL", "Aux.txt", "COM1", "lpt9.x", "com²", "../../etc/passwd", "a/b", "-rf", "Mr.", ".hidden", "/"]
)
def test_stem_of_dangerous_names_is_altered(name: str) -> None:
    stem = file_stem(name)
    assert stem != name and stem == file_stem(name)
    assert stem.split(".")[0].lower() not in ("con", "nul", "aux", "com1", "lpt9", "com²")


def test_stem_of_plain_names_is_the_name() -> None:
    for name in ("Ada Lovelace", "王小明", "José", "O'Neil", "J. R. R. Tolkien", "console"):
        assert file_stem(name) == name


def test_stem_of_a_long_name_is_cut_between_characters() -> None:
    assert len(file_stem("王" * NAME_MAX).encode()) <= STEM_MAX
    assert file_stem("王" * 99) != file_stem("王" * 100)
